/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_POOL_VIEWS_H
#define CLIENT_POOL_VIEWS_H

/*
 * The values that a pool's handles look at, and prepared buffers; part of client/pool.h
 */

#include "client/pool.h"
#include "client/release.h"

/* A reference to the value of that version, or NULL. Cheap where nothing is kept. */
struct view_file *pool_find_view(struct pool *p, uint64_t instance, uint64_t version);
/* What the entry was when it was looked at last, or NULL. */
struct view_file *pool_find_view_of(struct pool *p, const char *cache, const void *key,
                                    size_t n_key);

/* A value that came from the daemon: who is told in the end, and kept for the next look, if
 * @cache is not NULL. */
void pool_keep_view(struct pool *p, struct view_file *v, const char *cache, const void *key,
                    size_t n_key);
/* A view that came without its file. */
void pool_lose_view(struct pool *p, uint64_t instance, uint64_t view_id);

/* A copy of the place whose turn it is, if nobody looks at its value. False: there is none. */
bool pool_next_view(struct pool *p, struct view_slot *ret);
/* Lets go of the value of that version, if nobody looks at it. */
void pool_drop_view(struct pool *p, uint64_t instance, uint64_t version);

/* Has the daemon told of released views, if a connection is idle. It waits for nothing. */
void pool_tell(struct pool *p);
/* For who sends a request anyway: what is to be told, and what of it was not. */
void pool_take_released(struct pool *p, struct release *ret);
void pool_give_released(struct pool *p, struct release *r);

/* Under the guard. In a child, with what is_whole means to pool_inherit(). */
void pool_inherit_views(struct pool *p, bool is_whole);
/* Under the guard, when it is closed: whether views are out that somebody has to tell of. */
bool pool_wants_teller(const struct pool *p);
/* Before it is closed. */
void pool_drop_views(struct pool *p);

/* Under the guard: the daemon sees how much is prepared. */
void pool_note_prepared(struct pool *p);

#endif
