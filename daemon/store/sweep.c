/* SPDX-License-Identifier: MIT */
/*
 * Sweeps: clearing by prefix
 *
 * There is no order of keys, so all entries are looked at, place by place, in portions. What is
 * stored meanwhile has a later version and stays. What compaction would move, perhaps from ahead of
 * a sweep to behind it, is dropped instead if it is to be dropped anyway. So at the end nothing of
 * what was there at the beginning is left, whatever happened in between.
 */

#include <string.h>

#include "store/internal.h"

#define DROP_STEPS 8u /* against looking at one */

int store_sweep_begin(struct store *s, uint32_t cache, const void *prefix, size_t n_prefix,
                      struct store_sweep *ret)
{
        struct table_cache *c = cache_at(s, cache);

        if (!c)
                return STORE_E_NO_CACHE;
        *ret = (struct store_sweep){.store = s,
                                    .next = s->sweeps,
                                    .gen = cache_gen(s, c)->id,
                                    .n_prefix = (uint32_t)n_prefix,
                                    .version = s->a.t->version};
        memcpy(ret->prefix, prefix, n_prefix);
        s->sweeps = ret;
        cache_counters(c)->clears++;
        return 0;
}

static bool is_for(const struct store *s, const struct store_sweep *sw, uint32_t handle,
                   uint64_t now)
{
        const struct arena_entry *b = arena_block(&s->a, handle);

        return b->gen == sw->gen && entry_n_key(b) >= sw->n_prefix &&
               memcmp(entry_key(b), sw->prefix, sw->n_prefix) == 0 &&
               ((uint64_t)(b->hi >> 20) << 32 | b->version_lo) <= sw->version &&
               entry_deadline(b) > now && !entry_is_dead(s, handle);
}

static void take(struct store_sweep *sw, uint32_t handle, uint64_t now)
{
        sw->entries++;
        entry_drop(sw->store, handle, CAUSE_CLEARED, now);
}

bool store_sweep_step(struct store_sweep *sw, uint64_t now, unsigned steps)
{
        struct store *s = sw->store;
        uint32_t span = handle_span((uint32_t)sw->cursor);
        uint32_t chunk = handle_chunk((uint32_t)sw->cursor);

        /* Cleared as a whole meanwhile: nothing of it is left. */
        if (s->a.gens[gen_index(sw->gen)].state != GEN_LIVE ||
            s->a.gens[gen_index(sw->gen)].id != sw->gen)
                return false;
        for (; span < s->a.t->span_high; span++, chunk = 0) {
                const struct table_span *sp = &s->a.spans[span];

                if (span == 0 || sp->state == SPAN_UNUSED)
                        continue;
                for (; chunk < sp->high && sp->state != SPAN_UNUSED; chunk++) {
                        uint32_t handle = handle_make(span, chunk);

                        sw->cursor = handle;
                        if (steps == 0)
                                return true;
                        steps--;
                        if (!alloc_is_live(&s->a, handle) || !is_for(s, sw, handle, now))
                                continue;
                        take(sw, handle, now);
                        steps = steps > DROP_STEPS ? steps - DROP_STEPS : 0;
                }
        }
        return false;
}

void store_sweep_end(struct store_sweep *sw)
{
        struct store_sweep **at;

        if (!sw->store)
                return;
        for (at = &sw->store->sweeps; *at != sw;)
                at = &(*at)->next;
        *at = sw->next;
        sw->store = NULL;
}

void sweeps_end(struct store *s)
{
        while (s->sweeps)
                store_sweep_end(s->sweeps);
}

bool sweep_takes(struct store *s, uint32_t handle, uint64_t now)
{
        for (struct store_sweep *sw = s->sweeps; sw; sw = sw->next)
                if (is_for(s, sw, handle, now)) {
                        take(sw, handle, now);
                        return true;
                }
        return false;
}
