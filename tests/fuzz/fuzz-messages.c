/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what is stored as recorded messages
 *
 * Any bytes are refused, or protobuf-c reads the same list in them; written again, it is read
 * again.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/messages.h"
#include "fuzz.h"
#include "proto/cached.pb-c.h"

static void compare(const cached_messages *m, const uint8_t *data, size_t n)
{
        Cached__V1__RecordedMessages *theirs = cached__v1__recorded_messages__unpack(NULL, n, data);
        const char *type;
        const void *bytes;
        size_t size;

        assert(theirs && theirs->n_messages == cached_messages_count(m));
        for (size_t i = 0; i < theirs->n_messages; i++) {
                const Cached__V1__RecordedMessage *t = theirs->messages[i];

                assert(cached_messages_get(m, i, &type, &bytes, &size) == CACHED_OK);
                assert(strcmp(type, t->type) == 0 && size == t->data.len);
                assert(size == 0 || memcmp(bytes, t->data.data, size) == 0);
        }
        cached__v1__recorded_messages__free_unpacked(theirs, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        cached_messages *m = NULL, *again = NULL;
        uint8_t *copy = malloc(n + 1), *bytes; /* of its length, for a sanitizer */
        size_t n_bytes;

        assert(copy);
        memcpy(copy, data, n);
        if (messages_decode(copy, n, &m) == CACHED_OK) {
                compare(m, copy, n);
                assert(messages_encode(m, &bytes, &n_bytes));
                assert(messages_decode(bytes, n_bytes, &again) == CACHED_OK);
                if (n_bytes > 0)
                        compare(m, bytes, n_bytes);
                assert(cached_messages_count(again) == cached_messages_count(m));
                free(bytes);
        }
        cached_messages_free(m);
        cached_messages_free(again);
        free(copy);
        return 0;
}
