/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_PRIVATE_H
#define RESOURCE_PRIVATE_H

/* What the files of resources share. Nothing else includes this.
 *
 * Slots and instances go only in resources_sweep(), with which every public function ends that may
 * have made one loose: so whatever a function has in its hand is there until its end. */

#include "services/resource.h"

enum {
        RESOURCE_TIMER_WAIT,
        RESOURCE_TIMER_GRACE,
        RESOURCE_TIMER_TTL,
        RESOURCE_TIMER_SLOT,
        RESOURCE_TIMER_CLAIMS,
};

struct resource_account {
        struct resource_account *next;
        uid_t uid;
        uint64_t n_holders, n_waiters, n_resources;
};

struct resource_space {
        struct resource_space *next;
        void *space;
        struct list caches;
        struct list unheld; /* instances in their cache, by use */
        uint64_t n_resources, bytes;
};

struct resource_cache {
        struct chain_link link;
        struct list of_space;
        struct resource_space *space;
        uint32_t cache;
        struct list slots;
        struct list held, unheld; /* instances by use */
        uint64_t n_resources, n_creating, n_waiting;
        uint64_t bytes; /* in the cache */
        bool keeps;     /* it stays without slots, for its counters */
        struct resource_counters counters;
};

/* ---- resource-table.c */

/* Makes room for it, so that setting cannot fail. 0 or -ENOMEM. */
int resource_timer_new(struct resources *t, struct timer *timer, uint8_t kind);
void resource_timer_free(struct resources *t, struct timer *timer);
void resource_timer_set(struct resources *t, struct timer *timer, uint64_t due);

struct resource_account *resource_account_get(struct resources *t, uid_t uid); /* NULL: no memory */
void resource_account_settle(struct resources *t, struct resource_account *a);

uint64_t resource_hash(const struct resources *t, uint64_t a, uint64_t b);
struct resource_space *resource_space_find(const struct resources *t, const void *space);
struct resource_cache *resource_cache_find(const struct resources *t, const void *space,
                                           uint32_t cache);
struct resource_slot *resource_slot_find(const struct resources *t,
                                         const struct resource_where *where);
struct resource_slot *resource_slot_get(struct resources *t, const struct resource_where *where);
/* Its counters are wanted no more: it goes when it has no slots. */
void resource_cache_forget(struct resources *t, struct resource_cache *c);
void resource_slot_free(struct resources *t, struct resource_slot *s);
void resource_slot_touch(struct resources *t, struct resource_slot *s);

/* ---- resource-instance.c */

struct resource *resource_new(struct resources *t, struct resource_slot *s, uint64_t number,
                              uid_t uid);
/* As if it had never been. */
void resource_unmake(struct resources *t, struct resource *r);
void resource_free(struct resources *t, struct resource *r);
void resource_leave(struct resources *t, struct resource *r, enum resource_cause cause,
                    const char *reason);
/* False: there is nothing that nobody holds. @of: of this account, or NULL. */
bool resource_evict_unheld(struct resources *t, struct resource_space *p,
                           const struct resource_account *of);
void resource_bound_cache(struct resources *t, const struct resource *newest, uint64_t max_entries);

/* ---- resource-holder.c */

struct resource_holder *resource_holder_by_number(const struct resources *t, const void *space,
                                                  uint32_t number);

struct resource_hold *resource_hold_add(struct resources *t, struct resource *r,
                                        struct resource_holder *h, uint64_t now);
/* One less, of several. */
void resource_hold_less(struct resources *t, struct resource_hold *d);
void resource_hold_end(struct resources *t, struct resource_hold *d, bool died, uint64_t now);
/* Their holders are to be told. */
void resource_tell(struct resources *t, struct resource *r);
void resource_holder_close(struct resources *t, struct resource_holder *h, bool died, uint64_t now);

/* ---- resource-lock.c */

/* The hold ends: its lock is passed on, what it waits for is decided. */
void resource_lock_hold_ends(struct resources *t, struct resource_hold *d, bool died);
/* Whoever is first gets it, if by its word nobody has it. */
void resource_lock_look(struct resources *t, struct resource *r);
/* As resource_unlock(). */
int resource_lock_give_up(struct resources *t, struct resource_hold *d);

/* ---- resource-wait.c */

int resource_park(struct resources *t, struct resource_slot *s, struct resource *of_lock,
                  const struct resource_ask *ask, uint64_t now);
void resource_decide(struct resources *t, struct resource_waiter *w, enum resource_outcome outcome);
/* What is free, and what goes. */
void resources_sweep(struct resources *t, uint64_t now);
/* Who is to be asked instead. */
void resource_name_creator(const struct resource_slot *s, uid_t *ret_uid, pid_t *ret_pid);

/* ---- resource.c */

struct resource *resource_available(const struct resource_slot *s);
bool resource_may_create(const struct resource_slot *s, uint64_t now);
/* 0, RESOURCE_E_RESOURCES, -ENOMEM. */
int resource_grant(struct resources *t, struct resource_slot *s, struct resource_holder *h,
                   const struct resource_policy *policy, uint64_t now,
                   struct resource_creation **ret);
void resource_creation_free(struct resources *t, struct resource_creation *c);
/* @since: when what failed began; @first_free: the first one makes no pause. */
uint64_t resource_failed(struct resource_slot *s, uint64_t since, const char *reason,
                         bool first_free, uint64_t now);

#endif
