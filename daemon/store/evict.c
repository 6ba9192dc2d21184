/* SPDX-License-Identifier: MIT */
/*
 * Eviction: what leaves next, and dropping it
 *
 * In every scope the order is: what was cleared and only waits to be reclaimed, then what has
 * expired, then the least recently used. Each is found in constant time and dropped in the
 * logarithm of the number of lists or entries.
 *
 * A request has to do what it takes to fit what it brings itself; what others left behind (cleared,
 * expired, over a limit that was lowered) it cleans up only as far as a common allowance lasts,
 * which store_maintain() renews in each turn. So no mass of leftovers makes a request, or a row of
 * them in one turn, long; upkeep does the rest.
 *
 * An entry that is being replaced (s->keep) is never chosen.
 */

#include <errno.h>

#include "store/internal.h"

bool evict_take_extra(struct store *s)
{
        s->settled = false; /* so that it is renewed */
        if (s->extra == 0)
                return false;
        s->extra--;
        return true;
}

/* ---- dropping one entry */

static void uncount(struct store *s, const struct entry *e, uint32_t handle, uint64_t charge)
{
        struct table_header *t = s->a.t;
        struct table_gen *g = &s->a.gens[gen_index(e->gen)];
        /* The memory of a value that lies apart is uncharged when nobody has it any more. */
        uint64_t frees = charge - large_charge(entry_apart(e));
        const struct table_sums one = entry_sums(e, charge);
        bool is_dead = e->x.n_tags > 0 && tags_unlink(s, handle, &one);

        lru_remove(s, lru_list_find(s, gen_index(e->gen), e->owner), handle);
        if (g->state == GEN_LIVE)
                expiry_remove(s, gen_index(e->gen), handle);
        g->n_entries--;
        g->bytes_held -= charge;
        g->bytes_raw -= e->n_key + e->x.raw_size + e->x.n_messages;
        s->a.owners[e->owner].charged -= frees;
        t->charged -= frees;
        t->n_entries--;
        if (g->state == GEN_DYING) {
                t->reclaiming -= charge;
                t->n_reclaiming--;
        } else if (is_dead) {
                g->dead.n_entries--;
                g->dead.held -= charge;
                g->dead.raw -= one.raw;
                t->reclaiming -= charge;
                t->n_reclaiming--;
        }
}

void entry_release(struct store *s, uint32_t handle)
{
        struct entry e;

        entry_read(arena_block(&s->a, handle), &e);
        entry_resolve(s, &e);
        uncount(s, &e, handle, store_block_charge(s, handle));
        if (e.large)
                large_table_drop(s, entry_large(&e).id);
        if (e.extent)
                extent_drop(s, &e);
        alloc_free(&s->a, handle);
        s->settled = false;
}

/* Did it leave by itself? */
static bool is_own_departure(enum store_cause cause)
{
        return cause != CAUSE_CLEARED && cause != CAUSE_DELETED && cause != CAUSE_REPLACED;
}

static void tell_departed(const struct store *s, uint32_t cache, const struct index_key *k,
                          enum store_cause cause, uint64_t now)
{
        const struct store_departure gone = {
                .cache = cache,
                .key = k->key,
                .n_key = k->n_key,
                .cause = cause,
        };

        s->departed(s->departed_ctx, &gone, now);
}

void store_watch(struct store *s, store_departed departed, void *ctx)
{
        s->departed = departed;
        s->departed_ctx = ctx;
}

void entry_drop(struct store *s, uint32_t handle, enum store_cause cause, uint64_t now)
{
        const struct table_gen *g = &s->a.gens[gen_index(arena_block(&s->a, handle)->gen)];
        uint32_t cache = g->cache;
        struct index_key k;

        if (g->state == GEN_DYING) { /* whoever finds it: it left when its cache was cleared */
                cause = CAUSE_CLEARED;
                now = g->cleared_at;
        } else if (arena_block(&s->a, handle)->sizes & ENTRY_EXT) {
                if (tags_are_dead(s, handle)) { /* likewise */
                        cause = CAUSE_CLEARED;
                        now = tags_cleared_at(s, handle);
                }
                node_leaves(s, handle, now);
        }
        index_key_of(s, &k, handle);
        index_remove(s, index_locate(s, &k, handle));
        departed_add(s, cache, k.key, k.n_key, cause, now);
        if (__builtin_expect(s->departed != NULL, 0) && is_own_departure(cause))
                tell_departed(s, cache, &k, cause, now);
        cache_counters(&s->a.caches[cache])->departed[cause]++;
        s->drops++;
        entry_release(s, handle);
}

/* ---- what is dying */

bool evict_reclaim_one(struct store *s)
{
        struct table_header *t = s->a.t;
        uint32_t gen = t->dying_head;
        struct table_gen *g;
        uint32_t handle;

        if (gen == TABLE_NONE) {
                handle = tags_first_dead(s);
                if (handle == ARENA_NONE)
                        return false;
                entry_drop(s, handle, CAUSE_CLEARED, tags_cleared_at(s, handle));
                return true;
        }
        g = &s->a.gens[gen];
        handle = lru_oldest_of_gen(s, gen);
        if (handle != ARENA_NONE) {
                lru_list_forget(s, g->lists); /* each list once */
                entry_drop(s, handle, CAUSE_CLEARED, g->cleared_at);
                return true;
        }
        if (expiry_free_place(s, gen))
                return true;
        t->dying_head = g->next;
        if (t->dying_head == TABLE_NONE)
                t->dying_tail = TABLE_NONE;
        gen_free(s, gen);
        return true;
}

/* Would evict_reclaim_one() find something? */
static bool is_reclaiming(const struct store *s)
{
        return s->a.t->dying_head != TABLE_NONE || tags_first_dead(s) != ARENA_NONE;
}

bool evict_leftover_one(struct store *s, uint64_t now)
{
        uint32_t handle;

        if (evict_reclaim_one(s))
                return true;
        handle = expiry_due_any(s, now);
        if (handle == ARENA_NONE || handle == s->keep)
                return false;
        entry_drop(s, handle, CAUSE_EXPIRED, now);
        return true;
}

/* ---- scopes */

uint64_t evict_of_realm(struct store *s, enum store_cause cause, uint64_t now)
{
        uint64_t before = s->a.t->charged;
        uint32_t handle;

        /* Bookkeeping of what was cleared frees no charge. */
        while (evict_reclaim_one(s)) {
                if (s->a.t->charged < before)
                        return before - s->a.t->charged;
                if (!evict_take_extra(s))
                        break;
        }
        handle = expiry_due_any(s, now);
        if (handle != ARENA_NONE && handle != s->keep)
                cause = CAUSE_EXPIRED;
        else
                handle = lru_oldest(s);
        if (handle == ARENA_NONE || handle == s->keep)
                return 0;
        entry_drop(s, handle, cause, now);
        return before - s->a.t->charged;
}

uint64_t store_evict_one(struct store *s, enum store_cause cause, uint64_t now)
{
        return evict_of_realm(s, cause, now);
}

bool store_evict_large(struct store *s, uint64_t now)
{
        uint32_t handle = large_table_oldest(s);

        if (handle == ARENA_NONE)
                return false;
        entry_drop(s, handle, CAUSE_LARGE_VALUES, now);
        return true;
}

bool evict_of_cache(struct store *s, uint32_t gen, enum store_cause cause, uint64_t now)
{
        uint32_t handle = tags_first_dead_of_gen(s, gen);

        if (handle == ARENA_NONE) {
                handle = expiry_due(s, gen, now);
                if (handle != ARENA_NONE)
                        cause = CAUSE_EXPIRED;
                else
                        handle = lru_oldest_of_gen(s, gen);
        }
        if (handle == ARENA_NONE || handle == s->keep)
                return false;
        entry_drop(s, handle, cause, now);
        return true;
}

/* What is cleared or expired goes first, whoever wrote it; but one writer does not clean up after
 * all others. */
bool evict_of_owner(struct store *s, uint32_t owner, uint64_t now)
{
        enum store_cause cause = CAUSE_UID_SHARE;
        uint32_t handle;

        if (is_reclaiming(s) && evict_take_extra(s))
                return evict_reclaim_one(s);
        handle = expiry_due_any(s, now);
        if (handle != ARENA_NONE && handle != s->keep &&
            (entry_owner(arena_block(&s->a, handle)) == owner || evict_take_extra(s)))
                cause = CAUSE_EXPIRED;
        else
                handle = lru_oldest_of_owner(s, owner);
        if (handle == ARENA_NONE || handle == s->keep)
                return false;
        entry_drop(s, handle, cause, now);
        return true;
}

bool evict_trim_one(struct store *s, uint32_t cache, uint64_t now)
{
        const struct table_cache *c = cache_at(s, cache);
        const struct table_gen *g;

        if (!c)
                return false; /* it was removed */
        g = cache_gen(s, c);
        if (g->n_entries > c->policy.max_entries)
                return evict_of_cache(s, c->gen, CAUSE_MAX_ENTRIES, now);
        if (g->bytes_held > c->policy.max_bytes)
                return evict_of_cache(s, c->gen, CAUSE_MAX_BYTES, now);
        return false;
}
