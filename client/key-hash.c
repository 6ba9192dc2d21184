/* SPDX-License-Identifier: MIT */
/*
 * BLAKE2b-256, by libb2
 *
 * The purpose goes into the personalization of BLAKE2's parameter block, sequential mode, no key,
 * no salt: what any implementation of BLAKE2b offers (hashlib.blake2b(person=...), libsodium's
 * _init_salt_personal()). Nothing else of the client knows libb2.
 *
 * Why libb2: it needs no initialisation. libsodium is an eighth faster, but only after
 * sodium_init(), which takes a lock (a child that was forked at that moment finds it taken for
 * ever) and waits for the kernel's randomness, which is no business of a cache. OpenSSL 3.0 has no
 * digests of 32 bytes and no personalization.
 */
#include "client/key-hash.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(blake2b_param) == 64, "the parameter block of RFC 7693 and the BLAKE2 paper");

void key_hash_init(struct key_hash *h, enum key_purpose purpose)
{
        static const char persons[][BLAKE2B_PERSONALBYTES] = {
                [KEY_PURPOSE_KEY] = "cached-key-1",
                [KEY_PURPOSE_MEMBER] = "cached-member-1",
                [KEY_PURPOSE_LEAF] = "cached-leaf-1",
                [KEY_PURPOSE_TREE] = "cached-tree-1",
        };
        blake2b_param p = {.digest_length = KEY_DIGEST_SIZE, .fanout = 1, .depth = 1};

        memcpy(p.personal, persons[purpose], sizeof(p.personal));
        /* Fails for no parameters that can stand here. */
        int e = blake2b_init_param(&h->state, &p);
        assert(e == 0);
        (void)e;
}

void key_hash_add(struct key_hash *h, const void *bytes, size_t n)
{
        if (n > 0)
                blake2b_update(&h->state, bytes, n);
}

void key_hash_end(struct key_hash *h, uint8_t ret[KEY_DIGEST_SIZE])
{
        int e = blake2b_final(&h->state, ret, KEY_DIGEST_SIZE);
        assert(e == 0);
        (void)e;
}
