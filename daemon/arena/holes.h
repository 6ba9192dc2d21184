/* SPDX-License-Identifier: MIT */
#ifndef HOLES_H
#define HOLES_H

/*
 * Memory of the arena's file that nobody asked for. See holes.c.
 */

#include "arena/arena.h"

/* Bytes that are resident beyond what the writer made so. */
uint64_t holes_filled(const struct arena *a);

/* Gives them back, from offset *cursor on (0 at the start), in at most @steps pieces, each well
 * under a millisecond. False: done; *cursor is 0 again. */
bool holes_punch(struct arena *a, uint64_t *cursor, unsigned steps);

/* Whether anybody else has the file, open, mapped or on its way to him, or that cannot be said. */
bool holes_have_readers(const struct arena *a);

#endif
