/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LINE_H
#define CLIENT_LINE_H

/*
 * The line: one connection of a pool that all its waits for leases share
 *
 * See line.c. Its parts are under its own guard, unless they say otherwise.
 */

#include <cached.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/conn.h"
#include "client/deadline.h"
#include "client/failure.h"
#include "client/guard.h"

struct pool;
struct line_ask;

/* Which connection something happened on: another one, or another process, has forgotten it. */
struct line_at {
        unsigned generation;
        uint64_t epoch;
};

/* One computation, as the daemon knows it: PROTOCOL.md, "Leases". */
struct line_owner {
        uint64_t number; /* 0: none */
        struct pool *pool;
        struct line_at at; /* of the last lease that it was granted; epoch 0: of none */
};

/* Zeroed memory is a line without a connection. */
struct line {
        struct guard guard;
        bool is_closed;
        bool is_opening;   /* somebody makes the connection */
        bool is_broken;    /* whoever reads, or makes it, is to drop it */
        bool is_read;      /* somebody reads: conn->in and `part` are his */
        struct conn *conn; /* NULL: none */
        struct line_at at; /* epoch: of the connection, or of the last one */
        unsigned n_leases; /* that were granted on it and have not ended */
        unsigned n_sent;   /* requests that are in flight and that somebody waits for */
        unsigned n_left;   /* in flight, and nobody waits any more */
        unsigned n_unsent; /* of `asks`: those that wait for a place, or for the connection */
        uint64_t next_owner;
        struct line_ask *asks, *last_ask; /* that are not done, oldest first */
        uint32_t wake_bits;               /* who is woken when the guard is given up */
        uint32_t next_bit;
        _Atomic uint32_t wakes; /* futex: how often somebody was to be woken */
        uint64_t used_ns;       /* when it was last used */
        uint64_t heard_ns;      /* when something came */
        uint64_t ping_id;       /* 0: none is in flight */
        uint64_t ping_ns;

        /* The reader's: a reply whose body is still on its way. */
        struct cached_reply *part;
};

/* What happens while a request waits: `event` is the daemon's, and may be taken; NULL: time passes.
 * Not 0: it is not to wait any longer. */
typedef int (*line_news)(void *data, struct cached_reply **event);

struct line_want {
        Cached__V1__Request *request; /* the id is filled in */
        uint64_t have_instance;       /* of a Get that has a version at hand: whose daemon's */
        uint32_t patience_ms;         /* how long the daemon may say nothing at all; 0: for ever */
        struct deadline d;            /* the end of the wait */
        bool is_nested;               /* others may wait for who asks */
        line_news news;               /* NULL: none */
        void *data;
        uint32_t every_ms; /* between two calls without an event; 0: there are none */
        bool is_silent;    /* afterwards: the daemon says nothing at all */
};

/*
 * line_ask() - a request on the line, and its reply
 * @ret:     NULL unless a whole reply came
 * @ret_at:  on which connection
 *
 * Return: the reply's code; CACHED_ERR_TIMEOUT: the deadline passed, `news` was not 0, or the
 * daemon says nothing at all; CACHED_UNSUPPORTED: it knows no leases; CACHED_LIMIT without a reply:
 * too many wait; else why there is no connection, with *f set.
 */
int line_ask(cached *c, struct line_want *w, struct failure *f, struct cached_reply **ret,
             struct line_at *ret_at);

/*
 * line_tell() - a request without a reply, if it is still that connection
 *
 * The id is filled in. False: it is not, or it could not be sent.
 */
bool line_tell(struct pool *p, struct line_at at, Cached__V1__Request *request);

/* A lease that was granted there has ended. */
void line_lease_ended(struct pool *p, struct line_at at);
bool line_is_at(struct pool *p, struct line_at at);

uint64_t line_new_owner(struct pool *p);

/* Ends whatever waits, for good. */
void line_close(struct pool *p);
/* The pool is freed. */
void line_done(struct line *l);
/* Now and then: a connection that nobody uses is closed. */
void line_rest(struct pool *p, uint64_t now_ns);

#endif
