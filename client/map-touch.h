/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_TOUCH_H
#define CLIENT_MAP_TOUCH_H

/*
 * What a reader notes for the daemon, see ARENA.md, "Telling the daemon". All of it inside a visit.
 *
 * What every hit does is here, to become part of it; what few do is in map-touch.c.
 */

#include "client/map.h"

enum map_touched {
        MAP_TOUCHED,
        MAP_TOUCHED_ASK,    /* and the ring should be drained */
        MAP_TOUCH_ORPHAN,   /* nobody reads the ring; it is time to look for the daemon again */
        MAP_TOUCH_FULL_ASK, /* as the next, and the ring should be drained */
        MAP_TOUCH_FULL,     /* not noted: there is no room until the daemon has drained the ring */
        MAP_TOUCH_LOST,     /* likewise, and it did not when it was waited for last */
};

/* How far ahead of the last touch memory is asked for: three cache lines. */
#define TOUCHES_AHEAD 24u

/* A ring without room, and one that was just filled beyond PAGE_RING_ASK; it is this thread's. */
enum map_touched map_touch_full(struct mapping *mp, unsigned ring, uint64_t head, uint64_t tail);
enum map_touched map_touch_many(struct mapping *mp, unsigned ring, uint64_t head, uint64_t tail);
/* map_touch() where threads share the ring. */
enum map_touched map_touch_locked(struct mapping *mp, unsigned ring, uint32_t handle,
                                  uint32_t version, uint32_t now);
/* It was waited for room in vain: until the daemon drains the ring, touches are lost. */
void map_touch_give_up(const struct map_visit *v);

/* The memory for the next touch is there from then on: for who waits anyway. */
void map_touch_ahead(const struct map_visit *v);

/* What this process has noted is known to the daemon when it carries out what is sent next. */
void map_before_request(struct map *m);

static inline void map_touch_put(struct page_touch *touches, uint64_t at, uint32_t handle,
                                 uint32_t low)
{
        struct page_touch *t = &touches[page_ring_slot(at)];

        atomic_store_explicit(&t->handle, handle, memory_order_relaxed);
        atomic_store_explicit(&t->version_lo, low, memory_order_relaxed);
}

/* The ring is this thread's. */
static inline enum map_touched map_touch_own(struct mapping *mp, unsigned n, uint32_t handle,
                                             uint32_t version, uint32_t now)
{
        struct page_ring *ring = &mp->page->ring[n];
        struct page_touch *touches = mp->page->touches[n];
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

        if (__builtin_expect(head - tail > PAGE_RING_SLOTS - 2, 0))
                return map_touch_full(mp, n, head, tail);
        if (__builtin_expect(now != ring->last_mark, 0)) {
                ring->last_mark = now;
                map_touch_put(touches, head++, 0, now);
        }
        map_touch_put(touches, head++, handle, version);
        /* The daemon read this memory last, and a store would have to wait for its processor. */
        __builtin_prefetch(&touches[page_ring_slot(head + TOUCHES_AHEAD)], 1);
        atomic_store_explicit(&ring->head, head, memory_order_release);
        if (__builtin_expect(head - tail >= PAGE_RING_ASK, 0))
                return map_touch_many(mp, n, head, tail);
        return MAP_TOUCHED;
}

static inline void map_dirty_set(const struct mapping *mp)
{
        if (!(atomic_load_explicit(mp->dirty_word, memory_order_relaxed) & mp->dirty_mask))
                (void)atomic_fetch_or_explicit(mp->dirty_word, mp->dirty_mask,
                                               memory_order_release);
}

/* An entry was used. */
static inline enum map_touched map_touch(const struct map_visit *v, uint32_t handle,
                                         uint64_t version, uint64_t now_ms)
{
        uint32_t low = (uint32_t)version, now = (uint32_t)now_ms;
        enum map_touched t;

        if (v->is_solo)
                t = map_touch_own(v->mp, v->ring, handle, low, now);
        else
                t = map_touch_locked(v->mp, v->ring, handle, low, now);
        map_dirty_set(v->mp);
        return t;
}

static inline void map_count(const struct map_visit *v, _Atomic uint32_t *n)
{
        if (v->is_solo)
                atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                                      memory_order_relaxed);
        else
                (void)atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static inline void map_count_hit(const struct map_visit *v, uint32_t counter)
{
        map_count(v, &v->mp->page->counters[counter].hits);
}

static inline void map_count_miss(const struct map_visit *v, uint32_t counter)
{
        map_count(v, &v->mp->page->counters[counter].misses);
}

#endif
