/* SPDX-License-Identifier: MIT */
/*
 * Upkeep: work that no request waits for, in bounded steps
 *
 * In order of what hurts most when left undone: reclaiming what was cleared, dropping what has
 * expired, reaching limits that were lowered, giving memory back (unused spans, then compaction),
 * shrinking the index.
 */

#include <string.h>

#include "store/internal.h"

/* A compaction step is paid by the size of what it moves. */
#define COPY_BYTES_PER_STEP 2048u
/* Punching a hole of a megabyte costs as much as dropping some hundred entries. */
#define RELEASE_STEPS 100u

/* Moves one block of the span that is being emptied; returns its cost in steps, 0: nothing to do.
 */
static unsigned compact_one(struct store *s)
{
        uint32_t from = alloc_drain_next(&s->a), to, gen, list;
        const struct arena_entry *b;
        struct index_slot slot;
        struct index_key k;
        uint32_t n;

        if (from == ARENA_NONE)
                return 0;
        b = arena_block(&s->a, from);
        n = entry_total(b);
        if (alloc_block(&s->a, n, &to) < 0)
                return 0;
        gen = gen_index(b->gen);
        index_key_of(s, &k, from);
        slot = index_locate(s, &k, from);
        memcpy(arena_block(&s->a, to), b, n);
        *arena_rec(&s->a, to) = *arena_rec(&s->a, from);
        index_replace(s, slot, to, INTENT_MOVE);
        if (lru_list_get(s, gen, entry_owner(b), &list) == 0)
                lru_moved(s, list, from, to);
        if (s->a.gens[gen].state == GEN_LIVE)
                expiry_moved(s, gen, to);
        alloc_free(&s->a, from);
        return 1 + n / COPY_BYTES_PER_STEP;
}

/* One entry of a cache that is over a lowered limit, or a look at the next cache. */
static bool trim_one(struct store *s, uint64_t now)
{
        if (s->trim == 0)
                return false;
        if (!evict_trim_one(s, s->trim, now))
                s->trim = s->trim < s->a.t->n_caches ? s->trim + 1 : 0;
        return true;
}

/* Drops one entry that should not be there; false: there is none. */
static bool drop_one(struct store *s, uint64_t now)
{
        uint32_t due;

        if (evict_reclaim_one(s))
                return true;
        due = expiry_due_any(s, now);
        if (due != ARENA_NONE) {
                entry_drop(s, due, CAUSE_EXPIRED, now);
                return true;
        }
        if (trim_one(s, now))
                return true;
        return s->a.t->charged > s->p.budget && store_evict_one(s, CAUSE_REALM_BUDGET, now) > 0;
}

static bool over_budget(const struct store *s)
{
        const struct table_header *t = s->a.t;

        return t->committed_bytes + t->rec_bytes + t->index_bytes > s->p.budget;
}

/* A listing goes by place: nothing may move from ahead of its cursor to behind it. So compaction
 * waits for it, as long as the realm's memory is within its budget. */
static bool listing(const struct store *s, uint64_t now)
{
        return now < s->listing_until && !over_budget(s);
}

/* Returns what it cost; 0: all is as it should be. */
static unsigned give_back(struct store *s, uint64_t now)
{
        if (alloc_wasteful(&s->a)) {
                unsigned cost;

                if (alloc_release_unused(&s->a))
                        return RELEASE_STEPS;
                cost = listing(s, now) ? 0 : compact_one(s);
                if (cost > 0)
                        return cost;
        }
        return index_shrink(s) ? 1 : 0;
}

/*
 * A store pays for the memory that it leaves behind: while more is wasted than compaction
 * tolerates, each one does a little of the work, so that memory stays bounded however fast stores
 * come. 32 steps keep the arena within 3 % of its budget while all value sizes change
 * (test-store.c); they cost some 20 µs.
 */
#define STEPS_PER_STORE 32u

void upkeep_pay(struct store *s, uint64_t now)
{
        for (unsigned done = 0, cost; done < STEPS_PER_STORE && alloc_wasteful(&s->a);
             done += cost) {
                cost = give_back(s, now);
                if (cost == 0)
                        return;
        }
}

bool store_maintain(struct store *s, uint64_t now, unsigned steps)
{
        unsigned done = 0;

        if (now >= s->listing_until)
                s->listing_until = 0;
        while (done < steps) {
                unsigned cost = drop_one(s, now) ? 1 : give_back(s, now);

                if (cost == 0) {
                        s->settled = true;
                        return false;
                }
                done += cost;
        }
        return true;
}

uint64_t store_next_deadline(const struct store *s)
{
        uint64_t next = s->a.t->n_gen_heap ? s->a.gen_heap[0].key : STORE_NEVER;

        if (!s->settled)
                return 0;
        /* Compaction may be waiting for a listing. */
        return s->listing_until != 0 && s->listing_until < next ? s->listing_until : next;
}
