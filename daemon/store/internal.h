/* SPDX-License-Identifier: MIT */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

/*
 * What the files of the store share: the struct, and how they call each other
 *
 *   store.c   the operations               upkeep.c  bounded background work
 *   room.c    budgets                      evict.c   choosing what leaves, dropping it
 *   arrival.c large values on their way in cache.c   caches, generations, policies
 *   index.c   key → handle                 lru.c     recency lists
 *   expiry.c  deadlines                    departed.c  why a key is gone
 *   owner.c   writers' uids                entry.c   packing
 *   large.c   memory files                 large-table.c  the store's
 *   large-hold.c  who holds them
 *   extent.c  values in extents of the arena, and who holds them
 *   fresh.c   how long an entry is as good as new, and what comes then
 *   tag.c     entries by tag             variant.c  entries that lead to others
 *   sweep.c   clear by prefix            life.c    the store as a whole
 *   mapped.c  what readers tell
 *   recover.c taking over from another process, recover-entries.c  its entries, recover-order.c,
 *   recover-tags.c
 */

#include "arena/alloc.h"
#include "arena/arena.h"
#include "base/idheap.h"
#include "store/entry.h"
#include "store/store.h"

struct store {
        struct arena a;
        struct store_params p;
        struct idheap gen_heap;   /* generations by their next deadline */
        struct large **large;     /* by id; NULL: free */
        uint32_t n_large;         /* allocated length */
        uint32_t n_unkept;        /* of them: stored, and without a copy for a successor */
        struct large *files;      /* all that the store is charged for, stored or still held */
        uint32_t n_files;         /* their number, and that of large values on their way in */
        struct store_hold *holds; /* of values in extents */
        uint32_t reusable;        /* the first cache that was removed and whose record can be used
                                     again; 0: none. See cache.c */
        uint32_t n_removed; /* caches that were removed, and no other one is in their record */
        uint32_t trim;      /* from this cache on, one may be over a lowered limit; 0: none */
        bool settled;       /* nothing changed since store_maintain() found nothing to do */
        /* Parts of the realm's charge that no eviction frees: values that somebody is being sent,
         * and what has arrived of values that are on their way in. */
        uint64_t held, arriving;
        /* What readers have: views, the bytes of the values that they are of, and of those the
         * bytes of values that have left. */
        uint64_t n_views, view_bytes, view_departed_bytes;
        unsigned drops;          /* entries that left since store_maintain() */
        unsigned extra;          /* steps that requests may still do beyond what each has to, until
                                    store_maintain() */
        int upkeep_paid;         /* steps of upkeep that stores have paid for; negative: owed */
        uint64_t listing_until;  /* a listing is under way: nothing moves; 0: none */
        store_departed departed; /* NULL: nobody wants to know; see store_watch() */
        void *departed_ctx;
        uint32_t staying; /* index + 1 of the generation whose entries are not evicted; 0: none */
        uint32_t keep;    /* handle that must not be evicted now: it is being replaced */
        struct store_sweep *sweeps; /* that are under way */
        struct store_told *told;    /* what readers told and is not applied yet; may be NULL */
        uint32_t n_told;            /* entries that it is about */
        struct store_uses uses;
};

#define LISTING_MS 1000u /* the next page of a listing is expected within this time */

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
/* Is it the key of this block? */
bool index_matches(const struct store *s, const struct index_key *k, uint32_t handle);
/* Finds by handle what is known to be there. */
struct index_slot index_locate(const struct store *s, const struct index_key *k, uint32_t handle);
/* A new key. 0; -ENOSPC: both buckets are full of keys that cannot move and no memory for more. */
int index_insert(struct store *s, const struct index_key *k, uint32_t handle);
void index_replace(struct store *s, struct index_slot slot, uint32_t handle, uint32_t op);
void index_remove(struct store *s, struct index_slot slot);
/* A resident of the key's first bucket, to be evicted when index_insert() cannot. */
uint32_t index_victim(struct store *s, const struct index_key *k);
/* Grows towards the entries there are; bounded. */
void index_grow(struct store *s);
/* One step towards a smaller index; false: it has the right size. */
bool index_shrink(struct store *s);
/* Brackets a change of a reachable block's moments: these will stand there. @fresh: with .fresh 0
 * the block has no place for them. */
void index_edit_begin(struct store *s, struct index_slot slot, uint32_t handle, uint64_t deadline,
                      const struct arena_fresh *fresh);
void index_edit_end(struct store *s, struct index_slot slot);

/* ---- mapped.c */
#define TOLD_PLACE_BITS 16
#define TOLD_PLACES     (1u << TOLD_PLACE_BITS)

/* Where a use is looked for in the hash of those that are put by. */
static inline uint32_t told_place(const struct store_use *u)
{
        uint64_t mix = (u->handle ^ (uint64_t)u->version_lo << 32) * UINT64_C(0x9e3779b97f4a7c15);

        return (uint32_t)((mix ^ mix << 29) >> (64 - TOLD_PLACE_BITS));
}

/* First of all where something depends on what was used. */
static inline void apply_told(struct store *s)
{
        if (__builtin_expect(s->n_told > 0, 0))
                store_apply_told(s);
}

/* ---- lru.c: what readers told is applied before anything is looked at or changed. */
/* Makes the list if it is not there; who then has no entry for it calls lru_list_put(). 0,
 * STORE_E_LIMIT, -ENOMEM. */
int lru_list_get(struct store *s, uint32_t gen, uint32_t owner, uint32_t *ret_list);
void lru_list_put(struct store *s, uint32_t list);
uint32_t lru_list_find(const struct store *s, uint32_t gen, uint32_t owner); /* or TABLE_NONE */
void lru_push(struct store *s, uint32_t list, uint32_t handle);
void lru_remove(struct store *s, uint32_t list, uint32_t handle);
void lru_touch(struct store *s, uint32_t list, uint32_t handle);
void lru_moved(struct store *s, uint32_t list, uint32_t from, uint32_t to);
uint32_t lru_oldest_of_gen(struct store *s, uint32_t gen);     /* handle or ARENA_NONE */
uint32_t lru_oldest_of_owner(struct store *s, uint32_t owner); /* likewise */
uint32_t lru_oldest(struct store *s);                          /* of the realm */
/* Of a dying generation: its entries are no longer found by owner or in the realm. */
/* The lists of this generation (index) are looked at no more where entries are evicted. */
void lru_stay(struct store *s, uint32_t gen);
void lru_list_forget(struct store *s, uint32_t list);
void lru_forget(struct store *s); /* all lists; generations and owners are told */

/* ---- expiry.c */
int expiry_reserve(struct store *s, uint32_t gen); /* room for one more: 0, -ENOMEM */
/* Adds or changes. After expiry_reserve(), with nothing removed in between. */
void expiry_set(struct store *s, uint32_t gen, uint32_t handle, uint64_t deadline);
void expiry_remove(struct store *s, uint32_t gen, uint32_t handle);
void expiry_moved(struct store *s, uint32_t gen, uint32_t handle);
uint32_t expiry_due(const struct store *s, uint32_t gen, uint64_t now); /* handle or ARENA_NONE */
uint32_t expiry_due_any(const struct store *s, uint64_t now);           /* of any live generation */
bool expiry_free_place(struct store *s, uint32_t gen); /* of a dying generation; false: none left */
void expiry_forget_gen(struct store *s, uint32_t gen);
struct idheap expiry_gen_heap(struct store *s);
void expiry_forget(struct store *s); /* all heaps */

/* ---- owner.c */
int owner_get(struct store *s, uint32_t uid, uint32_t *ret_owner); /* 0, STORE_E_LIMIT, -ENOMEM */
bool owner_find(const struct store *s, uint32_t uid, uint32_t *ret_owner);
void owner_rehash(struct store *s); /* their number and uids are known, nothing else is */

/* ---- tag.c */
static inline struct table_sums entry_sums(const struct entry *e, uint64_t charge)
{
        return (struct table_sums){1, charge, e->n_key + e->x.raw_size + e->x.n_messages};
}
static inline struct table_tag *tag_at(const struct store *s, uint32_t id)
{
        return &s->a.tags[id - 1];
}
static inline struct idhash tags_hash(const struct store *s, uint32_t *n)
{
        return (struct idhash){(uint8_t *)s->a.tags + offsetof(struct table_tag, slot),
                               sizeof(struct table_tag), n};
}
uint32_t tag_hash_of(const struct store *s, uint32_t gen, unsigned kind, const void *name,
                     size_t n);
/* The live tag of this name, of entries of the generation with id @gen; 0: none. */
uint32_t tag_find_in(const struct store *s, const struct idhash *h, uint32_t gen, unsigned kind,
                     const void *name, size_t n);
uint32_t tag_find(const struct store *s, uint32_t gen, unsigned kind, const void *name, size_t n);
/* Those of a block; *ret_n 0: it has none. */
struct arena_tag *tags_of(const struct store *s, uint32_t handle, unsigned *ret_n);
/* Was the entry cleared by one of its tags? */
bool tags_are_dead(const struct store *s, uint32_t handle);
static inline bool entry_is_dead(const struct store *s, uint32_t handle)
{
        return arena_block(&s->a, handle)->sizes & ENTRY_EXT && tags_are_dead(s, handle);
}
uint64_t tags_cleared_at(const struct store *s, uint32_t handle); /* of a dead entry: when */
/* The ids of what an entry is to have; then it is linked, or they are put back. Until then nothing
 * else is stored. 0, STORE_E_TAGS, STORE_E_NO_NODE, -ENOMEM. */
int tags_take(struct store *s, const struct store_put *p, uint32_t gen, uint64_t now,
              struct arena_tag *ret);
void tags_put_back(struct store *s, const struct arena_tag *tags, unsigned n);
/* The block of a new entry is filled, and is counted in the sums of its tags. */
void tags_link(struct store *s, uint32_t handle, struct table_sums one);
/* An entry leaves. True: it was counted among the dead of its generation. */
bool tags_unlink(struct store *s, uint32_t handle, const struct table_sums *one);
void tags_moved(struct store *s, uint32_t to); /* the block was copied there */
/* Clears a live tag. Constant time. */
void tag_die(struct store *s, uint32_t id, uint64_t now);
/* The next entry to be reclaimed of a dying tag (of this generation), but not s->keep; or
 * ARENA_NONE. */
uint32_t tags_first_dead(const struct store *s);
uint32_t tags_first_dead_of_gen(const struct store *s, uint32_t gen);
void tag_show(struct store *s, uint32_t id, bool dead); /* to mapped readers */

/* ---- variant.c */
/* The live entry with `vary` under this key, or ARENA_NONE. */
uint32_t node_find(const struct store *s, uint32_t gen, const void *key, size_t n_key,
                   uint64_t now);
/* The entry leaves, or another one comes in its place: its variants are cleared, if it has some. */
void node_leaves(struct store *s, uint32_t handle, uint64_t now);
void node_replaced(struct store *s, uint32_t old, uint32_t handle, uint64_t now);

/* ---- sweep.c */
/* Drops an entry that would move, if a sweep is to drop it anyway. */
bool sweep_takes(struct store *s, uint32_t handle, uint64_t now);
void sweeps_end(struct store *s); /* all of them */

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
/* Does an entry with this TTL (or STORE_TTL_POLICY) get an EXT_FRESH? */
static inline bool cache_gives_window(const struct table_cache *c, uint64_t ttl_ms)
{
        const struct table_policy *p = &c->policy;

        return (ttl_ms == STORE_TTL_POLICY ? p->ttl_ms : ttl_ms) != STORE_NEVER &&
               (p->stale_for_ms || p->stale_if_error_ms || p->refresh_ahead);
}
static inline uint32_t gen_index(uint32_t id)
{
        return (id & 0xfffff) - 1;
}
/* A name that is in no cache's record gets into the table of names; false: it is there. */
bool cache_name_add(struct store *s, uint32_t cache);
/* Gives the cache the policies that lie ready in the table's header. */
void cache_take_staged(struct store *s, uint32_t cache);
/* Shows the cache to mapped readers as it is. */
void cache_show(struct store *s, uint32_t cache);
/* An empty record, of no cache: with a live, empty generation. */
void cache_make_nameless(struct store *s, uint32_t cache, uint32_t gen);
/* A generation is freed that was the cache's: if that was removed, and it was the last one, its
 * record can be used again. */
void cache_was_last(struct store *s, uint32_t cache, uint32_t gen_id);
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
/* One entry that was cleared, or has expired; false: there is none. */
bool evict_leftover_one(struct store *s, uint64_t now);
/* One entry of the scope, the first that is to leave. Of a realm: the charge that was freed, 0:
 * nothing may leave; of the others: false. */
uint64_t evict_of_realm(struct store *s, enum store_cause cause, uint64_t now);
bool evict_of_cache(struct store *s, uint32_t gen, enum store_cause cause, uint64_t now);
bool evict_of_owner(struct store *s, uint32_t owner, uint64_t now);
/* One entry of a cache that is over its limits; false: it is within. */
bool evict_trim_one(struct store *s, uint32_t cache, uint64_t now);
/* May a request do a step more than it has to? See struct store. */
bool evict_take_extra(struct store *s);
#define EVICT_EXTRA 2048u /* some 600 µs */

/* ---- room.c */
struct room {
        uint32_t cache; /* 0: its limits are not looked at */
        uint32_t gen, owner;
        uint64_t charge; /* that is added */
        uint64_t later;  /* what will be added after that; only asked whether it can ever be */
        uint64_t old_charge, old_frees; /* of s->keep, the entry that is replaced: in its cache, and
                                           what of it leaves realm and owner */
        uint32_t old_owner;
        unsigned files; /* descriptors that are added */
};
/* Evicts until what is added fits all budgets. 0, STORE_E_NO_SPACE. */
int room_make(struct store *s, const struct room *r, uint64_t now, struct store_refusal *ret);
/* Could an entry of this charge ever fit? 0, STORE_E_TOO_LARGE. */
int room_check_size(const struct store *s, const struct table_cache *c, uint64_t charge,
                    struct store_refusal *ret);
/* Which bound of the realm is overstepped, as when it was lowered; N_CAUSES: none. */
enum store_cause room_over_realm(const struct store *s);

/* ---- upkeep.c */
/* A store's share of compaction. */
void upkeep_pay(struct store *s, uint64_t n, uint64_t now); /* @n: bytes stored */

/* ---- life.c */
void store_bound_sizes(struct store *s); /* after its parameters were set */

/* ---- store.c */
/* Completes what the block alone does not say: raw size without encoding, size of a large value. */
void entry_resolve(const struct store *s, struct entry *e);
uint64_t store_block_charge(const struct store *s, uint32_t handle);
struct found {
        uint32_t handle; /* ARENA_NONE: no live entry */
        bool kept;       /* it is there, but to be served only when computing it anew has failed */
        struct index_key key;
        struct index_slot slot;
};
/* What of it a reader may see. */
static inline uint32_t found_served(const struct found *f)
{
        return f->kept ? ARENA_NONE : f->handle;
}
/* Finds a live entry; one that has expired leaves now. */
struct found store_find_live(struct store *s, const struct table_cache *c, const void *key,
                             size_t n_key, uint64_t now);
/* Is @p what the key may be stored under? 0, STORE_E_MISS, _EXISTS, _VERSION. */
int store_check_mode(const struct store *s, const struct store_put *p, uint32_t handle);
void store_touch_lru(struct store *s, uint32_t handle);
/* Adds an entry to all sums. */
void store_count(struct store *s, const struct entry *e, uint64_t charge);
/* What of an entry's charge goes with it, when nobody holds its value any more. */
uint64_t store_block_frees(const struct store *s, uint32_t handle);
void store_entry_fill(const struct store *s, uint32_t handle, uint64_t now,
                      struct store_entry *ret);

/* ---- fresh.c */
struct moments {
        uint64_t deadline;
        struct arena_fresh fresh; /* .fresh 0: no window */
};
/* Of an entry of the cache that is stored now; @version: its own, chance follows from it. */
struct moments moments_of(const struct store *s, const struct table_cache *c, uint64_t ttl_ms,
                          uint64_t version, uint64_t now);

/* ---- extent.c */
/* Is a value of this size to be in an extent, as long as there are places? */
bool extent_is_for(const struct store *s, uint64_t n_stored);
bool extent_has_arrived(const struct store_put *p);
/* The place that the value arrived in, or one that it is copied to. 0; STORE_E_NO_PLACE, -ENOMEM.
 */
int extent_add(struct store *s, const struct store_put *p, struct arena_extent *ret);
/* The entry has left: its place, too, and its charge, unless somebody holds it. */
void extent_drop(struct store *s, const struct entry *e);
bool extent_is_held(const struct store *s, const struct entry *e);
void extent_holds_done(struct store *s); /* who still holds something is not told */
/* ---- large-hold.c */
void large_hold_departed(struct large *l); /* its entry has left */
/* Of what is held and charged to @owner, what will be charged to others when its entries leave. */
uint64_t large_held_by_others(const struct store *s, uint32_t owner);

/* ---- large-table.c */
static inline uint64_t large_charge(uint64_t size)
{
        return (size + 4095) & ~UINT64_C(4095);
}
int large_table_add(struct store *s, struct large *l, uint32_t owner, uint32_t handle,
                    uint32_t *ret_id);
/* The value of a stored entry, in a memory file that another process made; @fd is consumed on
 * success. It is in no list yet. 0, -ENOMEM, -EINVAL: this is not the file. */
int large_table_adopt(struct store *s, uint32_t id, int fd, uint32_t owner, uint32_t handle);
int large_table_adopt_begin(struct store *s);          /* forgets lists and sums: 0, -ENOMEM */
void large_table_enlist(struct store *s, uint32_t id); /* the latest used */
void large_table_adopt_end(struct store *s);           /* what is nobody's is free */
void large_table_drop(struct store *s, uint32_t id);
void large_table_touch(struct store *s, uint32_t id);
uint32_t large_table_oldest(struct store *s); /* that nobody holds: its handle or ARENA_NONE */
void large_table_see(struct large *l);        /* a reference came or went */
void large_table_done(struct store *s);

#endif
