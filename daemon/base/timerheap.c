/* SPDX-License-Identifier: MIT */
#include "base/timerheap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define FIRST ((size_t)64)

static void place(struct timerheap *h, struct timer *timer, size_t pos)
{
        h->timers[pos] = timer;
        timer->pos = (uint32_t)pos;
}

static void up(struct timerheap *h, struct timer *timer, size_t pos)
{
        while (pos > 0 && h->timers[(pos - 1) / 2]->due > timer->due) {
                place(h, h->timers[(pos - 1) / 2], pos);
                pos = (pos - 1) / 2;
        }
        place(h, timer, pos);
}

static void down(struct timerheap *h, struct timer *timer, size_t pos)
{
        for (size_t child = 2 * pos + 1; child < h->n; child = 2 * pos + 1) {
                if (child + 1 < h->n && h->timers[child + 1]->due < h->timers[child]->due)
                        child++;
                if (h->timers[child]->due >= timer->due)
                        break;
                place(h, h->timers[child], pos);
                pos = child;
        }
        place(h, timer, pos);
}

static int grow(struct timerheap *h)
{
        size_t n = h->n_allocated ? 2 * h->n_allocated : FIRST;
        struct timer **timers = reallocarray(h->timers, n, sizeof(struct timer *));
        if (!timers)
                return -ENOMEM;
        h->timers = timers;
        h->n_allocated = n;
        return 0;
}

void timer_init(struct timer *timer, uint8_t kind)
{
        *timer = (struct timer){.due = TIMER_NEVER, .pos = UINT32_MAX, .kind = kind};
}

int timerheap_reserve(struct timerheap *h)
{
        if (h->n_reserved == h->n_allocated && grow(h) < 0)
                return -ENOMEM;
        h->n_reserved++;
        return 0;
}

void timerheap_unreserve(struct timerheap *h)
{
        assert(h->n_reserved > 0);
        h->n_reserved--;
}

void timerheap_drop(struct timerheap *h, struct timer *timer)
{
        size_t pos = timer->pos;
        if (pos == UINT32_MAX)
                return;
        struct timer *last = h->timers[--h->n];
        timer->pos = UINT32_MAX;
        timer->due = TIMER_NEVER;
        if (last == timer)
                return;
        if (pos > 0 && h->timers[(pos - 1) / 2]->due > last->due)
                up(h, last, pos);
        else
                down(h, last, pos);
}

int timerheap_set(struct timerheap *h, struct timer *timer, uint64_t due)
{
        timerheap_drop(h, timer);
        if (due == TIMER_NEVER)
                return 0;
        if (h->n == h->n_allocated && grow(h) < 0)
                return -ENOMEM;
        timer->due = due;
        up(h, timer, h->n++);
        return 0;
}

void timerheap_done(struct timerheap *h)
{
        assert(h->n == 0);
        free(h->timers);
        *h = (struct timerheap){0};
}
