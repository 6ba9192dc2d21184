/* SPDX-License-Identifier: MIT */
/*
 * Values in extents
 *
 * Too long for a block to serve them well, too short for a memory file of its own: the entry's
 * block names a place of the arena's part for extents. Mapped readers copy from there; a reply on
 * the socket is sent from there, without a copy.
 *
 * Whoever is being sent a value holds its place: the bytes stay, and stay charged to realm and
 * writer as what no eviction frees, until the last holder is gone, as with large values.
 *
 * Where all places are in use, the caller stores a large value instead; the charge is the same.
 */

#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

struct store_hold {
        struct store *store; /* NULL: it is gone */
        struct store_hold *prev, *next;
        uint64_t charge;
        uint32_t place, owner;
};

/* ---- storing */

bool store_is_apart(const struct store *s, uint64_t n_stored)
{
        return n_stored >= s->p.extent_min || n_stored >= s->p.large_threshold;
}

bool extent_is_for(const struct store *s, uint64_t n_stored)
{
        return n_stored >= s->p.extent_min && n_stored < s->p.large_threshold;
}

bool extent_has_arrived(const struct store_put *p)
{
        return p->arrived && p->arrived->extent;
}

static int copy_in(struct store *s, const struct store_put *p, uint32_t *ret_place)
{
        int r = extents_take(&s->a, p->n_value, ret_place);

        if (r < 0)
                return STORE_E_NO_PLACE;
        r = extents_commit(&s->a, *ret_place, p->n_value);
        if (r == 0 && p->source)
                r = memfile_read(p->source->fd, p->source->offset, extents_at(&s->a, *ret_place),
                                 p->n_value);
        else if (r == 0)
                memcpy(extents_at(&s->a, *ret_place), p->value, p->n_value);
        if (r < 0)
                extents_free(&s->a, *ret_place);
        return r;
}

int extent_add(struct store *s, const struct store_put *p, struct arena_extent *ret)
{
        uint32_t place;

        if (extent_has_arrived(p)) {
                place = p->arrived->place;
                assert(p->arrived->size == p->n_value);
                p->arrived->extent = false; /* it is the entry's from now on */
        } else {
                int r = copy_in(s, p, &place);

                if (r != 0)
                        return r;
        }
        extents_complete(&s->a, place);
        *ret = extents_name(&s->a, place, p->n_value);
        return 0;
}

/* ---- leaving */

static void uncharge(struct store *s, uint32_t owner, uint64_t charge)
{
        s->a.owners[owner].charged -= charge;
        s->a.t->charged -= charge;
        s->settled = false; /* whoever keeps sums over all stores looks again */
}

void extent_drop(struct store *s, const struct entry *e)
{
        struct arena_extent x = entry_extent(e);
        uint32_t place = extents_place(&s->a, &x);

        if (!extents_is_held(&s->a, place))
                uncharge(s, e->owner, large_charge(x.size));
        extents_free(&s->a, place);
}

bool extent_is_held(const struct store *s, const struct entry *e)
{
        struct arena_extent x = entry_extent(e);

        return extents_is_held(&s->a, extents_place(&s->a, &x));
}

/* ---- holding */

static void count_held(struct store *s, uint32_t owner, uint64_t charge)
{
        s->held += charge;
        s->a.owners[owner].held += charge;
}

struct store_hold *store_hold(struct store *s, const struct store_entry *e)
{
        const struct arena_extent x = {(uint64_t)(e->value - s->a.mem.base) - s->a.h->extents_off,
                                       e->n_value};
        struct store_hold *h = calloc(1, sizeof(*h));

        assert(e->extent);
        if (!h)
                return NULL;
        *h = (struct store_hold){
                .store = s,
                .next = s->holds,
                .charge = large_charge(e->n_value),
                .place = extents_place(&s->a, &x),
                .owner = e->owner,
        };
        if (s->holds)
                s->holds->prev = h;
        s->holds = h;
        if (extents_hold(&s->a, h->place) == 1)
                count_held(s, h->owner, h->charge);
        return h;
}

void store_unhold(struct store_hold *h)
{
        struct store *s = h->store;

        if (s) {
                bool gone = extents_is_free(&s->a, h->place);

                *(h->prev ? &h->prev->next : &s->holds) = h->next;
                if (h->next)
                        h->next->prev = h->prev;
                if (extents_release(&s->a, h->place) == 0) {
                        count_held(s, h->owner, -h->charge);
                        if (gone)
                                uncharge(s, h->owner, h->charge);
                }
        }
        free(h);
}

void extent_holds_done(struct store *s)
{
        for (; s->holds; s->holds = s->holds->next)
                s->holds->store = NULL;
}
