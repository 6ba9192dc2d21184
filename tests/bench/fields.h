/* SPDX-License-Identifier: MIT */
#ifndef FIELDS_H
#define FIELDS_H

/*
 * Fields of protobuf messages, by hand: what a benchmark asks is not to measure an encoder. A tag
 * is a field's number << 3 | its wire type: 0 for numbers, 2 for bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

static inline uint8_t *put_varint(uint8_t *p, uint64_t v)
{
        for (; v >= 128; v >>= 7)
                *p++ = (uint8_t)(v | 128);
        *p++ = (uint8_t)v;
        return p;
}

static inline uint8_t *put_number(uint8_t *p, unsigned tag, uint64_t v)
{
        return put_varint(put_varint(p, tag), v);
}

static inline uint8_t *put_bytes(uint8_t *p, unsigned tag, const void *s, size_t n)
{
        return text_put(put_varint(put_varint(p, tag), n), s, n);
}

static inline bool take_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
        uint64_t v = 0;
        for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
                uint8_t c = *(*p)++;
                v |= (uint64_t)(c & 127) << shift;
                if (c < 128)
                        return *ret = v, true;
        }
        return false;
}

/* One field; of a length-delimited one *ret_at, *ret_v say where its bytes are. */
static inline bool take_field(const uint8_t **p, const uint8_t *end, uint64_t *ret_tag,
                              uint64_t *ret_v, const uint8_t **ret_at)
{
        if (!take_varint(p, end, ret_tag) || !take_varint(p, end, ret_v))
                return false;
        if ((*ret_tag & 7) == 0)
                return true;
        if ((*ret_tag & 7) != 2 || *ret_v > (uint64_t)(end - *p))
                return false;
        *ret_at = *p;
        *p += *ret_v;
        return true;
}

#endif
