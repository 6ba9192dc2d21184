/* SPDX-License-Identifier: MIT */
/*
 * Making room
 *
 * Budgets, from narrow to wide: the cache's max_entries and max_bytes, the writer's share, the
 * realm, and whatever stands above the realm (asked through store_params.make_room). For each that
 * the new entry would break, entries leave one at a time until it fits: first what was cleared and
 * is only waiting to be reclaimed, then what has expired, then the least recently used of the
 * scope. All of this is decided by the pure charge of entries; memory is allocated afterwards.
 *
 * An entry that is being replaced (s->keep) counts as gone and is never chosen.
 */

#include <errno.h>

#include "store/internal.h"

/* A limit that was lowered below what is stored is reached in steps of this many entries a store,
 * and by upkeep: one request must not pay for all. */
#define CATCH_UP_MAX 256u
/* Entries of others, or pieces of bookkeeping, that one store clears away: some 300 µs. */
#define FOREIGN_MAX 1024u

/* ---- dropping one entry */

static void uncount(struct store *s, const struct entry *e, uint32_t handle, uint64_t charge)
{
        struct table_header *t = s->a.t;
        struct table_gen *g = &s->a.gens[gen_index(e->gen)];
        uint32_t list;

        if (lru_list_get(s, gen_index(e->gen), e->owner, &list) == 0)
                lru_remove(s, list, handle);
        if (g->state == GEN_LIVE)
                expiry_remove(s, gen_index(e->gen), handle);
        g->n_entries--;
        g->bytes_held -= charge;
        g->bytes_raw -= e->n_key + e->raw_size;
        s->a.owners[e->owner].charged -= charge;
        t->charged -= charge;
        t->n_entries--;
        if (g->state == GEN_DYING) {
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
        alloc_free(&s->a, handle);
        s->settled = false;
}

void entry_drop(struct store *s, uint32_t handle, enum store_cause cause, uint64_t now)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        uint32_t cache = s->a.gens[gen_index(b->gen)].cache;
        struct index_key k;

        index_key_of(s, &k, handle);
        index_remove(s, index_locate(s, &k, handle));
        departed_add(s, cache, k.key, k.n_key, cause, now);
        cache_counters(&s->a.caches[cache])->departed[cause]++;
        entry_release(s, handle);
}

/* ---- what is dying */

bool evict_reclaim_one(struct store *s)
{
        struct table_header *t = s->a.t;
        uint32_t gen = t->dying_head;
        struct table_gen *g;
        uint32_t handle;

        if (gen == TABLE_NONE)
                return false;
        g = &s->a.gens[gen];
        handle = lru_oldest_of_gen(s, gen);
        if (handle != ARENA_NONE) {
                entry_drop(s, handle, CAUSE_CLEARED, g->cleared_at);
                return true;
        }
        if (expiry_free_page(s, gen))
                return true;
        t->dying_head = g->next;
        if (t->dying_head == TABLE_NONE)
                t->dying_tail = TABLE_NONE;
        gen_free(s, gen);
        return true;
}

/* ---- scopes */

/* One entry of the realm: cleared, expired, or the least recently used. 0: nothing may leave. */
static uint64_t realm_evict_one(struct store *s, enum store_cause cause, uint64_t now)
{
        uint64_t before = s->a.t->charged;
        uint32_t handle;

        /* Bookkeeping of what was cleared frees no charge: some of it at a time. */
        for (unsigned i = 0; i < FOREIGN_MAX && evict_reclaim_one(s); i++)
                if (s->a.t->charged < before)
                        return before - s->a.t->charged;
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
        return realm_evict_one(s, cause, now);
}

static bool cache_evict_one(struct store *s, uint32_t gen, enum store_cause cause, uint64_t now)
{
        uint32_t handle = expiry_due(s, gen, now);

        if (handle != ARENA_NONE)
                cause = CAUSE_EXPIRED;
        else
                handle = lru_oldest_of_gen(s, gen);
        if (handle == ARENA_NONE || handle == s->keep)
                return false;
        entry_drop(s, handle, cause, now);
        return true;
}

/* What is cleared or expired goes first, whoever wrote it; but one writer does not clean up after
 * all others in one request: @foreign bounds that. */
static bool owner_evict_one(struct store *s, uint32_t owner, uint64_t now, bool foreign)
{
        enum store_cause cause = CAUSE_UID_SHARE;
        uint32_t handle;

        if (foreign && evict_reclaim_one(s))
                return true;
        handle = foreign ? expiry_due_any(s, now) : ARENA_NONE;
        if (handle != ARENA_NONE && handle != s->keep)
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
        const struct table_gen *g = cache_gen(s, c);

        if (g->n_entries > c->policy.max_entries)
                return cache_evict_one(s, c->gen, CAUSE_MAX_ENTRIES, now);
        if (g->bytes_held > c->policy.max_bytes)
                return cache_evict_one(s, c->gen, CAUSE_MAX_BYTES, now);
        return false;
}

/* ---- budgets */

static int refuse(struct store_refusal *ret, int code, enum store_cause cause, uint64_t need,
                  uint64_t limit)
{
        *ret = (struct store_refusal){.cause = cause, .need = need, .limit = limit};
        return code;
}

int evict_check_size(const struct store *s, const struct table_cache *c, uint64_t charge,
                     struct store_refusal *ret)
{
        if (c && charge > c->policy.max_bytes)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_MAX_BYTES, charge, c->policy.max_bytes);
        if (charge > s->p.uid_share && s->p.uid_share < s->p.budget)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_UID_SHARE, charge, s->p.uid_share);
        if (charge > s->p.budget)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_REALM_BUDGET, charge, s->p.budget);
        return 0;
}

/* What is left of @used when the replaced entry is gone. */
static uint64_t without_old(uint64_t used, const struct room *r)
{
        return used - r->old_charge;
}

static int room_in_cache(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_cache *c = &s->a.caches[r->cache];
        const struct table_gen *g = &s->a.gens[r->gen];
        uint64_t adds = s->keep == ARENA_NONE;
        bool over = g->n_entries > c->policy.max_entries || g->bytes_held > c->policy.max_bytes;

        for (unsigned i = 0; g->n_entries + adds > c->policy.max_entries; i++) {
                if (over && i == CATCH_UP_MAX)
                        break;
                if (!cache_evict_one(s, r->gen, CAUSE_MAX_ENTRIES, now))
                        return refuse(ret, STORE_E_NO_SPACE, CAUSE_MAX_ENTRIES, 1,
                                      c->policy.max_entries);
        }
        for (unsigned i = 0; without_old(g->bytes_held, r) + r->charge > c->policy.max_bytes; i++) {
                if (over && i == CATCH_UP_MAX)
                        break;
                if (!cache_evict_one(s, r->gen, CAUSE_MAX_BYTES, now))
                        return refuse(ret, STORE_E_NO_SPACE, CAUSE_MAX_BYTES, r->charge,
                                      c->policy.max_bytes);
        }
        return 0;
}

static int room_of_owner(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_owner *o = &s->a.owners[r->owner];
        uint64_t old = r->old_owner == r->owner ? r->old_charge : 0;
        bool over = o->charged > s->p.uid_share;

        /* A share of everything is no limit of its own: the realm's budget is what bites, and is
         * named. */
        if (s->p.uid_share >= s->p.budget)
                return 0;
        for (unsigned i = 0; o->charged - old + r->charge > s->p.uid_share; i++) {
                if (over && i == CATCH_UP_MAX)
                        break;
                if (!owner_evict_one(s, r->owner, now, i < FOREIGN_MAX))
                        return refuse(ret, STORE_E_NO_SPACE, CAUSE_UID_SHARE, r->charge,
                                      s->p.uid_share);
        }
        return 0;
}

enum store_cause evict_over_realm(const struct store *s)
{
        if (s->a.t->charged > s->p.budget)
                return CAUSE_REALM_BUDGET;
        return s->a.t->n_entries > s->p.max_entries ? CAUSE_REALM_ENTRIES : N_CAUSES;
}

static int room_in_realm(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_header *t = s->a.t;
        bool adds = r->cache && s->keep == ARENA_NONE, over = evict_over_realm(s) != N_CAUSES;

        for (unsigned i = 0;; i++) {
                bool bytes = without_old(t->charged, r) + r->charge > s->p.budget;

                if (!bytes && !(adds && t->n_entries >= s->p.max_entries))
                        return 0;
                if (over && i == CATCH_UP_MAX)
                        return 0;
                if (realm_evict_one(s, bytes ? CAUSE_REALM_BUDGET : CAUSE_REALM_ENTRIES, now) == 0)
                        return bytes ? refuse(ret, STORE_E_NO_SPACE, CAUSE_REALM_BUDGET, r->charge,
                                              s->p.budget)
                                     : refuse(ret, STORE_E_NO_SPACE, CAUSE_REALM_ENTRIES, 1,
                                              s->p.max_entries);
        }
}

int evict_make_room(struct store *s, const struct room *r, uint64_t now, struct store_refusal *ret)
{
        int e = 0;

        /* What is on its way in cannot be evicted: do not empty the realm in vain. */
        if (s->reserved + r->charge > s->p.budget)
                return refuse(ret, STORE_E_NO_SPACE, CAUSE_REALM_BUDGET, r->charge, s->p.budget);
        if (r->cache)
                e = room_in_cache(s, r, now, ret);
        if (e == 0)
                e = room_of_owner(s, r, now, ret);
        if (e == 0)
                e = room_in_realm(s, r, now, ret);
        if (e == 0 && s->p.make_room && r->charge > r->old_charge &&
            s->p.make_room(s->p.ctx, s, r->charge - r->old_charge, now) < 0)
                e = refuse(ret, STORE_E_NO_SPACE, CAUSE_GLOBAL_BUDGET, r->charge, 0);
        return e;
}
