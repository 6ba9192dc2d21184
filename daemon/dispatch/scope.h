/* SPDX-License-Identifier: MIT */
#ifndef SCOPE_H
#define SCOPE_H

/*
 * Scope: requests about caches that belong to a session. See scope.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch/dispatcher.h"

/* The request has a session's token: from now on it is about that session's caches. NOT_FOUND;
 * INVALID: this request takes none; DENIED. */
enum status scope_enter(struct request *r);

/* ---- of requests that have entered one */

/* A cache's name, as the store has it. */
enum status scope_name(struct request *r, struct cache_ref *ref);
bool scope_has_cache(const struct request *r, uint32_t cache);
enum status scope_clear_all(struct request *r, Cached__V1__ClearResult *result);

/* ---- of realms that hold sessions */

/* The name that its session has for a cache. */
void scope_cache_name(const struct realm *realm, uint32_t cache, char *buf, size_t n_buf);

/* Removes caches whose session is gone, at most about @steps. True: more is to be done now. */
bool scope_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps);
uint64_t scope_next_deadline(const struct dispatcher *d);

#endif
