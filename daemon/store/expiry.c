/* SPDX-License-Identifier: MIT */
/*
 * Expiry heaps
 *
 * One heap per cache generation, so that "is anything of this cache expired?" is one look at its
 * top: what is expired leaves before anything live, exactly, whatever else is due in other caches.
 * An 8-ary heap with the keys inline: ten million entries are eight levels deep, and the eight
 * children of a node are side by side. Each entry's record knows its position, so any entry is
 * dropped in O(log n).
 *
 * The heap is an array in pages of the pool: a page holds 448 items as three columns (handle, low
 * 32 bits, high 8 bits of the deadline): nine bytes an item. The generation has a directory of
 * directories of pages. Physical slot of item i is i + 7, so that groups of children (8i+1 … 8i+8)
 * do not straddle pages.
 *
 * The generations themselves lie in a small heap by their next deadline, for the timer and the
 * sweep. This file does not read a clock and does not decide what a miss means: reads check the
 * deadline too.
 */

#include <errno.h>

#include "store/internal.h"

#define ARITY    8u
#define PER_PAGE 448u
#define SHIFT    (ARITY - 1)
#define PER_DIR  1024u

struct heap_page {
        uint32_t handle[PER_PAGE];
        uint32_t low[PER_PAGE];
        uint8_t high[PER_PAGE];
};
static_assert(sizeof(struct heap_page) <= 4096, "a page of the pool");
static_assert(PER_PAGE % ARITY == 0, "children stay in one page");

struct item {
        uint64_t deadline;
        uint32_t handle;
};

static uint32_t *page_entry(const struct store *s, const struct table_gen *g, uint64_t page)
{
        return &((uint32_t *)arena_page(&s->a, g->dir[page / PER_DIR]))[page % PER_DIR];
}

static struct heap_page *page_of(const struct store *s, const struct table_gen *g, uint64_t i,
                                 uint32_t *ret_at)
{
        uint64_t slot = i + SHIFT;

        *ret_at = (uint32_t)(slot % PER_PAGE);
        return arena_page(&s->a, *page_entry(s, g, slot / PER_PAGE));
}

static struct item item_get(const struct store *s, const struct table_gen *g, uint64_t i)
{
        uint32_t at;
        const struct heap_page *p = page_of(s, g, i, &at);

        return (struct item){(uint64_t)p->high[at] << 32 | p->low[at], p->handle[at]};
}

static void item_put(struct store *s, const struct table_gen *g, uint64_t i, struct item it)
{
        uint32_t at;
        struct heap_page *p = page_of(s, g, i, &at);

        p->handle[at] = it.handle;
        p->low[at] = (uint32_t)it.deadline;
        p->high[at] = (uint8_t)(it.deadline >> 32);
        arena_rec(&s->a, it.handle)->heap_pos = (uint32_t)i;
}

static void sift_up(struct store *s, const struct table_gen *g, uint64_t i, struct item it)
{
        while (i > 0) {
                uint64_t parent = (i - 1) / ARITY;
                struct item p = item_get(s, g, parent);

                if (p.deadline <= it.deadline)
                        break;
                item_put(s, g, i, p);
                i = parent;
        }
        item_put(s, g, i, it);
}

static void sift_down(struct store *s, const struct table_gen *g, uint64_t i, struct item it)
{
        for (;;) {
                uint64_t first = i * ARITY + 1, best = first;
                uint64_t n = g->n_heap - first < ARITY ? g->n_heap - first : ARITY;
                struct item least;

                if (first >= g->n_heap)
                        break;
                least = item_get(s, g, first);
                for (uint64_t j = 1; j < n; j++) {
                        struct item c = item_get(s, g, first + j);

                        if (c.deadline < least.deadline) {
                                least = c;
                                best = first + j;
                        }
                }
                if (least.deadline >= it.deadline)
                        break;
                item_put(s, g, i, least);
                i = best;
        }
        item_put(s, g, i, it);
}

/* Puts the item where it belongs, starting from the hole at i. */
static void settle(struct store *s, const struct table_gen *g, uint64_t i, struct item it)
{
        if (i > 0 && item_get(s, g, (i - 1) / ARITY).deadline > it.deadline)
                sift_up(s, g, i, it);
        else
                sift_down(s, g, i, it);
}

/* ---- the heap of generations */

static uint32_t *gen_pos(void *ctx, uint32_t id)
{
        struct store *s = ctx;

        return &s->a.gens[id].heap_pos;
}

struct idheap expiry_gen_heap(struct store *s)
{
        return (struct idheap){.items = s->a.gen_heap,
                               .n = &s->a.t->n_gen_heap,
                               .pos = gen_pos,
                               .ctx = s};
}

static void top_changed(struct store *s, uint32_t gen)
{
        const struct table_gen *g = &s->a.gens[gen];
        uint64_t deadline;

        if (g->state != GEN_LIVE || g->n_heap == 0) {
                idheap_drop(&s->gen_heap, gen);
                return;
        }
        deadline = item_get(s, g, 0).deadline;
        if (g->heap_pos == IDHEAP_NONE || s->a.gen_heap[g->heap_pos].key != deadline)
                idheap_put(&s->gen_heap, gen, deadline);
}

void expiry_forget_gen(struct store *s, uint32_t gen)
{
        idheap_drop(&s->gen_heap, gen);
}

/* ---- operations */

/* Pages that n items take. */
static uint64_t pages_for(uint64_t n)
{
        return n == 0 ? 0 : (n + SHIFT + PER_PAGE - 1) / PER_PAGE;
}

int expiry_reserve(struct store *s, uint32_t gen)
{
        struct table_gen *g = &s->a.gens[gen];
        uint64_t page = pages_for(g->n_heap);
        uint32_t got;
        int r;

        if (pages_for(g->n_heap + 1) == page)
                return 0;
        if (page / PER_DIR >= GEN_DIR_PAGES)
                return -ENOMEM;
        if (page % PER_DIR == 0) {
                if (g->dir[page / PER_DIR] == TABLE_NONE) {
                        r = arena_page_alloc(&s->a, &got);
                        if (r < 0)
                                return r;
                        for (uint32_t i = 0; i < PER_DIR; i++)
                                ((uint32_t *)arena_page(&s->a, got))[i] = TABLE_NONE;
                        g->dir[page / PER_DIR] = got;
                }
        }
        if (*page_entry(s, g, page) == TABLE_NONE) {
                r = arena_page_alloc(&s->a, &got);
                if (r < 0)
                        return r;
                *page_entry(s, g, page) = got;
        }
        return 0;
}

void expiry_set(struct store *s, uint32_t gen, uint32_t handle, uint64_t deadline)
{
        struct table_gen *g = &s->a.gens[gen];
        uint32_t i = arena_rec(&s->a, handle)->heap_pos;
        struct item it = {deadline, handle};

        if (i == TABLE_NONE)
                sift_up(s, g, g->n_heap++, it);
        else
                settle(s, g, i, it);
        top_changed(s, gen);
}

/* Frees one page of the heap, and its directory with the first page of it. */
static void drop_page(struct store *s, struct table_gen *g, uint64_t page)
{
        if (page / PER_DIR >= GEN_DIR_PAGES || g->dir[page / PER_DIR] == TABLE_NONE ||
            *page_entry(s, g, page) == TABLE_NONE)
                return;
        arena_page_free(&s->a, *page_entry(s, g, page));
        *page_entry(s, g, page) = TABLE_NONE;
        if (page % PER_DIR == 0) {
                arena_page_free(&s->a, g->dir[page / PER_DIR]);
                g->dir[page / PER_DIR] = TABLE_NONE;
        }
}

/* Frees the page behind the last item, but one: a size that moves about a boundary stays calm.
 * Called after each removal, so there is never more than one to free, but at the very end. */
static void shrink(struct store *s, struct table_gen *g)
{
        drop_page(s, g, pages_for(g->n_heap) + 1);
        if (g->n_heap == 0)
                drop_page(s, g, 0);
}

void expiry_remove(struct store *s, uint32_t gen, uint32_t handle)
{
        struct table_gen *g = &s->a.gens[gen];
        struct table_rec *rec = arena_rec(&s->a, handle);
        uint64_t i = rec->heap_pos;
        struct item last;

        if (rec->heap_pos == TABLE_NONE)
                return;
        rec->heap_pos = TABLE_NONE;
        last = item_get(s, g, --g->n_heap);
        if (i != g->n_heap)
                settle(s, g, i, last);
        shrink(s, g);
        top_changed(s, gen);
}

/* The record (with its position) was copied to another handle. */
void expiry_moved(struct store *s, uint32_t gen, uint32_t handle)
{
        const struct table_gen *g = &s->a.gens[gen];
        uint32_t pos = arena_rec(&s->a, handle)->heap_pos, at;

        if (pos != TABLE_NONE)
                page_of(s, g, pos, &at)->handle[at] = handle;
}

uint32_t expiry_due(const struct store *s, uint32_t gen, uint64_t now)
{
        const struct table_gen *g = &s->a.gens[gen];
        struct item top;

        if (g->n_heap == 0)
                return ARENA_NONE;
        top = item_get(s, g, 0);
        return top.deadline <= now ? top.handle : ARENA_NONE;
}

uint32_t expiry_due_any(const struct store *s, uint64_t now)
{
        if (s->a.t->n_gen_heap == 0 || s->a.gen_heap[0].key > now)
                return ARENA_NONE;
        return expiry_due(s, s->a.gen_heap[0].id, now);
}

bool expiry_free_page(struct store *s, uint32_t gen)
{
        struct table_gen *g = &s->a.gens[gen];

        for (uint32_t d = 0; d < GEN_DIR_PAGES; d++) {
                uint32_t *dir;

                if (g->dir[d] == TABLE_NONE)
                        continue;
                dir = arena_page(&s->a, g->dir[d]);
                for (uint32_t i = 0; i < PER_DIR; i++)
                        if (dir[i] != TABLE_NONE) {
                                arena_page_free(&s->a, dir[i]);
                                dir[i] = TABLE_NONE;
                                return true;
                        }
                arena_page_free(&s->a, g->dir[d]);
                g->dir[d] = TABLE_NONE;
                return true;
        }
        return false;
}
