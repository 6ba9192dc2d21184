/* SPDX-License-Identifier: MIT */
#ifndef SUBSCRIBE_H
#define SUBSCRIBE_H

/*
 * Subscriptions: who wants to know what happens in a realm. See subscribe.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "proto/cached.pb-c.h"
#include "services/data.h"

struct client;
struct dispatcher;
struct policy_result;
struct realm;
struct request;
struct resource;
struct subscription;

/* The dispatcher's. */
struct subscribers {
        struct list due;   /* subscriptions with something to send to who reads */
        uint64_t retry_ms; /* when to go on after memory ran out; 0: now */
        size_t n_refresh;  /* that want EVENT_REFRESH */
};

void subscribers_init(struct subscribers *s);

enum {
        SUBSCRIBE_OK = 0,
        SUBSCRIBE_E_LIMIT, /* limits.subscribers_per_uid */
};

#define SUBSCRIBE_BIT(kind) (UINT32_C(1) << (unsigned)(kind))

/* Takes the place of the subscription that the client has. @kinds: SUBSCRIBE_BIT()s, at least one;
 * @cache empty: all of the realm. 0, SUBSCRIBE_E_LIMIT, -ENOMEM; unless 0 nothing changed. */
int subscribe_begin(struct client *client, uint32_t kinds, const struct cache_ref *cache);
void subscribe_end(struct client *client); /* fine for a client without one */

/* Is the client told of new policies of this cache as a subscriber? */
bool subscribe_has_policy(const struct client *client, uint32_t cache);

/* ---- what happens; nothing is done where nobody wants to know */

/* @put was stored as @entry. */
void subscribe_stored(struct request *r, const struct store_put *put,
                      const struct store_entry *entry);
void subscribe_deleted(struct request *r, const struct cache_ref *ref, struct key_ref key);
void subscribe_policy_changed(struct request *r, const struct policy_result *result);

struct subscribe_clear {
        const struct cache_ref *ref; /* NULL: all caches */
        struct store_text tag;       /* .text NULL: of all tags */
        struct key_ref prefix;       /* .data NULL: of all keys */
        uint64_t entries;
};
void subscribe_cleared(struct request *r, const struct subscribe_clear *what);

/* An instance has come, or has left: then it has a cause. Nobody is told of those of sessions. The
 * table is not used: for its hooks. */
void subscribe_resource(struct dispatcher *d, const struct resource *res);

void subscribe_refresh(struct realm *realm, const char *schedule, const char *cache,
                       uint64_t now_ms);
/* Does anybody want to know of that? */
bool subscribe_wants_refresh(const struct realm *realm, const char *cache);

/* Is its queue half full, though it reads? What makes more should wait for the next turn. */
bool subscribe_is_crowded(const struct client *client);

/* ---- sending */

/* As far as they read. True: more is to be sent, now. */
bool subscribe_flush(struct dispatcher *d, uint64_t now_ms);
uint64_t subscribe_next_deadline(const struct dispatcher *d);
/* All output of the client was sent, as was asked for. */
void subscribe_drained(struct client *client);

#endif
