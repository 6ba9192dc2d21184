/* SPDX-License-Identifier: MIT */
#ifndef MONITOR_H
#define MONITOR_H

/*
 * Events as `cachectl monitor` prints them: a line each
 */

#include "ctl.h"

struct monitor {
        struct ctl *ctl;
        unsigned width; /* of the column of caches; grows with what was seen */
};

/* Bits of the kind with that name; 0: there is none. */
uint32_t monitor_kind(const char *name);

/* The names of all kinds, for messages. */
#define MONITOR_KINDS "stored, deleted, cleared, expired, evicted, policy, refresh, created or left"

/* An exit status. */
int monitor_print(struct monitor *m, const cached_event *v);

#endif
