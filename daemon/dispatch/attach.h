/* SPDX-License-Identifier: MIT */
#ifndef ATTACH_H
#define ATTACH_H

/*
 * Attach: which connections are attached to which sessions, and what they are told. See attach.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "dispatch/quota.h"
#include "proto/cached.pb-c.h"
#include "services/session.h"

struct attached_client;
struct attached_session;
struct client;
struct dispatcher;
struct realm;

/* The dispatcher's. */
struct attachments {
        struct attached_session **buckets;
        size_t n_buckets; /* a power of two, or 0 */
        size_t n;         /* sessions */
        struct quota quota;
        struct list due;   /* clients with something to be sent */
        uint64_t retry_ms; /* when to go on after memory ran out; 0: now */
};

void attachments_init(struct attachments *a);
void attachments_done(struct attachments *a); /* no clients are left */

enum {
        ATTACH_OK = 0,
        ATTACH_E_LIMIT, /* as many as limits.sessions_per_uid */
};

/* The client is attached to the session, from now on with events or without. 0, ATTACH_E_LIMIT,
 * -ENOMEM. */
int attach_begin(struct client *client, const struct session_ref *ref, bool want_events);
/* Fine if it is not attached. */
void attach_end(struct client *client, const struct session_ref *ref, uint64_t now_ms);
/* From all. */
void attach_leave(struct client *client, uint64_t now_ms);

/* Connections. */
uint64_t attach_count(const struct dispatcher *d, const struct session_ref *ref);

/* The session of this realm and key has changed, or (CLOSED, EXPIRED, EVICTED) is no more: then
 * nobody is attached any longer. @items: those of SET and DELETED; of DELETED only what was found.
 */
struct attach_news {
        Cached__V1__SessionChange change;
        uint64_t version;
        const struct session_item *items;
        size_t n_items;
};
void attach_tell(struct dispatcher *d, const struct realm *hidden, const uint8_t *key,
                 const struct attach_news *news, uint64_t now_ms);

/* A session left its store by itself: for struct realms. */
void attach_departed(void *dispatcher, struct realm *hidden, const uint8_t *key,
                     enum store_cause cause, uint64_t now_ms);

/* Sends what waits, as far as they read. True: more is to be sent, now. */
bool attach_flush(struct dispatcher *d, uint64_t now_ms);
uint64_t attach_next_deadline(const struct dispatcher *d);
/* All output of the client was sent, as was asked for. */
void attach_drained(struct client *client);

#endif
