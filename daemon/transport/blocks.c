/* SPDX-License-Identifier: MIT */
/*
 * Buffer blocks, see blocks.h. Owns the spare ones only; who got a block returns it.
 */

#include "transport/blocks.h"

#include <assert.h>
#include <stdlib.h>

void blocks_init(struct blocks *b)
{
        *b = (struct blocks){0};
}

void blocks_trim(struct blocks *b)
{
        while (b->n_spare > 0) {
                free(b->spare[--b->n_spare]);
                b->bytes -= BLOCK_SIZE;
        }
}

void blocks_done(struct blocks *b)
{
        blocks_trim(b);
        assert(b->bytes == 0);
}

void *blocks_get(struct blocks *b)
{
        if (b->n_spare > 0)
                return b->spare[--b->n_spare];
        return blocks_alloc(b, BLOCK_SIZE);
}

void blocks_put(struct blocks *b, void *block)
{
        if (b->n_spare < BLOCKS_SPARE_MAX)
                b->spare[b->n_spare++] = block;
        else
                blocks_release(b, block, BLOCK_SIZE);
}

void *blocks_alloc(struct blocks *b, size_t n)
{
        void *p = malloc(n);

        if (p)
                b->bytes += n;
        return p;
}

void *blocks_realloc(struct blocks *b, void *p, size_t n_old, size_t n)
{
        void *q = realloc(p, n);

        if (q)
                b->bytes += n - n_old;
        return q;
}

void blocks_release(struct blocks *b, void *p, size_t n)
{
        free(p);
        b->bytes -= n;
}
