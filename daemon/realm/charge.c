/* SPDX-License-Identifier: MIT */
/*
 * Charge
 *
 * The sum over all realms is kept, not computed: each member remembers what of it the sum contains,
 * and whoever changed a store settles it. A put asks here before it grows its store; what it then
 * adds is settled after it.
 *
 * Who holds the most gives way, whoever asks: a user who fills the machine evicts the own entries,
 * and many small realms cannot push each other out for the sake of one large one. Finding the
 * largest is a walk over the members (some hundreds), and only where something must be evicted
 * anyway.
 */
#include "realm/charge.h"

#include <errno.h>
#include <stdbool.h>

#include "store/store.h"

void charge_join(struct charge *c, struct charge_pool *pool, struct store *store)
{
        *c = (struct charge){.pool = pool, .store = store, .next = pool->members};
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
        if (c->prev)
                c->prev->next = c->next;
        else
                c->pool->members = c->next;
        if (c->next)
                c->next->prev = c->prev;
        *c = (struct charge){0};
}

void charge_settle(struct charge *c)
{
        uint64_t now = store_charged(c->store);
        c->pool->total += now - c->seen; /* wraps back where it shrank */
        c->seen = now;
}

/* The member that holds the most, but for those that had nothing to drop in this round. */
static struct charge *largest(struct charge_pool *pool)
{
        struct charge *best = NULL;
        for (struct charge *c = pool->members; c; c = c->next)
                if (c->seen > 0 && c->barren != pool->round && (!best || c->seen > best->seen))
                        best = c;
        return best;
}

/* Whether something could be evicted anywhere. */
static bool evict_from_largest(struct charge_pool *pool, uint64_t now_ms)
{
        struct charge *c;
        while ((c = largest(pool)) != NULL) {
                uint64_t freed = store_evict_one(c->store, CAUSE_GLOBAL_BUDGET, now_ms);
                charge_settle(c);
                if (freed > 0)
                        return true;
                c->barren = pool->round;
        }
        return false;
}

int charge_make_room(struct charge *asking, uint64_t delta, uint64_t now_ms)
{
        struct charge_pool *pool = asking->pool;
        charge_settle(asking); /* it is in the middle of a change */
        /* What is on its way in cannot be evicted: do not evict the rest in vain. */
        uint64_t fixed = 0;
        for (const struct charge *c = pool->members; c; c = c->next)
                fixed += store_reserved(c->store);
        if (delta > pool->budget || fixed > pool->budget - delta)
                return -ENOSPC;
        pool->round++;
        while (pool->total > pool->budget - delta)
                if (!evict_from_largest(pool, now_ms))
                        return -ENOSPC;
        return 0;
}
