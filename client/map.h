/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H

/*
 * A realm's arena as this process sees it, and who is looking at it
 *
 * A struct map is part of a pool. Its published mapping is looked at by any number of threads
 * between map_enter() and map_leave(), which are two plain stores: no locked instruction, no fence,
 * so that the processor works on successive look-ups at the same time. What that leaves unordered
 * is made up for by whoever takes a mapping away, which is rare: see map-lane.c.
 *
 * All that a hit looks at first lies in memory that a child finds empty after fork: there a mapping
 * was never published.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena-read.h"
#include "proto/page.h"

struct conn;

/* ---- what comes with Hello */

enum map_part {
        MAP_PART_ARENA,
        MAP_PART_EPOCH,
        MAP_PART_PAGE,
        MAP_PART_DIRTY,
        MAP_PARTS,
};

/* Descriptors, and what the daemon says of them. */
struct map_offer {
        int fd[MAP_PARTS]; /* -1: none */
        uint64_t size[MAP_PARTS];
        uint32_t dirty_bit;
        uint32_t max_keys; /* of a GetMany */
};

void map_offer_init(struct map_offer *o);
/* Closes the descriptors that it has. */
void map_offer_done(struct map_offer *o);

/* ---- a mapping */

#define MAP_NAMES 256u

/* What is remembered of a cache: its id in this arena, and its counter in the client page. */
struct map_name {
        _Atomic uint64_t hash;  /* of the name */
        _Atomic uint64_t where; /* id << 32 | counter; 0: unknown */
};

/* The id and the counter of a cache. */
struct map_cache {
        uint64_t hash; /* of its name */
        uint32_t id, counter;
};

/* Longer ones, with their end, are not remembered by name. */
#define MAP_MEMO_NAME 48u
#define MAP_MEMOS     4u

/* What one thread remembers of a cache that it asked for: no hash is needed to find it again. */
struct map_memo {
        char name[MAP_MEMO_NAME];
        struct map_cache cache; /* id 0: empty */
};

#define MAP_LANES 16u

/* Room for a value whose length is not known yet: at first, and where values turned out to be
 * longer. A reply with either is small enough for malloc's fast path. */
#define MAP_GUESS_SMALL 256u
#define MAP_GUESS_LARGE 560u

/* Of one ring; changed by whoever has it. */
struct map_ring {
        /* Where the ring was when a drain was asked for, or waited for in vain. */
        uint64_t asked_head, asked_tail, deaf_tail;
        uint32_t n_lost; /* with nobody to read it */
        bool has_asked, is_deaf;
};

struct mapping {
        struct arena_map arena;
        const struct epoch_page *epoch;
        struct client_page *page;
        _Atomic uint64_t *dirty_word;
        uint64_t dirty_mask;
        /* Its connection is gone: nobody reads the page any more. */
        atomic_bool is_orphan;
        _Atomic uint32_t guess; /* the room that is made for a value */
        uint32_t max_keys;      /* of a GetMany */
        struct map_ring rings[PAGE_RINGS];
        struct map_name names[MAP_NAMES];
        struct map_memo memos[MAP_LANES][MAP_MEMOS]; /* each the lane's own */

        uint64_t serial;      /* which one it is of its map's: addresses come back */
        struct mapping *next; /* of the retired ones */
        void *part[MAP_PARTS];
        uint64_t size[MAP_PARTS];
};

/* NULL: what was offered is not what it should be, or there is no memory. Closes nothing. */
struct mapping *mapping_new(const struct map_offer *o, uint64_t instance);
/* @is_ours: false in a child, which has no part of it */
void mapping_free(struct mapping *mp, bool is_ours);
/* Whether the arena still counts. */
static inline bool mapping_counts(const struct mapping *mp)
{
        return atomic_load_explicit(&mp->epoch->instance, memory_order_acquire) ==
               mp->arena.instance;
}

/*
 * mapping_learn() - the id and the counter of a cache
 * @memo:   NULL, or where it is to be remembered
 * @again:  what is remembered was wrong
 *
 * Return: false: the cache is not in this arena, or cannot be counted.
 */
bool mapping_learn(struct mapping *mp, const char *name, struct map_memo *memo, bool again,
                   struct map_cache *ret);

/* ---- who looks */

/* Instead of a thread, in map_wiped.solo: threads share what is written, and lock it. */
#define MAP_SOLO_OVER   ((uintptr_t)1)
#define MAP_SOLO_ENDING ((uintptr_t)2) /* soon */

/* One thread's. */
struct map_lane {
        _Alignas(64) _Atomic uintptr_t owner; /* the thread; set once */
        _Atomic uint32_t inside;
};

/* Empty in a child after fork. */
struct map_wiped {
        _Atomic(struct mapping *) current;
        /* The only thread that writes to rings and counters, and so needs no lock; 0: none yet. */
        _Atomic uintptr_t solo;
        /* The coarse clock when the offset to boottime was measured last. */
        _Atomic uint64_t coarse_ns, offset_ns;
        _Atomic uint32_t tenure; /* of the daemon that the current mapping's page came from */
        _Alignas(64) _Atomic uint32_t crowd; /* threads inside that have no lane */
        struct map_lane lanes[MAP_LANES];
};

struct map {
        struct map_wiped *w; /* NULL: this handle does not map */
        bool is_registered;  /* with the kernel: then is_asymmetric is known */
        bool is_asymmetric;  /* the kernel makes up for missing fences */
        bool has_cpus;       /* the machine has more than one */
        uint32_t lag_ms;     /* what the coarse clock lags by at most */
        /* The rest under the pool's guard. */
        const struct conn *conn; /* the one that asked for a mapping */
        struct mapping *live, *retired;
        uint64_t n_published;
};

/* A thread's stay. */
struct map_visit {
        struct mapping *mp;
        struct map_lane *lane; /* NULL: in the crowd */
        unsigned ring;
        bool is_solo;
};

/* Makes ready to map; without memory or a kernel that can do it, *m never maps. */
void map_init(struct map *m);
/* Nobody is inside. */
void map_done(struct map *m);
/* In a child, under the guard. @is_whole: as pool_inherit() */
void map_inherit(struct map *m, bool is_whole);

/* Under the guard: `mp` may be NULL. What was published before is retired. */
void map_publish(struct map *m, struct mapping *mp);
/* Under the guard: frees retired mappings that nobody looks at. It waits a little if need be. */
void map_reap(struct map *m);
/* Until everybody who was inside when it was called has left. */
void map_quiesce(struct map *m);

/* Where this thread remembers a cache; NULL: nowhere. Most programs name a cache by one string, so
 * its address chooses the place; what is there is to be compared. */
static inline struct map_memo *map_memo_of(const struct map *m, const struct map_visit *v,
                                           const char *name)
{
        uint64_t at = (uint64_t)(uintptr_t)name * UINT64_C(0x9e3779b97f4a7c15) >> 32;

        return v->lane ? &v->mp->memos[v->lane - m->w->lanes][at % MAP_MEMOS] : NULL;
}

/* Who this thread is among those that run. */
static inline uintptr_t map_self(void)
{
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 11) /* gcc 10 lacks it on x86 */
        return (uintptr_t)__builtin_thread_pointer();
#else
        return (uintptr_t)pthread_self();
#endif
}

/* map_enter() for a thread that is not known, or did not get the lane of its hash. */
struct map_lane *map_find_lane(struct map *m, uintptr_t self);

static inline unsigned map_lane_hash(uintptr_t self)
{
        return (unsigned)((uint64_t)self * UINT64_C(0x9e3779b97f4a7c15) >> 60) % MAP_LANES;
}

static inline void map_leave(struct map *m, const struct map_visit *v)
{
        if (v->lane)
                atomic_store_explicit(&v->lane->inside, 0, memory_order_release);
        else
                atomic_fetch_sub_explicit(&m->w->crowd, 1, memory_order_release);
}

/* False: there is no mapping; nothing to leave. */
static inline bool map_enter(struct map *m, struct map_visit *v)
{
        struct map_wiped *w = m->w;
        uintptr_t self;

        if (!w || !atomic_load_explicit(&w->current, memory_order_acquire))
                return false;
        self = map_self();
        v->lane = &w->lanes[map_lane_hash(self)];
        if (atomic_load_explicit(&v->lane->owner, memory_order_relaxed) != self)
                v->lane = map_find_lane(m, self);
        if (v->lane) {
                atomic_store_explicit(&v->lane->inside, 1, memory_order_relaxed);
                v->ring = (unsigned)(v->lane - w->lanes) % PAGE_RINGS;
                /* Not before `current` is read; the processor may still swap the two. */
                atomic_signal_fence(memory_order_seq_cst);
                if (!m->is_asymmetric)
                        atomic_thread_fence(memory_order_seq_cst);
        } else {
                atomic_fetch_add(&w->crowd, 1);
                v->ring = map_lane_hash(self) % PAGE_RINGS;
        }
        v->mp = atomic_load_explicit(&w->current, memory_order_acquire);
        if (!v->mp) {
                map_leave(m, v);
                return false;
        }
        v->is_solo = atomic_load_explicit(&w->solo, memory_order_relaxed) == self;
        return true;
}

#endif
