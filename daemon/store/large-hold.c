/* SPDX-License-Identifier: MIT */
/*
 * Who holds large values
 *
 * A reader that was sent a value's memory file has its bytes for as long as it likes. Each such
 * view is a reference, so the value stays charged (large-table.c), and it is noted here by uid:
 * while the entry is there its writer pays. Once the entry has left the charge is that of the uid
 * that has held the value longest, and goes on to the next one when that uid gives up its last
 * view: a reader that hoards pays for it with its own share.
 *
 * Which views a uid has is not known here: only how many.
 */

#include <errno.h>
#include <stdlib.h>

#include "store/internal.h"

struct large_hold {
        struct large_hold *next; /* has held it for a shorter time */
        uint32_t uid;
        unsigned n;
};

/* The charge of a value that has left is that of who holds it. */
static void move_charge(struct large *l)
{
        struct store *s = l->store;
        uint64_t charge = large_charge(l->size);
        uint32_t owner;

        /* No room for another owner: it stays where it is. */
        if (!l->holds || owner_get(s, l->holds->uid, &owner) != 0 || owner == l->owner)
                return;
        s->a.owners[l->owner].charged -= charge;
        s->a.owners[owner].charged += charge;
        if (l->held) {
                s->a.owners[l->owner].held -= charge;
                s->a.owners[owner].held += charge;
        }
        l->owner = owner;
        s->settled = false;
}

void large_hold_departed(struct large *l)
{
        if (!l->holds)
                return;
        l->store->view_departed_bytes += l->size;
        move_charge(l);
}

uint64_t large_held_by_others(const struct store *s, uint32_t owner)
{
        uint64_t sum = 0;

        for (uint32_t id = 0; id < s->n_large; id++) {
                const struct large *l = s->large[id];

                if (l && l->held && l->owner == owner && l->holds &&
                    l->holds->uid != s->a.owners[owner].uid)
                        sum += large_charge(l->size);
        }
        return sum;
}

bool large_is_held_by(const struct large *l, uint32_t uid)
{
        const struct large_hold *h = l->holds;

        while (h && h->uid != uid)
                h = h->next;
        return h != NULL;
}

int large_hold(struct large *l, uint32_t uid)
{
        struct large_hold **at = &l->holds, *h;

        while (*at && (*at)->uid != uid)
                at = &(*at)->next;
        h = *at;
        if (!h) {
                h = calloc(1, sizeof(*h));
                if (!h)
                        return -ENOMEM;
                h->uid = uid;
                if (l->store && !l->holds)
                        l->store->view_bytes += l->size;
                *at = h;
        }
        h->n++;
        if (l->store)
                l->store->n_views++;
        (void)large_ref(l);
        return 0;
}

bool large_release(struct large *l, uint32_t uid)
{
        struct large_hold **at = &l->holds, *h;
        bool departed = l->store && l->id == LARGE_NO_ID, last;

        while (*at && (*at)->uid != uid)
                at = &(*at)->next;
        h = *at;
        assert(h);
        if (l->store)
                l->store->n_views--;
        last = --h->n == 0;
        if (last) {
                *at = h->next;
                free(h);
                if (departed)
                        move_charge(l);
                if (!l->holds && l->store) {
                        l->store->view_bytes -= l->size;
                        l->store->view_departed_bytes -= departed ? l->size : 0;
                }
        }
        large_unref(l);
        return last;
}
