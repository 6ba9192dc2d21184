/* SPDX-License-Identifier: MIT */
#ifndef BACKOFF_H
#define BACKOFF_H

/*
 * Backoff: how long to wait before a value that could not be computed anew is tried again. See
 * backoff.c.
 */

#include <stdint.h>

#define BACKOFF_SLOTS    1024u
#define BACKOFF_FIRST_MS UINT64_C(1000)
#define BACKOFF_MAX_MS   UINT64_C(60000)

/* Zero is an empty one. */
struct backoff {
        struct {
                uint64_t what; /* 0: nothing */
                uint64_t ms;
        } slots[BACKOFF_SLOTS];
};

/* It failed once more: the pause, in ms. @version never is that of two values of @space. */
uint64_t backoff_next(struct backoff *b, uint64_t space, uint64_t version);

#endif
