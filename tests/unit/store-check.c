/* SPDX-License-Identifier: MIT */
/*
 * The store's invariants, checked the slow way
 *
 * Every live chunk is in exactly one recency list and exactly once in the index, in one of its two
 * buckets; lists are ordered by stamp; heaps are heaps and records know their place in them; counts
 * and sums in headers are what a walk finds.
 */

#include "store-check.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/internal.h"

#define CHECK(x)                                                                                   \
        do {                                                                                       \
                if (!(x)) {                                                                        \
                        fprintf(stderr, "%s:%d: the store is inconsistent: %s\n", __FILE__,        \
                                __LINE__, #x);                                                     \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)

static uint64_t check_list(struct store *s, uint32_t list)
{
        const struct table_list *l = &s->a.lists[list];
        uint64_t n = 0, stamp = UINT64_MAX;
        uint32_t prev = ARENA_NONE;

        for (uint32_t h = l->head; h != ARENA_NONE; h = arena_rec(&s->a, h)->next) {
                const struct table_rec *r = arena_rec(&s->a, h);
                const struct arena_entry *b = arena_block(&s->a, h);

                CHECK(r->prev == prev);
                CHECK(rec_stamp(r) != 0 && rec_stamp(r) < stamp);
                CHECK(gen_index(b->gen) == l->gen && entry_owner(b) == l->owner);
                stamp = rec_stamp(r);
                prev = h;
                n++;
        }
        CHECK(l->tail == prev);
        CHECK(n == l->n_entries);
        if (s->a.gens[l->gen].state == GEN_LIVE && n > 0) {
                CHECK(l->heap_pos != IDHEAP_NONE);
                CHECK(s->a.list_heap[l->heap_pos].id == list);
                CHECK(s->a.list_heap[l->heap_pos].key <= rec_stamp(arena_rec(&s->a, l->tail)));
        } else {
                CHECK(l->heap_pos == IDHEAP_NONE);
        }
        return n;
}

static void check_entry(struct store *s, uint32_t handle, uint64_t *n_heap)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        const struct table_gen *g = &s->a.gens[gen_index(b->gen)];
        struct index_key k;
        struct index_slot slot;

        CHECK(g->state != GEN_FREE && g->id == b->gen);
        index_key_of(s, &k, handle);
        CHECK(index_find(s, &k, &slot) == handle);
        if (g->state == GEN_LIVE) {
                CHECK((arena_rec(&s->a, handle)->heap_pos != TABLE_NONE) ==
                      (entry_deadline(b) != ENTRY_NEVER));
                *n_heap += entry_deadline(b) != ENTRY_NEVER;
        }
}

static void check_gens(struct store *s, uint64_t *ret_heap)
{
        uint64_t entries = 0, charged = 0, reclaiming = 0;

        *ret_heap = 0;
        for (uint32_t i = 0; i < s->a.t->gen_high; i++) {
                const struct table_gen *g = &s->a.gens[i];
                uint64_t n = 0;

                if (g->state == GEN_FREE)
                        continue;
                for (uint32_t l = g->lists; l != TABLE_NONE; l = s->a.lists[l].next_in_gen)
                        n += check_list(s, l);
                CHECK(n == g->n_entries);
                entries += n;
                charged += g->bytes_held;
                if (g->state == GEN_DYING)
                        reclaiming += g->bytes_held;
                else
                        *ret_heap += g->n_heap;
                CHECK(g->state != GEN_LIVE || (g->n_heap > 0) == (g->heap_pos != IDHEAP_NONE));
        }
        CHECK(entries == s->a.t->n_entries);
        CHECK(charged + s->reserved == s->a.t->charged);
        CHECK(reclaiming == s->a.t->reclaiming);
}

static void check_index(struct store *s)
{
        uint64_t n = atomic_load(&s->a.h->n_buckets), used = 0;

        for (uint64_t b = 0; b < n; b++) {
                CHECK(atomic_load(&s->a.buckets[b].seq) % 2 == 0);
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        used += atomic_load(&s->a.buckets[b].handle[i]) != ARENA_NONE;
        }
        CHECK(used == s->a.t->n_entries);
        CHECK(s->a.t->intent.op == INTENT_NONE);
}

void store_check(struct store *s)
{
        uint64_t used = 0, committed = 0, charge = 0, live = 0, n_heap = 0, in_heaps;

        check_gens(s, &in_heaps);
        check_index(s);
        for (uint32_t i = 1; i < s->a.t->span_high; i++) {
                const struct table_span *sp = &s->a.spans[i];
                uint32_t n = 0;

                committed += sp->committed;
                if (sp->state == SPAN_UNUSED)
                        continue;
                for (uint32_t c = 0; c < sp->high; c++) {
                        uint32_t h = handle_make(i, c);

                        if (!alloc_is_live(&s->a, h))
                                continue;
                        n++;
                        charge += store_block_charge(s, h);
                        check_entry(s, h, &n_heap);
                }
                CHECK(n == sp->n_used && n > 0);
                CHECK((uint64_t)sp->high * s->a.span_chunk[i] <= sp->committed);
                used += (uint64_t)n * s->a.span_chunk[i];
                live += n;
        }
        CHECK(used == s->a.t->used_bytes);
        CHECK(committed == s->a.t->committed_bytes);
        CHECK(charge + s->reserved == s->a.t->charged);
        CHECK(live == s->a.t->n_entries);
        CHECK(n_heap == in_heaps);
}
