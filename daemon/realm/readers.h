/* SPDX-License-Identifier: MIT */
#ifndef READERS_H
#define READERS_H

/*
 * Readers: all of a realm, and what they note. See readers.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "arena/memfile.h"
#include "base/idheap.h"
#include "realm/reader.h"

struct readers {
        struct store *store; /* borrowed */
        struct memfile map_file;
        struct dirty_map *map;
        struct reader **at; /* by bit; NULL: free */
        uint32_t n_at;      /* length, of the bitmaps in bits: a multiple of 64 */
        uint32_t n;         /* that are connected */
        uint32_t n_gone;    /* others whose rings are not empty yet */
        uint64_t *look;     /* to be looked at whatever their bits say */
        uint64_t *emptied;  /* in this turn */
        bool any_look, any_emptied;
        struct idheap_item *heap;
        uint32_t n_heap;
        uint64_t n_lost;       /* uses that were overwritten */
        uint64_t apply_due_ms; /* for mapping.c */
        uint64_t holes_cursor; /* likewise */
        bool punching;
        bool is_lent;      /* somebody may have the arena, connected or not */
        bool is_lent_away; /* and may be of another uid */
        unsigned slots;    /* likewise */
};

/* 0 or -errno. */
int readers_new(struct store *s, struct readers **ret);
struct readers *readers_free(struct readers *rs); /* NULL is fine; returns NULL */

/* One more, with descriptors for it: its page and the dirty map; the caller's. 0, -ENOSPC: no bit
 * is free, or another -errno. */
int readers_join(struct readers *rs, struct reader **ret, int *ret_page_fd, int *ret_map_fd);
/* What it noted by now counts. */
void readers_leave(struct readers *rs, struct reader *r);

/* Takes what they noted, in the order of time, at most *slots of it; fewer *slots are left then,
 * one for each page that was looked at, too. @all: of all of them, not only of those that say so.
 * True: something is left. */
bool readers_drain(struct readers *rs, bool all, uint64_t now_ms, unsigned *slots);
/* The counters of all of them. */
void readers_count(struct readers *rs);
/* A turn of the loop is over. */
void readers_turn_end(struct readers *rs);

/* What they say that they keep ready, in bytes. */
uint64_t readers_prepared(const struct readers *rs);

static inline uint64_t readers_bytes(const struct readers *rs)
{
        return rs ? DIRTY_MAP_SIZE + (uint64_t)(rs->n + rs->n_gone) * CLIENT_PAGE_SIZE : 0;
}

#endif
