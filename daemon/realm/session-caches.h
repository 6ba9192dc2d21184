/* SPDX-License-Identifier: MIT */
#ifndef SESSION_CACHES_H
#define SESSION_CACHES_H

/*
 * Session caches: which caches of a hidden realm belong to which of its sessions. See
 * session-caches.c.
 *
 * @r is a realm that holds sessions, @key the key of a session: SESSION_KEY_SIZE bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct realm;
struct session_caches;

#define SESSION_KEY_SIZE     16u
#define SESSIONS_CACHE_NAME  "sessions"  /* where the sessions themselves are */
#define RESOURCES_CACHE_NAME "resources" /* where records of resources are */
#define SESSION_CACHES_OWN   2u          /* these two */
#define SESSION_CACHE_SUFFIX 100u        /* bytes that a session's cache may have in its name */

/* With the cache of the sessions, and what @r has of others. Those of sessions that are gone are to
 * be removed. 0, -ENOMEM. */
int session_caches_new(struct realm *r, uint64_t now_ms);
struct session_caches *session_caches_free(struct session_caches *c); /* NULL is fine */

/* limits.sessions_per_realm may be another one. */
void session_caches_reconfigure(struct realm *r, uint64_t now_ms);

/* The id of the cache that has the sessions themselves. */
uint32_t session_caches_home(const struct realm *r);
/* Likewise of the one with the records of resources, none of which is ever evicted; 0: there is
 * none, as the store was made with room for no more caches. */
uint32_t session_caches_resources(const struct realm *r);

/* Whether there is such a session. No use of it. */
bool session_is_there(struct realm *r, const uint8_t *key, uint64_t now_ms);
/* The session is gone though it did not leave by itself: it was deleted. */
void session_ended(struct realm *r, const uint8_t *key);

/* Makes a cache of a session, whose name is its key and some bytes more. 0, or as
 * store_cache_create(). */
int session_caches_create(struct realm *r, const char *name, size_t n_name, uint32_t *ret_cache);
/* The name that the session has for it; NULL: it is not of this session. */
const char *session_cache_name(const struct realm *r, uint32_t cache, const uint8_t *key,
                               size_t *ret_n);
/* The next of a session's caches after @cache, which is 0 at the start; 0: that was the last. */
uint32_t session_caches_next(const struct realm *r, const uint8_t *key, uint32_t cache);
uint64_t session_caches_count(const struct realm *r, const uint8_t *key);

/* ---- caches of sessions that are gone */

/* When there is something to remove; STORE_NEVER: nothing is. */
uint64_t session_caches_due(const struct realm *r);
/* One that is to be removed, to be removed or put back by the caller. 0: there is none now. */
uint32_t session_caches_take_gone(struct realm *r, uint64_t now_ms);
/* It could not be removed: at @due_ms, then. */
void session_caches_put_back(struct realm *r, uint32_t cache, uint64_t due_ms);

#endif
