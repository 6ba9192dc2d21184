/* SPDX-License-Identifier: MIT */
#ifndef TIMERHEAP_H
#define TIMERHEAP_H

/*
 * A binary min-heap of timers that lie in their members
 *
 * It grows when a timer is set; who must not fail then reserves room for each of its timers first.
 */

#include <stddef.h>
#include <stdint.h>

#define TIMER_NEVER UINT64_MAX

struct timer {
        uint64_t due;
        uint32_t pos; /* in the heap; UINT32_MAX: it is not */
        uint8_t kind; /* the caller's */
};

/* All zero: empty. */
struct timerheap {
        struct timer **timers;
        size_t n, n_allocated, n_reserved;
};

void timer_init(struct timer *timer, uint8_t kind);

/* Room for one timer more. 0 or -ENOMEM. */
int timerheap_reserve(struct timerheap *h);
void timerheap_unreserve(struct timerheap *h);
/* TIMER_NEVER: it is due no more. 0 or -ENOMEM: never where room is reserved for each timer. */
int timerheap_set(struct timerheap *h, struct timer *timer, uint64_t due);
void timerheap_drop(struct timerheap *h, struct timer *timer); /* not set: fine */
/* No timer is set. */
void timerheap_done(struct timerheap *h);

/* NULL: none is set. */
static inline struct timer *timerheap_first(const struct timerheap *h)
{
        return h->n > 0 ? h->timers[0] : NULL;
}

static inline uint64_t timerheap_next_due(const struct timerheap *h)
{
        return h->n > 0 ? h->timers[0]->due : TIMER_NEVER;
}

#endif
