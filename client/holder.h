/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_HOLDER_H
#define CLIENT_HOLDER_H

/*
 * The holder: this process, as the daemon knows it by what it holds
 *
 * See holder.c. What it has of instances is its `all`, see resource-held.c.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/conn.h"
#include "client/deadline.h"
#include "client/failure.h"
#include "client/handle.h"

struct held;

enum holder_state {
        HOLDER_COMING, /* the first attempt, or one that somebody waits for */
        HOLDER_HERE,   /* its connection stands, and the daemon knows what is held */
        HOLDER_AWAY,   /* the last attempt failed, or the connection broke */
};

/* An instance that has left, of which this process had not heard yet. */
struct holder_news {
        uint64_t instance;
        int cause;
};

/* Holds that are to be given back when there is a daemon again. */
struct holder_debt {
        uint64_t instance;
        uint64_t n;
};

struct holder {
        /* Never changed. */
        struct cached handle; /* for connecting: options and paths are its own, the pool is not */
        uint32_t pid;
        int wake; /* eventfd: the thread is to look */
        pthread_t thread;

        pthread_mutex_t mutex;
        pthread_cond_t
                changed; /* on CLOCK_MONOTONIC: the state, or that nobody is busy with a key */
        /* The rest under the mutex. */
        enum holder_state state;
        pthread_t keeper;        /* the thread, once it runs */
        bool is_closing;         /* the thread is to end */
        atomic_bool is_ending;   /* nobody waits any more; also read without the mutex */
        atomic_uint n_inside;    /* calls that use it; likewise */
        atomic_bool is_over;     /* nothing is held any more; likewise */
        atomic_uint n_refs;      /* the pool's, and one of each resource; likewise */
        atomic_bool stops;       /* no connection is to be made any more */
        bool is_wanted;          /* somebody waits for an attempt */
        struct failure why;      /* AWAY: why */
        struct conn *conn;       /* what is to be sent on it; the thread alone reads */
        struct conn *dialing;    /* one that is about to be that; NULL: none */
        uint64_t id;             /* 0: never had any */
        _Atomic uint32_t number; /* that lock words know; also read without the mutex */
        uint64_t instance;       /* of the daemon that gave them */
        uint64_t epoch;          /* connections so far */
        struct held *all;
        unsigned n_asking; /* that may come to hold what has left meanwhile */
        struct holder_news *news;
        size_t n_news, n_news_allocated;
        struct holder_debt *debts;
        size_t n_debts, n_debts_allocated;
};

/*
 * holder_of() - the pool's, with its thread, begun if there is none; entered
 *
 * Return: for holder_leave(); NULL: *f says why.
 */
struct holder *holder_of(cached *c, struct failure *f);

/* A call that uses it, from its beginning to its end: holder_end() waits for that. */
void holder_enter(struct holder *h);
void holder_leave(struct holder *h);

/* A resource is known by it: its memory stays, though nothing but holder_unref() is for who finds
 * that it is over. */
void holder_ref(struct holder *h);
void holder_unref(struct holder *h);

/* Of this process, and not of its parent. */
bool holder_is_ours(const struct holder *h);

/* Ends what is held, with the pool's handle, when the calls inside have left. */
void holder_end(struct pool *p);

/* Locks the mutex, and waits until the daemon knows the holder. CACHED_OK with the mutex; else
 * without it, and *f is set. */
int holder_lock_here(struct holder *h, struct deadline d, struct failure *f);

/* Waits on `changed`, with the mutex. False: the deadline passed, or the handle is freed. */
bool holder_wait(struct holder *h, struct deadline d);

/* With the mutex: the thread is to look at what changed. */
void holder_wake(struct holder *h);

/* With the mutex: @n holds on it are given back, now or when there is a daemon. */
void holder_give_back(struct holder *h, uint64_t instance, uint64_t n);

/* holder-bell.c: the thread. @arg: the holder. */
void *holder_run(void *arg);
/* Sends what waits to be sent, with the mutex. */
void holder_flush(struct holder *h);

/* holder-claim.c: by the thread: what this process has is told a daemon that may not know it.
 * CACHED_OK, or the connection is of no use, and *f says why. */
int holder_claim(struct holder *h, struct deadline d, struct failure *f);
/* One request of the thread's on its connection, and its reply; events are taken meanwhile. The
 * descriptor, -1: none, goes along. */
int holder_ask(struct holder *h, Cached__V1__Request *request, int fd, struct deadline d,
               struct failure *f, struct cached_reply **ret);

#endif
