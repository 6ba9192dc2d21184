/* SPDX-License-Identifier: MIT */
#ifndef CHAINS_H
#define CHAINS_H

/*
 * A hash with chains over members that embed a link
 *
 * Finds members by a hash of theirs; what is equal is for the caller to say. It doubles when it has
 * as many members as buckets and never shrinks, all in one go: for what is bounded. Where clients
 * choose what is hashed the caller's hash has a seed.
 */

#include <stddef.h>
#include <stdint.h>

struct chain_link {
        struct chain_link *next, **at;
        uint64_t hash;
};

/* All zero: empty. */
struct chains {
        struct chain_link **buckets;
        size_t n_buckets, n;
};

/* After making room for it. 0 or -ENOMEM: never after a removal. */
int chains_add(struct chains *c, struct chain_link *l, uint64_t hash);
void chains_remove(struct chains *c, struct chain_link *l);
/* It is empty. */
void chains_done(struct chains *c);

/* The first of a bucket: go on with `next`, and compare `hash`. */
static inline struct chain_link *chains_first(const struct chains *c, uint64_t hash)
{
        return c->n_buckets ? c->buckets[hash & (c->n_buckets - 1)] : NULL;
}

#endif
