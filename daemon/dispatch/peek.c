/* SPDX-License-Identifier: MIT */
/*
 * Peek
 *
 * Finds cache and key in the bytes of a Request, for hints to the store. It knows just enough of
 * protobuf to walk over fields, and gives up on whatever it does not expect: the request itself is
 * unpacked and checked by dispatch.c, whatever is found here. Every length is checked against the
 * end.
 *
 * Not in use for anything that matters: a wrong answer costs a useless prefetch.
 */
#include "dispatch/peek.h"

#define WIRE_VARINT   0
#define WIRE_BYTES    2
#define FIELD_SESSION 4
#define FIELD_GET     14
#define FIELD_SET     16
/* The same in Get and Set. */
#define FIELD_CACHE_ID 1
#define FIELD_CACHE    2
#define FIELD_KEY      3
#define KEY_MAX        64
#define FIELDS_MAX     16 /* looked at per message */

struct cursor {
        const uint8_t *at, *end;
};

struct field {
        uint32_t number;
        uint64_t value;       /* of a varint */
        const uint8_t *bytes; /* of a length-delimited field, else NULL */
        size_t n;
};

static bool varint(struct cursor *c, uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned shift = 0; c->at < c->end && shift < 64; shift += 7) {
                uint8_t b = *c->at++;

                v |= (uint64_t)(b & 0x7f) << shift;
                if (!(b & 0x80)) {
                        *ret = v;
                        return true;
                }
        }
        return false;
}

static bool next_field(struct cursor *c, struct field *ret)
{
        uint64_t tag, n;

        if (!varint(c, &tag) || tag >> 3 > UINT32_MAX)
                return false;
        *ret = (struct field){.number = (uint32_t)(tag >> 3)};
        switch (tag & 7) {
        case WIRE_VARINT:
                return varint(c, &ret->value);
        case WIRE_BYTES:
                if (!varint(c, &n) || n > (uint64_t)(c->end - c->at))
                        return false;
                ret->bytes = c->at;
                ret->n = (size_t)n;
                c->at += n;
                return true;
        default:
                return false;
        }
}

static bool peek_op(struct cursor c, struct peek *ret)
{
        struct field f;

        *ret = (struct peek){0};
        for (unsigned i = 0; i < FIELDS_MAX && next_field(&c, &f); i++) {
                if (f.number == FIELD_CACHE_ID && !f.bytes) {
                        ret->cache_id = (uint32_t)f.value;
                } else if (f.number == FIELD_CACHE && f.bytes) {
                        ret->cache = (const char *)f.bytes;
                        ret->n_cache = f.n;
                } else if (f.number == FIELD_KEY && f.bytes) {
                        ret->key = f.bytes;
                        ret->n_key = f.n;
                        break; /* encoders write fields by number: what matters came before */
                }
        }
        return ret->n_key >= 1 && ret->n_key <= KEY_MAX && (ret->cache_id != 0 || ret->n_cache > 0);
}

bool peek_key(const uint8_t *msg, size_t n, struct peek *ret)
{
        struct cursor c = {msg, msg + n};
        struct field f;

        for (unsigned i = 0; i < FIELDS_MAX && next_field(&c, &f); i++) {
                if (f.number == FIELD_SESSION)
                        return false; /* its caches are in another store */
                if ((f.number == FIELD_GET || f.number == FIELD_SET) && f.bytes)
                        return peek_op((struct cursor){f.bytes, f.bytes + f.n}, ret);
        }
        return false;
}
