/* SPDX-License-Identifier: MIT */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

/*
 * Log-linear histogram of durations in nanoseconds. See histogram.c.
 */

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 4  /* 16 sub-buckets per power of two: at most 6.25 % too high */
#define HISTOGRAM_MAX_BITS 40 /* values of 2^40 ns (18 minutes) and more share the last bucket */
#define HISTOGRAM_BUCKETS  (((HISTOGRAM_MAX_BITS) - (HISTOGRAM_SUB_BITS) + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
        uint64_t count, sum, max;
        uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);

/* The largest value that bucket @i counts; the last one counts all above, too. */
uint64_t histogram_upper_bound(size_t i);

/* An upper bound of the value that @permille of 1000 values do not exceed, never above the maximum;
 * 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, unsigned permille);

#endif
