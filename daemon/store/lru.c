/* SPDX-License-Identifier: MIT */
/*
 * Recency
 *
 * One doubly linked list per (cache generation, writing uid): most recently used first. A touch
 * moves one record; nothing else changes. Every use also gets a stamp, a count that only grows, so
 * the least recently used entry of a cache, of an owner or of the realm is the one with the
 * smallest stamp among the tails of the lists concerned: exact, whatever the scope.
 *
 * Each list is in three heaps by the stamp of its tail: of the realm's lists, of its owner's and of
 * its generation's. So the oldest entry of each scope is one look, and whatever changes a tail
 * costs the logarithm of the number of lists, however many caches and writers there are. Lists of a
 * dying generation stay in the heaps until reclaiming comes to them: clearing a cache that many
 * have written to takes no longer than clearing any other.
 *
 * A list is found by generation and owner through a hash, and exists while it has entries: there
 * are no more lists than entries, and none to look for when they run out. The lists link handles;
 * they own nothing.
 */

#include <errno.h>

#include "store/internal.h"

static struct linkheap heap_of(const struct store *s, size_t node_off)
{
        return (struct linkheap){(uint8_t *)s->a.lists + node_off, sizeof(struct table_list)};
}

static struct linkheap realm_heap(const struct store *s)
{
        return heap_of(s, offsetof(struct table_list, of_realm));
}

static struct linkheap owner_heap(const struct store *s)
{
        return heap_of(s, offsetof(struct table_list, of_owner));
}

static struct linkheap gen_heap(const struct store *s)
{
        return heap_of(s, offsetof(struct table_list, of_gen));
}

static struct idhash lists_hash(const struct store *s)
{
        return (struct idhash){(uint8_t *)s->a.lists + offsetof(struct table_list, slot),
                               sizeof(struct table_list), &s->a.t->list_high};
}

static uint32_t hash_of(const struct store *s, uint32_t gen, uint32_t owner)
{
        return idhash_mix((uint64_t)gen << 32 | owner, s->a.h->seed[0]);
}

/* ---- finding and making lists */

static uint32_t find_by_hash(const struct store *s, uint32_t gen, uint32_t owner)
{
        struct idhash h = lists_hash(s);
        uint32_t i;

        for (i = idhash_first(&h, hash_of(s, gen, owner)); i != IDHASH_NONE; i = idhash_next(&h, i))
                if (s->a.lists[i].gen == gen && s->a.lists[i].owner == owner)
                        return i;
        return TABLE_NONE;
}

uint32_t lru_list_find(const struct store *s, uint32_t gen, uint32_t owner)
{
        uint32_t i = s->a.gens[gen].lists;

        /* Most caches have one writer. */
        if (i == TABLE_NONE || s->a.lists[i].owner == owner)
                return i;
        return find_by_hash(s, gen, owner);
}

static int list_alloc(struct store *s, uint32_t *ret)
{
        struct table_header *t = s->a.t;
        struct idhash h = lists_hash(s);
        uint32_t i = t->list_free;
        int r;

        if (i != TABLE_NONE) {
                t->list_free = s->a.lists[i].gen;
                *ret = i;
                return 0;
        }
        i = t->list_high;
        if (i == t->max_lists)
                return STORE_E_LIMIT;
        r = arena_commit_element(&s->a.table, t->lists_off, i, sizeof(struct table_list));
        if (r < 0)
                return r;
        idhash_grow(&h);
        *ret = i;
        return 0;
}

int lru_list_get(struct store *s, uint32_t gen, uint32_t owner, uint32_t *ret_list)
{
        struct idhash h = lists_hash(s);
        uint32_t i = lru_list_find(s, gen, owner);
        struct table_list *l;
        int r;

        /* One that got no entry yet is in no heap. */
        if (i == TABLE_NONE)
                i = find_by_hash(s, gen, owner);
        if (i == TABLE_NONE) {
                r = list_alloc(s, &i);
                if (r != 0)
                        return r;
                l = &s->a.lists[i];
                *l = (struct table_list){.gen = gen, .owner = owner, .slot = l->slot};
                idhash_add(&h, i, hash_of(s, gen, owner));
        }
        *ret_list = i;
        return 0;
}

static void list_free(struct store *s, uint32_t list)
{
        struct table_list *l = &s->a.lists[list];
        struct linkheap of_gen = gen_heap(s);
        struct idhash h = lists_hash(s);

        lru_list_forget(s, list);
        linkheap_drop(&of_gen, &s->a.gens[l->gen].lists, list);
        idhash_remove(&h, list);
        l->gen = s->a.t->list_free;
        s->a.t->list_free = list;
}

void lru_list_put(struct store *s, uint32_t list)
{
        if (s->a.lists[list].n_entries == 0)
                list_free(s, list);
}

/* ---- heaps */

void lru_list_forget(struct store *s, uint32_t list)
{
        struct linkheap of_realm = realm_heap(s), of_owner = owner_heap(s);

        linkheap_drop(&of_realm, &s->a.t->oldest_list, list);
        linkheap_drop(&of_owner, &s->a.owners[s->a.lists[list].owner].lists, list);
}

void lru_stay(struct store *s, uint32_t gen)
{
        for (uint32_t i = 0; i < s->a.t->list_high; i++)
                if (s->a.lists[i].gen == gen && s->a.lists[i].n_entries > 0)
                        lru_list_forget(s, i);
}

static bool stays(const struct store *s, uint32_t gen)
{
        return s->staying == gen + 1;
}

/* The list has another tail, or its tail another stamp. @all: also where the list was in no heap */
static void tail_changed(struct store *s, uint32_t list, bool all)
{
        const struct table_list *l = &s->a.lists[list];
        uint64_t stamp = rec_stamp(arena_rec(&s->a, l->tail));
        struct linkheap h = realm_heap(s);

        all = all && !stays(s, l->gen);
        if (all || linkheap_has(&h, list))
                linkheap_put(&h, &s->a.t->oldest_list, list, stamp);
        h = owner_heap(s);
        if (all || linkheap_has(&h, list))
                linkheap_put(&h, &s->a.owners[l->owner].lists, list, stamp);
        h = gen_heap(s);
        linkheap_put(&h, &s->a.gens[l->gen].lists, list, stamp);
}

void lru_forget(struct store *s)
{
        struct table_header *t = s->a.t;

        t->list_high = 0;
        t->list_free = TABLE_NONE;
        t->oldest_list = TABLE_NONE;
        t->stamp = 0;
        for (uint32_t i = 0; i < t->gen_high; i++)
                s->a.gens[i].lists = TABLE_NONE;
        for (uint32_t i = 0; i < t->n_owners; i++)
                s->a.owners[i].lists = TABLE_NONE;
}

/* ---- entries */

static void link_front(struct store *s, struct table_list *l, uint32_t handle)
{
        struct table_rec *rec = arena_rec(&s->a, handle);

        rec->prev = ARENA_NONE;
        rec->next = l->head;
        if (l->head != ARENA_NONE)
                arena_rec(&s->a, l->head)->prev = handle;
        else
                l->tail = handle;
        l->head = handle;
}

static void unlink_rec(struct store *s, struct table_list *l, uint32_t handle)
{
        struct table_rec *rec = arena_rec(&s->a, handle);

        if (rec->prev != ARENA_NONE)
                arena_rec(&s->a, rec->prev)->next = rec->next;
        else
                l->head = rec->next;
        if (rec->next != ARENA_NONE)
                arena_rec(&s->a, rec->next)->prev = rec->prev;
        else
                l->tail = rec->prev;
}

void lru_push(struct store *s, uint32_t list, uint32_t handle)
{
        struct table_list *l = &s->a.lists[list];

        apply_told(s);
        rec_set_stamp(arena_rec(&s->a, handle), ++s->a.t->stamp);
        link_front(s, l, handle);
        if (l->n_entries++ == 0)
                tail_changed(s, list, true);
}

void lru_remove(struct store *s, uint32_t list, uint32_t handle)
{
        struct table_list *l = &s->a.lists[list];
        bool was_tail;

        apply_told(s);
        was_tail = l->tail == handle;
        unlink_rec(s, l, handle);
        if (--l->n_entries == 0)
                list_free(s, list);
        else if (was_tail)
                tail_changed(s, list, false);
}

void lru_touch(struct store *s, uint32_t list, uint32_t handle)
{
        struct table_list *l = &s->a.lists[list];
        bool was_tail;

        apply_told(s);
        was_tail = l->tail == handle;
        rec_set_stamp(arena_rec(&s->a, handle), ++s->a.t->stamp);
        if (l->head != handle) {
                unlink_rec(s, l, handle);
                link_front(s, l, handle);
        }
        if (was_tail)
                tail_changed(s, list, false);
}

/* The record was copied from one handle to another: whoever pointed at it follows. */
void lru_moved(struct store *s, uint32_t list, uint32_t from, uint32_t to)
{
        struct table_list *l = &s->a.lists[list];
        const struct table_rec *rec = arena_rec(&s->a, to);

        if (l->head == from)
                l->head = to;
        else
                arena_rec(&s->a, rec->prev)->next = to;
        if (l->tail == from)
                l->tail = to;
        else
                arena_rec(&s->a, rec->next)->prev = to;
}

/* ---- the oldest */

static uint32_t tail_of(const struct store *s, uint32_t list)
{
        return list == TABLE_NONE ? ARENA_NONE : s->a.lists[list].tail;
}

uint32_t lru_oldest_of_gen(struct store *s, uint32_t gen)
{
        apply_told(s);
        return tail_of(s, s->a.gens[gen].lists);
}

uint32_t lru_oldest_of_owner(struct store *s, uint32_t owner)
{
        apply_told(s);
        return tail_of(s, s->a.owners[owner].lists);
}

uint32_t lru_oldest(struct store *s)
{
        apply_told(s);
        return tail_of(s, s->a.t->oldest_list);
}
