/* SPDX-License-Identifier: MIT */
#ifndef AHEAD_H
#define AHEAD_H

/*
 * Mapping the spans of an arena that was adopted, ahead of who goes through them: see ahead.c
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "arena/alloc.h"

struct ahead {
        struct arena *a;
        pthread_t thread;
        bool has_thread;
        _Atomic uint32_t mapped;  /* spans below are: says the thread */
        _Atomic uint32_t reached; /* spans below are: says who goes through them */
};

/* Nothing fails here: without a thread all of it is done where it is needed. From now until
 * ahead_end() no span's description may change. */
void ahead_start(struct ahead *h, struct arena *a);

/* Before anything is read in a span of which alloc_has() says that it is there. 0, -ENOMEM. */
int ahead_need(struct ahead *h, uint32_t span);
/* The same for each span in turn, from 1 on. */
int ahead_reach(struct ahead *h, uint32_t span);

/* Once all were reached, or after a failure: the thread is gone. */
void ahead_end(struct ahead *h);

#endif
