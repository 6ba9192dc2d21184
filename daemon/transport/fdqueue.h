/* SPDX-License-Identifier: MIT */
#ifndef FDQUEUE_H
#define FDQUEUE_H

/*
 * Descriptor queue: descriptors that came with bytes and wait for the frame that names them. See
 * fdqueue.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FDQUEUE_MAX  8u /* PROTOCOL.md, "Values as memory files" */
#define FDQUEUE_LOST (-1)

struct fdqueue {
        unsigned n;
        struct {
                int fd;       /* FDQUEUE_LOST: there was no room for it in the descriptor table */
                uint64_t due; /* a frame that begins before this byte of the stream names it */
        } items[FDQUEUE_MAX];
};

/* Owned by the queue from then on. @lost: of those that came, some could not be received. False:
 * there are too many, nothing was added. */
bool fdqueue_add(struct fdqueue *q, const int *fds, unsigned n_fds, bool lost, uint64_t due);

/* The oldest; the caller's from then on. FDQUEUE_LOST, or -ENOENT: there is none. */
int fdqueue_take(struct fdqueue *q);

/* Everything before @at is handled: is one left over that nobody named? */
static inline bool fdqueue_has_leftover(const struct fdqueue *q, uint64_t at)
{
        return q->n > 0 && q->items[0].due <= at;
}

/* Empties it. Returns how many were written to @ret_fds, which are the caller's. */
unsigned fdqueue_clear(struct fdqueue *q, int ret_fds[FDQUEUE_MAX]);

#endif
