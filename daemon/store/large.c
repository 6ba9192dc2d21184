/* SPDX-License-Identifier: MIT */
/*
 * Large values, see the header; and the store's table of them
 *
 * An entry names its large value by an id. What a restart needs (id, size) lies in the table; the
 * descriptor and the mapping are this process's.
 */

#include "store/large.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "store/internal.h"

int large_new(uint64_t size, struct large **ret)
{
        struct memfile m = {.fd = -1};
        struct large *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        r = memfile_init(&m, "cached:large", size ? size : 1);
        if (r == 0) {
                r = memfile_commit(&m, 0, size < LARGE_COMMIT ? size : LARGE_COMMIT);
                if (r < 0)
                        memfile_done(&m);
        }
        if (r < 0) {
                free(l);
                return r;
        }
        *l = (struct large){.refs = 1, .fd = m.fd, .map = m.base, .size = size};
        *ret = l;
        return 0;
}

int large_commit(struct large *l)
{
        struct memfile m = {.fd = l->fd, .base = l->map, .size = l->size ? l->size : 1};

        return memfile_commit(&m, 0, l->size);
}

/* F_SEAL_WRITE is refused while a shared writable mapping exists: a private one takes its place
 * first. */
int large_seal(struct large *l)
{
        size_t n = l->size ? l->size : 1;

        if (mmap(l->map, n, PROT_READ, MAP_PRIVATE | MAP_FIXED, l->fd, 0) == MAP_FAILED)
                return -errno;
        if (fcntl(l->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        return 0;
}

struct large *large_ref(struct large *l)
{
        l->refs++;
        return l;
}

struct large *large_unref(struct large *l)
{
        struct memfile m;

        if (!l || --l->refs > 0)
                return NULL;
        m = (struct memfile){.fd = l->fd, .base = l->map, .size = l->size ? l->size : 1};
        memfile_done(&m);
        free(l);
        return NULL;
}

/* ---- the table */

static int grow(struct store *s, uint32_t id)
{
        uint32_t n = s->n_large ? 2 * s->n_large : 64;
        struct large **p;
        int r = memfile_commit(&s->a.table, s->a.t->large_off + id * sizeof(struct table_large),
                               sizeof(struct table_large));

        if (r < 0 || id < s->n_large)
                return r;
        p = reallocarray(s->large, n, sizeof(*p));
        if (!p)
                return -ENOMEM;
        memset(p + s->n_large, 0, (n - s->n_large) * sizeof(*p));
        s->large = p;
        s->n_large = n;
        return 0;
}

int large_table_add(struct store *s, struct large *l, uint32_t *ret_id)
{
        struct table_header *t = s->a.t;
        uint32_t id = t->large_free;

        if (id != TABLE_NONE) {
                t->large_free = s->a.large[id].next_free;
        } else {
                int r;

                id = t->large_high;
                if (id == t->max_large)
                        return STORE_E_LIMIT;
                r = grow(s, id);
                if (r < 0)
                        return r;
                t->large_high++;
        }
        s->a.large[id] = (struct table_large){.size = l->size, .in_use = 1};
        s->large[id] = large_ref(l);
        t->large_bytes += l->size;
        *ret_id = id;
        return 0;
}

void large_table_drop(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;

        t->large_bytes -= s->a.large[id].size;
        s->a.large[id] = (struct table_large){.next_free = t->large_free};
        t->large_free = id;
        s->large[id] = large_unref(s->large[id]);
}
