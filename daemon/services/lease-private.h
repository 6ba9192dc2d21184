/* SPDX-License-Identifier: MIT */
#ifndef LEASE_PRIVATE_H
#define LEASE_PRIVATE_H

/* What lease.c and lease-table.c share: their memory. Nothing else includes this.
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
        struct chain_link link;
        void *space;
        uint32_t cache;
        struct list slots;
        uint64_t computing, waiting;
};

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
