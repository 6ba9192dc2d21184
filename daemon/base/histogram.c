/* SPDX-License-Identifier: MIT */
/*
 * Log-linear histogram
 *
 * Values below 16 have a bucket each; above, every power of two is cut into 16 equal buckets. So a
 * quantile is at most 1/16 too high, whatever its size, and adding is a few instructions.
 *
 * Buckets are never reset and their counters cannot overflow in practice (64 bits). It does not
 * decay: rates over time are the business of who reads it twice.
 */
#include "base/histogram.h"

#define N_SUB (1u << HISTOGRAM_SUB_BITS)

static size_t bucket_of(uint64_t value)
{
        if (value < N_SUB)
                return (size_t)value;
        unsigned bits = 63u - (unsigned)__builtin_clzll(value); /* position of the highest bit */
        if (bits >= HISTOGRAM_MAX_BITS)
                return HISTOGRAM_BUCKETS - 1;
        unsigned shift = bits - HISTOGRAM_SUB_BITS;
        return ((size_t)(shift + 1) << HISTOGRAM_SUB_BITS) + ((value >> shift) & (N_SUB - 1));
}

void histogram_add(struct histogram *h, uint64_t value)
{
        h->count++;
        h->sum += value;
        if (value > h->max)
                h->max = value;
        h->buckets[bucket_of(value)]++;
}

uint64_t histogram_upper_bound(size_t i)
{
        if (i < N_SUB)
                return i;
        unsigned shift = (unsigned)(i >> HISTOGRAM_SUB_BITS) - 1;
        uint64_t low = (uint64_t)(N_SUB + (i & (N_SUB - 1))) << shift;
        return low + (UINT64_C(1) << shift) - 1;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned permille)
{
        if (h->count == 0)
                return 0;
        /* The rank, rounded up, at least 1. Without overflow for any count. */
        uint64_t rank = h->count / 1000 * permille + (h->count % 1000 * permille + 999) / 1000;
        if (rank == 0)
                rank = 1;

        uint64_t seen = 0;
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
                seen += h->buckets[i];
                if (seen < rank)
                        continue;
                /* The last bucket has no upper bound of its own. */
                uint64_t bound = histogram_upper_bound(i);
                return bound < h->max && i != HISTOGRAM_BUCKETS - 1 ? bound : h->max;
        }
        return h->max;
}
