/* SPDX-License-Identifier: MIT */
#ifndef TURNS_H
#define TURNS_H

/*
 * Turns: whose connections have something to do, and who is next. See turns.c.
 */

#include <stddef.h>

#include "base/list.h"

/* Of one uid. */
struct turns_lane {
        struct list node;    /* in turns.lanes, while anything of it waits */
        struct list waiting; /* connections, the longest waiting first */
};

struct turns {
        struct list lanes; /* the next one first */
        size_t n;          /* connections that wait */
};

void turns_init(struct turns *t);
void turns_lane_init(struct turns_lane *l);
void turns_lane_done(struct turns_lane *l); /* nothing of it waits */

/* @node is in no list; it waits behind the others of its lane. */
void turns_add(struct turns *t, struct turns_lane *l, struct list *node);
/* Fine for one that does not wait. */
void turns_remove(struct turns *t, struct turns_lane *l, struct list *node);
/* Takes out who is next; NULL: nobody waits. */
struct list *turns_next(struct turns *t);

#endif
