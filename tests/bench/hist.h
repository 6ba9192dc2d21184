/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

/*
 * Log-linear histogram of durations: 64 equal buckets in each power of two, so that every
 * percentile is exact to 1.6 %. Fixed size, no allocation, no failure.
 */

#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_BUCKETS  ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
        uint64_t count;
        uint64_t sum;
        uint64_t max;
        uint64_t buckets[HIST_BUCKETS];
};

static inline unsigned hist_bucket(uint64_t v)
{
        if (v < (1u << HIST_SUB_BITS))
                return (unsigned)v;
        unsigned shift = 63u - (unsigned)__builtin_clzll(v) - HIST_SUB_BITS;
        return ((shift + 1) << HIST_SUB_BITS) +
               (unsigned)((v >> shift) & ((1u << HIST_SUB_BITS) - 1));
}

static inline void hist_add(struct hist *h, uint64_t v)
{
        h->buckets[hist_bucket(v)]++;
        h->count++;
        h->sum += v;
        if (v > h->max)
                h->max = v;
}

/* The upper end of the bucket below which @permille thousandths of the values lie; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, unsigned permille);

#endif
