/* SPDX-License-Identifier: MIT */
/*
 * Turns
 *
 * Round robin over uids, and over the connections of each: a thousand connections of one user get
 * as much time as the only one of another. Constant time each.
 *
 * Invariant: a lane is in the list of lanes exactly while something of it waits. Owns nothing. How
 * long a turn may take is not known here.
 */

#include "transport/turns.h"

#include <assert.h>

void turns_init(struct turns *t)
{
        list_init(&t->lanes);
        t->n = 0;
}

void turns_lane_init(struct turns_lane *l)
{
        list_init(&l->node);
        list_init(&l->waiting);
}

void turns_lane_done(struct turns_lane *l)
{
        assert(list_is_empty(&l->waiting) && list_is_empty(&l->node));
}

void turns_add(struct turns *t, struct turns_lane *l, struct list *node)
{
        if (list_is_empty(&l->waiting))
                list_append(&t->lanes, &l->node);
        list_append(&l->waiting, node);
        t->n++;
}

void turns_remove(struct turns *t, struct turns_lane *l, struct list *node)
{
        if (list_is_empty(node))
                return;
        list_unlink(node);
        t->n--;
        if (list_is_empty(&l->waiting))
                list_unlink(&l->node);
}

struct list *turns_next(struct turns *t)
{
        struct turns_lane *l;
        struct list *node;

        if (t->n == 0)
                return NULL;
        l = LIST_ENTRY(t->lanes.next, struct turns_lane, node);
        node = l->waiting.next;
        list_unlink(&l->node);
        list_unlink(node);
        t->n--;
        if (!list_is_empty(&l->waiting)) /* the others of it wait behind the other lanes */
                list_append(&t->lanes, &l->node);
        return node;
}
