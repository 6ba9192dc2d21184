/* SPDX-License-Identifier: MIT */
#ifndef STORE_H
#define STORE_H

/*
 * Store: the entries of one realm
 *
 * Knows caches, keys, values, recency, expiry and budgets; knows no sockets, no protobuf and no
 * clock (callers pass `now`, boottime in milliseconds, never going back). Everything that would be
 * needed after a crash lies in two memory files (the arena and the table); the struct itself holds
 * pointers into them and what can be derived.
 *
 * Returns: 0, a negative errno that is fatal to the request (-ENOMEM, -ENOSPC: nothing was
 * changed), or a positive STORE_E_* that the direct caller handles.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"

#include "store/large.h"

#define STORE_NEVER      UINT64_MAX /* a deadline or TTL that never comes */
#define STORE_UNLIMITED  UINT64_MAX
#define STORE_TTL_POLICY 0 /* in struct store_put: take the TTL of the cache's policy */

#define STORE_KEY_MAX        64
#define STORE_CACHE_NAME_MAX 128
#define STORE_LABEL_SIZE     128

enum {
        STORE_OK = 0,
        STORE_E_MISS,      /* no live entry under this key */
        STORE_E_NO_CACHE,  /* no cache of this name */
        STORE_E_EXISTS,    /* add-only and the key is live */
        STORE_E_VERSION,   /* compare-and-set: another version is live */
        STORE_E_TOO_LARGE, /* can never fit; struct store_refusal says why */
        STORE_E_NO_SPACE,  /* does not fit now */
        STORE_E_LIMIT,     /* too many caches, writers or entries */
        STORE_E_TAGS,      /* more different tags than the realm may have */
        STORE_E_NO_NODE,   /* variant_of is no key of a live entry with `vary` */
        STORE_E_NO_PLACE, /* no extent is free: store it as a large value, which is charged the same
                           */
};

/* Why an entry departed. The order is that of cached.proto's Fate, minus its first two (its
 * NO_CACHE has the place of CAUSE_REPLACED). */
enum store_cause {
        CAUSE_EXPIRED = 0,
        CAUSE_MAX_ENTRIES,
        CAUSE_MAX_BYTES,
        CAUSE_UID_SHARE,
        CAUSE_REALM_BUDGET,
        CAUSE_GLOBAL_BUDGET,
        CAUSE_INDEX,
        CAUSE_CLEARED,
        CAUSE_DELETED,
        CAUSE_REPLACED, /* never reported: the key is live under a new version */
        CAUSE_REALM_ENTRIES,
        CAUSE_LARGE_VALUES, /* as many large values as there are descriptors for */
        N_CAUSES,
};

enum store_mode { STORE_ANY = 0, STORE_ADD_ONLY, STORE_REPLACE_ONLY };

#define STORE_EXTENT_MIN (UINT64_C(256) << 10)
#define STORE_EXTENT_MAX (UINT64_C(4) << 20)

struct store;

/* What a store is about to grow by. */
struct store_want {
        uint64_t bytes; /* of charge, now */
        uint64_t later; /* of the same value: if there can never be room for both, refuse at once */
        unsigned files; /* large values */
};

struct store_refusal;

struct store_params {
        uint64_t arena_size;      /* virtual bytes of the arena; 0: from the machine's memory */
        uint64_t budget;          /* charge that the realm may hold */
        uint64_t uid_share;       /* charge that one writer's uid may hold */
        uint64_t large_threshold; /* stored values of this size and more get a memory file of their
                                     own; at most STORE_EXTENT_MAX */
        uint64_t extent_min;      /* those of this size and more, below that, lie in extents; 0, or
                                     more: STORE_EXTENT_MIN */
        uint32_t max_caches;      /* room is laid out for so many, for good */
        uint64_t max_entries;     /* in the whole realm */
        uint32_t max_tags;        /* different ones, likewise; 0: as many as there are ids */
        uint64_t seed[2];         /* of the key hash, random */
        uint64_t instance;
        uint64_t boot[2];  /* id of the machine's run: deadlines mean nothing in another one */
        const char *label; /* whose store this is, for who takes it over; NULL: nobody's. Copied,
                              cut at STORE_LABEL_SIZE - 1 */
        /* Called before the store grows: make room under bounds above the realm (it may call
         * store_evict_one() and store_evict_large() on this or any other store). 0 or -ENOSPC, with
         * all of @ret but `need`. May be NULL. */
        int (*make_room)(void *ctx, struct store *s, const struct store_want *want, uint64_t now,
                         struct store_refusal *ret);
        /* A large value of which a copy is kept (large_set_kept()) is about to leave: whoever keeps
         * the copy may take a reference, so that its bytes stay charged. May be NULL. */
        void (*large_left)(void *ctx, struct large *l);
        void *ctx;
        struct reaper *reaper; /* borrowed; frees large values. NULL: that is done at once */
};

/* An entry that left by itself: it expired, or was evicted for this cause. */
struct store_departure {
        uint32_t cache;
        const void *key; /* borrowed for the call */
        size_t n_key;
        enum store_cause cause;
};
/* Called in the middle of a change: it must not change the store. */
typedef void (*store_departed)(void *ctx, const struct store_departure *gone, uint64_t now);

int store_new(const struct store_params *p, struct store **ret);
struct store *store_free(struct store *s); /* NULL is fine; returns NULL */

void store_set_budget(struct store *s, uint64_t budget, uint64_t uid_share);

/* Hold at once, too: what is over a lowered max_entries leaves like what is over a budget. Not more
 * caches than the store was made for, and those that exist stay. */
void store_set_limits(struct store *s, uint32_t max_caches, uint64_t max_entries,
                      uint64_t large_threshold, uint32_t max_tags);
uint32_t store_max_caches(const struct store *s); /* in force */

/* From now on @departed(@ctx) hears of every entry that leaves by itself; NULL: nobody does. Not of
 * those that were deleted, replaced or cleared. */
void store_watch(struct store *s, store_departed departed, void *ctx);

/* The pure charge function of PROTOCOL.md. @n_stored: as stored. @apart: in an extent, or in a file
 * of its own. */
uint64_t store_charge(size_t n_key, uint64_t n_stored, unsigned ext_fields, unsigned n_tags,
                      bool apart);
/* For it: the fields (EXT_*) that an entry of @p will have; @window: its cache gives it one. */
struct store_put;
unsigned store_ext_fields(const struct store_put *p, bool window);
/* Would a value of this size lie in an extent, or in a file of its own? */
bool store_is_apart(const struct store *s, uint64_t n_stored);

/* ---- caches */

struct store_policy {
        uint64_t ttl_ms;      /* STORE_NEVER: no expiry */
        uint64_t max_entries; /* STORE_UNLIMITED */
        uint64_t max_bytes;   /* STORE_UNLIMITED */
        /* Of entries with a TTL; 0: off. Milliseconds; thousandths of the TTL. */
        uint64_t stale_for_ms, stale_if_error_ms;
        uint32_t refresh_ahead, expire_jitter;
};

/* Counters of one cache; they survive clear. Lies in the table. */
struct store_counters {
        uint64_t hits, misses, stores, deletes, clears;
        uint64_t departed[N_CAUSES]; /* expirations and evictions, by cause */
        uint64_t time_saved_us, refused;
        uint64_t opens, policy_changes;      /* kept by the caller, see store_cache_counters() */
        uint64_t mapped_hits, mapped_misses; /* in hits and misses: told by readers of the arena */
        /* of leases, kept by the caller */
        uint64_t leases, refreshes, lease_waits, leases_lost, lease_failures, superseded;
};

struct store_cache_info {
        const char *name; /* borrowed until the store goes; NUL-terminated */
        size_t n_name;
        struct store_policy policy; /* in force */
        struct store_policy opened; /* what clients last opened it with */
        bool pinned;                /* `policy` was set by an admin and stays */
        uint64_t entries, bytes_raw, bytes_held;
        uint32_t tags; /* different ones, of writers' choice */
        struct store_counters counters;
};

/* Cache ids are 1 … store_n_caches(), but for those of caches that were removed. Such an id is
 * reused, for another name; where none is removed, none ever is. */
int store_cache_find(struct store *s, const char *name, size_t n_name, uint32_t *ret_cache);
int store_cache_create(struct store *s, const char *name, size_t n_name, uint32_t *ret_cache);
/* Clears it, and forgets its name, policy and counters: from now on its id is that of no cache, and
 * later perhaps of another one. STORE_E_NO_CACHE; STORE_E_LIMIT as store_clear(); -ENOMEM. */
int store_cache_remove(struct store *s, uint32_t cache, uint64_t now);
/* Its entries stay until they are deleted, whatever else has to leave (but for a full index that
 * finds no memory to grow). One cache at most, which is neither cleared nor removed, and has no
 * limits and no TTL. To be said again in each process. */
void store_cache_stays(struct store *s, uint32_t cache);
uint32_t store_n_caches(const struct store *s); /* the highest id */
/* Borrowed until the cache is removed; NULL: no such cache. */
const char *store_cache_name(const struct store *s, uint32_t cache, size_t *ret_n);
int store_cache_info(struct store *s, uint32_t cache,
                     struct store_cache_info *ret);                           /* or E_NO_CACHE */
struct store_counters *store_cache_counters(struct store *s, uint32_t cache); /* or NULL */

/* Sets what clients opened, the policy in force and the pin. Limits apply at once: a bounded number
 * of entries leaves now, the rest in store_maintain(); nothing beyond the limit is added meanwhile.
 */
void store_cache_set_policy(struct store *s, uint32_t cache, const struct store_policy *opened,
                            const struct store_policy *policy, bool pinned, uint64_t now);

/* ---- entries */

struct store_entry {
        const uint8_t *value; /* borrowed until the next call that changes the store */
        uint64_t n_value;
        struct large *large; /* NULL, or the owner of `value`: take a ref to keep it */
        bool extent;         /* `value` can be kept by store_hold() */
        const uint8_t *key;
        size_t n_key;
        uint64_t version;
        uint64_t deadline; /* boottime ms; STORE_NEVER */
        uint32_t flags;
        uint8_t encoding;
        uint64_t raw_size;
        uint64_t cost_us;
        uint64_t n_messages;      /* the last so many bytes of `value`; not part of raw_size */
        bool negative, vary;      /* what `value` is then: see layout.h */
        struct arena_fresh fresh; /* .fresh 0: it has no window; see store_refresh_begin() */
        bool stale;               /* it is not as good as new any more */
        bool due;                 /* somebody is to compute it anew, and nobody does yet */
        unsigned n_tags;          /* of its writer's choice; see store_tag_name() */
        const struct arena_tag *tags;
        uint32_t uid;
        uint32_t owner; /* the store's number for it */
        uint64_t charge;
};

/* @touch: count as a hit or miss, and as the entry's latest use. STORE_E_MISS, STORE_E_NO_CACHE. */
int store_get(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
              bool touch, struct store_entry *ret);

/*
 * Entries of caches with stale windows have three moments (struct arena_fresh) before their
 * deadline. Until `serve` they are found. From then to the deadline they are kept, in case that
 * computing them anew fails: store_get() and store_touch() miss them, store_put() does as if the
 * key were free, and nothing but store_peek_kept(), store_delete(), store_list() and
 * store_explain() sees them.
 *
 * Who computes an entry anew says when that begins: until it ends nobody else finds it due. An
 * entry without windows has nothing to be changed, which is no error.
 */

/* The entry is there, kept or served: its version in *ret_version. STORE_E_MISS, _NO_CACHE. */
int store_refresh_begin(struct store *s, uint32_t cache, const void *key, size_t n_key,
                        uint64_t now, uint64_t *ret_version);
/* It ended without a new value: the entry of this version, if it still is there (else
 * STORE_E_MISS), is due again at @next_ms (boottime; STORE_NEVER: it is not). @failed: it is served
 * until its deadline. */
int store_refresh_end(struct store *s, uint32_t cache, const void *key, size_t n_key,
                      uint64_t version, uint64_t next_ms, bool failed);
/* An entry that is kept, and not served. STORE_E_MISS, _NO_CACHE. */
int store_peek_kept(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                    struct store_entry *ret);

/* Keeps the bytes of a value in an extent where they are, whatever becomes of the entry; they stay
 * charged, as what no eviction frees. NULL: no memory. A hold may outlive the store, but the bytes
 * do not. */
struct store_hold *store_hold(struct store *s, const struct store_entry *e);
void store_unhold(struct store_hold *h);

/* What will be looked up soon: brings the lines of index, entries and recency lists into the
 * processor's caches, all at once. Only a hint; any cache id, any key. @n is at most
 * STORE_AHEAD_MAX. */
#define STORE_AHEAD_MAX 32
struct store_ahead {
        uint32_t cache;
        uint32_t n_key;
        const void *key;
};
void store_ahead(const struct store *s, const struct store_ahead *a, unsigned n);

/* Where a value is to be read from: a sealed memory file, borrowed. */
struct store_source {
        int fd;
        uint64_t offset;
};

struct store_text {
        const char *text; /* borrowed, not terminated */
        size_t n;
};

struct store_put {
        uint32_t cache;
        const void *key;
        size_t n_key;
        const void *value;                 /* ignored with @large and with @source */
        const struct store_source *source; /* NULL, or instead of @value */
        uint64_t n_value;
        struct large *large; /* NULL, or a sealed large value: a ref is taken on success */
        bool as_large;       /* for deciding beforehand: it will come as one, whatever its size */
        struct store_arrival *arrived; /* that it came by, and is ready; or NULL */
        uint64_t ttl_ms;               /* STORE_TTL_POLICY, STORE_NEVER or milliseconds */
        enum store_mode mode;
        bool compare;
        uint64_t expected_version;
        uint32_t flags;
        uint8_t encoding;
        uint64_t raw_size;
        uint64_t cost_us;
        uint64_t n_messages;
        bool negative, vary;
        const struct store_text *tags; /* checked: see PROTOCOL.md; no two are the same */
        unsigned n_tags;
        struct store_text variant_of; /* a key; .n 0: none */
        uint32_t uid;
};

/* Filled when a put returns STORE_E_TOO_LARGE or STORE_E_NO_SPACE. */
struct store_refusal {
        enum store_cause cause; /* CAUSE_MAX_BYTES, _UID_SHARE, _REALM_BUDGET, _GLOBAL_BUDGET,
                                   _REALM_ENTRIES, _LARGE_VALUES */
        uint64_t need;          /* charge of the entry; of the last two causes: a number */
        uint64_t limit;
        uint64_t held, arriving; /* within the limit: charge that no eviction frees, see
                                    store_held() and store_arriving() */
};

/* Returns 0, STORE_E_MISS (replace-only or compare and nothing there), _EXISTS, _VERSION,
 * _TOO_LARGE, _NO_SPACE, _LIMIT, _TAGS, _NO_NODE, _NO_CACHE, _NO_PLACE, or -ENOMEM. Unless 0,
 * nothing changed but that others may have been evicted. @ret fills version, deadline, charge and
 * the sizes (not value). */
int store_put(struct store *s, const struct store_put *p, uint64_t now, struct store_entry *ret,
              struct store_refusal *ret_refusal);

/* Would a value of this size, or one that comes in a memory file, be refused for its size alone?
 * Same returns as store_put(). For deciding before the bytes arrive. */
int store_check_size(struct store *s, uint32_t cache, size_t n_key, uint64_t n_value, bool as_large,
                     struct store_refusal *ret_refusal);

/*
 * A long value that is still arriving: see arrival.c. Begin decides as store_put() will, with @size
 * for the value's length, but for the limits of the cache, and evicts nothing but where large
 * values run out. More makes room for the first bytes of the value before they are received: for
 * @least, and for up to @most unless much has left in this turn already; @ret_room says for how
 * many. It may evict, or refuse with STORE_E_NO_SPACE. Of an extent they are in memory then, at
 * store_arrival_dst(). Ready gives the room back right before the put, which takes the extent; End
 * gives back what is left, and always comes. What the value is to replace stays until the put,
 * unless both cannot be there at once.
 * @p->cache 0: the cache does not exist yet. Returns as store_put().
 */
struct store_arrival {
        struct store *store; /* NULL: not begun, or ended */
        uint32_t cache, owner, n_key;
        uint64_t name_hash; /* of the cache: its id may be another one's in the end */
        bool large;         /* it belongs into a file of its own, which the caller makes */
        bool extent;        /* it has a place */
        bool ready;
        uint32_t place;
        uint64_t size;
        uint64_t total, taken; /* charge: in the end, so far */
        /* Of the old entry, if that had to leave first: the put still replaces it. 0: it did not.
         */
        uint64_t dropped_version;
        uint32_t dropped_gen;
        uint8_t key[STORE_KEY_MAX];
};
int store_arrival_begin(struct store *s, const struct store_put *p, uint64_t size, uint64_t now,
                        struct store_arrival *ret, struct store_refusal *ret_refusal);
int store_arrival_more(struct store_arrival *a, uint64_t least, uint64_t most, uint64_t now,
                       uint64_t *ret_room, struct store_refusal *ret_refusal);
uint8_t *store_arrival_dst(const struct store_arrival *a); /* NULL: it has no extent */
void store_arrival_ready(struct store_arrival *a);         /* not begun: fine */
void store_arrival_end(struct store_arrival *a);           /* likewise */

/* @ttl_ms: STORE_TTL_POLICY means "leave the deadline as it is". Else all moments are as if it had
 * been stored now; but an entry that was stored without windows gets none. */
int store_touch(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t ttl_ms,
                uint64_t now, struct store_entry *ret);
int store_delete(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now);

/* Constant time but for a few dozen entries, which are dropped at once; memory comes back in
 * store_maintain(). STORE_E_LIMIT: too many cleared generations wait to be reclaimed, try later. */
int store_clear(struct store *s, uint32_t cache, uint64_t now, uint64_t *ret_entries);

/* Clears the entries with this tag, as store_clear() those of a cache: in constant time but for a
 * few dozen. *ret_entries: that had it. An entry with two tags that are both cleared before
 * store_maintain() came to it is counted by both. */
int store_clear_tag(struct store *s, uint32_t cache, const char *name, size_t n_name, uint64_t now,
                    uint64_t *ret_entries);

/* The name of a tag of an entry (store_entry.tags). Borrowed until the store changes. */
const char *store_tag_name(const struct store *s, uint32_t id, size_t *ret_n);

/*
 * Clears the entries of a cache that are there at the beginning and whose key begins with some
 * bytes. Step looks at about @steps entries, drops those, and returns false when all are gone; End
 * always comes (not begun: fine), and at any time. In between anything may happen to the store.
 */
struct store_sweep {
        struct store *store; /* NULL: not begun, or ended */
        struct store_sweep *next;
        uint32_t gen;
        uint32_t n_prefix;
        uint64_t version; /* the latest that is cleared */
        uint64_t cursor;
        uint64_t entries; /* that were cleared so far */
        uint8_t prefix[STORE_KEY_MAX];
};
int store_sweep_begin(struct store *s, uint32_t cache, const void *prefix, size_t n_prefix,
                      struct store_sweep *ret);
bool store_sweep_step(struct store_sweep *sw, uint64_t now, unsigned steps);
void store_sweep_end(struct store_sweep *sw);

/* Drops one entry: something cleared, else something expired, else the least recently used of the
 * realm. Returns the charge that was freed; 0: the store is empty. */
uint64_t store_evict_one(struct store *s, enum store_cause cause, uint64_t now);

/* Drops the least recently used of the large values that nobody is being sent. False: there is
 * none. */
bool store_evict_large(struct store *s, uint64_t now);

/* Visits live entries of a cache, at most @max and at most a bounded number of steps; the callback
 * returns false to stop before counting this one. *cursor: in and out, 0 at the start and at the
 * end. */
int store_list(struct store *s, uint32_t cache, uint64_t now, uint32_t max, uint64_t *cursor,
               bool (*visit)(void *ctx, const struct store_entry *e), void *ctx);

struct store_fate {
        bool live;
        bool known; /* else: never stored, or forgotten */
        enum store_cause cause;
        uint64_t age_ms;          /* since it departed */
        struct store_entry entry; /* when live */
};
int store_explain(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                  struct store_fate *ret);

/* What the variants of an entry with `vary` depend on. */
struct store_input {
        const uint8_t *name; /* borrowed until the store changes */
        size_t n_name;
        uint64_t variants; /* values of it that are stored, where there are most */
};
#define STORE_INPUTS_MAX 16u
/* Those with most variants first. A bounded number of entries is looked at. Returns how many inputs
 * were met, at most STORE_INPUTS_MAX. */
unsigned store_inputs(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                      struct store_input *ret);

/* ---- readers of the arena */

/* A use of the entry with this handle, if it still has the version with this lower half. */
struct store_use {
        uint32_t handle, version_lo;
};
/* As the latest uses, in this order. Anything may stand there. */
void store_used(struct store *s, const struct store_use *uses, unsigned n);
/* Of all that were told: those that counted, and the others. */
struct store_uses {
        uint64_t counted, stale;
};
void store_uses(struct store *s, struct store_uses *ret);
/* What was told is put by until something depends on it; no longer. It would be lost with the
 * process, and tell a successor nothing. */
void store_apply_told(struct store *s);
bool store_has_told(const struct store *s);
/* Adds to the counters of a cache; another id is ignored. */
void store_count_mapped(struct store *s, uint32_t cache, uint64_t hits, uint64_t misses);

/* Bytes of the arena that readers made resident by reading where nothing is; and giving them back,
 * in at most @steps pieces from *cursor on, which is 0 at the start. False: done. */
uint64_t store_holes_filled(const struct store *s);
bool store_punch_holes(struct store *s, uint64_t *cursor, unsigned steps);
/* Whether anybody else has the arena's file in hand, or that cannot be said. */
bool store_has_readers(const struct store *s);

/* ---- upkeep */

/* Does at most @steps units of pending work (each well under a microsecond or so): expiry,
 * reclaiming what was cleared, trimming to a lowered limit, compaction, giving pages back. True:
 * more is pending. */
bool store_maintain(struct store *s, uint64_t now, unsigned steps);

/* The next moment (boottime ms) at which store_maintain() may have something to do: 0 when it may
 * now, STORE_NEVER when nothing is pending and nothing expires. */
uint64_t store_next_deadline(const struct store *s);

struct store_stats {
        uint64_t budget, uid_share, charged, reclaiming, caches, entries;
        uint64_t arena_bytes, table_bytes, large_bytes, index_buckets;
        uint64_t held;                                   /* see store_held() */
        uint64_t views, view_bytes, view_departed_bytes; /* see large-hold.c */
};
void store_stats(const struct store *s, struct store_stats *ret);
uint64_t store_charged(const struct store *s);
/* Adds what all caches have counted so far. */
void store_sum_uses(const struct store *s, uint64_t *hits, uint64_t *misses);
/* The parts of it that no eviction frees: large values that are being sent (stored, or gone since),
 * and what has come of values that are arriving. */
uint64_t store_held(const struct store *s);
uint64_t store_arriving(const struct store *s);
/* Descriptors of large values: stored, still being sent, arriving. */
uint32_t store_files(const struct store *s);
uint64_t store_entries(const struct store *s);
/* Of one cache: those that this uid wrote. */
uint64_t store_entries_of(const struct store *s, uint32_t cache, uint32_t uid);
/* Random, and the same for as long as the store lives, also in another process. */
void store_seed(const struct store *s, uint64_t ret[2]);
/* For readers: what they are to add to boottime. */
void store_set_clock_offset(struct store *s, int64_t ms);
int store_arena_fd(const struct store *s); /* borrowed */

#endif
