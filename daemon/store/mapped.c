/* SPDX-License-Identifier: MIT */
/*
 * What readers of the arena did without asking
 *
 * They tell afterwards, by handle and version, and nothing of what they tell is trusted: a use
 * counts if the handle is that of a live entry of this version, in a cache that was not cleared
 * since. Else the entry has left, was replaced or moved, and its use means nothing any more; so
 * does an invented one.
 */

#include "arena/holes.h"
#include "store/internal.h"

/* The handle of a chunk in use, which need not be that of an entry that can be found. */
static bool is_block(const struct store *s, uint32_t handle)
{
        uint32_t span = handle_span(handle);
        const struct table_span *sp;

        if (span == 0 || span >= s->a.t->span_high)
                return false;
        sp = &s->a.spans[span];
        return sp->state != SPAN_UNUSED && handle_chunk(handle) < sp->high;
}

static bool is_entry(const struct store *s, const struct store_use *u)
{
        const struct arena_entry *b = arena_block(&s->a, u->handle);
        const struct table_gen *g;

        if (!alloc_is_live(&s->a, u->handle) || b->version_lo != u->version_lo)
                return false;
        g = &s->a.gens[gen_index(b->gen)];
        return g->state == GEN_LIVE && g->id == b->gen;
}

static void use(struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        struct entry e;

        store_touch_lru(s, handle);
        if (!(b->sizes & ENTRY_EXT))
                return;
        entry_read(b, &e);
        if (e.x.cost_us > 0) {
                uint32_t cache = s->a.gens[gen_index(b->gen)].cache;

                cache_counters(&s->a.caches[cache])->time_saved_us += e.x.cost_us;
        }
}

/* As in store_ahead(): the same step for all of them before the next one. */
unsigned store_used(struct store *s, const struct store_use *uses, unsigned n)
{
        uint32_t handles[STORE_USES_MAX];
        unsigned n_used = 0;

        assert(n <= STORE_USES_MAX);
        for (unsigned i = 0; i < n; i++) {
                handles[i] = is_block(s, uses[i].handle) ? uses[i].handle : ARENA_NONE;
                if (handles[i] == ARENA_NONE)
                        continue;
                __builtin_prefetch(arena_block(&s->a, handles[i]));
                __builtin_prefetch(arena_rec(&s->a, handles[i]), 1);
        }
        for (unsigned i = 0; i < n; i++) {
                const struct table_rec *rec;

                if (handles[i] != ARENA_NONE && !is_entry(s, &uses[i]))
                        handles[i] = ARENA_NONE;
                if (handles[i] == ARENA_NONE)
                        continue;
                rec = arena_rec(&s->a, handles[i]);
                __builtin_prefetch(arena_rec(&s->a, rec->prev), 1);
                __builtin_prefetch(arena_rec(&s->a, rec->next), 1);
        }
        for (unsigned i = 0; i < n; i++) {
                if (handles[i] == ARENA_NONE)
                        continue;
                use(s, handles[i]);
                n_used++;
        }
        return n_used;
}

void store_count_mapped(struct store *s, uint32_t cache, uint64_t hits, uint64_t misses)
{
        struct table_cache *c = cache_at(s, cache);
        struct store_counters *k;

        if (!c)
                return;
        k = cache_counters(c);
        k->hits += hits;
        k->mapped_hits += hits;
        k->misses += misses;
        k->mapped_misses += misses;
}

uint64_t store_holes_filled(const struct store *s)
{
        return holes_filled(&s->a);
}

bool store_has_readers(const struct store *s)
{
        return holes_have_readers(&s->a);
}

bool store_punch_holes(struct store *s, uint64_t *cursor, unsigned steps)
{
        return holes_punch(&s->a, cursor, steps);
}
