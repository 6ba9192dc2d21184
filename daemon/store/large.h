/* SPDX-License-Identifier: MIT */
#ifndef LARGE_H
#define LARGE_H

/*
 * A large value: a memory file of its own
 *
 * Made at its full size, filled through `map`, then sealed; immutable from then on. Shared by
 * references: the entry holds one, every reply that is being sent holds one.
 */

#include <stddef.h>
#include <stdint.h>

struct large {
        unsigned refs;
        int fd;
        uint8_t *map; /* writable until large_seal(), then read-only */
        uint64_t size;
};

/* Takes the memory at once, so that running out is an error here and not a SIGBUS later.
 * 0, -ENOMEM, -ENOSPC, -EMFILE. */
int large_new(uint64_t size, struct large **ret);
int large_seal(struct large *l);
struct large *large_ref(struct large *l);
struct large *large_unref(struct large *l); /* NULL is fine; returns NULL */

#endif
