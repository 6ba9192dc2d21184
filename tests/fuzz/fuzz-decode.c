/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what the client does with a whole reply that holds values, until they are plain
 *
 * Input: a byte, 0 for the reply to a Get and else to a GetMany; two bytes, the message's length,
 * little-endian; the message; the body. Nothing outside is read or written, and afterwards no value
 * is an LZ4 block.
 */

#include <assert.h>
#include <cached.h>
#include <string.h>

#include "client/reply.h"
#include "fuzz.h"

/* Every byte of a value is there. */
static uint64_t sum(const uint8_t *value, size_t n)
{
        uint64_t s = 0;

        for (size_t i = 0; value && i < n; i++)
                s += value[i];
        return s;
}

static uint64_t look(const struct cached_reply *r)
{
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);
        uint64_t s = sum(value, n);

        assert(cached_reply_encoding(r) != CACHED_ENCODING_LZ4);
        assert((r->code == CACHED_OK) == (*cached_reply_error(r) == '\0'));
        for (size_t i = 0; i < cached_reply_n_items(r); i++) {
                size_t n_item = 0;
                const void *item = cached_reply_item_value(r, i, &n_item);

                assert((item != NULL) == (cached_reply_item_code(r, i) == CACHED_OK));
                s += sum(item, n_item);
        }
        return s;
}

static void decode(struct cached_reply *r, Cached__V1__Request__OpCase op, const uint8_t *body,
                   size_t n_body)
{
        struct failure f;
        uint8_t *to;

        if (reply_check(r, op, false, n_body, &f) != CACHED_OK || r->code != CACHED_OK)
                return;
        if (n_body > 0 || op == CACHED__V1__REQUEST__OP_GET) {
                to = reply_body_space(r, n_body);
                assert(to);
                if (n_body > 0)
                        memcpy(to, body, n_body);
        }
        if (reply_decode(r, &f) == CACHED_OK && (*r->error == '\0' || r->code != CACHED_OK)) {
                /* The compiler is not to drop it. */
                volatile uint64_t s = look(r);

                (void)s;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct cached_reply *r;
        struct failure f;
        size_t n_message;

        if (n < 3)
                return 0;
        n_message = (size_t)data[1] | (size_t)data[2] << 8;
        if (n_message > n - 3 ||
            reply_new_unpack(data + 3, n_message, n - 3 - n_message, &f, &r) != CACHED_OK)
                return 0;
        decode(r, data[0] ? CACHED__V1__REQUEST__OP_GET_MANY : CACHED__V1__REQUEST__OP_GET,
               data + 3 + n_message, n - 3 - n_message);
        cached_reply_free(r);
        return 0;
}
