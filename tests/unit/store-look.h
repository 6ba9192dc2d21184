/* SPDX-License-Identifier: MIT */
#ifndef STORE_LOOK_H
#define STORE_LOOK_H

/*
 * A mapped reader over a file that its writer was torn away from
 */

#include "proto/arena-read.h"
#include "store-world.h"

struct store_look {
        void *base;
        size_t size;
        struct arena_map map;
};

/* Maps the arena for reading; the descriptor is not kept. */
void store_look_init(struct store_look *l, int arena_fd);
void store_look_done(struct store_look *l);

/*
 * store_look_torn() - looks for every key of both, before anybody has taken the arena over
 * @names:  a store that has the names of all caches
 *
 * What it finds is as before or as after the change, a miss is that of one of the two, and what the
 * change does not concern is found; except for what lies in the one bucket that the writer may have
 * left half changed.
 */
void store_look_torn(const struct store_look *l, struct store *names, uint64_t now,
                     const struct seen_sorted *before, const struct seen_sorted *after);

/* Afterwards: everything that the new writer found is there as it found it, and of `keys` nothing
 * else is. */
void store_look_whole(const struct store_look *l, struct store *names, uint64_t now,
                      const struct seen_sorted *found, const struct seen_sorted *keys);

#endif
