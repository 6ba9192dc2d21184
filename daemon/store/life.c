/* SPDX-License-Identifier: MIT */
/*
 * The store as a whole: how it begins and ends, what bounds it, what it says of itself
 */

#include <errno.h>
#include <stdlib.h>

#include "store/internal.h"
#include "store/recover.h"

/* The one is part of what entries are charged; no extent takes more than the other. */
void store_bound_sizes(struct store *s)
{
        if (s->p.extent_min == 0 || s->p.extent_min > STORE_EXTENT_MIN)
                s->p.extent_min = STORE_EXTENT_MIN;
        if (s->p.large_threshold > STORE_EXTENT_MAX)
                s->p.large_threshold = STORE_EXTENT_MAX;
}

int store_new(const struct store_params *p, struct store **ret)
{
        struct arena_params ap = {
                .size = p->arena_size,
                .max_caches = p->max_caches,
                .seed = {p->seed[0], p->seed[1]},
                .instance = p->instance,
                .boot = {p->boot[0], p->boot[1]},
                .label = p->label,
        };
        struct store *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->p = *p;
        s->p.label = NULL; /* the table has it */
        store_bound_sizes(s);
        s->extra = EVICT_EXTRA;
        r = arena_init(&s->a, &ap);
        if (r == 0) {
                s->gen_heap = expiry_gen_heap(s);
                r = index_init(s);
        }
        if (r < 0) {
                store_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct store *store_leave(struct store *s)
{
        if (!s)
                return NULL;
        free(s->told); /* nothing is written any more: a successor may be at work */
        sweeps_end(s);
        large_table_done(s);
        extent_holds_done(s);
        arena_leave(&s->a);
        free(s);
        return NULL;
}

struct store *store_free(struct store *s)
{
        if (s && s->a.h)
                atomic_store_explicit(&s->a.h->retired, 1, memory_order_release);
        return store_leave(s);
}

void store_set_budget(struct store *s, uint64_t budget, uint64_t uid_share)
{
        s->p.budget = budget;
        s->p.uid_share = uid_share;
        s->settled = false;
}

void store_set_limits(struct store *s, uint32_t max_caches, uint64_t max_entries,
                      uint64_t large_threshold, uint32_t max_tags)
{
        s->p.max_caches = max_caches < s->a.t->max_caches ? max_caches : s->a.t->max_caches;
        s->p.max_entries = max_entries;
        s->p.max_tags = max_tags;
        s->p.large_threshold = large_threshold;
        store_bound_sizes(s);
        s->settled = false;
}

uint32_t store_max_caches(const struct store *s)
{
        return s->p.max_caches;
}

void store_set_clock_offset(struct store *s, int64_t ms)
{
        atomic_store_explicit(&s->a.h->clock_offset_ms, ms, memory_order_relaxed);
}

/* ---- what it says of itself */

void store_stats(const struct store *s, struct store_stats *ret)
{
        const struct table_header *t = s->a.t;

        *ret = (struct store_stats){
                .budget = s->p.budget,
                .uid_share = s->p.uid_share,
                .charged = t->charged,
                .reclaiming = t->reclaiming,
                .caches = t->n_caches - s->n_removed,
                .entries = t->n_entries - t->n_reclaiming,
                .arena_bytes = t->committed_bytes + t->index_bytes + s->a.extents.committed,
                .table_bytes = t->rec_bytes + (uint64_t)t->n_pages * 4096,
                .large_bytes = t->large_bytes,
                .held = s->held,
                .views = s->n_views,
                .view_bytes = s->view_bytes,
                .view_departed_bytes = s->view_departed_bytes,
                .index_buckets = atomic_load_explicit(&s->a.h->n_buckets, memory_order_relaxed),
        };
}

void store_sum_uses(const struct store *s, uint64_t *hits, uint64_t *misses)
{
        for (uint32_t i = 1; i <= store_n_caches(s); i++) {
                struct table_cache *c = cache_at(s, i);

                *hits += c ? cache_counters(c)->hits : 0;
                *misses += c ? cache_counters(c)->misses : 0;
        }
}

uint64_t store_charged(const struct store *s)
{
        return s->a.t->charged;
}

uint64_t store_held(const struct store *s)
{
        return s->held;
}

uint64_t store_arriving(const struct store *s)
{
        return s->arriving;
}

uint32_t store_files(const struct store *s)
{
        return s->n_files;
}

uint64_t store_entries(const struct store *s)
{
        return s->a.t->n_entries - s->a.t->n_reclaiming;
}

uint64_t store_entries_of(const struct store *s, uint32_t cache, uint32_t uid)
{
        const struct table_cache *c = cache_at(s, cache);
        uint32_t owner, list = TABLE_NONE;

        if (c && owner_find(s, uid, &owner))
                list = lru_list_find(s, c->gen, owner);
        return list == TABLE_NONE ? 0 : s->a.lists[list].n_entries;
}

void store_seed(const struct store *s, uint64_t ret[2])
{
        ret[0] = s->a.h->seed[0];
        ret[1] = s->a.h->seed[1];
}

int store_arena_fd(const struct store *s)
{
        return s->a.mem.fd;
}

int store_table_fd(const struct store *s)
{
        return s->a.table.fd;
}
