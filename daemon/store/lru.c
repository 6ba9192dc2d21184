/* SPDX-License-Identifier: MIT */
/*
 * Recency
 *
 * One doubly linked list per (cache generation, writing uid): most recently used first. A touch
 * moves one record; nothing else changes. Every use also gets a stamp, a count that only grows, so
 * the least recently used entry of a cache, of an owner or of the realm is the one with the
 * smallest stamp among the tails of the lists concerned: exact, whatever the scope.
 *
 * For the realm, the lists lie in a heap keyed by the stamp of their tail *as last seen*. A tail's
 * stamp only grows, so the key is a lower bound; lru_oldest() corrects the top until it is exact. A
 * cache has few lists (one per writing uid) and an owner few caches: those are scanned.
 *
 * The lists link handles; they own nothing. A list lives as long as its generation.
 */

#include <errno.h>

#include "store/internal.h"

static uint32_t *list_pos(void *ctx, uint32_t id)
{
        struct store *s = ctx;

        return &s->a.lists[id].heap_pos;
}

struct idheap lru_heap(struct store *s)
{
        return (struct idheap){.items = s->a.list_heap,
                               .n = &s->a.t->n_list_heap,
                               .pos = list_pos,
                               .ctx = s};
}

static void unlink_from_gen(struct store *s, uint32_t list)
{
        uint32_t *at = &s->a.gens[s->a.lists[list].gen].lists;

        while (*at != list)
                at = &s->a.lists[*at].next_in_gen;
        *at = s->a.lists[list].next_in_gen;
}

/* All lists are in use: one of a writer that has nothing left in its cache will do. */
static int reuse_list(struct store *s, uint32_t *ret)
{
        for (uint32_t i = 0; i < s->a.t->list_high; i++)
                if (s->a.lists[i].in_use && s->a.lists[i].n_entries == 0) {
                        unlink_from_gen(s, i);
                        lru_list_free(s, i);
                        s->a.t->list_free = s->a.lists[i].next_in_gen;
                        *ret = i;
                        return 0;
                }
        return STORE_E_LIMIT;
}

static int list_alloc(struct store *s, uint32_t *ret)
{
        struct table_header *t = s->a.t;
        uint32_t i = t->list_free;
        int r;

        if (i != TABLE_NONE) {
                t->list_free = s->a.lists[i].next_in_gen;
                *ret = i;
                return 0;
        }
        i = t->list_high;
        if (i == t->max_lists)
                return reuse_list(s, ret);
        r = memfile_commit(&s->a.table, t->lists_off + i * sizeof(struct table_list),
                           sizeof(struct table_list));
        if (r == 0)
                r = memfile_commit(&s->a.table, t->list_heap_off + i * sizeof(struct idheap_item),
                                   sizeof(struct idheap_item));
        if (r < 0)
                return r;
        t->list_high++;
        *ret = i;
        return 0;
}

int lru_list_get(struct store *s, uint32_t gen, uint32_t owner, uint32_t *ret_list)
{
        struct table_list *l;
        uint32_t i;
        int r;

        for (i = s->a.gens[gen].lists; i != TABLE_NONE; i = s->a.lists[i].next_in_gen)
                if (s->a.lists[i].owner == owner) {
                        *ret_list = i;
                        return 0;
                }
        r = list_alloc(s, &i);
        if (r != 0)
                return r;
        l = &s->a.lists[i];
        *l = (struct table_list){
                .gen = gen,
                .owner = owner,
                .next_in_gen = s->a.gens[gen].lists,
                .next_of_owner = s->a.owners[owner].lists,
                .heap_pos = IDHEAP_NONE,
                .in_use = 1,
        };
        s->a.gens[gen].lists = i;
        s->a.owners[owner].lists = i;
        *ret_list = i;
        return 0;
}

void lru_forget_list(struct store *s, uint32_t list)
{
        idheap_drop(&s->list_heap, list);
}

void lru_list_free(struct store *s, uint32_t list)
{
        struct table_list *l = &s->a.lists[list];
        uint32_t *at = &s->a.owners[l->owner].lists;

        assert(l->n_entries == 0);
        lru_forget_list(s, list);
        while (*at != list)
                at = &s->a.lists[*at].next_of_owner;
        *at = l->next_of_owner;
        l->in_use = 0;
        l->next_in_gen = s->a.t->list_free;
        s->a.t->list_free = list;
}

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

        rec_set_stamp(arena_rec(&s->a, handle), ++s->a.t->stamp);
        link_front(s, l, handle);
        if (l->n_entries++ == 0 && s->a.gens[l->gen].state == GEN_LIVE)
                idheap_put(&s->list_heap, list, s->a.t->stamp);
}

void lru_remove(struct store *s, uint32_t list, uint32_t handle)
{
        struct table_list *l = &s->a.lists[list];

        unlink_rec(s, l, handle);
        if (--l->n_entries == 0)
                lru_forget_list(s, list);
}

void lru_touch(struct store *s, uint32_t list, uint32_t handle)
{
        struct table_list *l = &s->a.lists[list];

        rec_set_stamp(arena_rec(&s->a, handle), ++s->a.t->stamp);
        if (l->head == handle)
                return;
        unlink_rec(s, l, handle);
        link_front(s, l, handle);
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

static uint64_t tail_stamp(const struct store *s, const struct table_list *l)
{
        return l->n_entries ? rec_stamp(arena_rec(&s->a, l->tail)) : UINT64_MAX;
}

uint32_t lru_oldest_of_gen(const struct store *s, uint32_t gen)
{
        uint32_t best = ARENA_NONE;
        uint64_t best_stamp = UINT64_MAX;

        for (uint32_t i = s->a.gens[gen].lists; i != TABLE_NONE; i = s->a.lists[i].next_in_gen)
                if (tail_stamp(s, &s->a.lists[i]) < best_stamp) {
                        best = s->a.lists[i].tail;
                        best_stamp = tail_stamp(s, &s->a.lists[i]);
                }
        return best;
}

uint32_t lru_oldest_of_owner(const struct store *s, uint32_t owner)
{
        uint32_t best = ARENA_NONE;
        uint64_t best_stamp = UINT64_MAX;

        for (uint32_t i = s->a.owners[owner].lists; i != TABLE_NONE;
             i = s->a.lists[i].next_of_owner) {
                const struct table_list *l = &s->a.lists[i];

                if (s->a.gens[l->gen].state == GEN_LIVE && tail_stamp(s, l) < best_stamp) {
                        best = l->tail;
                        best_stamp = tail_stamp(s, l);
                }
        }
        return best;
}

uint32_t lru_oldest(struct store *s)
{
        while (s->a.t->n_list_heap > 0) {
                struct idheap_item top = s->a.list_heap[0];
                const struct table_list *l = &s->a.lists[top.id];
                uint64_t stamp = tail_stamp(s, l);

                if (stamp == top.key)
                        return l->tail;
                idheap_put(&s->list_heap, top.id, stamp);
        }
        return ARENA_NONE;
}
