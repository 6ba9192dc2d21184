/* SPDX-License-Identifier: MIT */
/*
 * Holders of resources, and what they are told
 *
 * A holder is a process. Its connection may be lost while it lives: then it keeps what it holds for
 * a grace time, and what it is to be told waits for it. A hold whose resource has left is told of
 * that once, unless it ends before.
 */
#include <errno.h>
#include <stdlib.h>

#include "services/resource-private.h"

/* Numbers are those of their space: who asks for one that was his finds it taken by nobody else. */
struct resource_holder *resource_holder_by_number(const struct resources *t, const void *space,
                                                  uint32_t number)
{
        for (struct chain_link *l = chains_first(&t->holder_numbers, number); l; l = l->next) {
                struct resource_holder *h = LIST_ENTRY(l, struct resource_holder, by_number);
                if (l->hash == number && h->space == space)
                        return h;
        }
        return NULL;
}

static struct resource_holder *by_id(const struct resources *t, uint64_t id)
{
        uint64_t hash = resource_hash(t, id, 0);
        for (struct chain_link *l = chains_first(&t->ids, hash); l; l = l->next) {
                struct resource_holder *h = LIST_ENTRY(l, struct resource_holder, by_id);
                if (h->id == id)
                        return h;
        }
        return NULL;
}

static uint32_t next_number(struct resources *t, const void *space)
{
        do
                t->last_number = t->last_number < RESOURCE_NUMBER_MAX ? t->last_number + 1 : 1;
        while (resource_holder_by_number(t, space, t->last_number));
        return t->last_number;
}

static int holder_new(struct resources *t, const struct resource_holder *is,
                      struct resource_holder **ret)
{
        struct resource_account *a = resource_account_get(t, is->uid);
        struct resource_holder *h = a ? malloc(sizeof(*h)) : NULL;
        if (!h)
                goto no_memory;
        *h = *is;
        if (resource_timer_new(t, &h->timer, RESOURCE_TIMER_GRACE) < 0)
                goto no_memory;
        if (chains_add(&t->ids, &h->by_id, resource_hash(t, h->id, 0)) < 0)
                goto no_id;
        if (chains_add(&t->holder_numbers, &h->by_number, h->number) < 0)
                goto no_number;
        h->account = a;
        list_init(&h->of_all);
        list_init(&h->holds);
        list_init(&h->creations);
        list_init(&h->waiters);
        list_init(&h->blocked);
        list_append(&t->holders, &h->of_all);
        a->n_holders++;
        *ret = h;
        return 0;
no_number:
        chains_remove(&t->ids, &h->by_id);
no_id:
        resource_timer_free(t, &h->timer);
no_memory:
        free(h);
        if (a)
                resource_account_settle(t, a);
        return -ENOMEM;
}

int resource_holder_open(struct resources *t, void *space, uid_t uid, pid_t pid, uint64_t id,
                         uint64_t now, void *ctx, struct resource_holder **ret)
{
        struct resource_account *a = t->accounts;
        while (a && a->uid != uid)
                a = a->next;
        if ((a ? a->n_holders : 0) >= t->bounds.holders)
                return -EDQUOT;
        if (id == 0 || by_id(t, id))
                return -EEXIST;
        const struct resource_holder is = {.space = space,
                                           .uid = uid,
                                           .pid = pid,
                                           .id = id,
                                           .since = now,
                                           .ctx = ctx,
                                           .number = next_number(t, space)};
        return holder_new(t, &is, ret);
}

int resource_holder_restore(struct resources *t, void *space, uid_t uid, pid_t pid, uint64_t id,
                            uint32_t number, uint64_t since, uint64_t now,
                            struct resource_holder **ret)
{
        if (id == 0 || number == 0 || number > RESOURCE_NUMBER_MAX)
                return -EINVAL;
        if (by_id(t, id) || resource_holder_by_number(t, space, number))
                return -EEXIST;
        const struct resource_holder is = {.space = space,
                                           .uid = uid,
                                           .pid = pid,
                                           .id = id,
                                           .since = since,
                                           .number = number,
                                           .lost = true,
                                           .restored = true};
        int r = holder_new(t, &is, ret);
        if (r < 0)
                return r;
        if (number > t->last_number)
                t->last_number = number;
        resource_timer_set(t, &(*ret)->timer, now + t->bounds.grace_ms);
        return 0;
}

struct resource_holder *resource_holder_find(const struct resources *t, const void *space,
                                             uid_t uid, uint64_t id)
{
        struct resource_holder *h = by_id(t, id);
        return h && h->space == space && h->uid == uid ? h : NULL;
}

struct resource_holder *resource_holder_of(const struct resources *t, uint64_t id)
{
        return by_id(t, id);
}

/* ---- holds */

struct resource_hold *resource_hold_find(const struct resources *t, const struct resource *r,
                                         const struct resource_holder *h)
{
        uint64_t hash = resource_hash(t, r->number, h->id);
        for (struct chain_link *l = chains_first(&t->holds, hash); l; l = l->next) {
                struct resource_hold *d = LIST_ENTRY(l, struct resource_hold, link);
                if (d->resource == r && d->holder == h)
                        return d;
        }
        return NULL;
}

static struct resource_hold *hold_new(struct resources *t, struct resource *r,
                                      struct resource_holder *h, uint64_t now)
{
        struct resource_hold *d = calloc(1, sizeof(*d));
        if (!d || chains_add(&t->holds, &d->link, resource_hash(t, r->number, h->id)) < 0) {
                free(d);
                return NULL;
        }
        d->resource = r;
        d->holder = h;
        d->since = now;
        list_init(&d->of_holder);
        list_init(&d->of_resource);
        list_init(&d->turn);
        list_append(&h->holds, &d->of_holder);
        list_append(&r->holds, &d->of_resource);
        r->n_holders++;
        h->n_holds++;
        return d;
}

static void count_changed(struct resources *t, struct resource_hold *d)
{
        if (t->hooks.held && !d->resource->cause)
                t->hooks.held(t->hooks.ctx, d);
}

/* Once more; NULL: no memory. */
struct resource_hold *resource_hold_add(struct resources *t, struct resource *r,
                                        struct resource_holder *h, uint64_t now)
{
        struct resource_slot *s = r->slot;
        struct resource_hold *d = resource_hold_find(t, r, h);
        if (!d)
                d = hold_new(t, r, h, now);
        if (!d)
                return NULL;
        if (d->unclaimed) { /* it asks anew, and knows of no other hold */
                r->holds_total -= d->count;
                d->count = 0;
                d->unclaimed = false;
        }
        d->count++;
        r->holds_total++;
        r->used = now;
        if (r->cause)
                return d;
        list_unlink(&r->of_use);
        list_unlink(&r->of_space);
        list_append(&s->cache->held, &r->of_use);
        if (r->pooled) { /* free ones are at the end */
                r->owner = d;
                list_unlink(&r->of_slot);
                list_append(s->instances.next, &r->of_slot);
        }
        t->hooks.changed(t->hooks.ctx, r);
        count_changed(t, d);
        return d;
}

void resource_hold_less(struct resources *t, struct resource_hold *d)
{
        d->count--;
        d->resource->holds_total--;
        count_changed(t, d);
}

/* Whoever used an instance of a pool alone is gone: a segment's next user is told, anything else
 * may be in the middle of something. */
static void user_died(struct resources *t, struct resource *r)
{
        if (r->kind == RESOURCE_KIND_SEGMENT)
                r->owner_died = true;
        else
                resource_leave(t, r, RESOURCE_LEFT_OWNER_DIED, NULL);
}

void resource_hold_end(struct resources *t, struct resource_hold *d, bool died, uint64_t now)
{
        struct resource *r = d->resource;
        struct resource_slot *s = r->slot;
        bool alone = r->pooled && r->owner == d;
        if (alone)
                r->owner = NULL;
        else
                resource_lock_hold_ends(t, d, died);
        if (alone && died)
                user_died(t, r);
        if (died && !r->cause) /* before it is known that this one had it */
                t->hooks.changed(t->hooks.ctx, r);
        if (t->hooks.let_go && !r->cause)
                t->hooks.let_go(t->hooks.ctx, d);
        chains_remove(&t->holds, &d->link);
        list_unlink(&d->of_holder);
        d->holder->n_holds--;
        list_unlink(&d->of_resource);
        list_unlink(&d->turn);
        r->holds_total -= d->count;
        r->n_holders--;
        free(d);
        resource_lock_look(t, r);
        if (r->cause) {
                if (r->n_holders == 0 && list_is_empty(&r->of_slot))
                        list_append(&t->unheld, &r->of_slot);
                resource_slot_touch(t, s);
                return;
        }
        if (r->n_holders == 0) {
                r->used = now;
                list_unlink(&r->of_use);
                list_unlink(&r->of_slot);
                list_append(&s->cache->unheld, &r->of_use);
                list_append(&s->cache->space->unheld, &r->of_space);
                list_append(&s->instances, &r->of_slot);
                resource_slot_touch(t, s);
        }
        t->hooks.changed(t->hooks.ctx, r);
}

static int release(struct resources *t, struct resource *r, struct resource_hold *d, bool all,
                   bool broken, uint64_t now)
{
        if (!d)
                return RESOURCE_E_NOT_HELD;
        if (d->count > 1 && !all)
                resource_hold_less(t, d);
        else
                resource_hold_end(t, d, false, now);
        if (broken)
                resource_leave(t, r, RESOURCE_LEFT_INVALID, NULL);
        resources_sweep(t, now);
        return RESOURCE_IS_HELD;
}

int resource_release(struct resources *t, struct resource *r, struct resource_holder *h,
                     bool broken, uint64_t now)
{
        return release(t, r, resource_hold_find(t, r, h), false, broken, now);
}

int resource_release_all(struct resources *t, struct resource *r, struct resource_holder *h,
                         bool broken, uint64_t now)
{
        return release(t, r, resource_hold_find(t, r, h), true, broken, now);
}

/* ---- events */

void resource_tell(struct resources *t, struct resource *r)
{
        for (struct list *n = r->holds.next; n != &r->holds; n = n->next) {
                struct resource_hold *d = LIST_ENTRY(n, struct resource_hold, of_resource);
                list_append(d->holder->lost ? &d->holder->blocked : &t->events, &d->turn);
        }
}

struct resource_hold *resources_next_event(struct resources *t)
{
        return list_is_empty(&t->events) ? NULL
                                         : LIST_ENTRY(t->events.next, struct resource_hold, turn);
}

void resource_hold_told(struct resource_hold *d)
{
        list_unlink(&d->turn);
}

void resource_hold_block(struct resource_hold *d)
{
        list_unlink(&d->turn);
        list_append(&d->holder->blocked, &d->turn);
}

/* Before all others, and in their order. */
static void put_back(struct list *queue, struct list *blocked)
{
        while (!list_is_empty(blocked)) {
                struct list *n = blocked->prev;
                list_unlink(n);
                list_append(queue->next, n);
        }
}

void resource_holder_unblock(struct resources *t, struct resource_holder *h)
{
        if (!h->lost)
                put_back(&t->events, &h->blocked);
}

/* ---- their ends */

static void end_creations(struct resources *t, struct resource_holder *h)
{
        while (!list_is_empty(&h->creations))
                resource_creation_free(t, LIST_ENTRY(h->creations.next, struct resource_creation,
                                                     of_holder));
}

void resource_holder_lost(struct resources *t, struct resource_holder *h, uint64_t now)
{
        h->lost = true;
        h->ctx = NULL;
        resource_timer_set(t, &h->timer, now + t->bounds.grace_ms);
        struct list *next;
        for (struct list *n = t->events.next; n != &t->events; n = next) {
                struct resource_hold *d = LIST_ENTRY(n, struct resource_hold, turn);
                next = n->next;
                if (d->holder == h)
                        resource_hold_block(d);
        }
        end_creations(t, h);
        resources_sweep(t, now);
}

void resource_holder_again(struct resources *t, struct resource_holder *h, void *ctx)
{
        h->lost = false;
        h->ctx = ctx;
        timerheap_drop(&t->deadlines, &h->timer);
        resource_holder_unblock(t, h);
}

/* Whatever they got goes with it. */
static void end_waiters(struct resources *t, struct resource_holder *h)
{
        while (!list_is_empty(&h->waiters)) {
                struct resource_waiter *w =
                        LIST_ENTRY(h->waiters.next, struct resource_waiter, of_holder);
                if (w->outcome == RESOURCE_WAITS)
                        resource_decide(t, w, RESOURCE_GOT_NOT_FOUND);
                else if (w->outcome == RESOURCE_GOT_HOLD || w->outcome == RESOURCE_GOT_RIGHT)
                        w->outcome = RESOURCE_GOT_NOT_FOUND;
                w->instance = w->creation_id = 0;
                w->holder = NULL;
                list_unlink(&w->of_holder);
        }
}

void resource_holder_close(struct resources *t, struct resource_holder *h, bool died, uint64_t now)
{
        end_waiters(t, h);
        end_creations(t, h);
        struct list *next;
        for (struct list *n = h->holds.next; n != &h->holds; n = next) {
                next = n->next;
                resource_hold_end(t, LIST_ENTRY(n, struct resource_hold, of_holder), died, now);
        }
        if (t->hooks.ended)
                t->hooks.ended(t->hooks.ctx, h);
        list_unlink(&h->of_all);
        chains_remove(&t->ids, &h->by_id);
        chains_remove(&t->holder_numbers, &h->by_number);
        resource_timer_free(t, &h->timer);
        h->account->n_holders--;
        resource_account_settle(t, h->account);
        free(h);
}

void resource_holder_end(struct resources *t, struct resource_holder *h, bool died, uint64_t now)
{
        if (!h)
                return;
        resource_holder_close(t, h, died, now);
        resources_sweep(t, now);
}
