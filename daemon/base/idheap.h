/* SPDX-License-Identifier: MIT */
#ifndef IDHEAP_H
#define IDHEAP_H

/*
 * A binary min-heap of (key, id) over an array of the caller's
 *
 * Each id's position is kept where the caller says (by a function from id to the place of its
 * position), so that any id can be moved or dropped in O(log n). Allocates nothing; lives well in a
 * memory file.
 */

#include <stdint.h>

#define IDHEAP_NONE UINT32_MAX

struct idheap_item {
        uint64_t key;
        uint32_t id;
        uint32_t spare;
};

struct idheap {
        struct idheap_item *items;
        uint32_t *n;
        uint32_t *(*pos)(void *ctx, uint32_t id);
        void *ctx;
};

/* Adds the id, or moves it if its position is not IDHEAP_NONE. */
void idheap_put(const struct idheap *h, uint32_t id, uint64_t key);
void idheap_drop(const struct idheap *h, uint32_t id); /* not in the heap: fine */

#endif
