/* SPDX-License-Identifier: MIT */
/*
 * Buffers as trees of leaves
 *
 * The leaves are cut at multiples of KEY_LEAF_SIZE from the beginning of the buffer, so that
 * neither the pieces in which it comes nor the number of threads change the digest. Invariant:
 * while n <= KEY_LEAF_SIZE all bytes are in `head` (they enter the key as they are); afterwards
 * `head` is gone, the leaves that are whole are in `root`, and `leaf` has the n % KEY_LEAF_SIZE
 * bytes behind them. Hence the memory is bounded whatever the length, and a leaf that is whole is
 * never copied.
 */
#include "client/key-tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/key-bytes.h"

#define HEAD_CAPACITY_FIRST 4096 /* a guess: most that is fed in pieces is a file */

void key_tree_init(struct key_tree *t)
{
        t->n = 0;
        t->head = NULL;
        t->head_capacity = 0;
}

void key_tree_done(struct key_tree *t)
{
        free(t->head);
        key_tree_init(t);
}

static int head_add(struct key_tree *t, const uint8_t *bytes, size_t n)
{
        size_t used = (size_t)t->n, capacity = t->head_capacity;

        while (capacity < used + n)
                capacity = capacity ? 2 * capacity : HEAD_CAPACITY_FIRST;
        if (capacity > t->head_capacity) {
                uint8_t *head = realloc(t->head, capacity);

                if (!head)
                        return -ENOMEM;
                t->head = head;
                t->head_capacity = capacity;
        }
        memcpy(t->head + used, bytes, n);
        t->n += n;
        return 0;
}

/* The buffer turns out to be a tree: what is kept of it becomes the beginning of the first leaf. */
static void leave_head(struct key_tree *t)
{
        key_hash_init(&t->root, KEY_PURPOSE_TREE);
        key_hash_init(&t->leaf, KEY_PURPOSE_LEAF);
        key_hash_add(&t->leaf, t->head, (size_t)t->n);
        free(t->head);
        t->head = NULL;
        t->head_capacity = 0;
}

static void end_leaf(struct key_tree *t)
{
        uint8_t digest[KEY_DIGEST_SIZE];

        key_hash_end(&t->leaf, digest);
        key_hash_add(&t->root, digest, sizeof(digest));
        key_hash_init(&t->leaf, KEY_PURPOSE_LEAF);
}

/* Part of one leaf, perhaps its end. */
static void leaf_add(struct key_tree *t, const uint8_t *bytes, size_t n)
{
        key_hash_add(&t->leaf, bytes, n);
        t->n += n;
        if (t->n % KEY_LEAF_SIZE == 0)
                end_leaf(t);
}

int key_tree_add(struct key_tree *t, const uint8_t *bytes, size_t n, unsigned threads)
{
        size_t used, room, whole;

        if (n == 0)
                return 0;
        if (n > INT64_MAX - t->n)
                return -EOVERFLOW;
        if (t->n + n <= KEY_LEAF_SIZE)
                return head_add(t, bytes, n);
        if (t->n <= KEY_LEAF_SIZE) {
                leave_head(t);
                if (t->n == KEY_LEAF_SIZE)
                        end_leaf(t);
        }
        used = (size_t)(t->n % KEY_LEAF_SIZE);
        room = used > 0 ? KEY_LEAF_SIZE - used : 0;
        if (room > n)
                room = n;
        if (room > 0)
                leaf_add(t, bytes, room);
        whole = (n - room) / KEY_LEAF_SIZE * KEY_LEAF_SIZE;
        key_leaves_add(&t->root, bytes + room, whole, threads);
        t->n += whole;
        if (n > room + whole)
                leaf_add(t, bytes + room + whole, n - room - whole);
        return 0;
}

void key_tree_end(struct key_tree *t, struct key_hash *out)
{
        uint8_t digest[KEY_DIGEST_SIZE];

        key_bytes_u64(out, t->n);
        if (t->n <= KEY_LEAF_SIZE) {
                key_hash_add(out, t->head, (size_t)t->n);
        } else {
                if (t->n % KEY_LEAF_SIZE > 0)
                        end_leaf(t);
                key_hash_end(&t->root, digest);
                key_hash_add(out, digest, sizeof(digest));
        }
        key_tree_done(t);
}

void key_tree_write(struct key_hash *out, const uint8_t *bytes, size_t n, unsigned threads)
{
        struct key_hash root;
        uint8_t digest[KEY_DIGEST_SIZE];

        key_bytes_u64(out, n);
        if (n <= KEY_LEAF_SIZE) {
                key_hash_add(out, bytes, n);
                return;
        }
        key_hash_init(&root, KEY_PURPOSE_TREE);
        key_leaves_add(&root, bytes, n, threads);
        key_hash_end(&root, digest);
        key_hash_add(out, digest, sizeof(digest));
}
