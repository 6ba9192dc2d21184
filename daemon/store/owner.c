/* SPDX-License-Identifier: MIT */
/*
 * Owners: the uids that have written into the realm
 *
 * An entry names its writer by a small index; the uids themselves stand in the arena, where readers
 * see them. Indices are never given up while the store lives: a realm is written by few uids (one,
 * unless it is a named realm), and the number is bounded. A uid is found through a hash.
 */

#include <errno.h>

#include "store/internal.h"

static struct idhash owners_hash(const struct store *s)
{
        return (struct idhash){(uint8_t *)s->a.owners + offsetof(struct table_owner, slot),
                               sizeof(struct table_owner), &s->a.t->n_owners};
}

static uint32_t hash_of(const struct store *s, uint32_t uid)
{
        return idhash_mix(uid, s->a.h->seed[1]);
}

bool owner_find(const struct store *s, uint32_t uid, uint32_t *ret_owner)
{
        struct idhash h = owners_hash(s);

        for (uint32_t i = idhash_first(&h, hash_of(s, uid)); i != IDHASH_NONE;
             i = idhash_next(&h, i))
                if (s->a.owners[i].uid == uid) {
                        *ret_owner = i;
                        return true;
                }
        return false;
}

int owner_get(struct store *s, uint32_t uid, uint32_t *ret_owner)
{
        struct table_header *t = s->a.t;
        struct idhash h = owners_hash(s);
        uint32_t hash = hash_of(s, uid), i;
        int r;

        if (owner_find(s, uid, ret_owner))
                return 0;
        i = t->n_owners;
        if (i == ARENA_OWNERS_MAX)
                return STORE_E_LIMIT;
        r = arena_commit_element(&s->a.table, t->owners_off, i, sizeof(struct table_owner));
        if (r < 0)
                return r;
        s->a.owners[i] = (struct table_owner){.uid = uid, .lists = TABLE_NONE};
        __atomic_store_n(&s->a.owner_uids[i], uid, __ATOMIC_RELAXED);
        atomic_signal_fence(memory_order_release); /* it counts from here on */
        idhash_grow(&h);
        idhash_add(&h, i, hash);
        *ret_owner = i;
        return 0;
}

void owner_rehash(struct store *s)
{
        struct idhash h = owners_hash(s);
        uint32_t n = s->a.t->n_owners;

        s->a.t->n_owners = 0;
        for (uint32_t i = 0; i < n; i++) {
                idhash_grow(&h);
                idhash_add(&h, i, hash_of(s, s->a.owners[i].uid));
        }
}
