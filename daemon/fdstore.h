/* SPDX-License-Identifier: MIT */
#ifndef FDSTORE_H
#define FDSTORE_H

/*
 * Fdstore: what the service manager keeps for a successor (sd_pid_notify_with_fds(3), FDSTORE=1).
 * See fdstore.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realm/keeper.h"

struct event_base;
struct fdstore;
struct given;
struct log;
struct notify;

#define FDSTORE_MAX 1024 /* descriptors; FileDescriptorStoreMax= in the unit */

/* 0 or -ENOMEM. @notify and @log are borrowed. */
int fdstore_new(struct event_base *base, struct notify *notify, struct log *log,
                struct fdstore **ret);
/* Before the stores whose values it holds are freed. What is there stays there. NULL is fine;
 * returns NULL. */
struct fdstore *fdstore_free(struct fdstore *f);

/* Its slots, for those who have descriptors. */
const struct keeper *fdstore_keeper(struct fdstore *f);

/* Who frees memory; outlives it. */
struct reaper;
void fdstore_set_reaper(struct fdstore *f, struct reaper *reaper);

/* Bytes of values that have left, whose copies are not gone yet, and that nobody is charged for:
 * as much as this at most; beyond it they stay charged. */
void fdstore_set_limit(struct fdstore *f, uint64_t bytes);

/* Before a takeover: the descriptors that the manager gave back, by their names; takes the list
 * out of @given. After it, once all are claimed: the rest is removed. */
void fdstore_begin(struct fdstore *f, struct given *given);
void fdstore_settle(struct fdstore *f);

/* Sends some of what there is to be sent. */
void fdstore_turn(struct fdstore *f, uint64_t now_ms);
/* Boottime ms of the next fdstore_turn(); UINT64_MAX: none. */
uint64_t fdstore_due(const struct fdstore *f);

/* Sends everything, and waits until it has arrived; @ms at most. False: it has not. */
bool fdstore_flush(struct fdstore *f, int ms);

struct fdstore_stats {
        uint64_t max;           /* descriptors; 0: the manager does not listen */
        uint64_t kept, waiting; /* there; not sent yet */
        uint64_t leaving;       /* to be gone soon */
        uint64_t leaving_bytes; /* of large values among those */
};
void fdstore_stats(const struct fdstore *f, struct fdstore_stats *ret);

#endif
