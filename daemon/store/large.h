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

/* The first LARGE_COMMIT bytes are resident at once, so that copying them in cannot run out of
 * memory. More would take long: it is to be received by the kernel (recv() answers EFAULT where
 * there is no memory). 0, -ENOMEM, -ENOSPC, -EMFILE. */
#define LARGE_COMMIT (UINT64_C(1) << 20)
int large_new(uint64_t size, struct large **ret);
/* Makes all of it resident, for bytes that are copied in. 0, -ENOMEM. */
int large_commit(struct large *l);
int large_seal(struct large *l);
struct large *large_ref(struct large *l);
struct large *large_unref(struct large *l); /* NULL is fine; returns NULL */

#endif
