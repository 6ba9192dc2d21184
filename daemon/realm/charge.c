/* SPDX-License-Identifier: MIT */
/*
 * Charge
 *
 * The sums over all realms are kept, not computed: each member remembers what of them is its own,
 * and whoever changed a store settles it. A put asks here before it grows its store; what it then
 * adds is settled after it.
 *
 * Who holds the most gives way, whoever asks: a user who fills the machine evicts the own entries,
 * and many small realms cannot push each other out for the sake of one large one. Finding the
 * largest is a walk over the members (some hundreds), and it gives way until it is no longer the
 * largest. The same holds for large values, by their number, where descriptors run short.
 *
 * A member that keeps what it has (sessions are no cache to be filled again) is bounded by its own
 * budget alone. What it holds counts as what no eviction frees; only where nobody else can give way
 * it does, for itself. Its large values give way as all do, where descriptors run short: they lie
 * in caches, since a session is none.
 *
 * Under a budget that was lowered a store frees as much as it takes, and a bounded part of the
 * rest; charge_trim() does the other part, turn by turn.
 */
#include "realm/charge.h"

#include <errno.h>
#include <stdbool.h>

#include "store/store.h"

#define EXTRA 2048u /* some 600 µs */

void charge_join(struct charge *c, struct charge_pool *pool, struct store *store)
{
        *c = (struct charge){.pool = pool,
                             .store = store,
                             .keeps = c->keeps,
                             .next = pool->members};
        if (pool->members)
                pool->members->prev = c;
        pool->members = c;
        charge_settle(c);
}

void charge_leave(struct charge *c)
{
        if (!c->store)
                return;
        c->pool->total -= c->seen;
        c->pool->held -= c->held;
        c->pool->arriving -= c->arriving;
        c->pool->files -= c->files;
        if (c->prev)
                c->prev->next = c->next;
        else
                c->pool->members = c->next;
        if (c->next)
                c->next->prev = c->prev;
        *c = (struct charge){0};
}

/* Brings a member's part of a sum up to date. */
static void settle(uint64_t *sum, uint64_t *part, uint64_t now)
{
        *sum += now - *part; /* wraps back where it shrank */
        *part = now;
}

void charge_settle(struct charge *c)
{
        settle(&c->pool->total, &c->seen, store_charged(c->store));
        uint64_t arriving = store_arriving(c->store);
        uint64_t held = c->keeps ? store_charged(c->store) - arriving : store_held(c->store);
        settle(&c->pool->held, &c->held, held);
        settle(&c->pool->arriving, &c->arriving, arriving);
        settle(&c->pool->files, &c->files, store_files(c->store));
}

/* ---- who gives way */

static uint64_t size_of(const struct charge *c, bool by_files)
{
        return by_files ? c->files : c->seen;
}

/* The member that holds the most, but for those that had nothing to drop in this round; and what
 * the one after it holds. */
static struct charge *largest(struct charge_pool *pool, bool by_files, uint64_t *ret_next)
{
        struct charge *best = NULL;
        *ret_next = 0;
        for (struct charge *c = pool->members; c; c = c->next) {
                uint64_t size = size_of(c, by_files);
                if (size == 0 || (c->keeps && !by_files) || c->barren == pool->round)
                        continue;
                if (!best || size > size_of(best, by_files)) {
                        *ret_next = best ? size_of(best, by_files) : 0;
                        best = c;
                } else if (size > *ret_next) {
                        *ret_next = size;
                }
        }
        return best;
}

static bool drop_one(struct charge *c, bool by_files, uint64_t now_ms)
{
        bool dropped = by_files ? store_evict_large(c->store, now_ms)
                                : store_evict_one(c->store, CAUSE_GLOBAL_BUDGET, now_ms) > 0;
        charge_settle(c);
        return dropped;
}

/* Who gives way until another one is larger. */
struct yielding {
        const struct charge *asking; /* NULL: none */
        struct charge *c;            /* NULL: it is to be found */
        uint64_t next;
};

/* Whether something could be evicted anywhere. */
static bool evict_from_largest(struct charge_pool *pool, struct yielding *y, bool by_files,
                               uint64_t now_ms)
{
        for (;;) {
                if (!y->c || size_of(y->c, by_files) < y->next) {
                        y->c = largest(pool, by_files, &y->next);
                        /* Who asks is in the middle of a change, and was drained before it. */
                        if (y->c && y->c != y->asking && pool->drain)
                                pool->drain(y->c, now_ms);
                }
                if (!y->c)
                        return false;
                if (drop_one(y->c, by_files, now_ms))
                        return true;
                y->c->barren = pool->round;
                y->c = NULL;
        }
}

/* ---- making room */

static int refuse(const struct charge_pool *pool, struct store_refusal *ret)
{
        *ret = (struct store_refusal){.cause = CAUSE_GLOBAL_BUDGET,
                                      .limit = pool->budget,
                                      .held = pool->held,
                                      .arriving = pool->arriving};
        return -ENOSPC;
}

static int make_files(struct charge *asking, unsigned files, uint64_t now_ms,
                      struct store_refusal *ret)
{
        struct charge_pool *pool = asking->pool;
        struct yielding y = {.asking = asking};
        pool->round++;
        while (files > 0 && pool->files + files > pool->max_files)
                if (!evict_from_largest(pool, &y, true, now_ms)) {
                        *ret = (struct store_refusal){.cause = CAUSE_LARGE_VALUES,
                                                      .limit = pool->max_files};
                        return -ENOSPC;
                }
        return 0;
}

int charge_make_room(struct charge *asking, const struct store_want *want, uint64_t now_ms,
                     struct store_refusal *ret)
{
        struct charge_pool *pool = asking->pool;
        struct yielding y = {.asking = asking};
        charge_settle(asking); /* it is in the middle of a change */
        /* What no eviction frees: do not evict the rest in vain. */
        uint64_t fixed = pool->held + pool->arriving, adds = want->bytes + want->later;
        if (asking->keeps)
                fixed -= asking->held - store_held(asking->store);
        if (adds > pool->budget || fixed > pool->budget - adds)
                return refuse(pool, ret);
        int r = make_files(asking, want->files, now_ms, ret);
        if (r < 0)
                return r;
        pool->round++;
        uint64_t before = pool->total;
        while (pool->total > pool->budget - want->bytes) {
                if (before >= pool->total + want->bytes) {
                        if (pool->extra == 0)
                                return 0;
                        pool->extra--;
                }
                if (!evict_from_largest(pool, &y, false, now_ms) &&
                    !(asking->keeps && drop_one(asking, false, now_ms)))
                        return refuse(pool, ret);
        }
        return 0;
}

bool charge_is_over(const struct charge_pool *pool)
{
        return pool->total > pool->budget && pool->total > pool->held + pool->arriving;
}

unsigned charge_trim(struct charge_pool *pool, uint64_t now_ms, unsigned steps)
{
        struct yielding y = {0};
        unsigned done = 0;
        pool->extra = EXTRA;
        pool->round++;
        while (done < steps && charge_is_over(pool) && evict_from_largest(pool, &y, false, now_ms))
                done++;
        return done;
}
