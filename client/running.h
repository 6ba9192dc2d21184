/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RUNNING_H
#define CLIENT_RUNNING_H

/*
 * What a thread computes right now: a stack of computations, the innermost on top
 *
 * cached_memoize() pushes one before it calls the function and pops it afterwards. So whatever the
 * function calls while it runs finds out by running_top() which computation it belongs to: a nested
 * cached_memoize() (which goes on under the owner number of the outer one), cached_progress(), and
 * everything that a function records or discovers.
 *
 * To keep something with a computation: add a field, which running_push() leaves alone and whose
 * memory is the business of who uses it, and set it before the push (struct running is on the stack
 * of cached_memoize(), see memoize.c, memo_call()). What the field collects is taken after the
 * pop. A nested computation finds the outer one in `outer`.
 *
 * Only the thread that pushed looks at its stack, so there is no lock. A child process that was
 * forked while the function ran still has the stack of its one thread: running_is_ours() tells
 * whether what it finds there is its own.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "client/line.h"

struct cached_lease;
struct pool;
struct record;

struct running {
        /* Set by who pushes it. Borrowed while it is on the stack. */
        struct pool *pool;          /* its handle's; NULL: there is no cache */
        struct line_owner owner;    /* number 0: it has none yet */
        struct cached_lease *lease; /* NULL: it computes without one */
        struct record *record;

        /* Set by running_push(). */
        struct running *outer; /* NULL: none */
        pid_t pid;
};

void running_push(struct running *r);
/* `r` is the top. */
void running_pop(struct running *r);

/* The innermost computation of this thread; NULL: none. */
struct running *running_top(void);

/* False: it began in a process that this one was forked from. */
bool running_is_ours(const struct running *r);

#endif
