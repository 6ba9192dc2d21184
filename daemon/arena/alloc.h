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

/* ---- adopting what another process left, see adopt.c */

/* Is there a chunk under this number, in a span that is mapped by alloc_adopt_map()? For handles of
 * which nothing is known. */
bool alloc_has(const struct arena *a, uint32_t handle);
/* Chunks of a span that alloc_has() says yes to: 0 … n - 1. */
uint32_t alloc_n_chunks(const struct arena *a, uint32_t span);
/* Makes resident what the span holds, if it is in use. 0, -ENOMEM. Any thread: see ahead.c */
int alloc_adopt_map(struct arena *a, uint32_t span);
/* Forgets lists and sums. */
void alloc_adopt(struct arena *a);
/* For each span from 1 on, once the stamps of its records say which blocks are live: the rest of
 * the span's description follows from that. */
void alloc_adopt_span(struct arena *a, uint32_t span);

#endif
