/* SPDX-License-Identifier: MIT */
#ifndef REPEAT_H
#define REPEAT_H

/*
 * Repeat: requests that were sent before. See repeat.c.
 */

#include "dispatch/dispatcher.h"

/* For a Hello, whose client enters @realm next: takes its client_id, and ends an older connection
 * of it. STATUS_OK, INVALID, PROTOCOL, NO_MEMORY. */
enum status repeat_enter(struct request *r, const struct realm *realm);
/* The client's connection has ended. */
void repeat_leave(struct client *client, uint64_t now_ms);

/* Whether a request that is marked as repeated may be. */
enum status repeat_check(struct request *r);

/* For one that changes something. STATUS_OK: it was answered (r->answered), or it is to be carried
 * out now. */
enum status repeat_answer(struct request *r, const struct op *op);

/* Remembers the reply to a change. */
void repeat_keep(struct request *r);

/* Nobody will know what became of the client's request @id, which was begun. */
void repeat_forget(struct client *client, uint64_t id);

#endif
