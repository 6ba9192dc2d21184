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

/* The contract's kinds, in their order: what can be subscribed to. */
#define EVENT_KIND_FIRST CACHED__V1__EVENT_KIND__EVENT_STORED
#define EVENT_KIND_LAST  CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT

/* CACHED_EVENT_* of one; 0: it is not known. */
uint32_t event_kind_bit(Cached__V1__EventKind kind);

/* Consumes `r`, which is an event. One of a kind that is not known here is none. */
void event_take(struct cached_event *v, struct cached_reply *r);
void event_set_lost(struct cached_event *v, uint64_t n);
void event_done(struct cached_event *v);

#endif
