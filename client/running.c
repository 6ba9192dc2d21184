/* SPDX-License-Identifier: MIT */
/*
 * What a thread computes right now
 *
 * One pointer for each thread: the only state of the library that is not in a handle. It has to be
 * so, since a function that memoizes another one is not told that it is memoized itself. The
 * computations lie on the stacks of those who push them; nothing is allocated, and nothing is left
 * behind when a thread ends.
 *
 * A function that is left by longjmp() or by an exception leaves its computation on the stack: the
 * public header forbids it.
 */

#include "client/running.h"

#include <assert.h>
#include <unistd.h>

static _Thread_local struct running *running_innermost;

void running_push(struct running *r)
{
        r->outer = running_innermost;
        r->pid = getpid();
        running_innermost = r;
}

void running_pop(struct running *r)
{
        assert(running_innermost == r);
        running_innermost = r->outer;
}

struct running *running_top(void)
{
        return running_innermost;
}

bool running_is_ours(const struct running *r)
{
        return r->pid == getpid();
}
