/* SPDX-License-Identifier: MIT */
/*
 * Owners: the uids that have written into the realm
 *
 * An entry names its writer by a small index; the uids themselves stand in the arena, where readers
 * see them. Indices are never given up while the store lives: a realm is written by few uids (one,
 * unless it is a named realm), and the number is bounded.
 */

#include <errno.h>

#include "store/internal.h"

int owner_get(struct store *s, uint32_t uid, uint32_t *ret_owner)
{
        struct table_header *t = s->a.t;
        uint32_t i;
        int r;

        for (i = 0; i < t->n_owners; i++)
                if (s->a.owners[i].uid == uid) {
                        *ret_owner = i;
                        return 0;
                }
        if (i == ARENA_OWNERS_MAX)
                return STORE_E_LIMIT;
        r = memfile_commit(&s->a.table, t->owners_off + i * sizeof(struct table_owner),
                           sizeof(struct table_owner));
        if (r < 0)
                return r;
        s->a.owners[i] = (struct table_owner){.uid = uid, .lists = TABLE_NONE};
        __atomic_store_n(&s->a.owner_uids[i], uid, __ATOMIC_RELAXED);
        t->n_owners++;
        *ret_owner = i;
        return 0;
}
