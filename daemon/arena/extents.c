/* SPDX-License-Identifier: MIT */
/*
 * Extents: values of some 100 KiB to 4 MiB, on pages of their own
 *
 * The part of the arena that is for them is cut into places of three sizes. A value lies at the
 * start of a place, of the smallest size that is long enough and has one to spare; what lies behind
 * it costs nothing, since it is not resident. So there is no fragmentation to fight, nothing is
 * ever moved, and each operation is a few steps: what could be scattered is virtual space alone, of
 * which there is plenty (as much as for spans). Should the places run out, values get files of
 * their own.
 *
 * What is scarce is warm memory: the kernel takes half a millisecond to make a megabyte resident,
 * and copying into one that is takes a tenth of that. So a place that becomes free keeps its pages.
 * Free places are in lists by how much of them is resident; a value gets the one with the least
 * that suffices. If all that suffice have much more, one with less is filled up: what lies behind
 * the value is of use to nobody while it is there. When the store finds that too much is resident
 * it has part after part given back: first such rests, then what has been free for longest, so that
 * what is being used again and again stays.
 *
 * A place:   free → filling → full → free, or → gone → free while somebody still holds it
 *
 * All of this is derived from the entries, so it lies on the heap, and a successor makes it anew.
 */

#include "arena/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena/arena.h"

#define PAGE        4096u
#define COMMIT_STEP EXTENT_CLASS_PAGES        /* for a value that arrives bit by bit */
#define RELEASE_MAX (UINT32_C(1) << 20 >> 12) /* pages given back at once: some 160 µs */

/* Sizes, and of how many spans each has a place: together they take as much virtual space. */
static const struct {
        unsigned shift, spans_per_place;
} kinds[EXTENT_KINDS] = {{22, 8}, {20, 4}, {19, 2}};
#define PLACES_LEAST 16u

static_assert(EXTENT_SIZE_MAX / PAGE <= EXTENT_CLASS_PAGES * (EXTENT_CLASSES - 1),
              "a class for each place");
static_assert(EXTENT_CLASSES <= 65, "classes but the first are bits of a word");

static uint16_t pages_of(uint64_t n)
{
        return (uint16_t)((n + PAGE - 1) / PAGE);
}

/* ---- where places are */

static uint32_t n_of_kind(unsigned k, uint32_t n_spans)
{
        uint32_t n = n_spans / kinds[k].spans_per_place;

        return n < PLACES_LEAST ? PLACES_LEAST : n;
}

uint64_t extents_lay(uint32_t n_spans)
{
        uint64_t size = 0;

        for (unsigned k = 0; k < EXTENT_KINDS; k++)
                size += (uint64_t)n_of_kind(k, n_spans) << kinds[k].shift;
        return size;
}

static unsigned kind_number(const struct extents *x, uint32_t place)
{
        unsigned k = EXTENT_KINDS - 1;

        while (place < x->kinds[k].base)
                k--;
        return k;
}

static struct extent_kind *kind_of(struct extents *x, uint32_t place)
{
        return &x->kinds[kind_number(x, place)];
}

static uint64_t offset_of(const struct arena *a, uint32_t place)
{
        const struct extent_kind *k = &a->extents.kinds[kind_number(&a->extents, place)];

        return a->h->extents_off + k->offset + ((uint64_t)(place - k->base) << k->shift);
}

uint8_t *extents_at(const struct arena *a, uint32_t place)
{
        return a->mem.base + offset_of(a, place);
}

struct arena_extent extents_name(const struct arena *a, uint32_t place, uint64_t size)
{
        return (struct arena_extent){offset_of(a, place) - a->h->extents_off, size};
}

uint32_t extents_place(const struct arena *a, const struct arena_extent *e)
{
        const struct extents *x = &a->extents;
        unsigned i = EXTENT_KINDS - 1;
        const struct extent_kind *k;
        uint64_t off;

        if (e->offset >= a->h->extents_size)
                return EXTENT_NONE;
        while (e->offset < x->kinds[i].offset)
                i--;
        k = &x->kinds[i];
        off = e->offset - k->offset;
        if (off & ((UINT64_C(1) << k->shift) - 1))
                return EXTENT_NONE;
        return k->base + (uint32_t)(off >> k->shift);
}

/* ---- life */

int extents_init(struct arena *a)
{
        struct extents *x = &a->extents;
        uint64_t offset = 0;

        free(x->places);
        *x = (struct extents){.newest = EXTENT_NONE, .oldest = EXTENT_NONE};
        for (unsigned i = 0; i < EXTENT_KINDS; i++) {
                struct extent_kind *k = &x->kinds[i];

                k->offset = offset;
                k->base = x->n_places;
                k->n = n_of_kind(i, a->h->n_spans);
                k->shift = kinds[i].shift;
                for (unsigned j = 0; j < EXTENT_LISTS; j++)
                        k->first[j] = k->last[j] = EXTENT_NONE;
                x->n_places += k->n;
                offset += (uint64_t)k->n << k->shift;
        }
        x->places = calloc(x->n_places, sizeof(*x->places)); /* touched as they are used */
        return x->places ? 0 : -ENOMEM;
}

void extents_done(struct arena *a)
{
        free(a->extents.places);
        a->extents.places = NULL;
}

/* ---- lists */

static void list_remove(struct extents *x, struct extent_kind *k, uint32_t place)
{
        struct extent_place *p = &x->places[place];
        unsigned list = p->list;

        if (list == EXTENT_LIST_NONE)
                return;
        *(p->prev == EXTENT_NONE ? &k->first[list] : &x->places[p->prev].next) = p->next;
        *(p->next == EXTENT_NONE ? &k->last[list] : &x->places[p->next].prev) = p->prev;
        if (list >= 1 && list < EXTENT_CLASSES && k->first[list] == EXTENT_NONE)
                k->free_classes &= ~(UINT64_C(1) << (list - 1));
        p->list = EXTENT_LIST_NONE;
}

static void list_push(struct extents *x, struct extent_kind *k, unsigned list, uint32_t place,
                      bool last)
{
        struct extent_place *p = &x->places[place];

        p->list = (uint8_t)list;
        p->prev = last ? k->last[list] : EXTENT_NONE;
        p->next = last ? EXTENT_NONE : k->first[list];
        *(p->prev == EXTENT_NONE ? &k->first[list] : &x->places[p->prev].next) = place;
        *(p->next == EXTENT_NONE ? &k->last[list] : &x->places[p->next].prev) = place;
        if (list >= 1 && list < EXTENT_CLASSES)
                k->free_classes |= UINT64_C(1) << (list - 1);
}

static void warm_remove(struct extents *x, uint32_t place)
{
        struct extent_place *p = &x->places[place];

        if (!p->is_warm)
                return;
        *(p->newer == EXTENT_NONE ? &x->newest : &x->places[p->newer].older) = p->older;
        *(p->older == EXTENT_NONE ? &x->oldest : &x->places[p->older].newer) = p->newer;
        p->is_warm = false;
}

static void warm_push(struct extents *x, uint32_t place)
{
        struct extent_place *p = &x->places[place];

        p->newer = EXTENT_NONE;
        p->older = x->newest;
        *(p->older == EXTENT_NONE ? &x->oldest : &x->places[p->older].newer) = place;
        x->newest = place;
        p->is_warm = true;
}

static unsigned class_of(unsigned pages)
{
        return (pages + EXTENT_CLASS_PAGES - 1) / EXTENT_CLASS_PAGES;
}

/* Puts a place where it belongs as it is now. What was freed last is taken first: it may still be
 * in the processor's caches. Rests behind what is arriving are the last to be given back. */
static void enlist(struct extents *x, uint32_t place)
{
        const struct extent_place *p = &x->places[place];
        struct extent_kind *k = kind_of(x, place);

        list_remove(x, k, place);
        if (p->state == PLACE_FREE)
                list_push(x, k, class_of(p->committed), place, false);
        else if (p->committed > p->needed)
                list_push(x, k, EXTENT_LIST_REST, place, p->state == PLACE_FILLING);
        if (p->state != PLACE_FREE || p->committed == 0)
                warm_remove(x, place);
        else if (!p->is_warm)
                warm_push(x, place);
}

/* ---- counting */

static void set_needed(struct extents *x, struct extent_place *p, uint16_t pages)
{
        int64_t more = ((int64_t)pages - p->needed) * PAGE;

        x->needed += (uint64_t)more;
        if (p->state == PLACE_FILLING)
                x->filling += (uint64_t)more;
        p->needed = pages;
}

static void set_committed(struct extents *x, struct extent_place *p, uint16_t pages)
{
        x->committed += (uint64_t)(((int64_t)pages - p->committed) * PAGE);
        p->committed = pages;
}

/* ---- taking, filling, freeing */

/* The list of free places to take one from; the class of those without pages if there is no better.
 */
static unsigned choose_class(const struct extent_kind *k, unsigned pages)
{
        unsigned want = class_of(pages), above, below;
        uint64_t from = k->free_classes >> (want - 1), to = k->free_classes;

        if (from == 0 && to == 0)
                return 0;
        above = from == 0 ? 0 : want + (unsigned)__builtin_ctzll(from);
        to &= (UINT64_C(1) << (want - 1)) - 1;
        below = to == 0 ? 0 : 64 - (unsigned)__builtin_clzll(to);
        if (above == 0 || above == want)
                return above ? above : below;
        /* Making a page resident takes four times as long as giving one back. */
        return below > 0 && (want - below) * 4 < above - want ? below : above;
}

/* The smallest that are long enough, as long as there are any. */
static const struct extent_kind *choose_kind(const struct extents *x, uint64_t size)
{
        for (unsigned i = EXTENT_KINDS; i-- > 0;) {
                const struct extent_kind *k = &x->kinds[i];

                if (size <= UINT64_C(1) << k->shift &&
                    (k->high < k->n || k->free_classes != 0 || k->first[0] != EXTENT_NONE))
                        return k;
        }
        return NULL;
}

bool extents_has_room(const struct arena *a, uint64_t size)
{
        return choose_kind(&a->extents, size) != NULL;
}

int extents_take(struct arena *a, uint64_t size, uint32_t *ret_place)
{
        struct extents *x = &a->extents;
        const struct extent_kind *from = choose_kind(x, size);
        struct extent_kind *k;
        struct extent_place *p;
        uint32_t place;

        assert(size > 0 && size <= EXTENT_SIZE_MAX);
        if (!from)
                return -ENOSPC;
        k = &x->kinds[from - x->kinds];
        place = k->first[choose_class(k, pages_of(size))];
        if (place == EXTENT_NONE) {
                place = k->base + k->high++;
                x->places[place].list = EXTENT_LIST_NONE;
        }
        list_remove(x, k, place);
        p = &x->places[place];
        p->state = PLACE_FILLING;
        p->size = pages_of(size);
        enlist(x, place);
        *ret_place = place;
        return 0;
}

int extents_commit(struct arena *a, uint32_t place, uint64_t n)
{
        struct extents *x = &a->extents;
        struct extent_place *p = &x->places[place];
        uint16_t pages = pages_of(n), to;
        int r;

        assert(p->state == PLACE_FILLING && pages <= p->size);
        if (pages > p->committed) {
                to = (uint16_t)((pages + COMMIT_STEP - 1) / COMMIT_STEP * COMMIT_STEP);
                if (to > p->size)
                        to = p->size;
                r = memfile_commit(&a->mem, offset_of(a, place) + (uint64_t)p->committed * PAGE,
                                   (uint64_t)(to - p->committed) * PAGE);
                if (r < 0)
                        return r;
                set_committed(x, p, to);
        }
        if (pages > p->needed)
                set_needed(x, p, pages);
        enlist(x, place);
        return 0;
}

void extents_complete(struct arena *a, uint32_t place)
{
        struct extents *x = &a->extents;
        struct extent_place *p = &x->places[place];

        assert(p->state == PLACE_FILLING && p->needed == p->size);
        x->filling -= (uint64_t)p->needed * PAGE;
        p->state = PLACE_FULL;
        enlist(x, place);
}

void extents_free(struct arena *a, uint32_t place)
{
        struct extents *x = &a->extents;
        struct extent_place *p = &x->places[place];

        assert(p->state != PLACE_FREE);
        if (p->holders > 0) {
                p->state = PLACE_GONE;
                return;
        }
        set_needed(x, p, 0); /* before the state: `filling` */
        p->state = PLACE_FREE;
        enlist(x, place);
}

uint32_t extents_hold(struct arena *a, uint32_t place)
{
        assert(a->extents.places[place].state == PLACE_FULL);
        return ++a->extents.places[place].holders;
}

uint32_t extents_release(struct arena *a, uint32_t place)
{
        struct extent_place *p = &a->extents.places[place];

        assert(p->holders > 0);
        if (--p->holders > 0)
                return p->holders;
        if (p->state == PLACE_GONE)
                extents_free(a, place);
        return 0;
}

bool extents_is_held(const struct arena *a, uint32_t place)
{
        return a->extents.places[place].holders > 0;
}

bool extents_is_free(const struct arena *a, uint32_t place)
{
        const struct extent_place *p = &a->extents.places[place];

        return p->state == PLACE_FREE || p->state == PLACE_GONE;
}

/* ---- giving memory back */

uint64_t extents_spare(const struct arena *a)
{
        return a->extents.committed - a->extents.needed;
}

/* Of the places in the order in which they lie. */
static bool next_hole_of(const struct arena *a, const struct extent_kind *k, uint64_t off,
                         uint64_t *ret_from, uint64_t *ret_to)
{
        uint64_t base = a->h->extents_off + k->offset, size = UINT64_C(1) << k->shift;
        uint64_t i = off > base ? (off - base) >> k->shift : 0;

        for (; i < k->high; i++) {
                const struct extent_place *p = &a->extents.places[k->base + i];

                *ret_from = base + i * size + (uint64_t)p->committed * PAGE;
                *ret_to = base + (i + 1) * size;
                if (*ret_from < off)
                        *ret_from = off;
                if (*ret_from < *ret_to)
                        return true;
        }
        *ret_from = base + k->high * size; /* those that were never used */
        *ret_to = base + k->n * size;
        if (*ret_from < off)
                *ret_from = off;
        return *ret_from < *ret_to;
}

bool extents_next_hole(const struct arena *a, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
        for (unsigned i = 0; i < EXTENT_KINDS; i++) {
                const struct extent_kind *k = &a->extents.kinds[i];

                if (off < a->h->extents_off + k->offset + ((uint64_t)k->n << k->shift) &&
                    next_hole_of(a, k, off, ret_from, ret_to))
                        return true;
        }
        return false;
}

/* A place with a rest; behind a value that is arriving only if there is nothing else. */
static uint32_t choose_spare(const struct extents *x)
{
        uint32_t arriving = EXTENT_NONE;

        for (unsigned i = 0; i < EXTENT_KINDS; i++) {
                uint32_t place = x->kinds[i].first[EXTENT_LIST_REST];

                if (place == EXTENT_NONE)
                        continue;
                if (x->places[place].state != PLACE_FILLING)
                        return place;
                arriving = place;
        }
        return x->oldest != EXTENT_NONE ? x->oldest : arriving;
}

/* The place keeps what lies before. */
uint64_t extents_give_back(struct arena *a)
{
        struct extents *x = &a->extents;
        uint32_t place = choose_spare(x);
        struct extent_place *p;
        uint64_t n;
        uint16_t to;

        if (place == EXTENT_NONE)
                return 0;
        p = &x->places[place];
        to = p->committed > p->needed + RELEASE_MAX ? (uint16_t)(p->committed - RELEASE_MAX)
                                                    : p->needed;
        n = (uint64_t)(p->committed - to) * PAGE;
        memfile_release(&a->mem, offset_of(a, place) + (uint64_t)to * PAGE, n);
        set_committed(x, p, to);
        enlist(x, place);
        return n;
}

/* ---- adopting */

int extents_adopt(struct arena *a, const struct arena_extent *e)
{
        struct extents *x = &a->extents;
        uint32_t place = extents_place(a, e);
        struct extent_place *p;
        struct extent_kind *k;

        if (place == EXTENT_NONE)
                return -EINVAL;
        p = &x->places[place];
        k = kind_of(x, place);
        if (e->size == 0 || e->size > UINT64_C(1) << k->shift || p->state != PLACE_FREE)
                return -EINVAL;
        if (memfile_recommit(&a->mem, offset_of(a, place), e->size) < 0)
                return -ENOMEM;
        for (; k->base + k->high <= place; k->high++)
                x->places[k->base + k->high].list = EXTENT_LIST_NONE;
        p->state = PLACE_FULL;
        p->size = pages_of(e->size);
        set_committed(x, p, p->size);
        set_needed(x, p, p->size);
        return 0;
}

/* From @from up to where the next place in use begins. */
static void adopt_end_of(struct arena *a, struct extent_kind *k, uint64_t *from)
{
        struct extents *x = &a->extents;

        for (uint32_t i = k->base; i < k->base + k->high; i++) {
                const struct extent_place *p = &x->places[i];

                if (p->state == PLACE_FREE) {
                        list_push(x, k, 0, i, true);
                        continue;
                }
                memfile_release(&a->mem, *from, offset_of(a, i) - *from);
                *from = offset_of(a, i) + (uint64_t)p->committed * PAGE;
        }
}

void extents_adopt_end(struct arena *a)
{
        uint64_t from = a->h->extents_off;

        for (unsigned i = 0; i < EXTENT_KINDS; i++)
                adopt_end_of(a, &a->extents.kinds[i], &from);
        memfile_release(&a->mem, from, a->h->extents_off + a->h->extents_size - from);
}
