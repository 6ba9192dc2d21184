/* SPDX-License-Identifier: MIT */
#ifndef ARENA_H
#define ARENA_H

/*
 * Arena: the two memory files of a realm, and where things lie in them
 *
 * Typed access by index. Handles and indices that come from the files were written by this daemon
 * (or validated at takeover), so access checks are assertions; readers in other processes have
 * their own.
 */

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena/extents.h"
#include "arena/memfile.h"
#include "arena/table.h"
#include "proto/layout.h"

struct arena {
        struct memfile mem;   /* sent to clients, read-only */
        struct memfile table; /* never sent */
        struct arena_header *h;
        struct table_header *t;
        struct arena_cache *cache_dir;
        uint32_t *owner_uids;
        _Atomic uint32_t *dead_tags; /* a bit each */
        uint32_t *span_chunk;        /* the reader's span table: chunk size, 0: unused */
        struct arena_bucket *buckets;
        uint8_t *spans_base;
        struct table_span *spans;
        struct table_gen *gens;
        struct table_cache *caches;
        uint32_t *names; /* open addressing: cache ids */
        struct table_list *lists;
        struct table_owner *owners;
        struct table_departed *departed;
        struct table_large *large;
        struct idheap_item *gen_heap;
        uint8_t *pages;
        struct table_page *page_table;
        struct table_tag *tags; /* of id i: number i - 1 */
        uint8_t *recs;
        struct extents extents;
};

struct arena_params {
        uint64_t size; /* virtual bytes for spans; 0: twice the machine's memory */
        uint32_t max_caches;
        uint64_t seed[2];
        uint64_t instance;
        uint64_t boot[2];
        const char *label; /* cut at TABLE_LABEL_SIZE - 1; NULL: none */
};

int arena_init(struct arena *a, const struct arena_params *p);
void arena_done(struct arena *a); /* an all-zero struct is fine */
/* The same, but the arena is not retired: somebody else goes on with the files. */
void arena_leave(struct arena *a);

/* The sizes and offsets that follow from the number of spans and of caches; the rest is untouched.
 */
void arena_lay_mem(struct arena_header *h, uint32_t n_spans, uint32_t max_caches);
void arena_lay_table(struct table_header *t, uint32_t n_spans, uint32_t max_caches);
/* After both files are mapped. */
void arena_set_pointers(struct arena *a);

static inline uint32_t handle_span(uint32_t handle)
{
        return handle >> ARENA_CHUNK_SHIFT;
}

static inline uint32_t handle_chunk(uint32_t handle)
{
        return handle & ARENA_CHUNK_MASK;
}

static inline uint32_t handle_make(uint32_t span, uint32_t chunk)
{
        return span << ARENA_CHUNK_SHIFT | chunk;
}

static inline struct arena_entry *arena_block(const struct arena *a, uint32_t handle)
{
        uint32_t span = handle_span(handle);

        return (struct arena_entry *)(void *)(a->spans_base + ((uint64_t)span << ARENA_SPAN_SHIFT) +
                                              (uint64_t)handle_chunk(handle) * a->span_chunk[span]);
}

#define RECS_PER_SPAN_BYTES ((uint64_t)sizeof(struct table_rec) << ARENA_CHUNK_SHIFT)

static inline struct table_rec *arena_rec(const struct arena *a, uint32_t handle)
{
        return (struct table_rec *)(void *)(a->recs +
                                            (uint64_t)handle_span(handle) * RECS_PER_SPAN_BYTES +
                                            (uint64_t)handle_chunk(handle) *
                                                    sizeof(struct table_rec));
}

static inline uint64_t rec_stamp(const struct table_rec *r)
{
        return (uint64_t)r->stamp_hi << 32 | r->stamp_lo;
}

static inline void rec_set_stamp(struct table_rec *r, uint64_t stamp)
{
        r->stamp_lo = (uint32_t)stamp;
        r->stamp_hi = (uint32_t)(stamp >> 32);
}

/* Makes element @i of an array in the file resident when its elements are taken one after the
 * other, from the first on: a call of the kernel for each page, not for each element. 0, -ENOMEM.
 */
int arena_commit_element(struct memfile *m, uint64_t off, uint64_t i, uint64_t size);

#endif
