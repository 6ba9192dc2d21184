/* SPDX-License-Identifier: MIT */
#ifndef BLOCKS_H
#define BLOCKS_H

/*
 * Buffer blocks: memory of one size that connections borrow while bytes are under way
 *
 * An idle connection holds none. A few returned blocks are kept, the last returned is the next
 * given (its lines are still in the cache); the rest go back to malloc. Counts all bytes of
 * connection buffers, also of the larger ones that are not pooled.
 */

#include <stddef.h>
#include <stdint.h>

#define BLOCK_SIZE       (64 * 1024) /* guess: 400 requests of 100 bytes; a larger one gained nothing */
#define BLOCKS_SPARE_MAX 8           /* so much is kept: 512 KiB */

struct blocks {
        void *spare[BLOCKS_SPARE_MAX];
        unsigned n_spare;
        uint64_t bytes; /* all buffer memory, spare included */
};

void blocks_init(struct blocks *b);
void blocks_done(struct blocks *b);

void *blocks_get(struct blocks *b); /* NULL: no memory */
void blocks_put(struct blocks *b, void *block);

/* Memory of another size, counted. */
void *blocks_alloc(struct blocks *b, size_t n);
void *blocks_realloc(struct blocks *b, void *p, size_t n_old, size_t n);
void blocks_release(struct blocks *b, void *p, size_t n);

/* Frees the spare ones: called when the daemon becomes idle. */
void blocks_trim(struct blocks *b);

#endif
