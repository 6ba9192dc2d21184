/* SPDX-License-Identifier: MIT */
#ifndef BLOCKS_H
#define BLOCKS_H

/*
 * Buffer blocks: memory that connections borrow while bytes are under way. See blocks.c.
 *
 * An idle connection holds none. Counts all bytes of connection buffers.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_SIZE       (64 * 1024) /* guess: 400 requests of 100 bytes; a larger one gained nothing */
#define BLOCKS_SPARE_MAX 64          /* so much is kept for a while: 4 MiB */

#define BLOCKS_CLASSES 5 /* 192 KiB to 2 MiB: of each one is kept, 4 MiB at most */

struct blocks {
        void *spare[BLOCKS_SPARE_MAX];
        unsigned n_spare;
        unsigned n_low;              /* the fewest that there were since they were last looked at */
        void *large[BLOCKS_CLASSES]; /* NULL: none */
        bool used, used_large;       /* since they were last looked at: something was taken */
        uint64_t bytes;              /* all buffer memory, spare included */
};

void blocks_init(struct blocks *b);
void blocks_done(struct blocks *b);

void *blocks_get(struct blocks *b); /* NULL: no memory */
void blocks_put(struct blocks *b, void *block);

/* Memory of another size, counted. */
void *blocks_alloc(struct blocks *b, size_t n);
void *blocks_realloc(struct blocks *b, void *p, size_t n_old, size_t n);
void blocks_release(struct blocks *b, void *p, size_t n);

/* Whether anything is kept that nobody uses. */
bool blocks_have_spare(const struct blocks *b);
/* Frees what nobody needed since the last call: of the blocks, as many as were never taken. True:
 * nobody took anything. */
bool blocks_trim(struct blocks *b);

#endif
