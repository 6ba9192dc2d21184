/* SPDX-License-Identifier: MIT */
#ifndef TABLE_H
#define TABLE_H

/*
 * The table: what only the daemon reads, and what a crash must not lose
 *
 * The second memory file of a realm, never sent to clients: recency links, expiry heaps, caches and
 * policies, generations, counters, span descriptors. Everything is addressed by index; no pointers.
 *
 * There is one record per chunk of the arena, found by its handle: a block's identity is its place,
 * so neither the entry nor the record spends bytes on naming the other.
 */

#include <stdint.h>

#include "base/idhash.h"
#include "base/linkheap.h"
#include "proto/layout.h"

#define TABLE_MAGIC 0x656c626174636163 /* "cactable" */
#define TABLE_NONE  UINT32_MAX

#define N_CLASSES   233 /* chunk sizes, see alloc.c */
#define N_QUARTILES 4

/* One per chunk. stamp 0: the chunk is free, and `next` is the next free chunk of its span. */
struct table_rec {
        uint32_t prev, next;         /* handles in the recency list; towards newer, towards older */
        uint32_t heap_pos;           /* in the generation's expiry heap, or TABLE_NONE */
        uint32_t stamp_lo, stamp_hi; /* of the latest use; unique in the daemon's realm */
};
static_assert(sizeof(struct table_rec) == 20, "record");

enum span_state { SPAN_UNUSED = 0, SPAN_ACTIVE, SPAN_DRAINING };

struct table_span {
        uint8_t state;
        uint8_t class;
        uint8_t quartile; /* list it is on; N_QUARTILES: full, on none */
        uint8_t spare;
        uint32_t n_used;        /* live chunks */
        uint32_t high;          /* chunks that were ever handed out since it became active */
        uint32_t free_head;     /* chunk number or TABLE_NONE */
        uint32_t prev, next;    /* spans, in a quartile list or the list of unused ones */
        uint32_t committed;     /* bytes of the arena that are resident */
        uint32_t rec_committed; /* bytes of records that are resident */
};

/* Entries of one cache generation that one uid wrote, in order of use. There is one only while it
 * has entries. */
struct table_list {
        uint32_t gen;        /* index of the generation; of a free list: the next free one */
        uint32_t owner;      /* index of the owner */
        uint32_t head, tail; /* most, least recently used */
        uint32_t n_entries;
        struct idhash_slot slot;                         /* by generation and owner */
        struct linkheap_node of_realm, of_owner, of_gen; /* lists by the stamp of their tail */
};

enum gen_state { GEN_FREE = 0, GEN_LIVE, GEN_DYING };

/* Of some entries: their number, charge, and size before encoding. */
struct table_sums {
        uint64_t n_entries, held, raw;
};

enum tag_state { TAG_FREE = 0, TAG_LIVE, TAG_DYING };
enum tag_kind {
        TAG_NAMED = 0, /* of its writers' choice */
        TAG_NODE,      /* of the variants of an entry with `vary`; its name is that one's key */
        N_TAG_KINDS,
};
#define TAG_NAME_MAX 128

/* A tag that entries of one generation have: number i is of id i + 1. See tag.c. */
struct table_tag {
        uint32_t gen; /* id */
        uint8_t state, kind, n_name;
        uint8_t counted; /* of a dying one: all its entries count as gone, not only those without
                            another tag */
        uint8_t spare[3];
        uint32_t head;               /* of its entries: handle */
        uint32_t prev, next;         /* ids, among dying ones; `next` also among free ones */
        uint32_t gen_prev, gen_next; /* ids, among dying ones of its generation */
        uint64_t cleared_at;
        struct table_sums all, shared; /* the latter: of entries with several tags */
        struct idhash_slot slot;       /* by generation, kind and name; live ones */
        char name[TAG_NAME_MAX];
};

/* What one cache holds between two clears. */
struct table_gen {
        uint32_t id; /* as in entries: index | reuse count << 20 */
        uint32_t state;
        uint32_t cache;
        uint32_t lists; /* the one with the oldest tail, or TABLE_NONE */
        uint64_t n_entries, bytes_held, bytes_raw;
        uint32_t next; /* among free or dying ones; of a live one, see cache.c: the next cache */
        uint32_t heap_pos; /* among the realm's generations by next deadline */
        uint32_t before;   /* id of the cache's generation before it, which may be gone; 0: none */
        uint64_t cleared_at;
        /* tags, see tag.c */
        struct table_sums dead;       /* of a live one: entries that were cleared by tag */
        uint32_t n_tags[N_TAG_KINDS]; /* live ones */
        uint32_t dying_tags;          /* id of the first, or 0 */
        uint64_t n_shared_dying; /* entries with several tags in dying ones: once for each of those
                                  */
        /* expiry heap, see expiry.c */
        uint32_t n_heap; /* entries in it */
        uint32_t heap;   /* chunk, page, or page of page numbers */
        uint32_t heap_pages;
        uint8_t heap_kind;
        uint8_t heap_depth; /* levels of page numbers */
};

#define TABLE_NAME_SIZE  132
#define TABLE_LABEL_SIZE 128
#define TABLE_N_CAUSES   12

struct table_policy {
        uint64_t ttl_ms, max_entries, max_bytes;
        uint64_t stale_for_ms, stale_if_error_ms;
        uint32_t refresh_ahead, expire_jitter;
};

struct table_policies {
        struct table_policy policy, opened;
        uint64_t pinned;
};

struct table_cache {
        uint32_t gen; /* index of the live generation */
        uint16_t n_name;
        uint8_t in_use; /* 0: it was removed */
        uint8_t pinned;
        char name[TABLE_NAME_SIZE];
        struct table_policy policy, opened;
        /* the same fields as struct store_counters */
        uint64_t counters[7 + TABLE_N_CAUSES + 10];
};

struct table_owner {
        uint64_t charged;
        uint64_t held, arriving; /* the parts of it that no eviction frees: see struct store */
        uint32_t uid;
        uint32_t lists;          /* the one with the oldest tail, or TABLE_NONE */
        struct idhash_slot slot; /* by uid */
};

/* A key that is gone: a small memory for `explain`, see departed.c. All zero: none. */
struct table_departed {
        uint64_t hash;
        uint64_t when_cause; /* boottime ms << 8 | cause */
};
#define N_DEPARTED 8192

/* A value in a memory file of its own; the descriptor itself is the process's. */
struct table_large {
        uint64_t size;
        uint64_t ino;        /* of the memory file: so a successor knows which descriptor it is */
        uint32_t handle;     /* of the entry; ARENA_NONE: the place is free */
        uint32_t prev, next; /* those nobody holds, latest use first; `next` also among free ones */
};

/* One page of the pool: free, whole in use, or cut into chunks. */
struct table_page {
        uint32_t prev, next; /* free ones (next only); those of a class that have a free chunk */
        uint16_t used;       /* chunks in use, one bit each */
        uint16_t class;
};

#define N_PAGE_CLASSES 2

/* The one multi-step change that may be torn when the process is killed. */
enum intent_op {
        INTENT_NONE = 0,
        INTENT_INSERT,  /* new_handle goes into bucket/slot */
        INTENT_REPLACE, /* old_handle leaves bucket/slot for new_handle */
        INTENT_REMOVE,  /* old_handle leaves bucket/slot */
        INTENT_MOVE,    /* the same entry, from old_handle to new_handle */
        INTENT_SHIFT,   /* old_handle goes from bucket to bucket2 */
        INTENT_SPLIT,   /* bucket shares with bucket2 */
        INTENT_MERGE,   /* bucket2 goes back into bucket */
        INTENT_EDIT,   /* old_handle gets the deadline in bucket2, and `fresh` if it has a window */
        INTENT_POLICY, /* cache number old_handle gets what is in `staged` */
};

struct table_intent {
        uint32_t op;
        uint32_t old_handle, new_handle;
        uint32_t slot;
        uint64_t bucket, bucket2;
        struct arena_fresh fresh; /* .fresh 0: none */
};

struct table_header {
        uint64_t magic;
        uint32_t layout_version;
        uint32_t feature_bits;
        uint64_t size;
        uint64_t instance;
        uint64_t boot[2];
        uint64_t arena_ino; /* of the arena's file: the two belong together */
        char label[TABLE_LABEL_SIZE];
        /* where things lie */
        uint64_t gens_off, caches_off, names_off, lists_off, owners_off, spans_off, departed_off,
                large_off, gen_heap_off, pages_off, page_table_off, tags_off, recs_off;
        uint32_t max_gens, max_caches, max_lists, n_names, max_pages, max_large;

        struct table_intent intent;
        struct table_policies staged;

        uint64_t stamp;   /* last one given out */
        uint64_t version; /* last one given out */
        uint64_t n_entries, charged, reclaiming, n_reclaiming;
        uint32_t n_caches, n_owners;

        /* gens */
        uint32_t gen_free, gen_high;
        uint32_t dying_head, dying_tail;
        uint32_t n_gen_heap;

        /* tags: ids, 0 is none */
        uint32_t tag_free, tag_high; /* the latter: records that were ever in use */
        uint32_t n_tag_ids;          /* in use */
        uint32_t n_tags;             /* live ones of live generations */
        uint32_t dying_tag_head, dying_tag_tail;

        /* lists */
        uint32_t list_free, list_high;
        uint32_t oldest_list;

        /* pages of expiry heaps */
        uint32_t page_free, page_high, n_pages;
        uint32_t chunk_pages[N_PAGE_CLASSES]; /* that have a free chunk */

        /* large values; large_bytes with those that left and are still being sent */
        uint32_t large_free, large_high;
        uint32_t large_head, large_tail;
        uint64_t large_bytes;

        /* spans */
        uint32_t span_high;
        uint32_t span_free;  /* unused ones whose memory is kept */
        uint32_t span_empty; /* unused ones without memory */
        uint32_t draining;   /* the span that is being emptied, or TABLE_NONE */
        uint32_t drain_cursor;
        uint64_t drain_not_below; /* waste at which looking for a span to drain is worth it again */
        uint64_t used_bytes;      /* live chunks */
        uint64_t committed_bytes; /* resident in spans */
        uint64_t rec_bytes;       /* resident in records */
        uint64_t index_bytes;     /* resident in the index */
        uint64_t seq_floor;       /* new buckets' counters start here, see index.c */
        uint32_t quartiles[N_CLASSES][N_QUARTILES];
};

static_assert(sizeof(struct table_header) <= 8192, "table header");

#endif
