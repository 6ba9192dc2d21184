/* SPDX-License-Identifier: MIT */
#ifndef SCHEDULE_H
#define SCHEDULE_H

/*
 * Schedules: when subscribers are asked to compute values anew. See schedule.c.
 */

#include <stdint.h>

struct dispatcher;

struct schedules {
        uint64_t last_ms; /* up to when all was told; boottime */
        int64_t last_wall_ms;
        uint64_t due_ms; /* when to look again */
};

/* Tells what has become due since the last call. To be called before what is in force changes, too:
 * subscriptions, the configuration. */
void schedules_run(struct dispatcher *d, uint64_t now_ms);

/* What is in force has changed. */
void schedules_changed(struct dispatcher *d);

/* Runs them if they are due. */
void schedules_maintain(struct dispatcher *d, uint64_t now_ms);
uint64_t schedules_next_deadline(const struct dispatcher *d); /* UINT64_MAX: none */

#endif
