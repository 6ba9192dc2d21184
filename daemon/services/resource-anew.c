/* SPDX-License-Identifier: MIT */
/*
 * Resources anew, after a cold start
 *
 * A daemon that has lost everything knows nothing of what processes still have. A holder that comes
 * may have its former number again, since that may stand in the lock words of segments; and a
 * segment that is registered anew may be locked by somebody who has not come yet. For that one a
 * holder stands in, without a process and for the time in which things are claimed: who comes and
 * wants its number gets its place, and if nobody does, the segment leaves like any other whose
 * owner does not claim it.
 */
#include <errno.h>

#include "services/resource-private.h"

/* ---- numbers */

static void swap_numbers(struct resources *t, struct resource_holder *a, struct resource_holder *b)
{
        uint32_t number = a->number;
        chains_remove(&t->holder_numbers, &a->by_number);
        chains_remove(&t->holder_numbers, &b->by_number);
        a->number = b->number;
        b->number = number;
        /* There was room for them before. */
        (void)chains_add(&t->holder_numbers, &a->by_number, a->number);
        (void)chains_add(&t->holder_numbers, &b->by_number, b->number);
}

static void pass_hold(struct resources *t, struct resource_hold *d, struct resource_holder *to)
{
        if (t->hooks.let_go && !d->resource->cause)
                t->hooks.let_go(t->hooks.ctx, d);
        chains_remove(&t->holds, &d->link);
        list_unlink(&d->of_holder);
        list_unlink(&d->turn);
        d->holder = to;
        list_append(&to->holds, &d->of_holder);
        (void)chains_add(&t->holds, &d->link,
                         resource_hash(t, d->resource->number, to->id)); /* likewise */
        if (d->resource->cause)
                list_append(&t->events, &d->turn);
        else if (t->hooks.held)
                t->hooks.held(t->hooks.ctx, d);
}

/* @h holds nothing yet. */
static void take_place(struct resources *t, struct resource_holder *h, struct resource_holder *of,
                       uint64_t now)
{
        swap_numbers(t, h, of);
        while (!list_is_empty(&of->holds))
                pass_hold(t, LIST_ENTRY(of->holds.next, struct resource_hold, of_holder), h);
        resource_holder_end(t, of, false, now);
}

void resource_holder_wants(struct resources *t, struct resource_holder *h, uint32_t number,
                           uint64_t now)
{
        if (number == 0 || number > RESOURCE_NUMBER_MAX || number == h->number)
                return;
        struct resource_holder *there = resource_holder_by_number(t, h->space, number);
        if (there) {
                if (there->stands_in)
                        take_place(t, h, there, now);
                return;
        }
        chains_remove(&t->holder_numbers, &h->by_number);
        h->number = number;
        (void)chains_add(&t->holder_numbers, &h->by_number, number);
}

/* ---- standing in */

int resource_stand_in(struct resources *t, struct resource *r, uint64_t id, uint64_t now)
{
        void *space = resource_space_of(r->slot);
        uint32_t number = t->hooks.word_owner(t->hooks.ctx, r->payload);
        struct resource_holder *h = number ? resource_holder_by_number(t, space, number) : NULL;
        uint64_t due = now + t->bounds.grace_ms - 1;
        if (number == 0 || (h && !h->stands_in))
                return 0;
        int k = h ? 0 : resource_holder_restore(t, space, r->uid, 0, id, number, now, now, &h);
        if (k < 0)
                return k;
        h->stands_in = true;
        k = resource_hold_restore(t, r, h, 1, false, now);
        if (k == 0 && (t->claims.due == RESOURCE_NEVER || t->claims.due < due))
                k = resources_claim_until(t, due);
        return k;
}

/* ---- what is there */

struct resource *resources_there(const struct resources *t, const struct resource_where *where,
                                 bool *ret_taken)
{
        const struct resource_slot *s = resource_slot_find(t, where);
        *ret_taken = s && (s->n_instances > 0 || s->n_creations > 0);
        return s && s->pool == 0 ? resource_available(s) : NULL;
}

int resource_join(struct resources *t, struct resource *r, struct resource_holder *h, uint64_t now)
{
        struct resource_hold *d = resource_hold_find(t, r, h);
        if (d && d->unclaimed)
                return resource_claim(t, r, h, resource_lock_owner(t, r) == d);
        return resource_hold_add(t, r, h, now) ? RESOURCE_IS_HELD : -ENOMEM;
}
