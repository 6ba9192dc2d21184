/* SPDX-License-Identifier: MIT */
#ifndef INBUF_H
#define INBUF_H

/*
 * Input buffer: received bytes that are not handled yet, contiguous
 *
 * Holds nothing when empty. A short rest (the beginning of a frame) is kept in memory of its own
 * size, so that a slow peer does not hold a whole block. Grows for a long frame by doubling, and so
 * to at most twice what was really received: a length that a peer only claims costs nothing.
 */

#include <stddef.h>
#include <stdint.h>

#include "transport/blocks.h"

/* A longer rest stays where it is: copying it would cost more than it saves. */
#define INBUF_REST_MAX 4096

struct inbuf {
        uint8_t *data;
        size_t start, end; /* the bytes are data[start … end) */
        size_t cap;        /* BLOCK_SIZE: a block of the pool; else memory of that size */
};

static inline size_t inbuf_len(const struct inbuf *in)
{
        return in->end - in->start;
}

static inline const uint8_t *inbuf_head(const struct inbuf *in)
{
        return in->data + in->start;
}

/* Makes room to receive into data[end … cap), knowing that @need bytes from start on are waited
 * for. 0 or -ENOMEM (nothing changed). */
int inbuf_make_room(struct inbuf *in, struct blocks *pool, size_t need);

/* Gives back what is not needed while nothing is received. */
void inbuf_settle(struct inbuf *in, struct blocks *pool);

void inbuf_done(struct inbuf *in, struct blocks *pool);

#endif
