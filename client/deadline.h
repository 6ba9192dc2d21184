/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_DEADLINE_H
#define CLIENT_DEADLINE_H

/*
 * The moment at which a call gives up, on CLOCK_MONOTONIC: a suspended machine does not time out
 * the calls that it interrupted.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct deadline {
        uint64_t at_ns; /* UINT64_MAX: never; 0: do not wait at all */
};

#define DEADLINE_NEVER ((struct deadline){UINT64_MAX})
#define DEADLINE_NOW   ((struct deadline){0})

static inline uint64_t deadline_now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* 0: never. */
static inline struct deadline deadline_after_ms(uint64_t now_ns, uint32_t ms)
{
        if (ms == 0)
                return (struct deadline){UINT64_MAX};
        return (struct deadline){now_ns + (uint64_t)ms * 1000000u};
}

static inline struct deadline deadline_in_ms(uint32_t ms)
{
        return deadline_after_ms(deadline_now_ns(), ms);
}

/* Of a public call that waits: 0: not at all; UINT32_MAX: for ever. */
static inline struct deadline deadline_of_wait(uint32_t ms)
{
        if (ms == UINT32_MAX)
                return DEADLINE_NEVER;
        return ms == 0 ? DEADLINE_NOW : deadline_in_ms(ms);
}

static inline bool deadline_is_never(struct deadline d)
{
        return d.at_ns == UINT64_MAX;
}

static inline bool deadline_is_now(struct deadline d)
{
        return d.at_ns == 0;
}

/* 0: it passed. Not for deadlines that never come. */
static inline uint64_t deadline_left_ns(struct deadline d)
{
        uint64_t now = deadline_now_ns();

        return now >= d.at_ns ? 0 : d.at_ns - now;
}

/* For poll(): rounded up, so that it does not spin in the last millisecond; -1: never. */
static inline int deadline_poll_ms(struct deadline d)
{
        uint64_t ms;

        if (deadline_is_never(d))
                return -1;
        ms = (deadline_left_ns(d) + 999999u) / 1000000u;
        return ms > INT_MAX ? INT_MAX : (int)ms;
}

#endif
