/* SPDX-License-Identifier: MIT */
#ifndef ARENA_EXT_H
#define ARENA_EXT_H

/*
 * The extension block of an entry, as the mapped reader sees it: a part of proto/arena-read.c
 *
 * It is copied first, whole, and all that is made of it is made of the copy.
 */

#include "proto/arena-read.h"

/* A copy of an extension block, whose own length was checked. */
struct arena_ext_copy {
        uint32_t n;
        _Alignas(8) uint8_t bytes[EXT_SIZE_MAX];
};

/* Takes the block at @from, of which there are at most @n_max bytes. False: it is nonsense. */
bool arena_ext_take(const uint8_t *from, uint32_t n_max, struct arena_ext_copy *ret);

/* What was cleared by tag still stands in the index. */
enum arena_life {
        LIFE_NONSENSE,
        LIFE_DEAD,
        LIFE_HERE,
};

enum arena_life arena_ext_life(const struct arena_map *m, const struct arena_ext_copy *ext);

/* Puts what it says into a hit, of which flags, cost, encoding and marks are 0. */
void arena_ext_read(const struct arena_ext_copy *ext, struct arena_hit *hit);

#endif
