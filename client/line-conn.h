/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LINE_CONN_H
#define CLIENT_LINE_CONN_H

/* What is between the two files of the line: see line-conn.c. All of it under the line's guard. */

#include "client/handle.h"
#include "client/line.h"

/* A request that somebody waits for, on his stack. Who reads meets many of them, each in memory
 * that his processor has not seen for a while: what he touches lies together. */
struct line_ask {
        struct line_ask *next, *prev;
        uint64_t id;                /* 0: not sent yet */
        struct cached_reply *reply; /* owned */
        struct cached_reply *event; /* the newest that was not looked at; owned */
        Cached__V1__Request__OpCase op;
        unsigned generation;
        uint32_t bit;         /* of a wake-up: few share it */
        int code;             /* when it is done: CACHED_OK with a reply, or why there is none */
        bool is_listed;       /* in the line of that generation */
        bool is_told;         /* its thread is in a callback, and reads nothing */
        _Atomic bool is_done; /* whoever else sets it does so last: it may go at once */
        uint64_t since_ns;    /* when it was sent */
        struct failure why;   /* unless CACHED_OK */
};

/* The guard; in a child the first to lock finds an empty line. Giving it up wakes. */
void line_lock(struct pool *p);
void line_unlock(struct pool *p);

void line_add(struct line *l, struct line_ask *a);
void line_remove(struct line *l, struct line_ask *a);
/* When the guard is given up. */
void line_wake(struct line *l, const struct line_ask *a);
/* A place among those in flight has come free. */
void line_pass_place(struct line *l);

/*
 * line_open() - a connection that has said Hello, if there is none
 *
 * Gives the guard up meanwhile. Return: CACHED_OK; CONN_AGAIN: somebody else is at it; or *f is
 * set.
 */
int line_open(cached *c, struct deadline d, struct failure *f);

/* The connection is of no use any more. */
void line_break(struct pool *p, int code, const char *text);

/*
 * line_send() - a request, to be packed: behind what has not left yet
 * @a:  who waits for its reply: gets its id; NULL: nobody
 *
 * Gives the guard up while there is no room. Return: CACHED_OK, or *f is set; then, unless it is
 * CACHED_TOO_LARGE or CACHED_ERR_NOMEM, the connection is gone.
 */
int line_send(struct pool *p, Cached__V1__Request *request, struct line_ask *a, struct deadline d,
              struct failure *f);

/* Reads until something came or the deadline passed, or what is there if it is DEADLINE_NOW. The
 * guard is given up; nobody else reads. */
void line_read(struct pool *p, struct deadline until);

#endif
