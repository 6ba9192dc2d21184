/* SPDX-License-Identifier: MIT */
/*
 * Upkeep: work that no request waits for, in bounded steps
 *
 * In order of what hurts most when left undone: reclaiming what was cleared, dropping what has
 * expired, reaching limits that were lowered, giving memory back (unused spans, then compaction),
 * shrinking the index.
 *
 * An entry is charged for more than its bytes (entry_charge()); the rest is its share of what
 * allocator and index waste. So memory is given back as soon as more is resident than all entries
 * are charged, and not before: pages that are kept are reused by the next stores, while giving a
 * span back and getting another one costs a millisecond of the kernel's time in all.
 *
 * A value in an extent is charged for its pages and no more, so what others are charged too much is
 * all that could keep an extent's pages while it is free. Some may stay beyond that: else each
 * value that is replaced would cost the kernel's time twice.
 *
 * A step is about a microsecond of what it stands for: dropping an entry, or looking for something
 * to do.
 */

#include <string.h>

#include "arena/pages.h"
#include "store/internal.h"

#define MOVE_STEPS             2u
#define COPY_BYTES_PER_STEP    4096u
#define COMMIT_BYTES_PER_STEP  1024u /* the kernel zeroes a page in 2 to 4 µs */
#define RELEASE_STEPS          150u  /* punching a hole of a megabyte */
#define RELEASE_BYTES_PER_STEP (ARENA_SPAN_SIZE / RELEASE_STEPS)

/* Resident beyond what the entries are charged: tolerated, and when even nearly full spans are
 * emptied. */
#define EXCESS_FLOOR      (INT64_C(512) << 10)
#define EXCESS_HARD_FLOOR (INT64_C(2) << 20)
#define EXCESS_HARD_SHIFT 7

/* Of extents that are free this much stays resident, whatever else is: two of the longest values,
 * but not more than those that are in use. */
#define WARM_MAX          (UINT64_C(8) << 20)
#define WARM_BUDGET_SHIFT 4

static uint64_t warm_allowed(const struct store *s)
{
        uint64_t most = s->p.budget >> WARM_BUDGET_SHIFT;

        if (most > WARM_MAX)
                most = WARM_MAX;
        return s->a.extents.needed < most ? s->a.extents.needed : most;
}

static bool has_warm_excess(const struct store *s)
{
        return extents_spare(&s->a) > warm_allowed(s);
}

static int64_t excess(const struct store *s)
{
        const struct table_header *t = s->a.t;
        const struct extents *x = &s->a.extents;
        uint64_t warm = has_warm_excess(s) ? warm_allowed(s) : extents_spare(&s->a);
        /* What is still arriving is charged but not counted as resident. */
        uint64_t resident = t->committed_bytes + t->rec_bytes + t->index_bytes + t->large_bytes +
                            (uint64_t)t->n_pages * POOL_PAGE_SIZE + x->committed - x->filling -
                            warm;

        return (int64_t)resident - (int64_t)(t->charged - s->arriving);
}

static bool is_wasteful(const struct store *s)
{
        return excess(s) > EXCESS_FLOOR;
}

static bool is_very_wasteful(const struct store *s)
{
        return excess(s) > (int64_t)(s->a.t->charged >> EXCESS_HARD_SHIFT) + EXCESS_HARD_FLOOR;
}

/* Moves one block of the span that is being emptied; returns its cost in steps, 0: nothing to do.
 */
static unsigned compact_one(struct store *s, uint64_t now)
{
        uint32_t from = alloc_drain_next(&s->a, is_very_wasteful(s)), to, gen;
        uint64_t committed = s->a.t->committed_bytes;
        const struct arena_entry *b;
        struct index_slot slot;
        struct index_key k;
        uint32_t n;

        if (from == ARENA_NONE)
                return 0;
        if (sweep_takes(s, from, now))
                return 1;
        apply_told(s);
        b = arena_block(&s->a, from);
        n = entry_total(b);
        if (alloc_block(&s->a, n, &to) < 0)
                return 0;
        gen = gen_index(b->gen);
        index_key_of(s, &k, from);
        slot = index_locate(s, &k, from);
        memcpy(arena_block(&s->a, to), b, n);
        *arena_rec(&s->a, to) = *arena_rec(&s->a, from);
        if (b->sizes & ENTRY_EXT)
                tags_moved(s, to);
        index_replace(s, slot, to, INTENT_MOVE);
        lru_moved(s, lru_list_find(s, gen, entry_owner(b)), from, to);
        if (s->a.gens[gen].state == GEN_LIVE)
                expiry_moved(s, gen, to);
        if (b->sizes & ENTRY_LARGE) {
                struct entry e;

                entry_read(b, &e);
                s->a.large[entry_large(&e).id].handle = to;
        }
        alloc_free(&s->a, from);
        committed = s->a.t->committed_bytes - committed;
        return MOVE_STEPS + n / COPY_BYTES_PER_STEP + (unsigned)(committed / COMMIT_BYTES_PER_STEP);
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
        enum store_cause over;
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
        over = room_over_realm(s);
        return over != N_CAUSES && store_evict_one(s, over, now) > 0;
}

static bool over_budget(const struct store *s)
{
        const struct table_header *t = s->a.t;

        return t->committed_bytes + t->rec_bytes + t->index_bytes +
                       (uint64_t)t->n_pages * POOL_PAGE_SIZE >
               s->p.budget;
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
        if (is_wasteful(s)) {
                unsigned cost;

                if (has_warm_excess(s))
                        return 1 + (unsigned)(extents_give_back(&s->a) / RELEASE_BYTES_PER_STEP);
                if (alloc_release_unused(&s->a))
                        return RELEASE_STEPS;
                cost = listing(s, now) ? 0 : compact_one(s, now);
                if (cost > 0)
                        return cost;
        }
        return index_shrink(s) ? 1 : 0;
}

/*
 * A store pays for the memory that it leaves behind, by its size: while more is wasted than
 * compaction tolerates, each one does a little of the work, so that memory stays bounded however
 * fast stores come. This much keeps the arena within 3 % of its budget while all value sizes change
 * (test-store.c). What costs more than one store pays, such as punching a hole, is owed by the next
 * ones: a row of small stores does not meet one each.
 */
#define STEPS_PER_STORE      8u
#define STORE_BYTES_PER_STEP 512u
#define STEPS_PER_STORE_MAX  256u
#define URGENT               4u /* times as much while much is wasted */

void upkeep_pay(struct store *s, uint64_t n, uint64_t now)
{
        uint64_t steps = STEPS_PER_STORE + n / STORE_BYTES_PER_STEP;

        if (!is_wasteful(s)) {
                s->upkeep_paid = 0;
                return;
        }
        if (is_very_wasteful(s))
                steps *= URGENT;
        s->upkeep_paid += (int)(steps < STEPS_PER_STORE_MAX ? steps : STEPS_PER_STORE_MAX);
        while (s->upkeep_paid > 0 && is_wasteful(s)) {
                unsigned cost = give_back(s, now);

                if (cost == 0) {
                        s->upkeep_paid = 0;
                        return;
                }
                s->upkeep_paid -= (int)cost;
        }
}

bool store_maintain(struct store *s, uint64_t now, unsigned steps)
{
        unsigned done = 0;

        s->extra = EVICT_EXTRA;
        s->drops = 0;
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
