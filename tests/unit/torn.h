/* SPDX-License-Identifier: MIT */
#ifndef TORN_H
#define TORN_H

/*
 * Dying between any two stores
 *
 * torn_run() makes memory read-only and lets the processor run one storing instruction at a time:
 * each store into it is counted, and before the one that is wanted the process ends, as if it had
 * been killed there. So the place is any between two stores as they were compiled, not as they were
 * written.
 */

#include <stdbool.h>
#include <stddef.h>

struct torn_range {
        void *base;
        size_t size;
};

/* Can it be done here? (x86-64, and nobody emulates or traces us.) Forks. */
bool torn_works(void);

/* In a process of its own: calls @fn and ends the process by SIGKILL before store number @at
 * (from 1 on) into one of the ranges. Returns the number of stores if there were fewer. */
unsigned long torn_run(const struct torn_range *ranges, size_t n_ranges, unsigned long at,
                       void (*fn)(void *ctx), void *ctx);

#endif
