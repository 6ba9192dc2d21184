/* SPDX-License-Identifier: MIT */
#ifndef UNFINISHED_H
#define UNFINISHED_H

/*
 * Unfinished: a request that is carried out in portions. See unfinished.c.
 */

#include "dispatch/dispatcher.h"

struct unfinished {
        struct request request;
        struct bump bump;
        uint64_t busy_ns; /* of its portions so far */
};

/* Time that an operation may take before it lets others go first. */
#define UNFINISHED_PORTION_NS UINT64_C(500000)

/* Whether a frame of this size may be begun now. */
bool unfinished_may_begin(const struct dispatcher *d, uint64_t n_frame);

/* Whether unfinished_keep() has a place. */
bool unfinished_may_keep(const struct dispatcher *d);

/* Keeps @r, with its memory, for its client. False: it cannot be kept. */
bool unfinished_keep(struct request *r, uint64_t busy_ns);

/* The client's request, ready to run on: its memory is the dispatcher's until the end of the
 * portion. @body and @upload are those of its frame, which may have moved. */
struct request *unfinished_resume(struct client *client, const uint8_t *body,
                                  struct upload *upload);
void unfinished_pause(struct client *client, uint64_t busy_ns);
/* It is done; gives the time that it took before this portion. */
uint64_t unfinished_finish(struct client *client);

/* It never will be done: what was carried out of it stays, and nobody is told. Fine for a client
 * without one. */
void unfinished_drop(struct client *client);

#endif
