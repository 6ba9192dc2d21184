/* SPDX-License-Identifier: MIT */
#ifndef EXTENTS_H
#define EXTENTS_H

/*
 * Extents of the arena: places for long values, see extents.c
 */

#include <stdbool.h>
#include <stdint.h>

#include "proto/layout.h"

struct arena;

#define EXTENT_KINDS    3u                  /* of places: 4 MiB, 1 MiB, 512 KiB */
#define EXTENT_SIZE_MAX (UINT32_C(4) << 20) /* of a value */
#define EXTENT_NONE     UINT32_MAX

#define EXTENT_CLASSES     65  /* of free places: none, or up to k times 64 KiB are resident */
#define EXTENT_CLASS_PAGES 16u /* that classes differ by */
#define EXTENT_LIST_REST   EXTENT_CLASSES /* in use, and more is resident than needed */
#define EXTENT_LISTS       (EXTENT_CLASSES + 1)
#define EXTENT_LIST_NONE   EXTENT_LISTS

enum place_state { PLACE_FREE = 0, PLACE_FILLING, PLACE_FULL, PLACE_GONE };

struct extent_place {
        uint32_t prev, next;   /* in its list */
        uint32_t newer, older; /* among the warm ones */
        uint32_t holders;
        uint16_t committed; /* pages from the start on that are resident */
        uint16_t needed;    /* of these, those that hold something */
        uint16_t size;      /* pages of the value */
        uint8_t state, list;
        bool is_warm; /* free, and something is resident */
};

/* Places of one size, side by side. */
struct extent_kind {
        uint64_t offset;  /* of the first, from extents_off on */
        uint32_t base;    /* its number */
        uint32_t n, high; /* that there are, that were ever used */
        unsigned shift;   /* of the size */
        uint32_t first[EXTENT_LISTS], last[EXTENT_LISTS];
        uint64_t free_classes; /* from 1 on: those with a place */
};

/* What this process knows of the part: nothing of it must outlive a crash. */
struct extents {
        struct extent_place *places;
        uint32_t n_places;
        struct extent_kind kinds[EXTENT_KINDS];
        uint32_t newest, oldest; /* warm places by when they became free */
        uint64_t committed;      /* bytes that are resident */
        uint64_t needed;         /* of these, bytes that hold something */
        uint64_t filling;        /* of these, bytes of values that are arriving */
};

/* Bytes of the part, which follow from the number of spans. */
uint64_t extents_lay(uint32_t n_spans);
int extents_init(struct arena *a); /* 0, -ENOMEM */
void extents_done(struct arena *a);

/* Is there a place for one more value of this size? */
bool extents_has_room(const struct arena *a, uint64_t size);
/* A place for a value of @size bytes, at most EXTENT_SIZE_MAX. 0; -ENOSPC: all are in use. */
int extents_take(struct arena *a, uint64_t size, uint32_t *ret_place);
/* Makes its first @n bytes resident, which are needed from then on. 0, -ENOMEM. */
int extents_commit(struct arena *a, uint32_t place, uint64_t n);
/* All bytes are there: it is no longer filled. */
void extents_complete(struct arena *a, uint32_t place);
/* Its bytes are needed no more, but by those who hold it. Unreachable, like a block. */
void extents_free(struct arena *a, uint32_t place);

/* While somebody holds a place its bytes stay, although it was freed. Returns their number. */
uint32_t extents_hold(struct arena *a, uint32_t place);
uint32_t extents_release(struct arena *a, uint32_t place);
bool extents_is_held(const struct arena *a, uint32_t place);
bool extents_is_free(const struct arena *a, uint32_t place); /* freed, held or not */

uint8_t *extents_at(const struct arena *a, uint32_t place);
struct arena_extent extents_name(const struct arena *a, uint32_t place, uint64_t size);
/* The place that lies there, or EXTENT_NONE. */
uint32_t extents_place(const struct arena *a, const struct arena_extent *e);

/* ---- giving memory back */

/* Bytes that are resident but hold nothing. */
uint64_t extents_spare(const struct arena *a);
/* Gives up to 1 MiB of that back; returns how much, 0: there is none. */
uint64_t extents_give_back(struct arena *a);
/* The next stretch from @off on (of the file, within the part) that is not the writer's; it may be
 * empty. False: there is none. */
bool extents_next_hole(const struct arena *a, uint64_t off, uint64_t *ret_from, uint64_t *ret_to);

/* ---- adopting what another process left: after extents_init(), which forgets everything */

/* Of an entry that is kept. 0; -EINVAL: it lies outside, not where extents do, or where another one
 * does; -ENOMEM. */
int extents_adopt(struct arena *a, const struct arena_extent *e);
/* What no entry has goes back to the kernel. */
void extents_adopt_end(struct arena *a);

#endif
