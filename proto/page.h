/* SPDX-License-Identifier: MIT */
#ifndef PAGE_H
#define PAGE_H

/*
 * What mapped readers tell the daemon, and what the daemon tells them, in shared memory
 *
 * The client page: one memory file per client, written by that client and read by the daemon, which
 * trusts nothing in it. Touches (an entry was used: recency) go into rings, hits and misses into
 * counters. The dirty map: one per realm, a bit per client, set by clients that have touches to
 * tell. The epoch file: one per socket, written by the daemon only. ARENA.md says who writes what,
 * and in which order.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

/* ---- client page */

#define CLIENT_PAGE_MAGIC   UINT64_C(0x6567617063616363) /* "ccacpage" in memory */
#define CLIENT_PAGE_VERSION 2
#define CLIENT_PAGE_SIZE    65536u
#define PAGE_RINGS          2u
#define PAGE_RING_SLOTS     3800u
/* A reader asks for a drain when a ring holds this many: early enough that a daemon which sleeps is
 * awake before the ring is full. */
#define PAGE_RING_ASK 2048u
#define PAGE_COUNTERS 256u

/*
 * A touch: the entry with this handle and the lower half of this version was used. A handle of 0 is
 * a time mark: what follows happened at `version_lo` (the lower half of boottime milliseconds,
 * coarse clock) or later.
 */
struct page_touch {
        _Atomic uint32_t handle;
        _Atomic uint32_t version_lo;
};

struct page_ring {
        _Alignas(64) _Atomic uint32_t lock; /* the client's: 1 while one of its threads writes */
        uint32_t last_mark;                 /* the client's: time of the last time mark */
        _Atomic uint64_t head;              /* written by the client: touches ever put in */
        _Alignas(64) _Atomic uint64_t tail; /* written by the daemon: touches ever taken out */
};

/* Where a ring's n-th touch lies. n has 64 bits because 2^32 is no multiple of the slots: positions
 * that wrapped around there would jump to another slot. */
static inline uint32_t page_ring_slot(uint64_t n)
{
        return (uint32_t)(n % PAGE_RING_SLOTS);
}

/* Of one cache; it wraps around, the daemon looks at differences. */
struct page_counter {
        _Atomic uint32_t cache; /* id; 0: unused. Open addressing by id, set once */
        _Atomic uint32_t hits;
        _Atomic uint32_t misses;
        uint32_t spare;
};

struct client_page {
        uint64_t magic;
        uint32_t version;
        uint32_t dirty_bit; /* this client's in the dirty map; written by the daemon at the start,
                               and not looked at again */
        _Atomic uint64_t prepared_bytes; /* written by the client: in memory files that it keeps
                                            ready for values to come. 0 in older clients */
        struct page_ring ring[PAGE_RINGS];
        _Alignas(64) struct page_counter counters[PAGE_COUNTERS];
        _Alignas(64) struct page_touch touches[PAGE_RINGS][PAGE_RING_SLOTS];
};

static_assert(sizeof(struct client_page) <= CLIENT_PAGE_SIZE, "a client page is 64 KiB");

/* ---- dirty map */

#define DIRTY_MAP_SIZE    4096u
#define DIRTY_MAP_CLIENTS (DIRTY_MAP_SIZE * 8)

struct dirty_map {
        _Atomic uint64_t words[DIRTY_MAP_SIZE / 8];
};

/* ---- epoch file */

#define EPOCH_MAGIC   UINT64_C(0x68636f7065636163) /* "cacepoch" in memory */
#define EPOCH_VERSION 1
#define EPOCH_SIZE    4096u

struct epoch_page {
        uint64_t magic;
        uint32_t version;
        _Atomic uint32_t tenure;   /* another number: another daemon has the arenas, and looks at no
                                      page of before */
        _Atomic uint64_t instance; /* of the daemon whose arenas count */
        uint32_t n_arenas;         /* that it has: the daemon's own note, nothing for readers */
        uint32_t n_attempts;       /* daemons in a row that began to take over and never served:
                                      likewise */
};

static_assert(sizeof(struct epoch_page) <= EPOCH_SIZE, "one page");

#endif
