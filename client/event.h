/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_EVENT_H
#define CLIENT_EVENT_H

#include <cached.h>

#include "client/reply.h"

/* One event: what came, or LOST of our own. */
struct cached_event {
        uint32_t kind;          /* 0: there is none */
        uint64_t lost;          /* of LOST */
        struct cached_reply *r; /* owned; NULL: it is our own */
};

/* Consumes `r`, which is an event. One of a kind that is not known here is none. */
void event_take(struct cached_event *v, struct cached_reply *r);
void event_set_lost(struct cached_event *v, uint64_t n);
void event_done(struct cached_event *v);

#endif
