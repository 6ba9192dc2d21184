/* SPDX-License-Identifier: MIT */
/*
 * Extents: values of about a megabyte to four, on pages of their own
 *
 * The part of the arena that is for them is cut into places of 4 MiB, as long as the longest value.
 * A value lies at the start of a place; what lies behind it costs nothing, since it is not
 * resident. So there is no fragmentation to fight, nothing is ever moved, and each operation is a
 * few steps: what could be scattered is virtual space alone, of which there is plenty (a place for
 * every 4 MiB of spans). Should the places run out, longer values get files of their own.
 *
 * What is scarce is warm memory: the kernel takes half a millisecond to make a megabyte resident,
 * and copying into one that is takes a tenth of that. So a place that becomes free keeps its pages.
 * Free places are in lists by how much of them is resident; a value gets the one with the least
 * that suffices. If all that suffice have much more, one with less is filled up: what lies behind
 * the value is of use to nobody while it is there. Of what holds nothing (free places, rests
 * behind values) the store has part after part given back when it finds that too much is resident.
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

#define PAGE         4096u
#define PLACE_PAGES  (EXTENT_PLACE_SIZE / PAGE)
#define COMMIT_STEP  EXTENT_CLASS_PAGES        /* for a value that arrives bit by bit */
#define RELEASE_MAX  (UINT32_C(1) << 20 >> 12) /* pages given back at once: some 160 µs */
#define PLACES_LEAST 16u

static_assert(PLACE_PAGES <= EXTENT_CLASS_PAGES * (EXTENT_CLASSES - 1), "a class for each place");
static_assert(EXTENT_CLASSES <= 65, "classes but the first are bits of a word");

static uint16_t pages_of(uint64_t n)
{
        return (uint16_t)((n + PAGE - 1) / PAGE);
}

static uint64_t offset_of(const struct arena *a, uint32_t place)
{
        return a->h->extents_off + ((uint64_t)place << EXTENT_PLACE_SHIFT);
}

/* ---- life */

uint32_t extents_n_places(uint32_t n_spans)
{
        uint32_t n = n_spans / (EXTENT_PLACE_SIZE / ARENA_SPAN_SIZE);

        return n < PLACES_LEAST ? PLACES_LEAST : n;
}

int extents_init(struct arena *a)
{
        struct extents *x = &a->extents;

        free(x->places);
        *x = (struct extents){.n_places = extents_n_places(a->h->n_spans)};
        for (unsigned i = 0; i < EXTENT_LISTS; i++)
                x->first[i] = x->last[i] = EXTENT_NONE;
        x->places = calloc(x->n_places, sizeof(*x->places)); /* touched as they are used */
        return x->places ? 0 : -ENOMEM;
}

void extents_done(struct arena *a)
{
        free(a->extents.places);
        a->extents.places = NULL;
}

/* ---- lists */

static void list_remove(struct extents *x, uint32_t place)
{
        struct extent_place *p = &x->places[place];
        unsigned list = p->list;

        if (list == EXTENT_LIST_NONE)
                return;
        *(p->prev == EXTENT_NONE ? &x->first[list] : &x->places[p->prev].next) = p->next;
        *(p->next == EXTENT_NONE ? &x->last[list] : &x->places[p->next].prev) = p->prev;
        if (list >= 1 && list < EXTENT_CLASSES && x->first[list] == EXTENT_NONE)
                x->free_classes &= ~(UINT64_C(1) << (list - 1));
        p->list = EXTENT_LIST_NONE;
}

static void list_push(struct extents *x, unsigned list, uint32_t place, bool last)
{
        struct extent_place *p = &x->places[place];

        p->list = (uint8_t)list;
        p->prev = last ? x->last[list] : EXTENT_NONE;
        p->next = last ? EXTENT_NONE : x->first[list];
        *(p->prev == EXTENT_NONE ? &x->first[list] : &x->places[p->prev].next) = place;
        *(p->next == EXTENT_NONE ? &x->last[list] : &x->places[p->next].prev) = place;
        if (list >= 1 && list < EXTENT_CLASSES)
                x->free_classes |= UINT64_C(1) << (list - 1);
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

        list_remove(x, place);
        if (p->state == PLACE_FREE)
                list_push(x, class_of(p->committed), place, false);
        else if (p->committed > p->needed)
                list_push(x, EXTENT_LIST_REST, place, p->state == PLACE_FILLING);
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
static unsigned choose_class(const struct extents *x, unsigned pages)
{
        unsigned want = class_of(pages), above, below;
        uint64_t from = x->free_classes >> (want - 1), to = x->free_classes;

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

bool extents_has_room(const struct arena *a)
{
        const struct extents *x = &a->extents;

        return x->high < x->n_places || x->free_classes != 0 || x->first[0] != EXTENT_NONE;
}

int extents_take(struct arena *a, uint64_t size, uint32_t *ret_place)
{
        struct extents *x = &a->extents;
        struct extent_place *p;
        uint32_t place;

        assert(size > 0 && size <= EXTENT_PLACE_SIZE);
        place = x->first[choose_class(x, pages_of(size))];
        if (place == EXTENT_NONE) {
                if (x->high == x->n_places)
                        return -ENOSPC;
                place = x->high++;
                x->places[place].list = EXTENT_LIST_NONE;
        }
        list_remove(x, place);
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

        return place >= a->extents.high || p->state == PLACE_FREE || p->state == PLACE_GONE;
}

uint8_t *extents_at(const struct arena *a, uint32_t place)
{
        return a->mem.base + offset_of(a, place);
}

struct arena_extent extents_name(uint32_t place, uint64_t size)
{
        return (struct arena_extent){(uint64_t)place << EXTENT_PLACE_SHIFT, size};
}

/* ---- giving memory back */

uint64_t extents_spare(const struct arena *a)
{
        return a->extents.committed - a->extents.needed;
}

uint64_t extents_committed_of(const struct arena *a, uint32_t place)
{
        return place < a->extents.high ? (uint64_t)a->extents.places[place].committed * PAGE : 0;
}

/* Of a free place that has most and was not used for longest; else of a rest. What lies before
 * stays. */
uint64_t extents_give_back(struct arena *a)
{
        struct extents *x = &a->extents;
        uint32_t place = x->first[EXTENT_LIST_REST];
        struct extent_place *p;
        uint64_t n;
        uint16_t to;

        if (x->free_classes != 0)
                place = x->last[64 - __builtin_clzll(x->free_classes)];
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
        uint32_t place = extents_place(e);
        struct extent_place *p;

        if (e->offset % EXTENT_PLACE_SIZE != 0 || e->offset >= a->h->extents_size || e->size == 0 ||
            e->size > EXTENT_PLACE_SIZE)
                return -EINVAL;
        p = &x->places[place];
        if (p->state != PLACE_FREE)
                return -EINVAL;
        if (memfile_commit(&a->mem, offset_of(a, place), e->size) < 0)
                return -ENOMEM;
        for (; x->high <= place; x->high++)
                x->places[x->high].list = EXTENT_LIST_NONE;
        p->state = PLACE_FULL;
        p->size = pages_of(e->size);
        set_committed(x, p, p->size);
        set_needed(x, p, p->size);
        return 0;
}

void extents_adopt_end(struct arena *a)
{
        struct extents *x = &a->extents;
        uint64_t from = a->h->extents_off;

        for (uint32_t i = 0; i < x->high; i++) {
                const struct extent_place *p = &x->places[i];

                if (p->state == PLACE_FREE) {
                        list_push(x, 0, i, true);
                        continue;
                }
                memfile_release(&a->mem, from, offset_of(a, i) - from);
                from = offset_of(a, i) + (uint64_t)p->committed * PAGE;
        }
        memfile_release(&a->mem, from, a->h->extents_off + a->h->extents_size - from);
}
