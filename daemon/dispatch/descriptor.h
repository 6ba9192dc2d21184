/* SPDX-License-Identifier: MIT */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

/*
 * Descriptor: the one that came with a request. See descriptor.c.
 */

#include <stdint.h>

#include "dispatch/dispatcher.h"

/* Right after unpacking: takes the one that the message names, so that none is left over whatever
 * becomes of the request. */
void descriptor_take(struct request *r);

/* Gives up what the operation did not keep. */
void descriptor_drop(struct request *r);

/* Is it a memory file with these seals (F_SEAL_…), on ordinary shared memory, readable, and of
 * @size bytes? OK: `r->fd` is; who keeps it sets that to -1. Else INVALID, or LIMIT. */
enum status descriptor_check(struct request *r, int seals, uint64_t size);

/* The same, whatever features were agreed on. */
enum status descriptor_check_file(struct request *r, int seals, uint64_t size);

/* Has the descriptor come that the message names? OK, INVALID or LIMIT; what it is nobody has
 * looked at. */
enum status descriptor_there(struct request *r);

#endif
