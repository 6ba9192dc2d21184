/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_KEY_TREE_H
#define CLIENT_KEY_TREE_H

/*
 * A buffer as it enters a key: its length, then its bytes where they are few, else the root of a
 * tree of leaves. The bytes may come in pieces.
 */

#include "client/key-hash.h"

#define KEY_LEAF_SIZE ((size_t)1 << 20) /* part of the format */

/* KEY_LEAF_SIZE bytes and fewer are kept in `head`, since the length stands before them. */
struct key_tree {
        uint64_t n; /* bytes so far */
        uint8_t *head;
        size_t head_capacity;
        struct key_hash root, leaf; /* once n > KEY_LEAF_SIZE */
};

void key_tree_init(struct key_tree *t);
/* Frees what it holds; it is then as after key_tree_init(). */
void key_tree_done(struct key_tree *t);

/* 0; -ENOMEM; -EOVERFLOW: over INT64_MAX bytes. On failure the tree can only be done with. */
int key_tree_add(struct key_tree *t, const uint8_t *bytes, size_t n, unsigned threads);

/* Writes length and content to @out, and empties the tree. */
void key_tree_end(struct key_tree *t, struct key_hash *out);

/* The same for bytes that are in one piece. */
void key_tree_write(struct key_hash *out, const uint8_t *bytes, size_t n, unsigned threads);

/* How many processors this process may use; 1 to CACHED_KEY_THREADS_MAX. */
unsigned key_processors(void);

/* The leaves of @bytes in order, each one's digest to @root; the last may be short. */
void key_leaves_add(struct key_hash *root, const uint8_t *bytes, size_t n, unsigned threads);

#endif
