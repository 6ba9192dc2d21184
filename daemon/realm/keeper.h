/* SPDX-License-Identifier: MIT */
#ifndef KEEPER_H
#define KEEPER_H

/*
 * Keeper: who keeps copies of our descriptors, outside of this process, for the one that follows it
 *
 * What is kept has a slot of the keeper's. A copy keeps the memory of its file: so dropping one is
 * not done at once, and who drops a large value says so, for its bytes to be charged until then.
 */

#include <stdbool.h>
#include <stdint.h>

#include "realm/given.h"

struct large;

#define KEEPER_NONE UINT32_MAX

struct keeper {
        void *ctx;
        /* It closes its copies aside: a close() that takes long, such as a lingering socket's,
         * stops nobody. */
        bool closes_aside;
        /* Both files of a realm, or neither. False: not now. */
        bool (*put_realm)(void *ctx, int arena, int table, uint32_t ret_slots[2]);
        /* Any other descriptor, borrowed until it is dropped: of a large value, under a name of
         * the keeper's; or, with @large NULL, of the resource with this number. KEEPER_NONE: not
         * now. A large value may lose its slot by itself (large_set_kept()). */
        uint32_t (*put)(void *ctx, struct large *large, uint32_t number, int fd);
        /* @large: the value whose slot this is, in the middle of leaving its store; or NULL. */
        void (*drop)(void *ctx, uint32_t slot, struct large *large);
        /* The slot of a descriptor that the keeper gave back at the start; KEEPER_NONE: it is to be
         * put there anew. */
        uint32_t (*claim)(void *ctx, int fd, struct large *large);
        /* Whether it makes sense to put a large value there; or anything else. */
        bool (*has_room)(void *ctx, bool for_large);
};

#endif
