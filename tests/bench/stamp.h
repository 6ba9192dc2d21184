/* SPDX-License-Identifier: MIT */
#ifndef BENCH_STAMP_H
#define BENCH_STAMP_H

/*
 * Time stamps that disturb as little as can be what they are put between
 *
 * On x86 the processor's time stamp counter, read without a fence: a clock that waits for all that
 * was begun before it would keep successive look-ups from overlapping, which they do in a program.
 * So a stamp may be early or late by what is on its way in the processor; the sum of all
 * differences is exact. Elsewhere the precise clock. What a stamp itself costs is measured
 * (stamp_cost()) and its unit found by comparing with the clock over the whole run.
 */

#include <stdint.h>
#include <time.h>

static inline uint64_t stamp_clock_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static inline uint64_t stamp_now(void)
{
#if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
#else
        return stamp_clock_ns();
#endif
}

/* The usual difference of two stamps with nothing between them. */
static inline uint64_t stamp_cost(void)
{
        enum { N = 1001 };
        static const unsigned middle = N / 2;
        uint64_t differences[N];
        for (unsigned i = 0; i < N; i++) {
                uint64_t before = stamp_now(), d = stamp_now() - before;
                unsigned at = i;
                for (; at > 0 && differences[at - 1] > d; at--)
                        differences[at] = differences[at - 1];
                differences[at] = d;
        }
        return differences[middle];
}

/* A moment by both clocks. */
struct stamp_pair {
        uint64_t stamp, ns;
};

static inline struct stamp_pair stamp_pair_now(void)
{
        struct stamp_pair p = {.ns = stamp_clock_ns()};
        p.stamp = stamp_now();
        return p;
}

/* Nanoseconds of one unit of stamps, from two moments far apart. */
static inline double stamp_unit_ns(struct stamp_pair from, struct stamp_pair to)
{
        return (double)(to.ns - from.ns) / (double)(to.stamp - from.stamp);
}

#endif
