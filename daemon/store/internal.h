/* SPDX-License-Identifier: MIT */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

/*
 * What the files of the store share: the struct, and how they call each other
 *
 *   store.c   the operations               upkeep.c  bounded background work
 *   evict.c   making room, dropping        cache.c   caches, generations, policies
 *   index.c   key → handle                 lru.c     recency lists
 *   expiry.c  deadlines                    departed.c  why a key is gone
 *   owner.c   writers' uids                entry.c   packing      large.c  memory files
 */

#include "arena/alloc.h"
#include "arena/arena.h"
#include "base/idheap.h"
#include "store/entry.h"
#include "store/store.h"

struct store {
        struct arena a;
        struct store_params p;
        struct idheap list_heap; /* lists by the stamp of their least recently used entry (a lower
                                    bound) */
        struct idheap gen_heap;  /* generations by their next deadline */
        struct large **large;    /* by id; NULL: free */
        uint32_t n_large;        /* allocated length */
        uint32_t trim;           /* from this cache on, one may be over a lowered limit; 0: none */
        bool settled;            /* nothing changed since store_maintain() found nothing to do */
        uint64_t reserved;       /* part of the realm's charge: values that are still arriving */
        int upkeep_paid;         /* steps of upkeep that stores have paid for; negative: owed */
        uint64_t listing_until;  /* a listing is under way: nothing moves; 0: none */
        uint32_t keep;           /* handle that must not be evicted now: it is being replaced */
};

/* A key with its hash, and where it was found. */
struct index_key {
        uint32_t gen; /* id */
        const uint8_t *key;
        uint32_t n_key;
        uint64_t h1, h2;
        uint16_t tag;
};

struct index_slot {
        uint64_t bucket;
        uint32_t i;
};

/* ---- index.c */
int index_init(struct store *s);
void index_key_init(const struct store *s, struct index_key *k, uint32_t gen, const void *key,
                    uint32_t n_key);
/* The key of a live block. */
void index_key_of(const struct store *s, struct index_key *k, uint32_t handle);
/* The handle, or ARENA_NONE. */
uint32_t index_find(const struct store *s, const struct index_key *k, struct index_slot *ret_slot);
/* Asks for the key's buckets; names the likely handle by tag alone. See store_ahead(). */
void index_prefetch(const struct store *s, const struct index_key *k);
uint32_t index_guess(const struct store *s, const struct index_key *k);
/* Finds by handle what is known to be there. */
struct index_slot index_locate(const struct store *s, const struct index_key *k, uint32_t handle);
/* A new key. 0; -ENOSPC: both buckets are full of keys that cannot move and no memory for more. */
int index_insert(struct store *s, const struct index_key *k, uint32_t handle);
void index_replace(struct store *s, struct index_slot slot, uint32_t handle, uint32_t op);
void index_remove(struct store *s, struct index_slot slot);
/* A resident of the key's first bucket, to be evicted when index_insert() cannot. */
uint32_t index_victim(const struct store *s, const struct index_key *k);
/* Grows towards the entries there are; bounded. */
void index_grow(struct store *s);
/* One step towards a smaller index; false: it has the right size. */
bool index_shrink(struct store *s);
/* Brackets a change of a reachable block's header. */
void index_edit_begin(struct store *s, struct index_slot slot, uint32_t handle);
void index_edit_end(struct store *s, struct index_slot slot);

/* ---- lru.c */
int lru_list_get(struct store *s, uint32_t gen, uint32_t owner, uint32_t *ret_list);
void lru_list_free(struct store *s, uint32_t list);
void lru_push(struct store *s, uint32_t list, uint32_t handle);
void lru_remove(struct store *s, uint32_t list, uint32_t handle);
void lru_touch(struct store *s, uint32_t list, uint32_t handle);
void lru_moved(struct store *s, uint32_t list, uint32_t from, uint32_t to);
uint32_t lru_oldest_of_gen(const struct store *s, uint32_t gen);     /* handle or ARENA_NONE */
uint32_t lru_oldest_of_owner(const struct store *s, uint32_t owner); /* likewise */
uint32_t lru_oldest(struct store *s);                                /* of the realm */
void lru_forget_list(struct store *s, uint32_t list); /* no longer considered by lru_oldest() */
struct idheap lru_heap(struct store *s);

/* ---- expiry.c */
int expiry_reserve(struct store *s, uint32_t gen); /* room for one more: 0, -ENOMEM */
/* Adds or changes. After expiry_reserve(), with nothing removed in between. */
void expiry_set(struct store *s, uint32_t gen, uint32_t handle, uint64_t deadline);
void expiry_remove(struct store *s, uint32_t gen, uint32_t handle);
void expiry_moved(struct store *s, uint32_t gen, uint32_t handle);
uint32_t expiry_due(const struct store *s, uint32_t gen, uint64_t now); /* handle or ARENA_NONE */
uint32_t expiry_due_any(const struct store *s, uint64_t now);           /* of any live generation */
bool expiry_free_page(struct store *s, uint32_t gen); /* of a dying generation; false: none left */
void expiry_forget_gen(struct store *s, uint32_t gen);
struct idheap expiry_gen_heap(struct store *s);

/* ---- owner.c */
int owner_get(struct store *s, uint32_t uid, uint32_t *ret_owner); /* 0, STORE_E_LIMIT, -ENOMEM */

/* ---- departed.c */
void departed_add(struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                  enum store_cause cause, uint64_t now);
bool departed_find(const struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                   uint64_t now, enum store_cause *ret_cause, uint64_t *ret_age_ms);

/* ---- cache.c */
struct table_cache *cache_at(const struct store *s, uint32_t cache); /* or NULL */
static inline struct table_gen *cache_gen(const struct store *s, const struct table_cache *c)
{
        return &s->a.gens[c->gen];
}
static inline struct store_counters *cache_counters(struct table_cache *c)
{
        static_assert(sizeof(c->counters) == sizeof(struct store_counters), "counters");
        return (struct store_counters *)(void *)c->counters;
}
static inline uint32_t gen_index(uint32_t id)
{
        return (id & 0xfffff) - 1;
}
int gen_alloc(struct store *s, uint32_t cache, uint32_t *ret_gen);
void gen_free(struct store *s, uint32_t gen);

/* ---- evict.c */
/* Takes the entry out of everything and frees it. */
void entry_drop(struct store *s, uint32_t handle, enum store_cause cause, uint64_t now);
/* The same for an entry that is out of the index already. */
void entry_release(struct store *s, uint32_t handle);
/* One entry of the oldest dying generation, or a piece of its bookkeeping; false: nothing is dying.
 */
bool evict_reclaim_one(struct store *s);
struct room {
        uint32_t cache; /* 0: not known yet, its limits are not looked at */
        uint32_t gen, owner;
        uint64_t charge;     /* of the new entry */
        uint64_t old_charge; /* of s->keep, the entry that it replaces, or 0 */
        uint32_t old_owner;
};
/* Evicts until the entry fits all budgets. 0, STORE_E_NO_SPACE. */
int evict_make_room(struct store *s, const struct room *r, uint64_t now, struct store_refusal *ret);
/* Could an entry of this charge ever fit? 0, STORE_E_TOO_LARGE. */
int evict_check_size(const struct store *s, const struct table_cache *c, uint64_t charge,
                     struct store_refusal *ret);
/* Which bound of the realm is overstepped, as when it was lowered; N_CAUSES: none. */
enum store_cause evict_over_realm(const struct store *s);
/* One entry of a cache that is over its limits; false: it is within. */
bool evict_trim_one(struct store *s, uint32_t cache, uint64_t now);

/* ---- upkeep.c */
/* A store's share of compaction. */
void upkeep_pay(struct store *s, uint64_t n, uint64_t now); /* @n: bytes stored */

/* ---- store.c */
/* Completes what the block alone does not say: raw size without encoding, size of a large value. */
void entry_resolve(const struct store *s, struct entry *e);
uint64_t store_block_charge(const struct store *s, uint32_t handle);
void store_entry_fill(const struct store *s, uint32_t handle, struct store_entry *ret);

/* ---- large.c */
int large_table_add(struct store *s, struct large *l, uint32_t *ret_id);
void large_table_drop(struct store *s, uint32_t id);

#endif
