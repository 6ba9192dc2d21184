/* SPDX-License-Identifier: MIT */
/*
 * Input buffer, see inbuf.h. Knows no frames: the caller says how many bytes it waits for.
 */

#include "transport/inbuf.h"

#include <errno.h>
#include <string.h>

static void release(struct inbuf *in, struct blocks *pool)
{
        if (!in->data)
                return;
        if (in->cap == BLOCK_SIZE)
                blocks_put(pool, in->data);
        else
                blocks_release(pool, in->data, in->cap);
        in->data = NULL;
        in->start = in->end = in->cap = 0;
}

/* A block with the bytes of the buffer, which are few, at its front. */
static int move_to_block(struct inbuf *in, struct blocks *pool)
{
        uint8_t *block = blocks_get(pool);
        size_t n = inbuf_len(in);

        if (!block)
                return -ENOMEM;
        if (n > 0)
                memcpy(block, inbuf_head(in), n);
        release(in, pool);
        *in = (struct inbuf){.data = block, .end = n, .cap = BLOCK_SIZE};
        return 0;
}

static int grow(struct inbuf *in, struct blocks *pool, size_t need)
{
        size_t n = inbuf_len(in);
        size_t cap = 2 * n < need ? 2 * n : need;
        uint8_t *p;

        if (cap <= in->cap) /* there is room enough for now */
                return 0;
        if (cap < 2 * BLOCK_SIZE)
                cap = 2 * BLOCK_SIZE;
        if (in->cap != BLOCK_SIZE) {
                p = blocks_realloc(pool, in->data, in->cap, cap);
                if (!p)
                        return -ENOMEM;
                in->data = p;
                in->cap = cap;
                return 0;
        }
        p = blocks_alloc(pool, cap);
        if (!p)
                return -ENOMEM;
        memcpy(p, inbuf_head(in), n);
        release(in, pool);
        *in = (struct inbuf){.data = p, .end = n, .cap = cap};
        return 0;
}

int inbuf_make_room(struct inbuf *in, struct blocks *pool, size_t need)
{
        if (in->cap < BLOCK_SIZE)
                return move_to_block(in, pool);
        if (in->start > 0 && (in->end == in->cap || need > in->cap - in->start)) {
                memmove(in->data, inbuf_head(in), inbuf_len(in));
                in->end -= in->start;
                in->start = 0;
        }
        return in->end < in->cap ? 0 : grow(in, pool, need);
}

void inbuf_settle(struct inbuf *in, struct blocks *pool)
{
        size_t n = inbuf_len(in);
        uint8_t *rest;

        if (n == 0) {
                release(in, pool);
                return;
        }
        if (n > INBUF_REST_MAX && n <= BLOCK_SIZE && in->cap > BLOCK_SIZE)
                (void)move_to_block(in, pool); /* no memory: then it stays as it is */
        if (n > INBUF_REST_MAX || in->cap < BLOCK_SIZE)
                return;
        rest = blocks_alloc(pool, n);
        if (!rest)
                return; /* then the block stays */
        memcpy(rest, inbuf_head(in), n);
        release(in, pool);
        *in = (struct inbuf){.data = rest, .end = n, .cap = n};
}

void inbuf_done(struct inbuf *in, struct blocks *pool)
{
        release(in, pool);
}
