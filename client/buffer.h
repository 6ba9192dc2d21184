/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_BUFFER_H
#define CLIENT_BUFFER_H

/*
 * Bytes that are appended at the end and taken from the start. `data + start` to `data + end` is
 * what it holds. Pointers into it are valid until the next reserve.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
        uint8_t *data;
        size_t start, end, size;
};

static inline size_t buffer_n(const struct buffer *b)
{
        return b->end - b->start;
}

static inline void buffer_done(struct buffer *b)
{
        free(b->data);
        *b = (struct buffer){0};
}

/* Room for `n` bytes at the end. False: no memory, and nothing changed. */
static inline bool buffer_reserve(struct buffer *b, size_t n)
{
        size_t have = buffer_n(b), need, size;
        uint8_t *data;

        if (b->size - b->end >= n)
                return true;
        if (have == 0)
                b->start = b->end = 0;
        if (__builtin_add_overflow(have, n, &need))
                return false;
        /* Sliding the rest to the front costs at most one move of a byte per byte appended. */
        if (need <= b->size && b->start >= have) {
                assert(b->data);
                memcpy(b->data, b->data + b->start, have);
                b->start = 0;
                b->end = have;
                return true;
        }
        size = need > SIZE_MAX / 2 ? need : need * 2;
        data = malloc(size);
        if (!data)
                return false;
        if (have > 0)
                memcpy(data, b->data + b->start, have);
        free(b->data);
        *b = (struct buffer){data, 0, have, size};
        return true;
}

static inline void buffer_take(struct buffer *b, size_t n)
{
        assert(n <= buffer_n(b));
        b->start += n;
        if (b->start == b->end)
                b->start = b->end = 0;
}

#endif
