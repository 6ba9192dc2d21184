/* SPDX-License-Identifier: MIT */
#ifndef MANAGER_H
#define MANAGER_H

/*
 * Manager: what is said to the service manager that has started this process, and what it keeps.
 * See manager.c. Where there is none, a struct manager is NULL, which is fine for all of these.
 */

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct fdstore;
struct log;
struct manager;

/* *ret is NULL where no service manager listens. 0 or -ENOMEM. */
int manager_new(struct event_base *base, struct log *log, struct manager **ret);
struct manager *manager_free(struct manager *m); /* returns NULL */

struct fdstore *manager_fdstore(struct manager *m); /* borrowed; NULL without a manager */

/* The start takes @ms longer from now on than it might without this, at most. */
void manager_extend(struct manager *m, uint64_t ms);

void manager_ready(struct manager *m);
void manager_reloading(struct manager *m, uint64_t monotonic_ns);
void manager_reloaded(struct manager *m);
void manager_stopping(struct manager *m);
void manager_stopped(struct manager *m);
/* Whether there was no room for one of the two that the manager waits for, again just now: to be
 * called again. */
bool manager_owes(struct manager *m);

/* What `systemctl status` shows. To be told where manager_wants_status() says so. */
struct manager_status {
        uint64_t entries, bytes, hits, misses;
};
bool manager_wants_status(const struct manager *m, uint64_t now_ms);
void manager_status(struct manager *m, uint64_t now_ms, const struct manager_status *s);

#endif
