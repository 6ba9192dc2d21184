/* SPDX-License-Identifier: MIT */
#ifndef PEEK_H
#define PEEK_H

/*
 * Peek: the key that a request is about, without unpacking it. See peek.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pointers into the message. */
struct peek {
        uint32_t cache_id; /* 0: by name */
        const char *cache;
        size_t n_cache;
        const uint8_t *key;
        size_t n_key; /* 1 to 64 */
};

/* False: not a Get or Set, or not in the order in which encoders write fields. */
bool peek_key(const uint8_t *msg, size_t n, struct peek *ret);

#endif
