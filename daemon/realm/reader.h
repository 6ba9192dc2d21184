/* SPDX-License-Identifier: MIT */
#ifndef READER_H
#define READER_H

/*
 * Reader: a client that looks entries up by itself, as the daemon sees it: its page. See reader.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "arena/memfile.h"
#include "proto/page.h"
#include "store/store.h"

struct reader_ring {
        uint64_t tail;     /* uses taken out; the page's own tail is written, never read */
        uint64_t end;      /* up to here they are to be taken */
        uint32_t heap_pos; /* for readers.c */
        uint64_t time_ms;  /* of the next use, or earlier */
};

struct reader {
        struct memfile mem;
        struct client_page *page;
        uint32_t bit;
        bool gone; /* its connection has ended: what it notes from then on does not count */
        struct reader_ring ring[PAGE_RINGS];
        struct {
                uint32_t hits, misses;
        } seen[PAGE_COUNTERS];
};

/* A page for the client that has this bit in the dirty map. *ret_fd is the caller's. 0 or -errno.
 */
int reader_new(uint32_t bit, struct reader **ret, int *ret_fd);
struct reader *reader_free(struct reader *r); /* NULL is fine; returns NULL */

/* Nothing of what it notes from now on is looked at. */
void reader_end(struct reader *r);

/* Looks what is in a ring, and when the first of it was noted: takes time marks out, at most *slots
 * of them, and fewer *slots are left then. False: the ring is empty. What was overwritten is added
 * to *lost. */
bool reader_look(struct reader *r, unsigned ring, uint64_t now_ms, unsigned *slots, uint64_t *lost);

/* Takes uses out of a ring, up to @max of them, those noted until @until_ms, and at most *slots in
 * all with time marks. Returns how many. */
unsigned reader_take(struct reader *r, unsigned ring, uint64_t until_ms, uint64_t now_ms,
                     struct store_use *uses, unsigned max, unsigned *slots);

static inline bool reader_ring_is_empty(const struct reader *r, unsigned ring)
{
        return r->ring[ring].tail == r->ring[ring].end;
}

/* Adds what its counters have grown by to the store's. */
void reader_count(struct reader *r, struct store *s);

#endif
