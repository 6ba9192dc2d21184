/* SPDX-License-Identifier: MIT */
#ifndef HOLDS_H
#define HOLDS_H

/*
 * Holds: buffer memory for frames that are on their way in. See holds.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum hold_kind {
        HOLD_INPUT, /* a connection's input buffer */
        HOLD_BODY,  /* memory for a long body */
        N_HOLDS,
};

/* Of one uid. */
struct holds_account {
        uint64_t bytes[N_HOLDS];
        unsigned n_waiting[N_HOLDS];
        bool passed[N_HOLDS]; /* while waiting ones are looked at: one of it could not be served */
};

struct holds {
        uint64_t bytes[N_HOLDS];
        struct list waiting;       /* the longest waiting first */
        bool freed;                /* since the waiting ones were last looked at */
        uint64_t max, max_per_uid; /* of each kind */
};

/* Of one connection. Zero but for `node`, which is initialised, when it holds nothing. */
struct hold {
        struct list node; /* in holds.waiting, if it waits */
        struct holds_account *account;
        uint64_t bytes[N_HOLDS];
        uint64_t wanted;
        enum hold_kind wanted_kind;
};

void holds_init(struct holds *s, uint64_t max, uint64_t max_per_uid);
/* The waiting ones are looked at again. */
void holds_set_limits(struct holds *s, uint64_t max, uint64_t max_per_uid);

void hold_init(struct hold *h, struct holds_account *a);

/* Takes @n bytes of a kind of which it has none. False: not now; it waits, until hold_next() gives
 * them. */
bool hold_take(struct holds *s, struct hold *h, enum hold_kind kind, uint64_t n);
/* Gives back everything, and waits no more. */
void hold_drop(struct holds *s, struct hold *h);

static inline bool hold_waits(const struct hold *h)
{
        return h->node.next != &h->node;
}

static inline bool hold_is_empty(const struct hold *h)
{
        return h->bytes[HOLD_INPUT] == 0 && h->bytes[HOLD_BODY] == 0;
}

/* Whether somebody of the account waits for input, or would have to. */
static inline bool holds_are_short(const struct holds *s, const struct holds_account *a)
{
        return a->n_waiting[HOLD_INPUT] > 0 || s->bytes[HOLD_INPUT] >= s->max;
}

/* One that waited and has what it waited for; NULL: no more of them for now. */
struct hold *hold_next(struct holds *s);

#endif
