/* SPDX-License-Identifier: MIT */
/*
 * Caches and their generations
 *
 * A cache has a name, a policy, counters and one live generation: what was stored since the last
 * clear. Clear gives it a new generation, which takes constant time: entries carry the generation's
 * id, and it is part of their hash, so the old ones are out of reach at once. The old generation is
 * dying: upkeep.c frees its entries bit by bit. (A cache of a few entries drops them instead.)
 *
 * Ids of caches count from 1. A cache that is removed keeps its record, without a name and with an
 * empty generation, until another one is made in it: not before all generations that it had are
 * gone, so whatever still refers to one of them (an entry, a sweep) means the cache that was. The
 * last of them is the one before its present one, since they go in the order in which they were
 * cleared; when that is freed the record joins those that can be used again, which are linked by
 * the `next` of their generations.
 */

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "store/internal.h"

#define GEN_INDEX_BITS 20
/* A cache of so few entries is cleared by dropping them, no generation has to die for it; as long
 * as the allowance for such work lasts, since all caches may be cleared in one turn. */
#define CLEAR_AT_ONCE 64u

/* ---- generations */

int gen_alloc(struct store *s, uint32_t cache, uint32_t *ret_gen)
{
        struct table_header *t = s->a.t;
        uint32_t i = t->gen_free, reuse = 0;
        struct table_gen *g;
        int r;

        if (i != TABLE_NONE) {
                reuse = (s->a.gens[i].id >> GEN_INDEX_BITS) + 1;
                t->gen_free = s->a.gens[i].next;
        } else {
                i = t->gen_high;
                if (i == t->max_gens)
                        return STORE_E_LIMIT;
                r = arena_commit_element(&s->a.table, t->gens_off, i, sizeof(*g));
                if (r == 0)
                        r = arena_commit_element(&s->a.table, t->gen_heap_off, i,
                                                 sizeof(struct idheap_item));
                if (r < 0)
                        return r;
                t->gen_high++;
        }
        g = &s->a.gens[i];
        *g = (struct table_gen){
                /* The count keeps the id of a reused place apart from its former ones; never 0. */
                .id = (i + 1) | reuse << GEN_INDEX_BITS,
                .state = GEN_LIVE,
                .cache = cache,
                .lists = TABLE_NONE,
                .next = TABLE_NONE,
                .heap_pos = IDHEAP_NONE,
        };
        *ret_gen = i;
        return 0;
}

void gen_free(struct store *s, uint32_t gen)
{
        struct table_gen *g = &s->a.gens[gen];

        assert(g->n_entries == 0 && g->lists == TABLE_NONE);
        g->state = GEN_FREE;
        g->next = s->a.t->gen_free;
        s->a.t->gen_free = gen;
        cache_was_last(s, g->cache, g->id);
}

/* Out of generations: so many clears are pending that some must be finished first. */
static int gen_get(struct store *s, uint32_t cache, uint32_t *ret_gen)
{
        int r = gen_alloc(s, cache, ret_gen);

        while (r == STORE_E_LIMIT && evict_take_extra(s) && evict_reclaim_one(s))
                r = gen_alloc(s, cache, ret_gen);
        return r;
}

/* ---- caches */

struct table_cache *cache_at(const struct store *s, uint32_t cache)
{
        if (cache == 0 || cache > s->a.t->n_caches || !s->a.caches[cache].in_use)
                return NULL;
        return &s->a.caches[cache];
}

uint32_t store_n_caches(const struct store *s)
{
        return s->a.t->n_caches;
}

/* The place of the name in the name table, or of the hole where it belongs. */
static uint32_t *name_slot(const struct store *s, const char *name, size_t n_name)
{
        uint32_t mask = s->a.t->n_names - 1;
        uint32_t i = (uint32_t)XXH3_64bits(name, n_name) & mask;

        for (;; i = (i + 1) & mask) {
                const struct table_cache *c;

                if (s->a.names[i] == 0)
                        return &s->a.names[i];
                c = &s->a.caches[s->a.names[i]];
                if (c->n_name == n_name && memcmp(c->name, name, n_name) == 0)
                        return &s->a.names[i];
        }
}

int store_cache_find(struct store *s, const char *name, size_t n_name, uint32_t *ret_cache)
{
        uint32_t id = *name_slot(s, name, n_name);

        if (id == 0)
                return STORE_E_NO_CACHE;
        *ret_cache = id;
        return 0;
}

bool cache_name_add(struct store *s, uint32_t cache)
{
        const struct table_cache *c = &s->a.caches[cache];
        uint32_t *slot = name_slot(s, c->name, c->n_name);

        if (*slot != 0)
                return false;
        *slot = cache;
        return true;
}

void cache_show(struct store *s, uint32_t cache)
{
        const struct table_cache *c = &s->a.caches[cache];
        struct arena_cache *d = &s->a.cache_dir[cache];

        atomic_store_explicit(&d->name_hash, XXH3_64bits(c->name, c->n_name), memory_order_relaxed);
        atomic_store_explicit(&d->generation, cache_gen(s, c)->id, memory_order_release);
}

void cache_make_nameless(struct store *s, uint32_t cache, uint32_t gen)
{
        static const struct table_policy none = {.ttl_ms = STORE_NEVER,
                                                 .max_entries = STORE_UNLIMITED,
                                                 .max_bytes = STORE_UNLIMITED};

        s->a.caches[cache] = (struct table_cache){.gen = gen, .policy = none, .opened = none};
}

/* A record without a name that is nobody's; in the end it is in use. */
static int get_record(struct store *s, uint32_t *ret)
{
        struct table_header *t = s->a.t;
        uint32_t id, gen;
        int r;

        while (s->reusable == 0 && t->n_caches == t->max_caches)
                if (!evict_take_extra(s) || !evict_reclaim_one(s))
                        return STORE_E_LIMIT;
        while (s->reusable != 0) {
                struct table_gen *g;

                id = s->reusable;
                g = cache_gen(s, &s->a.caches[id]);
                s->reusable = g->next;
                g->next = TABLE_NONE;
                g->before = 0; /* what was there is nothing of the new one's */
                if (g->n_entries > 0)
                        continue; /* who left the table to us said so: it stays out of use */
                s->n_removed--;
                *ret = id;
                return 0;
        }
        id = t->n_caches + 1;
        if (id > t->max_caches)
                return STORE_E_LIMIT;
        r = arena_commit_element(&s->a.table, t->caches_off + sizeof(struct table_cache), id - 1,
                                 sizeof(struct table_cache));
        if (r == 0)
                r = gen_get(s, id, &gen);
        if (r != 0)
                return r;
        cache_make_nameless(s, id, gen);
        atomic_signal_fence(memory_order_release);
        t->n_caches = id;
        *ret = id;
        return 0;
}

int store_cache_create(struct store *s, const char *name, size_t n_name, uint32_t *ret_cache)
{
        uint32_t *slot = name_slot(s, name, n_name), id;
        struct table_cache *c;
        int r;

        assert(n_name > 0 && n_name <= STORE_CACHE_NAME_MAX);
        if (*slot != 0) {
                *ret_cache = *slot;
                return 0;
        }
        if (s->a.t->n_caches - s->n_removed >= s->p.max_caches)
                return STORE_E_LIMIT;
        r = get_record(s, &id);
        if (r != 0)
                return r;
        c = &s->a.caches[id];
        c->n_name = (uint16_t)n_name;
        memcpy(c->name, name, n_name);
        atomic_signal_fence(memory_order_release);
        c->in_use = 1; /* it is there from here on */
        *slot = id;
        cache_show(s, id);
        *ret_cache = id;
        return 0;
}

const char *store_cache_name(const struct store *s, uint32_t cache, size_t *ret_n)
{
        const struct table_cache *c = cache_at(s, cache);

        *ret_n = c ? c->n_name : 0;
        return c ? c->name : NULL;
}

/* Takes a name out of the table of names: those behind it that would not be found past the hole
 * move up. */
static void cache_name_remove(struct store *s, const struct table_cache *c)
{
        uint32_t mask = s->a.t->n_names - 1, *names = s->a.names;
        uint32_t hole = (uint32_t)(name_slot(s, c->name, c->n_name) - names);

        for (uint32_t i = (hole + 1) & mask; names[i] != 0; i = (i + 1) & mask) {
                const struct table_cache *other = &s->a.caches[names[i]];
                uint32_t home = (uint32_t)XXH3_64bits(other->name, other->n_name) & mask;

                if (((i - home) & mask) < ((i - hole) & mask))
                        continue;
                names[hole] = names[i];
                hole = i;
        }
        names[hole] = 0;
}

void cache_was_last(struct store *s, uint32_t cache, uint32_t gen_id)
{
        struct table_gen *g;

        if (s->a.caches[cache].in_use)
                return;
        g = cache_gen(s, &s->a.caches[cache]);
        if (g->cache != cache || g->before != gen_id)
                return;
        g->next = s->reusable;
        s->reusable = cache;
}

static void begin_dying(struct store *s, struct table_cache *c, uint32_t gen, uint64_t now);

int store_cache_remove(struct store *s, uint32_t cache, uint64_t now)
{
        struct table_cache *c = cache_at(s, cache);
        uint32_t gen;
        int r;

        if (!c)
                return STORE_E_NO_CACHE;
        r = gen_get(s, cache, &gen);
        if (r != 0)
                return r;
        cache_name_remove(s, c);
        atomic_signal_fence(memory_order_release);
        c->in_use = 0; /* it is gone from here on */
        atomic_signal_fence(memory_order_release);
        begin_dying(s, c, gen, now);
        cache_make_nameless(s, cache, gen);
        cache_show(s, cache);
        s->n_removed++;
        return 0;
}

static struct store_policy policy_out(const struct table_policy *p)
{
        return (struct store_policy){
                .ttl_ms = p->ttl_ms,
                .max_entries = p->max_entries,
                .max_bytes = p->max_bytes,
                .stale_for_ms = p->stale_for_ms,
                .stale_if_error_ms = p->stale_if_error_ms,
                .refresh_ahead = p->refresh_ahead,
                .expire_jitter = p->expire_jitter,
        };
}

static struct table_policy policy_in(const struct store_policy *p)
{
        return (struct table_policy){
                .ttl_ms = p->ttl_ms,
                .max_entries = p->max_entries,
                .max_bytes = p->max_bytes,
                .stale_for_ms = p->stale_for_ms,
                .stale_if_error_ms = p->stale_if_error_ms,
                .refresh_ahead = p->refresh_ahead,
                .expire_jitter = p->expire_jitter,
        };
}

int store_cache_info(struct store *s, uint32_t cache, struct store_cache_info *ret)
{
        struct table_cache *c = cache_at(s, cache);
        const struct table_gen *g;

        if (!c)
                return STORE_E_NO_CACHE;
        apply_told(s);
        g = cache_gen(s, c);
        *ret = (struct store_cache_info){
                .name = c->name,
                .n_name = c->n_name,
                .policy = policy_out(&c->policy),
                .opened = policy_out(&c->opened),
                .pinned = c->pinned,
                .entries = g->n_entries - g->dead.n_entries,
                .bytes_raw = g->bytes_raw - g->dead.raw,
                .bytes_held = g->bytes_held - g->dead.held,
                .tags = g->n_tags[TAG_NAMED],
                .counters = *cache_counters(c),
        };
        return 0;
}

struct store_counters *store_cache_counters(struct store *s, uint32_t cache)
{
        struct table_cache *c = cache_at(s, cache);

        apply_told(s);
        return c ? cache_counters(c) : NULL;
}

/* All of it or nothing: what is staged is what a successor takes, if this process dies meanwhile.
 */
static void cache_stage(struct store *s, uint32_t cache, const struct store_policy *opened,
                        const struct store_policy *policy, bool pinned)
{
        struct table_header *t = s->a.t;

        t->staged = (struct table_policies){policy_in(policy), policy_in(opened), pinned};
        t->intent.old_handle = cache;
        atomic_signal_fence(memory_order_release);
        t->intent.op = INTENT_POLICY;
        atomic_signal_fence(memory_order_release);
}

void cache_take_staged(struct store *s, uint32_t cache)
{
        const struct table_policies *from = &s->a.t->staged;
        struct table_cache *c = &s->a.caches[cache];

        c->opened = from->opened;
        c->policy = from->policy;
        c->pinned = from->pinned != 0;
        atomic_signal_fence(memory_order_release);
        s->a.t->intent.op = INTENT_NONE;
}

void store_cache_stays(struct store *s, uint32_t cache)
{
        const struct table_cache *c = cache_at(s, cache);

        s->staying = c->gen + 1;
        lru_stay(s, c->gen);
}

void store_cache_set_policy(struct store *s, uint32_t cache, const struct store_policy *opened,
                            const struct store_policy *policy, bool pinned, uint64_t now)
{
        struct table_cache *c = cache_at(s, cache);

        if (!c)
                return;
        cache_stage(s, cache, opened, policy, pinned);
        cache_take_staged(s, cache);
        s->settled = false;
        while (evict_take_extra(s))
                if (!evict_trim_one(s, cache, now))
                        return;
        s->trim = 1;
}

/* ---- clear */

static bool drop_at_once(struct store *s, uint32_t gen, uint64_t now)
{
        const struct table_gen *g = &s->a.gens[gen];

        if (g->n_entries > CLEAR_AT_ONCE || g->n_entries > s->extra)
                return false;
        while (g->n_entries > 0) {
                (void)evict_take_extra(s);
                entry_drop(s, lru_oldest_of_gen(s, gen), CAUSE_CLEARED, now);
        }
        return true;
}

/* Puts another generation in the place of the cache's, which is to die. */
static void begin_dying(struct store *s, struct table_cache *c, uint32_t gen, uint64_t now)
{
        struct table_header *t = s->a.t;
        struct table_gen *old = cache_gen(s, c);

        apply_told(s);
        old->state = GEN_DYING;
        old->cleared_at = now;
        t->n_tags -= old->n_tags[TAG_NAMED] + old->n_tags[TAG_NODE];
        s->a.gens[gen].before = old->id;
        expiry_forget_gen(s, c->gen);
        if (t->dying_tail == TABLE_NONE)
                t->dying_head = c->gen;
        else
                s->a.gens[t->dying_tail].next = c->gen;
        t->dying_tail = c->gen;
        /* What was cleared by tag is in it already. */
        t->reclaiming += old->bytes_held - old->dead.held;
        t->n_reclaiming += old->n_entries - old->dead.n_entries;
        atomic_signal_fence(memory_order_release); /* it is cleared from here on */
        c->gen = gen;
        atomic_signal_fence(memory_order_release);
        s->settled = false;
        atomic_store_explicit(&s->a.cache_dir[old->cache].generation, s->a.gens[gen].id,
                              memory_order_release);
}

int store_clear(struct store *s, uint32_t cache, uint64_t now, uint64_t *ret_entries)
{
        struct table_cache *c = cache_at(s, cache);
        uint64_t n;
        uint32_t gen;
        int r;

        if (!c)
                return STORE_E_NO_CACHE;
        n = cache_gen(s, c)->n_entries - cache_gen(s, c)->dead.n_entries;
        if (!drop_at_once(s, c->gen, now)) {
                r = gen_get(s, cache, &gen);
                if (r != 0)
                        return r;
                begin_dying(s, c, gen, now);
        }
        cache_counters(c)->clears++;
        *ret_entries = n;
        return 0;
}
