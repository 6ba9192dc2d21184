/* SPDX-License-Identifier: MIT */
#ifndef CHARGE_H
#define CHARGE_H

/*
 * Charge: the budget above all realms. See charge.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct charge_pool;
struct store;
struct store_refusal;
struct store_want;

/* One store's part of the pool; embedded in its realm. */
struct charge {
        struct charge_pool *pool;
        struct store *store; /* NULL: not in the pool */
        /* What the pool's sums have of it. */
        uint64_t seen, held, arriving, files;
        bool keeps;      /* it never gives way to others: what it holds counts as held */
        uint64_t barren; /* the last round in which it had nothing to drop */
        struct charge *prev, *next;
};

struct charge_pool {
        uint64_t budget;
        uint64_t max_files; /* descriptors that all large values may have */
        /* Sums over all members. No eviction frees what is held or arriving. */
        uint64_t total, held, arriving, files;
        uint64_t round; /* counts the searches for something to drop */
        unsigned extra; /* steps that stores may do beyond what each has to, until charge_trim() */
        struct charge *members;
        /* Called before a member gives way to another one. May be NULL. */
        void (*drain)(struct charge *c, uint64_t now_ms);
};

void charge_join(struct charge *c, struct charge_pool *pool, struct store *store);
void charge_leave(struct charge *c);

/* To be called after every call that may have changed the store's charge. */
void charge_settle(struct charge *c);

/* Makes room for what is wanted: the store that holds the most gives way, again and again. 0 or
 * -ENOSPC, with the reason in @ret. */
int charge_make_room(struct charge *asking, const struct store_want *want, uint64_t now_ms,
                     struct store_refusal *ret);

/* Where the sum is over a budget that was lowered: drops at most @steps entries. Returns how many.
 * To be called once a turn. */
unsigned charge_trim(struct charge_pool *pool, uint64_t now_ms, unsigned steps);
/* Whether charge_trim() has something to do. */
bool charge_is_over(const struct charge_pool *pool);

#endif
