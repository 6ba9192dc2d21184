/* SPDX-License-Identifier: MIT */
#ifndef ALLOC_H
#define ALLOC_H

/*
 * Blocks of the arena: spans of equal chunks, see alloc.c
 */

#include "arena/arena.h"

#define BLOCK_MAX ARENA_SPAN_SIZE

/* Chunk size that a block of @n bytes (1 … BLOCK_MAX) takes. */
uint32_t alloc_chunk_size(uint32_t n);

/* A free chunk of at least @n bytes, its record zeroed but for a stamp of 0. 0, -ENOMEM. */
int alloc_block(struct arena *a, uint32_t n, uint32_t *ret_handle);
void alloc_free(struct arena *a, uint32_t handle);
static inline bool alloc_is_live(const struct arena *a, uint32_t handle)
{
        return rec_stamp(arena_rec(a, handle)) != 0;
}

/* ---- giving memory back */

/* Bytes that are resident but belong to no live chunk. */
uint64_t alloc_waste(const struct arena *a);

/* Gives one unused span's memory back. False: there is none. */
bool alloc_release_unused(struct arena *a);

/*
 * Compaction empties one span at a time. alloc_drain_next() names the next live block to be moved
 * away (the caller allocates, moves and frees), choosing a span to drain when none is being
 * drained. ARENA_NONE: nothing worth it. The caller calls again after the move.
 * @hard:  also spans that are nearly full
 */
uint32_t alloc_drain_next(struct arena *a, bool hard);

#endif
