/* SPDX-License-Identifier: MIT */
/*
 * Back-off: how often a daemon that is away is tried again
 *
 * After a failed attempt there is a pause in which calls fail at once, with that failure. Pauses
 * double from 10 ms to one second; each is made up to a quarter longer or shorter, so that the
 * processes of a machine do not all knock at the same moment after a restart. The first attempt
 * that succeeds ends it all.
 *
 * A call that got no answer in time is the one failure without a pause behind it, since it says
 * little by itself: a short deadline, a large value. The daemon counts as silent then, and the next
 * call looks first whether it answers Hello (handle.c); pauses begin when it does not.
 *
 * Time is passed in; there is no timer. It does not know what an attempt is.
 */

#include "client/backoff.h"

#include <cached.h>

/* A quarter of `ns` either way, by a multiplicative hash of the clock: nobody needs to predict it.
 */
static uint64_t jittered(uint64_t ns, uint64_t now_ns)
{
        uint64_t random = (now_ns * UINT64_C(0x9e3779b97f4a7c15)) >> 40; /* 24 bits */

        return ns - ns / 4 + ((ns / 2 * random) >> 24);
}

void backoff_failed(struct backoff *b, uint64_t now_ns, const struct failure *f)
{
        uint64_t pause_ns = BACKOFF_FIRST_NS;
        uint32_t n = b->n_failures;

        b->silent = f->code == CACHED_ERR_TIMEOUT;
        if (b->silent && n == 0)
                pause_ns = 0;
        for (uint32_t i = 0; i < n && pause_ns < BACKOFF_MAX_NS; i++)
                pause_ns *= 2;
        if (pause_ns > BACKOFF_MAX_NS)
                pause_ns = BACKOFF_MAX_NS;
        b->until_ns = now_ns + jittered(pause_ns, now_ns);
        b->why = *f;
        if (n < UINT32_MAX)
                b->n_failures = n + 1;
}

void backoff_over(struct backoff *b)
{
        b->n_failures = 0;
        b->silent = false;
}

int backoff_refuse(const struct backoff *b, uint64_t now_ns, struct failure *f)
{
        uint64_t left_ms = (b->until_ns - now_ns + 999999u) / 1000000u;

        /* Of a text that is as long as can be the end is cut, not what the caller should know. */
        return failure_set(f, b->why.code, "%.440s (not tried again for %u ms)", b->why.text,
                           (unsigned)left_ms);
}
