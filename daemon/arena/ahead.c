/* SPDX-License-Identifier: MIT */
/*
 * Mapping ahead
 *
 * Who adopts an arena has to make sure that what spans hold is in memory, or a hole would be a
 * SIGBUS, and enters each page into the process's page table by the way: for a gigabyte, a fifth of
 * the time that taking over takes. It is work for the kernel alone, so a thread does it ahead of
 * who reads; that one never waits for the thread, but does it himself where the thread has not
 * been, so the thread may be slow, or missing.
 *
 * The two share nothing but two counts. The thread reads descriptions of spans, which nobody
 * changes meanwhile, and nothing in a span.
 */

#include "arena/ahead.h"

#include <signal.h>
#include <string.h>

#define SPANS_MIN 8u /* with fewer of them a thread is not worth starting */

static void *run(void *arg)
{
        struct ahead *h = arg;
        uint32_t n = h->a->t->span_high;

        for (uint32_t i = 1; i < n; i++) {
                uint32_t reached = atomic_load_explicit(&h->reached, memory_order_relaxed);

                if (i < reached)
                        i = reached;
                /* Without memory: whoever needs this span will find out, too. */
                if (i >= n || alloc_adopt_map(h->a, i) < 0)
                        break;
                atomic_store_explicit(&h->mapped, i + 1, memory_order_release);
        }
        return NULL;
}

void ahead_start(struct ahead *h, struct arena *a)
{
        pthread_attr_t attr;
        sigset_t all, old;

        *h = (struct ahead){.a = a};
        if (a->t->span_high <= SPANS_MIN)
                return;
        pthread_attr_init(&attr);
        (void)pthread_attr_setstacksize(&attr, 128 * 1024); /* refused: the default does too */
        sigfillset(&all);                                   /* signals are for the main thread */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        h->has_thread = pthread_create(&h->thread, &attr, run, h) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
}

int ahead_need(struct ahead *h, uint32_t span)
{
        if (span < atomic_load_explicit(&h->reached, memory_order_relaxed) ||
            span < atomic_load_explicit(&h->mapped, memory_order_acquire))
                return 0;
        return alloc_adopt_map(h->a, span);
}

int ahead_reach(struct ahead *h, uint32_t span)
{
        int r = ahead_need(h, span);

        if (r == 0)
                atomic_store_explicit(&h->reached, span + 1, memory_order_relaxed);
        return r;
}

void ahead_end(struct ahead *h)
{
        if (!h->has_thread)
                return;
        atomic_store_explicit(&h->reached, UINT32_MAX, memory_order_relaxed);
        pthread_join(h->thread, NULL);
        h->has_thread = false;
}
