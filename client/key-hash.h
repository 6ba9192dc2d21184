/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_KEY_HASH_H
#define CLIENT_KEY_HASH_H

/*
 * BLAKE2b-256 for one of the purposes that KEYS.md names: digests of different purposes never meet,
 * since the purpose is in the hash's parameters.
 */

#include <blake2.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_DIGEST_SIZE 32

enum key_purpose { KEY_PURPOSE_KEY, KEY_PURPOSE_MEMBER, KEY_PURPOSE_LEAF, KEY_PURPOSE_TREE };

struct key_hash {
        blake2b_state state;
};

void key_hash_init(struct key_hash *h, enum key_purpose purpose);
/* `bytes` may be NULL if @n is 0. */
void key_hash_add(struct key_hash *h, const void *bytes, size_t n);
/* Ends it: only key_hash_init() may follow. */
void key_hash_end(struct key_hash *h, uint8_t ret[KEY_DIGEST_SIZE]);

#endif
