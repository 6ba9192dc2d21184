/* SPDX-License-Identifier: MIT */
#ifndef LARGE_H
#define LARGE_H

/*
 * A large value: a memory file of its own
 *
 * Made at its full size, filled through `map`, then sealed; immutable from then on. Shared by
 * references: the entry holds one, every reply that is being sent holds one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct large_hold;
struct reaper;
struct store;

struct large {
        unsigned refs;
        int fd;
        uint8_t *map; /* writable until large_seal(), then read-only */
        uint64_t size;
        uint64_t retired;      /* so many bytes at its start are filled, see large_retire() */
        struct reaper *reaper; /* borrowed: frees it; NULL: whoever has the last reference does */
        struct large_hold *holds; /* uids that have views of it, the longest first */
        /* For the store that is charged for it, see large-table.c. */
        struct store *store; /* NULL: none */
        uint32_t id;         /* in the store's table; LARGE_NO_ID: its entry has left */
        uint32_t owner;
        bool held;     /* somebody besides the store has a reference */
        uint32_t kept; /* its slot where a copy is kept for a successor; LARGE_NOT_KEPT */
        uint64_t stored_ms;
        struct large *prev, *next;
};

#define LARGE_NO_ID    UINT32_MAX
#define LARGE_NOT_KEPT UINT32_MAX

/* Nothing of it is resident yet. 0, -ENOMEM, -ENOSPC, -EMFILE. */
int large_new(uint64_t size, struct large **ret);
/* Makes the first @n bytes resident, so that copying them in cannot run out of memory. What is
 * received by the kernel needs it not: recv() answers EFAULT where there is no memory. 0, -ENOMEM.
 */
int large_commit(struct large *l, uint64_t n);
/* The first @n bytes are written for good and will not be changed. Sealing takes as long as there
 * are pages that can be written to: who fills a long value says so from time to time, and spreads
 * that time. */
void large_retire(struct large *l, uint64_t n);
int large_seal(struct large *l);
/* A sealed one that another process made, of this size. @fd is the value's from then on, unless it
 * fails: -EINVAL (it is none), -ENOMEM. */
int large_adopt(int fd, uint64_t size, struct large **ret);
struct large *large_ref(struct large *l);
struct large *large_unref(struct large *l); /* NULL is fine; returns NULL */

/* Where a copy of its descriptor is, of a value that is stored: see store_params.large_left. */
void large_set_kept(struct large *l, uint32_t slot);

/* A view that a reader of this uid was sent: a reference. See large-hold.c. 0, -ENOMEM. */
int large_hold(struct large *l, uint32_t uid);
/* Gives one back. True: it was the last one of that uid. */
bool large_release(struct large *l, uint32_t uid);
bool large_is_held_by(const struct large *l, uint32_t uid);

#endif
