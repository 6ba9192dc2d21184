/* SPDX-License-Identifier: MIT */
/*
 * The store's large values
 *
 * An entry names its large value by an id. What a restart needs (id, size) lies in the table; the
 * descriptor and the mapping are this process's.
 *
 * A value that somebody besides the store has a reference to (a reply that is still being sent) is
 * held: its memory stays whatever becomes of its entry. So its charge stays, too, with realm and
 * writer, until the last reference is gone, and counts as what no eviction can free. Nobody can
 * make the daemon hold more than the budgets by asking for values and not reading them.
 *
 * Values that nobody holds are in a list by their latest use: where descriptors run short the
 * oldest of them makes room. One that is held could not, and is in use: it comes back at the front.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/internal.h"
#include "store/recover.h"

/* ---- what is held, and what could leave */

static void list_push(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        struct table_large *at = &s->a.large[id];

        at->prev = TABLE_NONE;
        at->next = t->large_head;
        if (t->large_head != TABLE_NONE)
                s->a.large[t->large_head].prev = id;
        else
                t->large_tail = id;
        t->large_head = id;
}

static void list_remove(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        const struct table_large *at = &s->a.large[id];

        if (at->prev != TABLE_NONE)
                s->a.large[at->prev].next = at->next;
        else
                t->large_head = at->next;
        if (at->next != TABLE_NONE)
                s->a.large[at->next].prev = at->prev;
        else
                t->large_tail = at->prev;
}

/* The last reference is gone, and its entry went before. */
static void detach(struct large *l)
{
        struct store *s = l->store;
        uint64_t charge = large_charge(l->size);

        s->a.owners[l->owner].charged -= charge;
        s->a.t->charged -= charge;
        s->a.t->large_bytes -= l->size;
        s->n_files--;
        s->settled = false; /* whoever keeps sums over all stores looks again */
        if (l->prev)
                l->prev->next = l->next;
        else
                s->files = l->next;
        if (l->next)
                l->next->prev = l->prev;
        l->store = NULL;
}

void large_table_see(struct large *l)
{
        struct store *s = l->store;
        bool stored = l->id != LARGE_NO_ID, held = l->refs > stored;
        uint64_t charge = large_charge(l->size);

        if (held != l->held) {
                apply_told(s);
                l->held = held;
                s->held += held ? charge : -charge;
                s->a.owners[l->owner].held += held ? charge : -charge;
                if (stored && held)
                        list_remove(s, l->id);
                else if (stored)
                        list_push(s, l->id);
        }
        if (l->refs == 0)
                detach(l);
}

/* ---- the table */

static int grow(struct store *s, uint32_t id)
{
        uint32_t n = s->n_large ? 2 * s->n_large : 64;
        struct large **p;
        int r = arena_commit_element(&s->a.table, s->a.t->large_off, id,
                                     sizeof(struct table_large));

        if (r < 0 || id < s->n_large)
                return r;
        p = reallocarray(s->large, n, sizeof(struct large *));
        if (!p)
                return -ENOMEM;
        memset(p + s->n_large, 0, (n - s->n_large) * sizeof(struct large *));
        s->large = p;
        s->n_large = n;
        return 0;
}

static void attach(struct store *s, struct large *l, uint32_t id, uint32_t owner)
{
        s->large[id] = l;
        s->a.t->large_bytes += l->size;
        s->n_files++;
        s->n_unkept++;
        l->store = s;
        l->id = id;
        l->owner = owner;
        l->reaper = s->p.reaper;
        l->next = s->files;
        if (s->files)
                s->files->prev = l;
        s->files = l;
}

int large_table_add(struct store *s, struct large *l, uint32_t owner, uint32_t handle,
                    uint32_t *ret_id)
{
        struct table_header *t = s->a.t;
        uint32_t id = t->large_free;
        uint64_t ino = 0;
        struct stat st;

        assert(!l->store && l->refs > 0);
        if (fstat(l->fd, &st) == 0) /* a memory file never blocks; without a number it is lost with
                                       this process */
                ino = st.st_ino;
        if (id != TABLE_NONE) {
                t->large_free = s->a.large[id].next;
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
        s->a.large[id] = (struct table_large){.size = l->size, .ino = ino, .handle = handle};
        attach(s, l, id, owner);
        apply_told(s);
        list_push(s, id);
        (void)large_ref(l); /* then it is held by who stores it, for the moment */
        *ret_id = id;
        return 0;
}

void large_table_drop(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        struct large *l = s->large[id];

        if (l->kept == LARGE_NOT_KEPT)
                s->n_unkept--;
        else if (s->p.large_left)
                s->p.large_left(s->p.ctx, l);
        l->kept = LARGE_NOT_KEPT;
        if (!l->held)
                list_remove(s, id);
        s->large[id] = NULL;
        s->a.large[id] = (struct table_large){.next = t->large_free, .handle = ARENA_NONE};
        t->large_free = id;
        l->id = LARGE_NO_ID;
        large_hold_departed(l);
        large_unref(l);
}

void large_table_touch(struct store *s, uint32_t id)
{
        if (s->large[id]->held)
                return;
        list_remove(s, id);
        list_push(s, id);
}

uint32_t large_table_oldest(struct store *s)
{
        uint32_t id;

        apply_told(s);
        id = s->a.t->large_tail;
        if (id != TABLE_NONE && s->a.large[id].handle == s->keep)
                id = s->a.large[id].prev;
        return id == TABLE_NONE ? ARENA_NONE : s->a.large[id].handle;
}

void large_table_done(struct store *s)
{
        while (s->files) {
                struct large *l = s->files;

                s->files = l->next;
                l->store = NULL; /* who still has it is not told */
                l->prev = l->next = NULL;
                if (l->id != LARGE_NO_ID)
                        large_unref(l);
        }
        free(s->large);
}

/* ---- giving it on, and taking it over */

int store_large_next(const struct store *s, uint32_t *cursor)
{
        while (*cursor < s->n_large) {
                const struct large *l = s->large[(*cursor)++];

                if (l)
                        return l->fd;
        }
        return -1;
}

struct large *store_large_unkept(const struct store *s, uint32_t *cursor, uint64_t until_ms)
{
        while (s->n_unkept > 0 && *cursor < s->n_large) {
                struct large *l = s->large[(*cursor)++];

                if (l && l->kept == LARGE_NOT_KEPT && l->stored_ms <= until_ms)
                        return l;
        }
        return NULL;
}

bool store_has_unkept(const struct store *s)
{
        return s->n_unkept > 0;
}

void large_set_kept(struct large *l, uint32_t slot)
{
        assert(l->store && l->id != LARGE_NO_ID);
        l->store->n_unkept += (slot == LARGE_NOT_KEPT) - (l->kept == LARGE_NOT_KEPT);
        l->kept = slot;
}

int large_table_adopt_begin(struct store *s)
{
        struct table_header *t = s->a.t;
        int r;

        while (s->n_large < t->large_high) {
                r = grow(s, s->n_large);
                if (r < 0)
                        return r;
        }

        t->large_head = t->large_tail = t->large_free = TABLE_NONE;
        t->large_bytes = 0;
        return 0;
}

int large_table_adopt(struct store *s, uint32_t id, int fd, uint32_t owner, uint32_t handle)
{
        struct large *l;
        int r;

        r = large_adopt(fd, s->a.large[id].size, &l);
        if (r < 0)
                return r;
        s->a.large[id].handle = handle;
        attach(s, l, id, owner);
        return 0;
}

void large_table_enlist(struct store *s, uint32_t id)
{
        list_push(s, id);
}

void large_table_adopt_end(struct store *s)
{
        struct table_header *t = s->a.t;

        for (uint32_t id = t->large_high; id-- > 0;) {
                if (s->large[id])
                        continue;
                s->a.large[id] = (struct table_large){.next = t->large_free, .handle = ARENA_NONE};
                t->large_free = id;
        }
}
