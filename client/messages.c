/* SPDX-License-Identifier: MIT */
/*
 * Recorded messages: lists of typed byte strings, and RecordedMessages, which they travel as
 *
 * A list is two arrays that grow: the bytes, and where each message lies in them. So a message
 * costs 24 bytes beside its own, whatever a stranger's list is made of, and nothing is kept that
 * points into a reply.
 *
 * The decoder is not protobuf-c: that takes some 100 bytes for each empty message of two, and takes
 * any bytes for a type. What it accepts, protobuf-c reads in the same way (tests/fuzz).
 */

#include "client/messages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

/* Tags of RecordedMessages and RecordedMessage, all of fields of bytes. */
#define TAG_MESSAGE 0x0a
#define TAG_TYPE    0x0a
#define TAG_DATA    0x12

/* ---------------------------------------------------------------------------------------- lists */

cached_messages *cached_messages_new(void)
{
        return calloc(1, sizeof(cached_messages));
}

void messages_done(struct cached_messages *m)
{
        free(m->list);
        free(m->bytes);
        *m = (struct cached_messages){0};
}

void cached_messages_free(cached_messages *m)
{
        if (!m)
                return;
        messages_done(m);
        free(m);
}

/* Room for one more message, and for `n` bytes. */
static bool messages_reserve(struct cached_messages *m, size_t n)
{
        size_t need;

        if (m->n == m->n_list) {
                size_t n_list = m->n_list ? 2 * m->n_list : 4;
                struct message *list = realloc(m->list, n_list * sizeof(*list));

                if (!list)
                        return false;
                m->list = list;
                m->n_list = n_list;
        }
        if (__builtin_add_overflow(m->n_bytes, n, &need))
                return false;
        if (need > m->n_room) {
                size_t n_room = need > SIZE_MAX / 2 ? need : need + need / 2;
                uint8_t *bytes = realloc(m->bytes, n_room);

                if (!bytes)
                        return false;
                m->bytes = bytes;
                m->n_room = n_room;
        }
        return true;
}

int messages_add(struct cached_messages *m, const char *type, size_t n_type, const void *data,
                 size_t n)
{
        struct message at = {m->n_bytes, n_type, n};

        if ((!data && n > 0) || memchr(type, '\0', n_type) ||
            wire_utf8_prefix(type, n_type) < n_type)
                return CACHED_ERR_USAGE;
        if (n_type > MESSAGE_BYTES_MAX || n > MESSAGE_BYTES_MAX - n_type)
                return CACHED_TOO_LARGE;
        if (m->n == MESSAGES_MAX)
                return CACHED_LIMIT;
        if (!messages_reserve(m, n_type + 1 + n))
                return CACHED_ERR_NOMEM;
        assert(m->bytes);
        memcpy(m->bytes + at.at, type, n_type);
        m->bytes[at.at + n_type] = '\0';
        if (n > 0)
                memcpy(m->bytes + at.at + n_type + 1, data, n);
        m->n_bytes += n_type + 1 + n;
        m->list[m->n++] = at;
        return CACHED_OK;
}

int cached_messages_add(cached_messages *m, const char *type, const void *data, size_t n)
{
        if (!m || !type)
                return CACHED_ERR_USAGE;
        return messages_add(m, type, strlen(type), data, n);
}

size_t cached_messages_count(const cached_messages *m)
{
        return m ? m->n : 0;
}

int cached_messages_get(const cached_messages *m, size_t i, const char **ret_type,
                        const void **ret_data, size_t *ret_size)
{
        if (!m || i >= m->n)
                return CACHED_ERR_USAGE;
        if (ret_type)
                *ret_type = messages_type(m, i);
        if (ret_data)
                *ret_data = messages_data(m, i);
        if (ret_size)
                *ret_size = m->list[i].n;
        return CACHED_OK;
}

/* ------------------------------------------------------------------------------------- encoding */

static size_t varint_size(size_t v)
{
        size_t n = 1;

        for (; v >= 128; v >>= 7)
                n++;
        return n;
}

/* A field of bytes; one of none is left out, as protobuf has it. */
static size_t field_size(size_t n)
{
        return n ? 1 + varint_size(n) + n : 0;
}

static uint8_t *put_head(uint8_t *p, uint8_t tag, size_t n)
{
        for (*p++ = tag; n >= 128; n >>= 7)
                *p++ = (uint8_t)(n | 128);
        *p++ = (uint8_t)n;
        return p;
}

static uint8_t *put_field(uint8_t *p, uint8_t tag, const void *data, size_t n)
{
        if (n == 0)
                return p;
        p = put_head(p, tag, n);
        memcpy(p, data, n);
        return p + n;
}

static size_t message_size(const struct message *m)
{
        return field_size(m->n_type) + field_size(m->n);
}

bool messages_encode(const struct cached_messages *m, uint8_t **ret, size_t *ret_n)
{
        uint8_t *bytes, *p;
        size_t n = 0;

        for (size_t i = 0; i < m->n; i++) {
                size_t inner = message_size(&m->list[i]);

                if (__builtin_add_overflow(n, 1 + varint_size(inner) + inner, &n))
                        return false;
        }
        *ret = NULL;
        *ret_n = 0;
        if (m->n == 0)
                return true;
        bytes = p = malloc(n);
        if (!bytes)
                return false;
        for (size_t i = 0; i < m->n; i++) {
                p = put_head(p, TAG_MESSAGE, message_size(&m->list[i]));
                p = put_field(p, TAG_TYPE, messages_type(m, i), m->list[i].n_type);
                p = put_field(p, TAG_DATA, messages_data(m, i), m->list[i].n);
        }
        *ret = bytes;
        *ret_n = n;
        return true;
}

/* ------------------------------------------------------------------------------------- decoding */

/* NULL: cut off, or of more bytes than protobuf gives it. */
static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, unsigned max_bytes,
                                 uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned i = 0; p < end && i < max_bytes; i++) {
                v |= (uint64_t)(*p & 127) << (7 * i);
                if (!(*p++ & 128)) {
                        *ret = v;
                        return p;
                }
        }
        return NULL;
}

/* One field: *ret_tag, and what it has if that is bytes. NULL: this is no protobuf. */
static const uint8_t *get_field(const uint8_t *p, const uint8_t *end, uint64_t *ret_tag,
                                const uint8_t **ret, size_t *ret_n)
{
        uint64_t v = 0;
        size_t skip;

        p = get_varint(p, end, 5, ret_tag);
        if (!p || *ret_tag >> 3 == 0 || *ret_tag > UINT32_MAX)
                return NULL;
        switch (*ret_tag & 7) {
        case 0:
                return get_varint(p, end, 10, &v);
        case 1:
                skip = 8;
                break;
        case 2:
                p = get_varint(p, end, 5, &v);
                if (!p || v > INT32_MAX || v > (uint64_t)(end - p))
                        return NULL;
                *ret = p;
                *ret_n = skip = (size_t)v;
                break;
        case 5:
                skip = 4;
                break;
        default:
                return NULL;
        }
        return skip <= (size_t)(end - p) ? p + skip : NULL;
}

/* A field that should be bytes, and is something else. */
static bool is_misused(uint64_t tag, uint64_t last_field)
{
        return tag >> 3 <= last_field && (tag & 7) != 2;
}

static int decode_one(struct cached_messages *m, const uint8_t *p, const uint8_t *end)
{
        const uint8_t *type = (const uint8_t *)"", *data = type, *at = NULL;
        size_t n_type = 0, n_data = 0, n = 0;
        uint64_t tag = 0;
        int code;

        while (p < end) {
                p = get_field(p, end, &tag, &at, &n);
                if (!p || is_misused(tag, 2))
                        return CACHED_ERR_BAD_REPLY;
                if (tag == TAG_TYPE) {
                        type = at;
                        n_type = n;
                } else if (tag == TAG_DATA) {
                        data = at;
                        n_data = n;
                }
        }
        code = messages_add(m, (const char *)type, n_type, data, n_data);
        return code == CACHED_OK || code == CACHED_ERR_NOMEM ? code : CACHED_ERR_BAD_REPLY;
}

int messages_decode(const uint8_t *bytes, size_t n, struct cached_messages **ret)
{
        struct cached_messages *m = cached_messages_new();
        const uint8_t *p = bytes, *end = bytes + n, *at = NULL;
        int code = m ? CACHED_OK : CACHED_ERR_NOMEM;
        uint64_t tag = 0;
        size_t n_at = 0;

        while (code == CACHED_OK && p < end) {
                p = get_field(p, end, &tag, &at, &n_at);
                if (!p || is_misused(tag, 1))
                        code = CACHED_ERR_BAD_REPLY;
                else if (tag == TAG_MESSAGE)
                        code = decode_one(m, at, at + n_at);
        }
        if (code != CACHED_OK) {
                cached_messages_free(m);
                return code;
        }
        *ret = m;
        return CACHED_OK;
}
