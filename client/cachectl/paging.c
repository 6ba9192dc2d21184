/* SPDX-License-Identifier: MIT */

/*
 * Paging
 *
 * A listing comes in pages, each of which says where the next one begins. That must be further on
 * each time: a daemon that leads us in a circle would keep us for ever. --timeout is for the whole
 * listing, of which only the waiting counts: what a pager or a pipe takes to read our output is not
 * the daemon's.
 */

#include "paging.h"

#include <inttypes.h>
#include <time.h>

static uint64_t now_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void paging_ask(struct paging *p)
{
        p->asked_ns = now_ns();
}

int paging_answer(struct ctl *ctl, struct paging *p, uint64_t next)
{
        p->spent_ns += now_ns() - p->asked_ns;
        p->done = next == 0;
        if (p->done)
                return EXIT_DONE;
        if (next <= p->cursor) {
                ctl_note(ctl,
                         "the daemon's listing does not advance: after page %" PRIu64
                         " it names page %" PRIu64,
                         p->cursor, next);
                return EXIT_UNREACHABLE;
        }
        if (p->spent_ns / 1000000 >= ctl->timeout_ms) {
                ctl_note(ctl,
                         "the listing is not complete after %" PRIu32
                         " ms: allow more with --timeout",
                         ctl->timeout_ms);
                return EXIT_UNREACHABLE;
        }
        p->cursor = next;
        return EXIT_DONE;
}
