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
 * The heap is an array of three columns (handle, low 32 bits, high 8 bits of the deadline): nine
 * bytes an item. A small one lies in a sixteenth or a quarter of a page of the pool, so that what
 * it holds is in proportion to what its entries are charged; a larger one in whole pages of 448
 * items, and pages of page numbers above them. In pages the physical slot of item i is i + 7, so
 * that groups of children (8i+1 … 8i+8) do not straddle pages. Items move to the next kind of place
 * when one is full, and back when little of it is used: some hundreds of items at most.
 *
 * The generations themselves lie in a small heap by their next deadline, for the timer and the
 * sweep. This file does not read a clock and does not decide what a miss means: reads check the
 * deadline too.
 */

#include <errno.h>

#include "arena/pages.h"
#include "store/internal.h"

#define ARITY      8u
#define PER_PAGE   448u
#define SHIFT      (ARITY - 1)
#define FAN_OUT    1024u /* page numbers in a page */
#define ITEM_BYTES 9u

enum kind { KIND_NONE = 0, KIND_SIXTEENTH, KIND_QUARTER, KIND_PAGES };

/* Items that fit: multiples of four, so that the columns are aligned. */
#define FIT_SIXTEENTH 28u
#define FIT_QUARTER   112u
static_assert(PER_PAGE % ARITY == 0, "children stay in one page");
static_assert(PER_PAGE * ITEM_BYTES <= POOL_PAGE_SIZE, "a page");
static_assert(FIT_SIXTEENTH * ITEM_BYTES <= POOL_PAGE_SIZE / 16, "a sixteenth");
static_assert(FIT_QUARTER * ITEM_BYTES <= POOL_PAGE_SIZE / 4, "a quarter");

struct item {
        uint64_t deadline;
        uint32_t handle;
};

/* The columns of the place where an item is, and its number there. */
struct cell {
        uint32_t *handles, *lows;
        uint8_t *highs;
        uint32_t at;
};

static struct cell cell_in(void *place, uint32_t fit, uint32_t at)
{
        uint32_t *handles = place;

        return (struct cell){handles, handles + fit, (uint8_t *)(handles + 2 * fit), at};
}

/* Where the number of a heap's page stands; the page itself need not be there yet. */
static uint32_t *page_number(const struct store *s, struct table_gen *g, uint32_t page)
{
        uint32_t *at = &g->heap;

        if (g->heap_depth == 2)
                at = &((uint32_t *)page_at(&s->a, *at))[page / FAN_OUT];
        if (g->heap_depth >= 1)
                at = &((uint32_t *)page_at(&s->a, *at))[page % FAN_OUT];
        return at;
}

static struct cell cell_of(const struct store *s, struct table_gen *g, uint32_t i)
{
        uint32_t slot = i + SHIFT;

        switch (g->heap_kind) {
        case KIND_SIXTEENTH:
                return cell_in(chunk_at(&s->a, 0, g->heap), FIT_SIXTEENTH, i);
        case KIND_QUARTER:
                return cell_in(chunk_at(&s->a, 1, g->heap), FIT_QUARTER, i);
        default:
                return cell_in(page_at(&s->a, *page_number(s, g, slot / PER_PAGE)), PER_PAGE,
                               slot % PER_PAGE);
        }
}

static struct item item_get(const struct store *s, struct table_gen *g, uint32_t i)
{
        struct cell c = cell_of(s, g, i);

        return (struct item){(uint64_t)c.highs[c.at] << 32 | c.lows[c.at], c.handles[c.at]};
}

static void cell_put(struct cell c, struct item it)
{
        c.handles[c.at] = it.handle;
        c.lows[c.at] = (uint32_t)it.deadline;
        c.highs[c.at] = (uint8_t)(it.deadline >> 32);
}

static void item_put(struct store *s, struct table_gen *g, uint32_t i, struct item it)
{
        cell_put(cell_of(s, g, i), it);
        arena_rec(&s->a, it.handle)->heap_pos = i;
}

static void sift_up(struct store *s, struct table_gen *g, uint32_t i, struct item it)
{
        while (i > 0) {
                uint32_t parent = (i - 1) / ARITY;
                struct item p = item_get(s, g, parent);

                if (p.deadline <= it.deadline)
                        break;
                item_put(s, g, i, p);
                i = parent;
        }
        item_put(s, g, i, it);
}

static void sift_down(struct store *s, struct table_gen *g, uint32_t i, struct item it)
{
        for (;;) {
                uint64_t begin = (uint64_t)i * ARITY + 1;
                uint32_t first = (uint32_t)begin, best = first, n;
                struct item least;

                if (begin >= g->n_heap)
                        break;
                n = g->n_heap - first < ARITY ? g->n_heap - first : ARITY;
                least = item_get(s, g, first);
                for (uint32_t j = 1; j < n; j++) {
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
static void settle(struct store *s, struct table_gen *g, uint32_t i, struct item it)
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
        struct table_gen *g = &s->a.gens[gen];
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

void expiry_forget(struct store *s)
{
        pages_forget(&s->a);
        s->a.t->n_gen_heap = 0;
        for (uint32_t i = 0; i < s->a.t->gen_high; i++) {
                struct table_gen *g = &s->a.gens[i];

                g->heap_pos = IDHEAP_NONE;
                g->n_heap = g->heap = g->heap_pages = 0;
                g->heap_kind = KIND_NONE;
                g->heap_depth = 0;
        }
}

/* ---- places */

/* Pages that n items take. */
static uint32_t pages_for(uint32_t n)
{
        return n == 0 ? 0 : (n + SHIFT + PER_PAGE - 1) / PER_PAGE;
}

/* Adds a page behind the last one, and a level of page numbers where that is full. */
static int page_push(struct store *s, struct table_gen *g)
{
        uint32_t fits = g->heap_depth == 0 ? 1 : g->heap_depth == 1 ? FAN_OUT : FAN_OUT * FAN_OUT;
        uint32_t numbers = TABLE_NONE, page;
        int r;

        if (g->heap_pages == fits) {
                if (g->heap_depth == 2)
                        return -ENOMEM;
                r = page_alloc(&s->a, &page);
                if (r < 0)
                        return r;
                *(uint32_t *)page_at(&s->a, page) = g->heap;
                g->heap = page;
                g->heap_depth++;
        }
        if (g->heap_depth == 2 && g->heap_pages % FAN_OUT == 0) {
                r = page_alloc(&s->a, &numbers);
                if (r < 0)
                        return r;
        }
        r = page_alloc(&s->a, &page);
        if (r < 0) {
                if (numbers != TABLE_NONE)
                        page_free(&s->a, numbers);
                return r;
        }
        if (numbers != TABLE_NONE)
                ((uint32_t *)page_at(&s->a, g->heap))[g->heap_pages / FAN_OUT] = numbers;
        *page_number(s, g, g->heap_pages++) = page;
        return 0;
}

/* Frees the last page, and the page numbers that are not needed without it. */
static void page_pop(struct store *s, struct table_gen *g)
{
        page_free(&s->a, *page_number(s, g, --g->heap_pages));
        if (g->heap_depth == 2 && g->heap_pages % FAN_OUT == 0)
                page_free(&s->a, ((uint32_t *)page_at(&s->a, g->heap))[g->heap_pages / FAN_OUT]);
        if ((g->heap_depth == 2 && g->heap_pages <= FAN_OUT) ||
            (g->heap_depth == 1 && g->heap_pages <= 1)) {
                uint32_t numbers = g->heap;

                g->heap = *(uint32_t *)page_at(&s->a, numbers);
                g->heap_depth--;
                page_free(&s->a, numbers);
        }
}

/* Frees a place that is smaller than a page, or the last page. False: there is none. */
static bool place_pop(struct store *s, struct table_gen *g)
{
        switch (g->heap_kind) {
        case KIND_NONE:
                return false;
        case KIND_PAGES:
                page_pop(s, g);
                if (g->heap_pages > 0)
                        return true;
                break;
        default:
                chunk_free(&s->a, g->heap_kind - KIND_SIXTEENTH, g->heap);
        }
        g->heap_kind = KIND_NONE;
        return true;
}

/* An empty place of the kind, which is not the generation's yet. */
static int place_take(struct store *s, enum kind kind, struct table_gen *ret)
{
        int r;

        *ret = (struct table_gen){.heap_kind = (uint8_t)kind};
        if (kind != KIND_PAGES)
                return chunk_alloc(&s->a, (unsigned)kind - KIND_SIXTEENTH, &ret->heap);
        r = page_alloc(&s->a, &ret->heap);
        if (r == 0)
                ret->heap_pages = 1;
        return r;
}

/* Brings the items to a place of another kind, where they fit. */
static int change_kind(struct store *s, struct table_gen *g, enum kind kind)
{
        struct table_gen to;
        int r = place_take(s, kind, &to);

        if (r < 0)
                return r;
        for (uint32_t i = 0; i < g->n_heap; i++)
                cell_put(cell_of(s, &to, i), item_get(s, g, i));
        while (place_pop(s, g))
                ;
        g->heap_kind = to.heap_kind;
        g->heap = to.heap;
        g->heap_pages = to.heap_pages;
        g->heap_depth = 0;
        return 0;
}

/* Gives back what is not needed, but not so much that the next item asks for it again. */
static void shrink(struct store *s, struct table_gen *g)
{
        if (g->n_heap == 0) {
                while (place_pop(s, g))
                        ;
                return;
        }
        if (g->heap_kind == KIND_PAGES && g->heap_pages > pages_for(g->n_heap) + 1)
                page_pop(s, g);
        /* Without memory for the smaller place the larger one is kept. */
        if (g->heap_kind == KIND_PAGES && g->n_heap <= FIT_QUARTER / 2)
                (void)change_kind(s, g, KIND_QUARTER);
        else if (g->heap_kind == KIND_QUARTER && g->n_heap <= FIT_SIXTEENTH / 2)
                (void)change_kind(s, g, KIND_SIXTEENTH);
}

/* ---- operations */

int expiry_reserve(struct store *s, uint32_t gen)
{
        struct table_gen *g = &s->a.gens[gen];

        switch (g->heap_kind) {
        case KIND_NONE:
                return change_kind(s, g, KIND_SIXTEENTH);
        case KIND_SIXTEENTH:
                return g->n_heap < FIT_SIXTEENTH ? 0 : change_kind(s, g, KIND_QUARTER);
        case KIND_QUARTER:
                return g->n_heap < FIT_QUARTER ? 0 : change_kind(s, g, KIND_PAGES);
        default:
                return pages_for(g->n_heap + 1) <= g->heap_pages ? 0 : page_push(s, g);
        }
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

void expiry_remove(struct store *s, uint32_t gen, uint32_t handle)
{
        struct table_gen *g = &s->a.gens[gen];
        struct table_rec *rec = arena_rec(&s->a, handle);
        uint32_t i = rec->heap_pos;
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
        uint32_t pos = arena_rec(&s->a, handle)->heap_pos;

        if (pos != TABLE_NONE) {
                struct cell c = cell_of(s, &s->a.gens[gen], pos);

                c.handles[c.at] = handle;
        }
}

uint32_t expiry_due(const struct store *s, uint32_t gen, uint64_t now)
{
        struct table_gen *g = &s->a.gens[gen];
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

bool expiry_free_place(struct store *s, uint32_t gen)
{
        return place_pop(s, &s->a.gens[gen]);
}
