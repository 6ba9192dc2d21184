/* SPDX-License-Identifier: MIT */
#ifndef MEMO_WAIT_H
#define MEMO_WAIT_H

/*
 * Looking a command up, and waiting for the end of a run that somebody else has begun
 */

#include "memo-cache.h"

struct memo_wait {
        struct ctl *ctl;
        struct memo_cache *cache;
        const uint8_t *key;
        const char *title; /* what the spinner says */
        uint64_t wait_ms;  /* CACHED_NEVER: for as long as it lives */
        bool refresh;      /* what is stored is to be made anew */
        bool quiet, verbose;
        uint32_t pid;       /* set: of who was waited for; 0: nobody, or it is not known */
        uint64_t waited_ms; /* set */
};

/*
 * *ret: what of ours is stored; NULL: nothing, or w->cache->why says more. *ret_lease: the right to
 * run the command, or why not; NULL: there is nothing to be said. Both are freed by the caller.
 *
 * A signal that ends us ends the wait at once, and leaves nothing on the screen.
 */
void memo_wait(struct memo_wait *w, cached_reply **ret, cached_lease **ret_lease);

/* Tells who waits, and whoever looks at the daemon, what runs. */
void memo_wait_tell(const struct ctl *ctl, cached_lease *lease, char **argv, const char *title);

#endif
