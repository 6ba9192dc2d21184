/* SPDX-License-Identifier: MIT */
/*
 * Touches, and the reader's clock
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

/* The page was another daemon's. That one may have been killed: then nobody made its rings full. */
void map_see_tenure(struct map_wiped *w, const struct mapping *mp)
{
        uint32_t is = atomic_load_explicit(&mp->epoch->tenure, memory_order_relaxed);
        struct page_ring *ring = mp->page->ring;

        if (atomic_load_explicit(&w->tenure, memory_order_relaxed) == is)
                return;
        atomic_store_explicit(&w->tenure, is, memory_order_relaxed);
        for (unsigned i = 0; i < PAGE_RINGS; i++)
                atomic_store_explicit(&ring[i].tail,
                                      atomic_load_explicit(&ring[i].head, memory_order_relaxed) -
                                              PAGE_RING_SLOTS,
                                      memory_order_relaxed);
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

/* Where touches are lost, the daemon is looked for now and then: its connection may have ended
 * without our noticing. */
enum map_touched map_touch_full(struct mapping *mp, unsigned ring, uint64_t head, uint64_t tail)
{
        bool is_orphan = atomic_load_explicit(&mp->is_orphan, memory_order_relaxed);
        struct map_ring *own = &mp->rings[ring];

        if (is_orphan)
                return ++own->n_lost % ORPHAN_PERIOD == 0 ? MAP_TOUCH_ORPHAN : MAP_TOUCH_LOST;
        if (own->is_deaf && own->deaf_tail == tail)
                return ++own->n_lost % ASK_PERIOD == 0 ? MAP_TOUCHED_ASK : MAP_TOUCH_LOST;
        /* What was there when it was asked is being taken out, bit by bit. */
        if (own->has_asked && own->asked_tail != tail && head - own->asked_head < ASK_PERIOD)
                return MAP_TOUCH_FULL;
        return ring_may_ask(own, head, tail) ? MAP_TOUCH_FULL_ASK : MAP_TOUCH_FULL;
}

/* Where the daemon takes them out bit by bit, requests stay rare all the same. */
enum map_touched map_touch_many(struct mapping *mp, unsigned ring, uint64_t head, uint64_t tail)
{
        struct map_ring *own = &mp->rings[ring];

        if (own->has_asked && head - own->asked_head < ASK_PERIOD)
                return MAP_TOUCHED;
        return ring_may_ask(own, head, tail) ? MAP_TOUCHED_ASK : MAP_TOUCHED;
}

enum map_touched map_touch_locked(struct mapping *mp, unsigned ring, uint32_t handle,
                                  uint32_t version, uint32_t now)
{
        enum map_touched t;

        ring_lock(&mp->page->ring[ring]);
        t = map_touch_own(mp, ring, handle, version, now);
        ring_unlock(&mp->page->ring[ring]);
        return t;
}

/* Nothing is written but what is there: other threads may note something meanwhile. */
void map_touch_ahead(const struct map_visit *v)
{
        uint64_t head =
                atomic_load_explicit(&v->mp->page->ring[v->ring].head, memory_order_relaxed);
        struct page_touch *t = &v->mp->page->touches[v->ring][page_ring_slot(head)];

        (void)atomic_fetch_or_explicit(&t->handle, 0, memory_order_relaxed);
        (void)atomic_fetch_or_explicit(v->mp->dirty_word, 0, memory_order_relaxed);
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
                        map_dirty_set(v.mp);
        }
        map_leave(m, &v);
}
