/* SPDX-License-Identifier: MIT */
#ifndef SPIN_H
#define SPIN_H

/*
 * Whether to look for events a little longer before going to sleep
 *
 * Falling asleep and being woken costs both sides of a socket more than a request does (tens of
 * microseconds on a virtual machine). While a client on another processor answers at once, the
 * next request is here before a sleep would have paid off; so after a turn with requests the loop
 * polls on for at most SPIN_NS. When that was in vain it is not tried again for a while, twice as
 * long each time: a client that thinks longer, or one that needs this very processor, soon has the
 * daemon asleep. An idle daemon never polls.
 *
 * Measured with bench get-16 and get-1, client and daemon pinned to the two processors of a small
 * virtual machine: see tests/bench/README.md.
 */

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS UINT64_C(100000)
#define SPIN_SKIP_MAX                                                                              \
        4096u /* turns; a futile poll every 4096th costs nothing that can be measured */

struct spin {
        uint32_t skip; /* turns to go without polling */
        uint32_t next; /* how many to skip after the next failure */
};

/* After a turn with requests: poll? */
static inline bool spin_begin(struct spin *s)
{
        if (s->skip == 0)
                return true;
        s->skip--;
        return false;
}

static inline void spin_end(struct spin *s, bool found)
{
        if (found) {
                /* Forgive quickly, but not at once: one lucky poll is no rhythm. */
                s->next /= 2;
                return;
        }
        s->next = s->next == 0 ? 1 : s->next * 2;
        if (s->next > SPIN_SKIP_MAX)
                s->next = SPIN_SKIP_MAX;
        s->skip = s->next;
}

#endif
