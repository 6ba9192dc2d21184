/* SPDX-License-Identifier: MIT */
#ifndef LEASE_PRIVATE_H
#define LEASE_PRIVATE_H

/* What lease.c and lease-table.c share: memory, hashes and deadlines. Nothing else includes this.
 */

#include "services/lease.h"

enum {
        LEASE_TIMER_WAIT,
        LEASE_TIMER_HOLD,
        LEASE_TIMER_PARTY,
};

struct lease_account {
        struct lease_account *next;
        uid_t uid;
        uint64_t n_parties, n_leases, n_lates, n_waiters;
        struct list lates; /* leases, the oldest first */
};

struct lease_group {
        struct lease_link link;
        void *space;
        uint32_t cache;
        struct list slots;
        uint64_t computing, waiting;
};

/* Adds, after making room for it. 0 or -ENOMEM. */
int lease_map_add(struct lease_map *m, struct lease_link *l, uint64_t hash);
void lease_map_remove(struct lease_map *m, struct lease_link *l);
void lease_map_done(struct lease_map *m);

/* The first of a bucket: go on with `next`, and compare `hash`. */
static inline struct lease_link *lease_map_first(const struct lease_map *m, uint64_t hash)
{
        return m->n_buckets ? m->buckets[hash & (m->n_buckets - 1)] : NULL;
}

void lease_timer_init(struct lease_timer *timer, uint8_t kind);
/* LEASE_NEVER: it is due no more. 0 or -ENOMEM. */
int lease_timer_set(struct leases *t, struct lease_timer *timer, uint64_t due);
void lease_timer_drop(struct leases *t, struct lease_timer *timer); /* not set: fine */

/* NULL: no memory. */
struct lease_account *lease_account_get(struct leases *t, uid_t uid);
void lease_account_settle(struct leases *t, struct lease_account *a);

uint64_t lease_owner_hash(const struct leases *t, const struct lease_party *p, uint64_t number);

struct lease_group *lease_group_find(const struct leases *t, const void *space, uint32_t cache);
struct lease_slot *lease_slot_find(const struct leases *t, const struct lease_where *where);
/* Makes it if it is not there. NULL: no memory. */
struct lease_slot *lease_slot_get(struct leases *t, const struct lease_where *where);
/* Goes, unless somebody needs it. */
void lease_slot_settle(struct leases *t, struct lease_slot *s);

#endif
