/* SPDX-License-Identifier: MIT */
/*
 * Locks of resources
 *
 * A segment that can be written has its lock in a word that all its holders can write: there the
 * uncontended lock never comes here, and what stands in the word is believed only as far as it
 * names somebody who holds this segment. All other locks are kept here.
 *
 * With its death the owner of a segment's lock leaves what may be half done: the next one is told.
 * A descriptor may be in the middle of a message, which nobody can go on with: it leaves.
 *
 * A lock is handed over, never freed for whoever is fastest: who has waited longest gets it.
 */
#include "services/resource-private.h"

static bool has_word(const struct resource *r)
{
        return r->kind == RESOURCE_KIND_SEGMENT && !r->read_only && r->payload;
}

static struct resource_hold *hold_of_number(const struct resources *t, const struct resource *r,
                                            uint32_t number)
{
        const void *space = resource_space_of(r->slot);
        const struct resource_holder *h =
                number ? resource_holder_by_number(t, space, number) : NULL;
        return h ? resource_hold_find(t, r, h) : NULL;
}

struct resource_hold *resource_lock_owner(const struct resources *t, const struct resource *r)
{
        if (r->pooled || !has_word(r))
                return r->owner;
        return hold_of_number(t, r, t->hooks.word_owner(t->hooks.ctx, r->payload));
}

static void owns(struct resources *t, struct resource *r, struct resource_hold *d)
{
        r->owner = d;
        r->owner_died = false;
        if (!r->cause)
                t->hooks.changed(t->hooks.ctx, r);
}

/* True: @d has it. */
static bool try_word(struct resources *t, struct resource *r, struct resource_hold *d, bool *died)
{
        uint32_t n = t->hooks.word_try(t->hooks.ctx, r->payload, d->holder->number, died);
        if (n == 0)
                return true;
        if (hold_of_number(t, r, n))
                return false;
        *died = true;
        t->hooks.word_write(t->hooks.ctx, r->payload, d->holder->number, false, false);
        return true;
}

static bool try_lock(struct resources *t, struct resource *r, struct resource_hold *d, bool *died)
{
        if (has_word(r)) {
                if (!try_word(t, r, d, died))
                        return false;
        } else if (r->owner) {
                return false;
        }
        *died = *died || r->owner_died;
        owns(t, r, d);
        return true;
}

/* To who has waited longest; there is one. */
static void hand_over(struct resources *t, struct resource *r, bool died)
{
        struct resource_waiter *w =
                LIST_ENTRY(r->lock_waiting.next, struct resource_waiter, of_slot);
        struct resource_hold *d = resource_hold_find(t, r, w->holder);
        w->owner_died = died || r->owner_died;
        resource_decide(t, w, RESOURCE_GOT_HOLD);
        if (has_word(r))
                t->hooks.word_write(t->hooks.ctx, r->payload, d->holder->number,
                                    r->n_lock_waiting > 0, false);
        owns(t, r, d);
}

static void pass_on(struct resources *t, struct resource *r, bool died)
{
        if (r->n_lock_waiting > 0) {
                hand_over(t, r, died);
                return;
        }
        if (has_word(r))
                t->hooks.word_write(t->hooks.ctx, r->payload, 0, false, died);
        owns(t, r, NULL);
        r->owner_died = died && !has_word(r);
}

void resource_lock_look(struct resources *t, struct resource *r)
{
        bool died = false;
        if (r->n_lock_waiting == 0 || resource_lock_owner(t, r))
                return;
        if (has_word(r)) {
                struct resource_waiter *w =
                        LIST_ENTRY(r->lock_waiting.next, struct resource_waiter, of_slot);
                if (!try_word(t, r, resource_hold_find(t, r, w->holder), &died))
                        return;
        }
        hand_over(t, r, died);
}

int resource_lock(struct resources *t, struct resource *r, const struct resource_ask *ask,
                  uint64_t now, struct resource_reply *ret)
{
        struct resource_hold *d = resource_hold_find(t, r, ask->holder), *owner;
        *ret = (struct resource_reply){.resource = r, .kind = r->kind};
        if (!d)
                return RESOURCE_E_NOT_HELD;
        if (r->pooled)
                return RESOURCE_E_POOL;
        resource_lock_look(t, r);
        if (resource_lock_owner(t, r) == d)
                return RESOURCE_IS_YOURS;
        if (r->n_lock_waiting == 0 && try_lock(t, r, d, &ret->owner_died))
                return RESOURCE_IS_HELD;
        owner = resource_lock_owner(t, r);
        if (ask->wait_ms > 0)
                return resource_park(t, NULL, r, ask, now);
        ret->uid = owner ? owner->holder->uid : 0;
        ret->pid = owner ? owner->holder->pid : 0;
        return RESOURCE_IS_BUSY;
}

int resource_lock_give_up(struct resources *t, struct resource_hold *d)
{
        struct resource *r = d->resource;
        if (r->pooled || resource_lock_owner(t, r) != d)
                return RESOURCE_E_NOT_HELD;
        pass_on(t, r, false);
        return RESOURCE_IS_HELD;
}

int resource_unlock(struct resources *t, struct resource *r, struct resource_holder *h,
                    uint64_t now)
{
        struct resource_hold *d = resource_hold_find(t, r, h);
        int answer = d ? resource_lock_give_up(t, d) : RESOURCE_E_NOT_HELD;
        resources_sweep(t, now);
        return answer;
}

/* Nobody goes on with it. */
static void descriptor_lost(struct resources *t, struct resource *r)
{
        resource_leave(t, r, RESOURCE_LEFT_OWNER_DIED, NULL);
        while (r->n_lock_waiting > 0)
                resource_decide(t,
                                LIST_ENTRY(r->lock_waiting.next, struct resource_waiter, of_slot),
                                RESOURCE_GOT_NOT_FOUND);
        owns(t, r, NULL);
}

void resource_lock_hold_ends(struct resources *t, struct resource_hold *d, bool died)
{
        struct resource *r = d->resource;
        struct list *next;
        for (struct list *n = r->lock_waiting.next; n != &r->lock_waiting; n = next) {
                struct resource_waiter *w = LIST_ENTRY(n, struct resource_waiter, of_slot);
                next = n->next;
                if (w->holder == d->holder)
                        resource_decide(t, w, RESOURCE_GOT_NOT_FOUND);
        }
        if (resource_lock_owner(t, r) == d) {
                if (died && r->kind == RESOURCE_KIND_DESCRIPTOR)
                        descriptor_lost(t, r);
                else
                        pass_on(t, r, died);
        }
        if (r->owner == d)
                r->owner = NULL;
}
