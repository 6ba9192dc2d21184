/* SPDX-License-Identifier: MIT */
#ifndef ADOPT_H
#define ADOPT_H

/*
 * Mapping the two files of an arena that another process made. See adopt.c.
 */

#include "arena/arena.h"

/* Why the files of an arena are of no use. */
enum arena_refused {
        REFUSED_NOT = 0,
        REFUSED_FILES,   /* these are no memory files of ours: seals, mode, kind, size */
        REFUSED_VERSION, /* another layout, or features that this version does not know */
        REFUSED_PAIR,    /* arena and table do not belong together */
        REFUSED_BOOT,    /* from before the machine was started, or another time namespace: its
                          * deadlines mean nothing */
        REFUSED_RETIRED, /* somebody gave it up, and what came after is not in it */
        REFUSED_BROKEN,  /* the headers hold nonsense */
        N_REFUSED,
};

struct arena_refusal {
        enum arena_refused why; /* REFUSED_NOT: it is a lack of memory or the like */
        const char *detail;     /* static text */
        bool retired;           /* readers of the arena are told that it ended */
};

#define ARENA_E_REFUSED 1

/* Both descriptors are consumed, whatever happens. 0: everything that headers say is sound, lies
 * within the files and is in memory, but for spans and their records. ARENA_E_REFUSED, -ENOMEM. */
int arena_adopt(struct arena *a, int mem_fd, int table_fd, const uint64_t boot[2],
                struct arena_refusal *ret);

/* The header of a table, if it is one of this version. NULL, or what is wrong. */
const char *arena_peek_table(int table_fd, struct table_header *ret);

#endif
