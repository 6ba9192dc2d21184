/* SPDX-License-Identifier: MIT */
/*
 * Descriptor queue
 *
 * The kernel ends a read behind the bytes that descriptors came with, so that each read brings those
 * of one call of the sender, and the frame that they ride with begins within what was read. Once all
 * frames that began there are handled, a descriptor that is left belongs to none.
 *
 * Not here: looking at descriptors, and closing them. Both can hang.
 */

#include "transport/fdqueue.h"

#include <errno.h>
#include <string.h>

bool fdqueue_add(struct fdqueue *q, const int *fds, unsigned n_fds, bool lost, uint64_t due)
{
        if (n_fds + lost > FDQUEUE_MAX - q->n)
                return false;
        for (unsigned i = 0; i < n_fds; i++) {
                q->items[q->n].fd = fds[i];
                q->items[q->n++].due = due;
        }
        if (lost) {
                q->items[q->n].fd = FDQUEUE_LOST;
                q->items[q->n++].due = due;
        }
        return true;
}

int fdqueue_take(struct fdqueue *q)
{
        int fd;

        if (q->n == 0)
                return -ENOENT;
        fd = q->items[0].fd;
        q->n--;
        memmove(q->items, q->items + 1, q->n * sizeof(q->items[0]));
        return fd;
}

unsigned fdqueue_clear(struct fdqueue *q, int ret_fds[FDQUEUE_MAX])
{
        unsigned n = 0;

        for (unsigned i = 0; i < q->n; i++)
                if (q->items[i].fd != FDQUEUE_LOST)
                        ret_fds[n++] = q->items[i].fd;
        q->n = 0;
        return n;
}
