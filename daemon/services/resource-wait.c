/* SPDX-License-Identifier: MIT */
/*
 * Waiting for resources, and decisions
 *
 * A waiter waits for a place in a slot, or for a lock. Its outcome is noted with numbers, not
 * pointers: until it is answered what it got may have left again. Where something changes the slot
 * becomes loose, and at the end of each call those who are next in loose slots get what there is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "services/resource-private.h"

int resource_park(struct resources *t, struct resource_slot *s, struct resource *of_lock,
                  const struct resource_ask *ask, uint64_t now)
{
        struct resource_account *a = ask->holder->account;
        if (t->closed)
                return RESOURCE_IS_CLOSED;
        if (a->n_waiters >= t->bounds.waiters)
                return RESOURCE_E_WAITERS;
        struct resource_waiter *w = calloc(1, sizeof(*w));
        if (!w || resource_timer_new(t, &w->timer, RESOURCE_TIMER_WAIT) < 0) {
                free(w);
                return -ENOMEM;
        }
        w->slot = s;
        w->of_lock = of_lock;
        w->is_lock = of_lock != NULL;
        w->party = ask->party;
        w->holder = ask->holder;
        w->policy = ask->policy;
        w->since = now;
        w->kind = (uint8_t)ask->kind;
        w->no_create = ask->no_create;
        w->note = ask->note;
        list_init(&w->of_slot);
        list_init(&w->of_party);
        list_init(&w->of_holder);
        list_init(&w->turn);
        list_append(&ask->party->waiters, &w->of_party);
        list_append(&ask->holder->waiters, &w->of_holder);
        a->n_waiters++;
        if (s) {
                list_append(&s->waiting, &w->of_slot);
                s->n_waiting++;
                s->cache->n_waiting++;
        } else if (of_lock) {
                list_append(&of_lock->lock_waiting, &w->of_slot);
                of_lock->n_lock_waiting++;
        }
        if (ask->wait_ms < RESOURCE_NEVER - now)
                resource_timer_set(t, &w->timer, now + ask->wait_ms);
        return RESOURCE_IS_PARKED;
}

/* It waits no more, and has its holder yet. */
static void stop_waiting(struct resources *t, struct resource_waiter *w)
{
        struct resource_account *a = w->holder->account;
        if (w->slot) {
                w->slot->n_waiting--;
                w->slot->cache->n_waiting--;
                resource_slot_touch(t, w->slot);
        } else if (w->of_lock) {
                w->of_lock->n_lock_waiting--;
        }
        list_unlink(&w->of_slot);
        resource_timer_free(t, &w->timer);
        w->slot = NULL;
        w->of_lock = NULL;
        a->n_waiters--; /* its holder keeps the account */
}

void resource_decide(struct resources *t, struct resource_waiter *w, enum resource_outcome outcome)
{
        if (w->of_lock)
                w->instance = w->of_lock->number;
        stop_waiting(t, w);
        w->outcome = (uint8_t)outcome;
        list_append(&t->decided, &w->turn);
}

void resource_name_creator(const struct resource_slot *s, uid_t *ret_uid, pid_t *ret_pid)
{
        const struct resource_hold *user =
                s->n_instances == 1 ? LIST_ENTRY(s->instances.next, struct resource, of_slot)->owner
                                    : NULL;
        const struct resource_holder *h = NULL;
        if (s->n_creations > 0)
                h = LIST_ENTRY(s->creations.next, struct resource_creation, of_slot)->holder;
        else if (user)
                h = user->holder;
        *ret_uid = h ? h->uid : 0;
        *ret_pid = h ? h->pid : 0;
}

static void timed_out(struct resources *t, struct resource_waiter *w)
{
        const struct resource_hold *owner = w->of_lock ? resource_lock_owner(t, w->of_lock) : NULL;
        if (w->slot)
                resource_name_creator(w->slot, &w->uid, &w->pid);
        w->uid = owner ? owner->holder->uid : w->uid;
        w->pid = owner ? owner->holder->pid : w->pid;
        resource_decide(t, w, RESOURCE_GOT_TIMEOUT);
}

/* ---- who is next */

static void give(struct resources *t, struct resource_waiter *w, struct resource *r, uint64_t now)
{
        bool ok = resource_hold_add(t, r, w->holder, now);
        if (ok) {
                w->instance = r->number;
                r->slot->cache->counters.acquired++;
                w->owner_died = r->pooled && r->owner_died;
                r->owner_died = r->owner_died && !r->pooled;
        }
        resource_decide(t, w, ok ? RESOURCE_GOT_HOLD : RESOURCE_GOT_NO_MEMORY);
}

static void let_create(struct resources *t, struct resource_slot *s, struct resource_waiter *w,
                       uint64_t now)
{
        struct resource_creation *c;
        int r = resource_grant(t, s, w->holder, &w->policy, now, &c);
        if (r == 0)
                w->creation_id = c->id;
        resource_decide(t, w,
                        r == 0         ? RESOURCE_GOT_RIGHT
                        : r == -ENOMEM ? RESOURCE_GOT_NO_MEMORY
                                       : RESOURCE_GOT_LIMIT);
}

/* False: it waits on. */
static bool next_of(struct resources *t, struct resource_slot *s, struct resource_waiter *w,
                    uint64_t now)
{
        struct resource *r = resource_available(s);
        bool empty = s->n_instances == 0 && s->n_creations == 0;
        if (r) {
                give(t, w, r, now);
        } else if (empty && w->no_create) {
                resource_decide(t, w, RESOURCE_GOT_NOT_FOUND);
        } else if (empty && now < s->retry_at) {
                w->retry_ms = s->retry_at - now;
                w->reason = s->reason ? strdup(s->reason) : NULL;
                resource_decide(t, w, RESOURCE_GOT_FAILURE);
        } else if (!w->no_create && resource_may_create(s, now)) {
                let_create(t, s, w, now);
        } else {
                return false;
        }
        return true;
}

static void slot_passes_on(struct resources *t, struct resource_slot *s, uint64_t now)
{
        struct list *next;
        for (struct list *n = s->waiting.next; n != &s->waiting; n = next) {
                struct resource_waiter *w = LIST_ENTRY(n, struct resource_waiter, of_slot);
                next = n->next;
                if (!next_of(t, s, w, now) && !w->no_create)
                        break;
        }
        if (s->n_waiting > 0 && now < s->retry_at)
                resource_timer_set(t, &s->timer, s->retry_at);
}

/* What failed lately is remembered for a while, the latest ones. */
static void slot_settles(struct resources *t, struct resource_slot *s, uint64_t now)
{
        if (s->n_instances || s->n_creations || s->n_waiting || s->n_gone)
                return;
        if (s->failures == 0 || now >= s->calm_since + RESOURCE_CALM_MS) {
                resource_slot_free(t, s);
                return;
        }
        if (!list_is_empty(&s->of_failed))
                return;
        resource_timer_set(t, &s->timer, s->calm_since + RESOURCE_CALM_MS);
        list_append(&t->failed, &s->of_failed);
        if (++t->n_failed > RESOURCE_FAILED_MAX)
                resource_slot_free(t, LIST_ENTRY(t->failed.next, struct resource_slot, of_failed));
}

void resources_sweep(struct resources *t, uint64_t now)
{
        for (;;) {
                if (!list_is_empty(&t->unheld)) {
                        resource_free(t, LIST_ENTRY(t->unheld.next, struct resource, of_slot));
                } else if (!list_is_empty(&t->loose)) {
                        struct resource_slot *s =
                                LIST_ENTRY(t->loose.next, struct resource_slot, loose);
                        list_unlink(&s->loose);
                        slot_passes_on(t, s, now);
                        if (list_is_empty(&s->loose))
                                slot_settles(t, s, now);
                } else {
                        return;
                }
        }
}

/* ---- time */

static void claims_end(struct resources *t, uint64_t now)
{
        struct list *next_r, *next;
        for (struct list *i = t->all.next; i != &t->all; i = next_r) {
                struct resource *r = LIST_ENTRY(i, struct resource, of_all);
                struct resource_hold *owner = resource_lock_owner(t, r);
                next_r = i->next;
                if (r->lock_unclaimed || (owner && owner->unclaimed))
                        resource_leave(t, r, RESOURCE_LEFT_UNCLAIMED, NULL);
                r->lock_unclaimed = false;
                for (struct list *n = r->holds.next; n != &r->holds; n = next) {
                        struct resource_hold *d = LIST_ENTRY(n, struct resource_hold, of_resource);
                        next = n->next;
                        if (d->unclaimed)
                                resource_hold_end(t, d, true, now);
                }
        }
}

static void is_due(struct resources *t, struct timer *timer, uint64_t now)
{
        switch (timer->kind) {
        case RESOURCE_TIMER_WAIT:
                timed_out(t, LIST_ENTRY(timer, struct resource_waiter, timer));
                break;
        case RESOURCE_TIMER_GRACE:
                resource_holder_close(t, LIST_ENTRY(timer, struct resource_holder, timer), true,
                                      now);
                break;
        case RESOURCE_TIMER_TTL:
                resource_leave(t, LIST_ENTRY(timer, struct resource, timer), RESOURCE_LEFT_EXPIRED,
                               NULL);
                break;
        case RESOURCE_TIMER_SLOT:
                resource_slot_touch(t, LIST_ENTRY(timer, struct resource_slot, timer));
                break;
        default:
                timerheap_unreserve(&t->deadlines);
                claims_end(t, now);
        }
}

void resources_tick(struct resources *t, uint64_t now)
{
        struct timer *timer;
        while ((timer = timerheap_first(&t->deadlines)) && timer->due <= now) {
                timerheap_drop(&t->deadlines, timer);
                is_due(t, timer, now);
                resources_sweep(t, now);
        }
}

/* ---- answering */

struct resource_waiter *resources_decided(struct resources *t)
{
        return list_is_empty(&t->decided)
                       ? NULL
                       : LIST_ENTRY(t->decided.next, struct resource_waiter, turn);
}

void resource_waiter_block(struct resource_waiter *w)
{
        list_unlink(&w->turn);
        list_append(&w->party->blocked, &w->turn);
}

void resource_party_unblock(struct resources *t, struct resource_party *p)
{
        while (!list_is_empty(&p->blocked)) {
                struct list *n = p->blocked.prev;
                list_unlink(n);
                list_append(t->decided.next, n);
        }
}

void resource_waiter_free(struct resources *t, struct resource_waiter *w)
{
        (void)t;
        list_unlink(&w->turn);
        list_unlink(&w->of_party);
        list_unlink(&w->of_holder);
        free(w->reason);
        free(w);
}

void resource_party_init(struct resource_party *p, void *ctx)
{
        p->ctx = ctx;
        list_init(&p->waiters);
        list_init(&p->blocked);
}

/* It got something, and nobody will ever know. */
static void give_back(struct resources *t, struct resource_waiter *w, uint64_t now)
{
        struct resource *r = resources_find(t, w->instance);
        struct resource_hold *d = r && w->holder ? resource_hold_find(t, r, w->holder) : NULL;
        struct resource_creation *c = resource_creation_find(t, w->creation_id);
        if (w->outcome == RESOURCE_GOT_RIGHT && c)
                resource_creation_free(t, c);
        if (w->outcome != RESOURCE_GOT_HOLD || !d)
                return;
        if (w->is_lock) {
                resource_lock_give_up(t, d);
        } else if (d->count > 1) {
                resource_hold_less(t, d);
        } else {
                resource_hold_end(t, d, false, now);
        }
}

void resource_party_done(struct resources *t, struct resource_party *p, uint64_t now)
{
        struct list *next;
        for (struct list *n = p->waiters.next; n != &p->waiters; n = next) {
                struct resource_waiter *w = LIST_ENTRY(n, struct resource_waiter, of_party);
                next = n->next;
                if (w->outcome == RESOURCE_WAITS)
                        stop_waiting(t, w);
                else
                        give_back(t, w, now);
                resource_waiter_free(t, w);
        }
        resources_sweep(t, now);
}

void resources_close(struct resources *t)
{
        t->closed = true;
        for (struct list *i = t->holders.next; i != &t->holders; i = i->next) {
                struct resource_holder *h = LIST_ENTRY(i, struct resource_holder, of_all);
                for (struct list *n = h->waiters.next; n != &h->waiters; n = n->next) {
                        struct resource_waiter *w =
                                LIST_ENTRY(n, struct resource_waiter, of_holder);
                        if (w->outcome == RESOURCE_WAITS)
                                resource_decide(t, w, RESOURCE_GOT_CLOSED);
                }
        }
        resources_sweep(t, 0);
}

void resources_open(struct resources *t)
{
        t->closed = false;
}
