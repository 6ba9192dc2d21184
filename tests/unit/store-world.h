/* SPDX-License-Identifier: MIT */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

/*
 * A store and its reference model under the same random operations, every reply compared
 *
 * What is done next follows from the random state and the model alone: two worlds that start alike
 * go the same way.
 */

#include "model-store.h"

#define WORLD_EXTENT_MIN      6000u
#define WORLD_LARGE_THRESHOLD 20000u
#define WORLD_VALUE_MAX       60000u
#define WORLD_TAGS            40u /* different ones, at most */

struct world {
        struct store *s;
        struct model *m;
        uint64_t rng, now, op, global, arena_size;
        uint64_t budget_more;    /* than the least: what the budget is changed to */
        uint64_t n_places_short; /* puts that found no extent */
        uint64_t n_variants, n_no_node, n_tags_short; /* likewise */
        unsigned n_keys, value_max;
        uint8_t *buf;
};

/* Makes store, model and caches; all of it is the caller's from then on. */
struct world_params {
        unsigned n_keys, value_max;
        uint64_t budget, uid_share, global, arena_size;
};
void world_init(struct world *w, const struct world_params *p);
void world_done(struct world *w);
/* What a successor of the store is made with. */
struct store_params world_store_params(struct world *w);

/* A model that says what this store holds, so that a store of any past can go on beside it. */
void world_model_of(struct world *w);

/* What a store holds, from the entry that was not used for longest on. */
struct seen_entry {
        uint32_t cache, uid, flags;
        uint32_t marks; /* no holes: they are compared as bytes */
        uint32_t tags, vary, n_parent, spare;
        struct arena_fresh fresh;
        uint64_t n_key, n_value, version, deadline, raw_size, cost_us, n_messages, charge, sum,
                stamp;
        uint8_t key[STORE_KEY_MAX], parent[STORE_KEY_MAX];
};
struct seen {
        struct seen_entry *e;
        size_t n;
};
void seen_init(struct seen *v, struct store *s);
void seen_done(struct seen *v);

/* The same by cache and key, to be freed by `e`. */
struct seen_sorted {
        const struct seen_entry **e;
        size_t n;
};
struct seen_sorted seen_sort(const struct seen *v);
/* Of that cache and key; NULL: there is none. */
const struct seen_entry *seen_find(const struct seen_sorted *s, const struct seen_entry *key);

uint64_t world_random(struct world *w, uint64_t n); /* 0 … n - 1 */
uint64_t world_sum(const uint8_t *p, uint64_t n);   /* seen_entry.sum of a value */
void world_fill(uint8_t *p, uint64_t n, uint32_t fill);
void world_step(struct world *w);
/* Both settle; then counts and counters agree, and the store's invariants hold. */
void world_settle(struct world *w);

#endif
