/* SPDX-License-Identifier: MIT */
/*
 * Who is inside a mapping
 *
 * A thread that looks says so in a lane of its own, by a plain store, and reads the published
 * mapping then. The processor may do the two in the other order, so whoever takes a mapping away
 * first makes every running thread of the process pass a fence (membarrier, a system call of the
 * one side that is rare) and looks at the lanes after that: a thread that is not inside then will
 * read what is published now. Where the kernel has no membarrier, every stay pays a fence.
 *
 * Lanes are claimed by the thread's address and never given up: a later thread at the same address
 * continues its lane. Who finds none is counted in the crowd, by locked instructions.
 *
 * The first thread that claims a lane writes to rings and counters without any lock, as long as it
 * is the only one. The second ends that for good, by the same means: it says so, makes all pass a
 * fence, and waits until the first has left.
 *
 * Retired mappings are freed by whoever publishes the next, or by the end of the pool: a thread may
 * be stopped for long inside of one.
 */

#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/map.h"

/* The coarse clock is set forward by one processor, and a virtual one may itself be late: lags of 5
 * ms were seen with ticks of 4. */
#define LAG_TICKS 4
/* How often a thread looks whether another has left before it sleeps between looks. */
#define YIELDS 100
/* What a reap waits at most, under the guard: so many yields. */
#define REAP_YIELDS 20

static int membarrier(int command)
{
        return (int)syscall(SYS_membarrier, command, 0, 0);
}

/* Every thread of this process passes a fence. */
static void fence_all(const struct map *m)
{
        atomic_thread_fence(memory_order_seq_cst);
        if (m->is_asymmetric)
                (void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

/* Between the looks of somebody who waits. */
static void wait_a_little(unsigned turn)
{
        if (turn < YIELDS)
                (void)sched_yield();
        else
                (void)nanosleep(&(struct timespec){0, 50000}, NULL);
}

/* ----------------------------------------------------------------------------------------- lanes
 */

static bool lane_is_inside(const struct map_lane *l)
{
        return atomic_load_explicit(&l->inside, memory_order_acquire) != 0;
}

/* Another thread than the first is here: from now on what is written is locked. */
static void end_solo(struct map *m, uintptr_t self, bool has_lane)
{
        struct map_wiped *w = m->w;
        uintptr_t solo = atomic_load_explicit(&w->solo, memory_order_acquire);

        for (unsigned turn = 0;; turn++) {
                if (solo == MAP_SOLO_OVER || solo == self)
                        return;
                if (solo == MAP_SOLO_ENDING) {
                        wait_a_little(turn);
                        solo = atomic_load_explicit(&w->solo, memory_order_acquire);
                        continue;
                }
                /* Nobody could wait until a thread without a lane has left. */
                if (solo == 0 && atomic_compare_exchange_strong(&w->solo, &solo,
                                                                has_lane ? self : MAP_SOLO_OVER))
                        return;
                if (solo > MAP_SOLO_ENDING &&
                    atomic_compare_exchange_strong(&w->solo, &solo, MAP_SOLO_ENDING))
                        break;
        }
        fence_all(m);
        for (unsigned i = 0; i < MAP_LANES; i++)
                if (atomic_load_explicit(&w->lanes[i].owner, memory_order_relaxed) == solo)
                        for (unsigned turn = 0; lane_is_inside(&w->lanes[i]); turn++)
                                wait_a_little(turn);
        atomic_store_explicit(&w->solo, MAP_SOLO_OVER, memory_order_release);
}

/* NULL: all are others'. */
static struct map_lane *claim(struct map_wiped *w, uintptr_t self)
{
        unsigned first = map_lane_hash(self);

        for (unsigned i = 0; i < MAP_LANES; i++) {
                struct map_lane *l = &w->lanes[(first + i) % MAP_LANES];
                uintptr_t owner = atomic_load_explicit(&l->owner, memory_order_relaxed);

                if (owner == self)
                        return l;
                if (owner == 0 &&
                    (atomic_compare_exchange_strong(&l->owner, &owner, self) || owner == self))
                        return l;
        }
        return NULL;
}

struct map_lane *map_find_lane(struct map *m, uintptr_t self)
{
        struct map_lane *l = claim(m->w, self);

        end_solo(m, self, l != NULL);
        return l;
}

/* ------------------------------------------------------------------------------------------ life
 */

static uint32_t coarse_tick_ms(void)
{
        struct timespec t;

        if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) != 0 || t.tv_sec > 0)
                return 1000;
        return (uint32_t)((t.tv_nsec + 999999) / 1000000);
}

void map_init(struct map *m)
{
        void *w = mmap(NULL, sizeof(*m->w), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);

        if (w == MAP_FAILED)
                return;
        if (madvise(w, sizeof(*m->w), MADV_WIPEONFORK) != 0) {
                (void)munmap(w, sizeof(*m->w));
                return;
        }
        m->w = w;
        m->has_cpus = sysconf(_SC_NPROCESSORS_CONF) > 1;
        m->lag_ms = LAG_TICKS * coarse_tick_ms() + 1;
}

static void free_all(struct map *m, bool is_ours)
{
        struct mapping *mp;

        if (m->live)
                mapping_free(m->live, is_ours);
        m->live = NULL;
        while ((mp = m->retired)) {
                m->retired = mp->next;
                mapping_free(mp, is_ours);
        }
}

void map_done(struct map *m)
{
        free_all(m, true);
        if (m->w)
                (void)munmap(m->w, sizeof(*m->w));
        m->w = NULL;
}

void map_inherit(struct map *m, bool is_whole)
{
        m->conn = NULL;
        m->is_registered = false;
        /* What the parent had mapped is not here, and its addresses may be somebody else's. */
        if (is_whole)
                free_all(m, false);
        m->live = m->retired = NULL;
}

void map_publish(struct map *m, struct mapping *mp)
{
        if (m->live) {
                m->live->next = m->retired;
                m->retired = m->live;
        }
        m->live = mp;
        if (mp)
                mp->serial = ++m->n_published;
        if (!m->w)
                return;
        if (mp && !m->is_registered) {
                m->is_registered = true;
                m->is_asymmetric = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
                if (!m->is_asymmetric)
                        atomic_store(&m->w->solo, MAP_SOLO_OVER);
        }
        if (mp)
                atomic_store(&m->w->tenure,
                             atomic_load_explicit(&mp->epoch->tenure, memory_order_relaxed));
        atomic_store(&m->w->current, mp);
}

/* False: somebody was inside until the end of that many looks. */
static bool leave_all(struct map *m, unsigned n_turns)
{
        struct map_wiped *w = m->w;
        unsigned turn = 0;

        fence_all(m);
        for (unsigned i = 0; i < MAP_LANES; i++)
                while (lane_is_inside(&w->lanes[i])) {
                        if (turn == n_turns)
                                return false;
                        wait_a_little(turn++);
                }
        while (atomic_load(&w->crowd) > 0) {
                if (turn == n_turns)
                        return false;
                wait_a_little(turn++);
        }
        return true;
}

void map_reap(struct map *m)
{
        struct mapping *mp;

        if (!m->retired || !leave_all(m, REAP_YIELDS))
                return;
        while ((mp = m->retired)) {
                m->retired = mp->next;
                mapping_free(mp, true);
        }
}

void map_quiesce(struct map *m)
{
        if (m->w && atomic_load(&m->w->solo) != 0)
                (void)leave_all(m, UINT32_MAX);
}
