/* SPDX-License-Identifier: MIT */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

/*
 * Deterministic pseudo-random numbers, and keys made from numbers. Keys are hex digits, since
 * memcached takes no spaces or control characters. Pure.
 */

#include <stddef.h>
#include <stdint.h>

#define KEY_MAX 64

/* A bijection of 64 bits: different numbers give different keys of 16 digits and more. */
static inline uint64_t keys_mix(uint64_t x)
{
        x += UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

/* Next number of a sequence; *state is any seed. */
static inline uint64_t keys_random(uint64_t *state)
{
        *state += UINT64_C(0x9e3779b97f4a7c15);
        return keys_mix(*state);
}

static inline void keys_make(uint64_t id, char *out, size_t n)
{
        uint64_t x = keys_mix(id);
        for (size_t i = 0; i < n; i++) {
                if (i != 0 && i % 16 == 0)
                        x = keys_mix(x);
                out[i] = "0123456789abcdef"[(x >> (4 * (i % 16))) & 15];
        }
}

#endif
