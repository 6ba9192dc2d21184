/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PIPELINE_H
#define CLIENT_PIPELINE_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/call.h"
#include "client/watch.h"

enum slot_state {
        SLOT_CLOSED,   /* its reply was received */
        SLOT_OPEN,     /* on its way */
        SLOT_INTERNAL, /* on its way, and not the caller's */
        SLOT_LOST,     /* there will be no reply, and next() has not said so yet */
};

struct slot {
        uint64_t tag;
        char *cache; /* of an internal OpenCache: owned */
        uint8_t state;
        uint8_t op;
        uint8_t code;      /* when lost */
        bool needs_leases; /* see struct call */
};

/* What a pipeline has beside the rest when it waits for nothing. */
struct pipeline_loop {
        struct watch watch;
        struct deadline deadline; /* for the next reply; never: nothing is on its way */
        struct deadline greeting; /* for Hello's reply, where the daemon was silent of late */
        uint64_t redial_ns;       /* while the daemon's backlog is full: the next attempt */
        uint32_t redial_ms;
        size_t n_released; /* the bytes at the start of `out` that may leave now */
        size_t n_held;     /* requests behind them, until the daemon takes more */
        bool full;         /* the socket took no more, and nobody has looked again */
        bool news;         /* something ended where nobody looks for it: the loop must wake */
};

struct cached_pipeline {
        cached *handle; /* borrowed */
        struct conn *conn;
        struct buffer out;

        struct slot *slots;
        size_t n_slots;     /* a power of two, or 0 */
        uint64_t base, end; /* ids: base <= open ones < end */
        size_t n_open;      /* SLOT_OPEN and SLOT_INTERNAL */
        size_t n_lost;
        size_t n_asked; /* what cached_pipeline_in_flight() tells */

        struct cached_reply *partial; /* its body is still to come */
        struct cached_reply *done, **done_tail;
        struct failure failure; /* of the last break */

        bool nonblocking;
        struct pipeline_loop loop; /* only then */
};

static inline struct slot *slot_at(const cached_pipeline *p, uint64_t id)
{
        return &p->slots[id & (p->n_slots - 1)];
}

/* pipeline.c: what both kinds share. Codes are CACHED_OK, CONN_AGAIN or that of p->failure. */

/* Packs the request and accepts it; the public functions end with it. */
int pipeline_submit(cached_pipeline *p, struct call *call, uint64_t tag);

/* The connection is of no more use: everything on the way is lost, with the code of p->failure. */
int pipeline_break(cached_pipeline *p);
/* In a child of the process that connected the stream is the parent's. */
int pipeline_break_foreign(cached_pipeline *p);
bool pipeline_is_foreign(const cached_pipeline *p);
/* One request will have no reply, for what p->failure says. */
void pipeline_lose(cached_pipeline *p, uint64_t id);

/* One frame, to the queue. A failure breaks the pipeline. */
int pipeline_receive_to_queue(cached_pipeline *p, struct deadline d);
/* The socket took nothing more: because the daemon said why and closed? Breaks the pipeline. */
int pipeline_send_failed(cached_pipeline *p, struct deadline d);

/* pipeline-loop.c */

/* A connection is on its way: dialled and introduced as far as that goes now. */
int pipeline_loop_connect(cached_pipeline *p);
/* A request was appended to `out`: what may leave, and is worth it, leaves. */
void pipeline_loop_asked(cached_pipeline *p);
/* Sends what may leave now. */
int pipeline_loop_send(cached_pipeline *p);
/* At the end of every call that may have changed something: what the caller's loop waits for. */
void pipeline_loop_update(cached_pipeline *p);

#endif
