/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/options.h"
#include "client/pack.h"
#include "client/pool.h"
#include "client/sockpath.h"

struct cached {
        /* Never changed after the handle was made. */
        struct cached_options options;
        struct sockpaths paths;
        struct pool *pool; /* shared with those that were derived from it */
        bool is_derived;

        struct pool_user user; /* under the pool's guard */
};

/* A greeted connection in the slot, as long as the back-off allows. CACHED_OK, or *f is set. */
int handle_connect(cached *c, struct pool_slot *s, struct deadline d, struct failure *f);

/* One of the pool's, so that what the daemon offers is known. Likewise. @patience_ms: 0: the
 * handle's timeout. */
int handle_greet(cached *c, uint32_t patience_ms, struct failure *f);

/* For who has something to do without a daemon: looks whether there is one, and begins a connection
 * that later looks, and calls, go on with. Waits next to nothing, and that once. A daemon that does
 * not greet in so short a time is not taken for a silent one. True: it has greeted. */
bool handle_look(cached *c);

/* A connection that is not of the pool, for a pipeline. Likewise. */
int handle_open_conn(cached *c, struct deadline d, struct failure *f, struct conn **ret);

/*
 * handle_dial() - the beginning of one, for a pipeline that waits for nothing
 * @conn:       not dialled yet
 * @ret_until:  when its Hello should have been answered; what became of it, pool_attempted() is
 * told
 *
 * Return: CACHED_OK; CONN_AGAIN; or *f is set.
 */
int handle_dial(cached *c, struct conn *conn, struct failure *f, struct deadline *ret_until);

/* Which values are packed; max 0: the daemon has not said what it takes. */
struct packing handle_packing(const cached *c);

/* Whether this handle has opened the cache. */
bool handle_has_opened(cached *c, const char *cache);

#endif
