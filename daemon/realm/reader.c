/* SPDX-License-Identifier: MIT */
/*
 * Reader
 *
 * A client page lies in a memory file of its own, sealed against every change of its size, and both
 * sides have it mapped for writing. Its owner may write anything anywhere in it at any time, so:
 * each word is read once; what is the daemon's (how far a ring was emptied, which counts were seen)
 * is kept here and only told to the page; a ring that claims to hold more than it can has lost what
 * is more; a count that goes down has not changed; a time in the future is now, and time in a ring
 * does not go back. What a use or a count says about the store, the store decides.
 *
 * The descriptor is given away: the mapping is all that is needed.
 */
#include "realm/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

int reader_new(uint32_t bit, struct reader **ret, int *ret_fd)
{
        struct reader *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        int k = memfile_init(&r->mem, "cached:page", CLIENT_PAGE_SIZE);
        if (k == 0 && fcntl(r->mem.fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
                k = -errno;
        if (k == 0) /* what is looked at in any case; the rest comes with its use */
                k = memfile_commit(&r->mem, 0, offsetof(struct client_page, touches));
        if (k < 0) {
                reader_free(r);
                return k;
        }
        r->bit = bit;
        r->page = (struct client_page *)(void *)r->mem.base;
        r->page->magic = CLIENT_PAGE_MAGIC;
        r->page->version = CLIENT_PAGE_VERSION;
        r->page->dirty_bit = bit;
        for (unsigned i = 0; i < PAGE_RINGS; i++)
                r->ring[i].heap_pos = UINT32_MAX;
        *ret_fd = r->mem.fd;
        r->mem.fd = -1;
        *ret = r;
        return 0;
}

struct reader *reader_free(struct reader *r)
{
        if (!r)
                return NULL;
        memfile_done(&r->mem);
        free(r);
        return NULL;
}

/* ---- rings */

static void see_head(struct reader *r, unsigned ring, uint64_t *lost)
{
        struct reader_ring *g = &r->ring[ring];
        g->end = atomic_load_explicit(&r->page->ring[ring].head, memory_order_acquire);
        uint64_t n = g->end - g->tail;
        if (n <= PAGE_RING_SLOTS)
                return;
        /* One that lies may not drown what others lost. */
        *lost += n > UINT32_MAX ? UINT32_MAX : n - PAGE_RING_SLOTS;
        g->tail = g->end - PAGE_RING_SLOTS;
}

void reader_end(struct reader *r)
{
        uint64_t lost = 0;
        for (unsigned i = 0; i < PAGE_RINGS; i++)
                see_head(r, i, &lost);
        r->gone = true;
        /* Nobody empties them from now on. Who has not noticed that its connection ended finds no
         * room for the next use, asks, and gets another page. */
        for (unsigned i = 0; i < PAGE_RINGS; i++)
                atomic_store_explicit(&r->page->ring[i].tail, r->ring[i].end - PAGE_RING_SLOTS,
                                      memory_order_release);
}

static struct store_use read_slot(const struct reader *r, unsigned ring, unsigned slot)
{
        const struct page_touch *t = &r->page->touches[ring][slot];
        return (struct store_use){
                .handle = atomic_load_explicit(&t->handle, memory_order_relaxed),
                .version_lo = atomic_load_explicit(&t->version_lo, memory_order_relaxed),
        };
}

static void see_time(struct reader_ring *g, uint32_t mark, uint64_t now_ms)
{
        uint32_t age = (uint32_t)now_ms - mark;
        uint64_t time = age > INT32_MAX ? now_ms : now_ms - age;
        if (time > g->time_ms)
                g->time_ms = time;
}

static void tell_tail(struct reader *r, unsigned ring)
{
        if (r->gone)
                return;
        atomic_store_explicit(&r->page->ring[ring].tail, r->ring[ring].tail, memory_order_release);
}

bool reader_look(struct reader *r, unsigned ring, uint64_t now_ms, unsigned *slots, uint64_t *lost)
{
        struct reader_ring *g = &r->ring[ring];
        if (!r->gone)
                see_head(r, ring, lost);
        bool any = false;
        while (g->tail != g->end && *slots > 0) {
                struct store_use u = read_slot(r, ring, page_ring_slot(g->tail));
                if (u.handle != 0)
                        break;
                see_time(g, u.version_lo, now_ms);
                g->tail++;
                (*slots)--;
                any = true;
        }
        if (any)
                tell_tail(r, ring);
        return g->tail != g->end;
}

unsigned reader_take(struct reader *r, unsigned ring, uint64_t until_ms, uint64_t now_ms,
                     struct store_use *uses, unsigned max, unsigned *slots)
{
        struct reader_ring *g = &r->ring[ring];
        uint64_t n_there = g->end - g->tail, n_may = n_there < *slots ? n_there : *slots;
        unsigned n = 0, slot = page_ring_slot(g->tail), taken = 0;
        while (taken < n_may && n < max && g->time_ms <= until_ms) {
                struct store_use u = read_slot(r, ring, slot);
                slot = slot + 1 < PAGE_RING_SLOTS ? slot + 1 : 0;
                taken++;
                if (u.handle == 0)
                        see_time(g, u.version_lo, now_ms);
                else
                        uses[n++] = u;
        }
        g->tail += taken;
        *slots -= taken;
        tell_tail(r, ring);
        return n;
}

/* ---- counters */

/* How far a count that wraps around has gone; not at all if it went back. */
static uint32_t grown(uint32_t *seen, uint32_t now)
{
        uint32_t by = now - *seen;
        *seen = now;
        return by > INT32_MAX ? 0 : by;
}

void reader_count(struct reader *r, struct store *s)
{
        /* As long as there are fewer caches than counters, each has the one of its id. */
        uint32_t n = store_n_caches(s) < PAGE_COUNTERS ? store_n_caches(s) + 1 : PAGE_COUNTERS;
        for (uint32_t i = 0; i < n; i++) {
                const struct page_counter *c = &r->page->counters[i];
                uint32_t id = atomic_load_explicit(&c->cache, memory_order_relaxed);
                uint32_t hits = atomic_load_explicit(&c->hits, memory_order_relaxed);
                uint32_t misses = atomic_load_explicit(&c->misses, memory_order_relaxed);
                if (hits == r->seen[i].hits && misses == r->seen[i].misses)
                        continue;
                hits = grown(&r->seen[i].hits, hits);
                misses = grown(&r->seen[i].misses, misses);
                store_count_mapped(s, id, hits, misses);
        }
}
