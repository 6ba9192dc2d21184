/* SPDX-License-Identifier: MIT */
#ifndef LINKHEAP_H
#define LINKHEAP_H

/*
 * A min-heap of linked nodes that lie in somebody's array
 *
 * For many heaps over one set of things, where no heap can have an array of its own: each member
 * embeds a node, a heap is the number of its first node. Allocates nothing; lives well in a memory
 * file. See linkheap.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINKHEAP_NONE UINT32_MAX

/* All zero: in no heap. */
struct linkheap_node {
        uint64_t key;
        uint32_t up, left, right;
        uint32_t rank; /* nodes to the nearest end of the tree; 0: in no heap */
};

/* Where the node of member number i is: nodes + i * stride. */
struct linkheap {
        uint8_t *nodes;
        size_t stride;
};

static inline struct linkheap_node *linkheap_node(const struct linkheap *h, uint32_t id)
{
        return (struct linkheap_node *)(void *)(h->nodes + (size_t)id * h->stride);
}

static inline bool linkheap_has(const struct linkheap *h, uint32_t id)
{
        return linkheap_node(h, id)->rank != 0;
}

/* *@root is the member with the smallest key, or LINKHEAP_NONE. All in O(log n), each single one.
 */

/* Adds @id, or moves it if it is in the heap already. */
void linkheap_put(const struct linkheap *h, uint32_t *root, uint32_t id, uint64_t key);
void linkheap_drop(const struct linkheap *h, uint32_t *root, uint32_t id); /* not in it: fine */

#endif
