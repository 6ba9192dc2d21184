/* SPDX-License-Identifier: MIT */
/*
 * Touches, counts, and the reader's clock
 *
 * As long as one thread alone reads, it writes to rings and counters with plain stores. When there
 * are more, a ring has a lock, which is held for a few stores, and counters are added to by locked
 * instructions. The page is the daemon's to read and ours to write; what the daemon writes into it,
 * a ring's tail, is not relied on for anything but how much room there is.
 *
 * Nothing here waits for the daemon or talks to it: see map-drain.c.
 */

#include "client/map-touch.h"

#include <sched.h>

#include "client/map-clock.h"

#define LOCK_SPINS 200
/* Two clocks were read so close to each other that nothing came between. */
#define MEASURE_SLACK_NS 50000u
#define MEASURE_TRIES    10
/* Requests for drains are at least so many touches apart. */
#define ASK_PERIOD 2048u
/* With nobody to read the ring, every so many touches the daemon is looked for. */
#define ORPHAN_PERIOD 256u

/* ------------------------------------------------------------------------------------------ clock
 */

uint64_t map_clock_measure(struct map_wiped *w, uint64_t coarse_ns)
{
        uint64_t boot = 0, before, after = 0;

        for (int i = 0; i < MEASURE_TRIES; i++) {
                before = map_clock_ns(CLOCK_MONOTONIC);
                boot = map_clock_ns(CLOCK_BOOTTIME);
                after = map_clock_ns(CLOCK_MONOTONIC);
                if (after - before <= MEASURE_SLACK_NS) {
                        uint64_t offset = boot - before;

                        atomic_store_explicit(&w->offset_ns, offset, memory_order_relaxed);
                        atomic_store_explicit(&w->coarse_ns, coarse_ns, memory_order_release);
                        return offset;
                }
        }
        /* A busy machine: this once, what time it is now, whatever the coarse clock says. */
        return boot - coarse_ns;
}

/* ------------------------------------------------------------------------------------------ rings
 */

static void ring_lock(struct page_ring *ring)
{
        for (unsigned spins = 0;
             atomic_exchange_explicit(&ring->lock, 1, memory_order_acquire) != 0;)
                while (atomic_load_explicit(&ring->lock, memory_order_relaxed) != 0) {
                        if (++spins % LOCK_SPINS == 0)
                                (void)sched_yield();
#if defined(__x86_64__) || defined(__i386__)
                        __builtin_ia32_pause();
#endif
                }
}

static void ring_unlock(struct page_ring *ring)
{
        atomic_store_explicit(&ring->lock, 0, memory_order_release);
}

static void ring_put(struct page_touch *touches, uint64_t at, uint32_t handle, uint32_t low)
{
        struct page_touch *t = &touches[page_ring_slot(at)];

        atomic_store_explicit(&t->handle, handle, memory_order_relaxed);
        atomic_store_explicit(&t->version_lo, low, memory_order_relaxed);
}

static void dirty_set(const struct mapping *mp)
{
        if (!(atomic_load_explicit(mp->dirty_word, memory_order_relaxed) & mp->dirty_mask))
                (void)atomic_fetch_or_explicit(mp->dirty_word, mp->dirty_mask,
                                               memory_order_release);
}

/* Whether to ask for a drain: not again before something was taken out. */
static bool ring_may_ask(struct map_ring *own, uint64_t head, uint64_t tail)
{
        if (own->has_asked && own->asked_tail == tail)
                return false;
        own->has_asked = true;
        own->asked_head = head;
        own->asked_tail = tail;
        return true;
}

/* A ring without room. Where touches are lost, the daemon is looked for now and then: its
 * connection may have ended without our noticing. */
static enum map_touched ring_full(const struct mapping *mp, struct map_ring *own, uint64_t head,
                                  uint64_t tail)
{
        bool is_orphan = atomic_load_explicit(&mp->is_orphan, memory_order_relaxed);

        if (is_orphan)
                return ++own->n_lost % ORPHAN_PERIOD == 0 ? MAP_TOUCH_ORPHAN : MAP_TOUCH_LOST;
        if (own->is_deaf && own->deaf_tail == tail)
                return ++own->n_lost % ASK_PERIOD == 0 ? MAP_TOUCHED_ASK : MAP_TOUCH_LOST;
        /* What was there when it was asked is being taken out, bit by bit. */
        if (own->has_asked && own->asked_tail != tail && head - own->asked_head < ASK_PERIOD)
                return MAP_TOUCH_FULL;
        return ring_may_ask(own, head, tail) ? MAP_TOUCH_FULL_ASK : MAP_TOUCH_FULL;
}

/* The ring is this thread's. */
static enum map_touched ring_touch(const struct map_visit *v, uint32_t handle, uint32_t version,
                                   uint32_t now)
{
        struct mapping *mp = v->mp;
        struct page_ring *ring = &mp->page->ring[v->ring];
        struct page_touch *touches = mp->page->touches[v->ring];
        struct map_ring *own = &mp->rings[v->ring];
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

        if (head - tail > PAGE_RING_SLOTS - 2)
                return ring_full(mp, own, head, tail);
        if (now != ring->last_mark) {
                ring->last_mark = now;
                ring_put(touches, head++, 0, now);
        }
        ring_put(touches, head++, handle, version);
        atomic_store_explicit(&ring->head, head, memory_order_release);
        if (head - tail < PAGE_RING_ASK)
                return MAP_TOUCHED;
        /* Where the daemon takes them out bit by bit, requests stay rare all the same. */
        if (own->has_asked && head - own->asked_head < ASK_PERIOD)
                return MAP_TOUCHED;
        return ring_may_ask(own, head, tail) ? MAP_TOUCHED_ASK : MAP_TOUCHED;
}

enum map_touched map_touch(const struct map_visit *v, uint32_t handle, uint64_t version,
                           uint64_t now_ms)
{
        struct page_ring *ring = &v->mp->page->ring[v->ring];
        enum map_touched t;

        if (!v->is_solo)
                ring_lock(ring);
        t = ring_touch(v, handle, (uint32_t)version, (uint32_t)now_ms);
        if (!v->is_solo)
                ring_unlock(ring);
        dirty_set(v->mp);
        return t;
}

void map_touch_give_up(const struct map_visit *v)
{
        struct page_ring *ring = &v->mp->page->ring[v->ring];
        struct map_ring *own = &v->mp->rings[v->ring];

        if (!v->is_solo)
                ring_lock(ring);
        own->is_deaf = true;
        own->deaf_tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        if (!v->is_solo)
                ring_unlock(ring);
}

void map_before_request(struct map *m)
{
        struct map_visit v;

        if (!map_enter(m, &v))
                return;
        /* The touches of before are seen by whoever sees the request, and a bit that the daemon has
         * cleared before it read them is seen to be clear. */
        atomic_thread_fence(memory_order_seq_cst);
        for (unsigned i = 0; i < PAGE_RINGS; i++) {
                const struct page_ring *ring = &v.mp->page->ring[i];

                if (atomic_load_explicit(&ring->head, memory_order_relaxed) !=
                    atomic_load_explicit(&ring->tail, memory_order_relaxed))
                        dirty_set(v.mp);
        }
        map_leave(m, &v);
}

/* ----------------------------------------------------------------------------------------- counts
 */

static void count(const struct map_visit *v, _Atomic uint32_t *n)
{
        if (v->is_solo)
                atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                                      memory_order_relaxed);
        else
                (void)atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

void map_count_hit(const struct map_visit *v, uint32_t counter)
{
        count(v, &v->mp->page->counters[counter].hits);
}

void map_count_miss(const struct map_visit *v, uint32_t counter)
{
        count(v, &v->mp->page->counters[counter].misses);
}
