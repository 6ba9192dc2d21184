/* SPDX-License-Identifier: MIT */
#ifndef CHARGE_H
#define CHARGE_H

/*
 * Charge: the budget above all realms. See charge.c.
 */

#include <stddef.h>
#include <stdint.h>

struct charge_pool;
struct store;

/* One store's part of the pool; embedded in its realm. */
struct charge {
        struct charge_pool *pool;
        struct store *store; /* NULL: not in the pool */
        uint64_t seen;       /* what the pool's total has of it */
        uint64_t barren;     /* the last round in which it had nothing to drop */
        struct charge *prev, *next;
};

struct charge_pool {
        uint64_t budget;
        uint64_t total;
        uint64_t round; /* counts the calls that had to look for room */
        struct charge *members;
};

void charge_join(struct charge *c, struct charge_pool *pool, struct store *store);
void charge_leave(struct charge *c);

/* To be called after every call that may have changed the store's charge. */
void charge_settle(struct charge *c);

/* Makes room for @delta more: the store that holds the most gives way, again and again. 0 or
 * -ENOSPC. */
int charge_make_room(struct charge *asking, uint64_t delta, uint64_t now_ms);

#endif
