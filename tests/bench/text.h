/* SPDX-License-Identifier: MIT */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

/*
 * Building and reading the peers' text protocols without printf, which would cost the client more
 * than the server spends on the request.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TEXT_U64_MAX 20 /* digits */

static inline uint8_t *text_put(uint8_t *p, const void *s, size_t n)
{
        memcpy(p, s, n);
        return p + n;
}

#define TEXT_LIT(p, lit) text_put((p), "" lit, sizeof(lit) - 1)

static inline uint8_t *text_put_u64(uint8_t *p, uint64_t v)
{
        char d[TEXT_U64_MAX];
        size_t n = sizeof(d);
        do
                d[--n] = (char)('0' + v % 10);
        while (v /= 10);
        return text_put(p, d + n, sizeof(d) - n);
}

/* Digits at the start; stops at the first other byte. */
static inline uint64_t text_u64(const uint8_t *s, size_t n)
{
        uint64_t v = 0;
        for (size_t i = 0; i < n && s[i] >= '0' && s[i] <= '9'; i++)
                v = v * 10 + (uint64_t)(s[i] - '0');
        return v;
}

static inline void text_copy(char *to, size_t cap, const void *from, size_t n)
{
        size_t k = n < cap ? n : cap - 1;
        memcpy(to, from, k);
        to[k] = '\0';
}

#endif
