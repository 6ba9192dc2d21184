/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RELEASE_H
#define CLIENT_RELEASE_H

/*
 * Views that the daemon is to be told of that they are released
 *
 * Their numbers gather here until a request leaves anyway, or a connection is idle. They are those
 * of one daemon: another one does not know them, and what they stood for ended with the first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/buffer.h"

struct conn;

/* Zeroed memory: none. */
struct release {
        uint64_t instance; /* of the daemon */
        uint64_t *ids;
        size_t n, size;
};

void release_done(struct release *r);
/* Without memory for it the number is lost: then the daemon learns it at the end of the process. */
void release_add(struct release *r, uint64_t instance, uint64_t id);
/* Moves all numbers over, behind those that are there. */
void release_move(struct release *from, struct release *to);

/*
 * release_pack() - the frame that tells them, appended to `out`
 *
 * Nothing, if there are none or if they are not for the daemon at the other end; they are dropped
 * then. Without memory they stay where they are.
 */
void release_pack(struct release *r, struct conn *conn, struct buffer *out);

#endif
