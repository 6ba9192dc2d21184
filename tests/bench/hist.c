/* SPDX-License-Identifier: MIT */
/*
 * Quantiles of a log-linear histogram
 *
 * A bucket is answered by its upper end, so a quantile is never reported better than it was.
 */
#include "hist.h"

static uint64_t bucket_top(unsigned b)
{
        if (b < (1u << HIST_SUB_BITS))
                return b;
        unsigned shift = (b >> HIST_SUB_BITS) - 1;
        uint64_t low = (1u << HIST_SUB_BITS) + (b & ((1u << HIST_SUB_BITS) - 1));
        return (low << shift) + ((UINT64_C(1) << shift) - 1);
}

uint64_t hist_quantile(const struct hist *h, unsigned permille)
{
        if (h->count == 0)
                return 0;
        /* The rank is rounded up: of 10 values the 999th permille is the 10th. */
        uint64_t rank = h->count / 1000 * permille + (h->count % 1000 * permille + 999) / 1000;
        uint64_t seen = 0;
        for (unsigned b = 0; b < HIST_BUCKETS; b++) {
                seen += h->buckets[b];
                if (seen >= rank && seen > 0)
                        return bucket_top(b) < h->max ? bucket_top(b) : h->max;
        }
        return h->max;
}
