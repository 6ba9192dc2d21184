/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_CLOCK_H
#define CLIENT_MAP_CLOCK_H

/*
 * What time it is for a mapped reader: boottime in milliseconds
 *
 * CLOCK_BOOTTIME has no coarse form, and reading the precise one would cost more than the rest of a
 * look-up. So: the coarse monotonic clock, which lags by a tick at most, and the time that the
 * machine has slept. That is measured anew whenever the coarse clock has moved, so a suspend is
 * seen with the first tick after it.
 */

#include <stdint.h>
#include <time.h>

#include "client/map.h"

static inline uint64_t map_clock_ns(clockid_t id)
{
        struct timespec t;

        (void)clock_gettime(id, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Measures, and keeps, what is between the two clocks. */
uint64_t map_clock_measure(struct map_wiped *w, uint64_t coarse_ns);

static inline uint64_t map_test_ms(const struct mapping *mp)
{
        return (uint64_t)atomic_load_explicit(&mp->arena.h->clock_offset_ms, memory_order_relaxed);
}

/* With each tick, too: whether another daemon has taken the arena over. */
void map_see_tenure(struct map_wiped *w, const struct mapping *mp);

static inline uint64_t map_now_ms(struct map_wiped *w, const struct mapping *mp)
{
        uint64_t coarse = map_clock_ns(CLOCK_MONOTONIC_COARSE), offset;

        if (atomic_load_explicit(&w->coarse_ns, memory_order_acquire) == coarse) {
                offset = atomic_load_explicit(&w->offset_ns, memory_order_relaxed);
        } else {
                offset = map_clock_measure(w, coarse);
                map_see_tenure(w, mp);
        }
        return (coarse + offset) / 1000000u + map_test_ms(mp);
}

static inline uint64_t map_precise_ms(const struct mapping *mp)
{
        return map_clock_ns(CLOCK_BOOTTIME) / 1000000u + map_test_ms(mp);
}

#endif
