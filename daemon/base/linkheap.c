/* SPDX-License-Identifier: MIT */
/*
 * Linked min-heap, see the header
 *
 * A leftist tree: the path along the right children is the shortest one to an end of the tree, so
 * it has at most log2(n + 1) nodes, and two trees are merged along it. Unlike pairing or skew heaps
 * no single operation is ever long; those are fast on average only, and a request must not wait for
 * what earlier ones have saved. Left children may form long chains: nothing walks them.
 *
 * Which heap a node is in is not known here: a member that is dropped must be in the heap that is
 * named.
 */

#include "base/linkheap.h"

static uint32_t rank_of(const struct linkheap *h, uint32_t id)
{
        return id == LINKHEAP_NONE ? 0 : linkheap_node(h, id)->rank;
}

/* Restores order of ranks from @id up to the first node that need not change. */
static void fix_up(const struct linkheap *h, uint32_t id)
{
        while (id != LINKHEAP_NONE) {
                struct linkheap_node *n = linkheap_node(h, id);
                uint32_t left = n->left, rank;

                if (rank_of(h, left) < rank_of(h, n->right)) {
                        n->left = n->right;
                        n->right = left;
                }
                rank = rank_of(h, n->right) + 1;
                if (rank == n->rank)
                        return;
                n->rank = rank;
                id = n->up;
        }
}

/* Merges two trees, of which either may be empty. */
static uint32_t merge(const struct linkheap *h, uint32_t a, uint32_t b)
{
        uint32_t root = LINKHEAP_NONE, above = LINKHEAP_NONE;

        while (a != LINKHEAP_NONE && b != LINKHEAP_NONE) {
                struct linkheap_node *n;

                if (linkheap_node(h, b)->key < linkheap_node(h, a)->key) {
                        uint32_t swap = a;

                        a = b;
                        b = swap;
                }
                n = linkheap_node(h, a);
                n->up = above;
                if (above == LINKHEAP_NONE)
                        root = a;
                else
                        linkheap_node(h, above)->right = a;
                above = a;
                a = n->right;
        }
        if (a == LINKHEAP_NONE)
                a = b;
        if (above == LINKHEAP_NONE)
                return a;
        linkheap_node(h, above)->right = a;
        if (a != LINKHEAP_NONE)
                linkheap_node(h, a)->up = above;
        /* All of the merged path: a rank that is right by chance says nothing about those above. */
        for (uint32_t id = above; id != LINKHEAP_NONE; id = linkheap_node(h, id)->up)
                linkheap_node(h, id)->rank = 0;
        fix_up(h, above);
        return root;
}

void linkheap_drop(const struct linkheap *h, uint32_t *root, uint32_t id)
{
        struct linkheap_node *n = linkheap_node(h, id);
        uint32_t up = n->up, rest;

        if (n->rank == 0)
                return;
        if (n->left != LINKHEAP_NONE)
                linkheap_node(h, n->left)->up = LINKHEAP_NONE;
        if (n->right != LINKHEAP_NONE)
                linkheap_node(h, n->right)->up = LINKHEAP_NONE;
        rest = merge(h, n->left, n->right);
        if (rest != LINKHEAP_NONE)
                linkheap_node(h, rest)->up = up;
        if (up == LINKHEAP_NONE)
                *root = rest;
        else if (linkheap_node(h, up)->left == id)
                linkheap_node(h, up)->left = rest;
        else
                linkheap_node(h, up)->right = rest;
        fix_up(h, up);
        *n = (struct linkheap_node){0};
}

/* May it stay where it is under its new key? */
static bool fits(const struct linkheap *h, const struct linkheap_node *n, uint64_t key)
{
        return (n->up == LINKHEAP_NONE || linkheap_node(h, n->up)->key <= key) &&
               (n->left == LINKHEAP_NONE || key <= linkheap_node(h, n->left)->key) &&
               (n->right == LINKHEAP_NONE || key <= linkheap_node(h, n->right)->key);
}

void linkheap_put(const struct linkheap *h, uint32_t *root, uint32_t id, uint64_t key)
{
        struct linkheap_node *n = linkheap_node(h, id);

        if (n->rank != 0) {
                if (fits(h, n, key)) {
                        n->key = key;
                        return;
                }
                linkheap_drop(h, root, id);
        }
        *n = (struct linkheap_node){.key = key,
                                    .up = LINKHEAP_NONE,
                                    .left = LINKHEAP_NONE,
                                    .right = LINKHEAP_NONE,
                                    .rank = 1};
        *root = merge(h, *root, id);
}
