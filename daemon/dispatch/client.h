/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_H
#define CLIENT_H

/*
 * Client: what the daemon knows of one connection beyond its bytes
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch/process.h"
#include "dispatch/upload-area.h"
#include "proto/wire.h"
#include "realm/access.h"

struct attached_client;
struct conn;
struct outcome_client;
struct dispatcher;
struct lease_party;
struct holding;
struct reader;
struct resource_party;
struct realm;
struct unfinished;
struct subscription;
struct viewer;

/* Cache ids, one bit each. */
struct cache_set {
        uint64_t *words;
        size_t n_words;
};

struct client {
        struct dispatcher *d;
        struct conn *conn;
        struct realm *realm;   /* NULL before Hello */
        struct reader *reader; /* of what it looked up by itself; NULL: it does not */
        enum role role;
        uint64_t last_id;            /* of requests that are not repeated */
        struct outcome_client *past; /* of its client_id; NULL: it has none, or another connection
                                        has taken it over */
        uint64_t hello_id;           /* with `past` */
        uint64_t last_repeated;
        struct unfinished *unfinished;     /* the request that is being carried out, or NULL */
        struct viewer *viewer;             /* with the views that it was sent, or NULL */
        struct lease_party *party;         /* with its leases and what it waits for, or NULL */
        struct holding *holding;           /* as a holder of resources, or NULL */
        struct resource_party *parked;     /* what it waits for of these, or NULL */
        struct process *process;           /* that it belongs to; NULL: nothing hangs on that yet */
        struct process_end party_end;      /* with `party` */
        struct subscription *subscription; /* or NULL */
        struct attached_client *attached;  /* to sessions, or was; or NULL */
        uint64_t features;
        char name[WIRE_CLIENT_MAX + 1];
        struct upload_area area;
        struct cache_set opened; /* only of clients that take events */
        struct cache_set
                pending; /* whose policy changed and who was not told; as long as `opened` */
        bool has_pending;
        struct client *prev, *next;
};

/* Links itself to @d and becomes the connection's user. NULL: no memory. */
struct client *client_new(struct dispatcher *d, struct conn *conn);
struct client *client_free(struct client *client, uint64_t now_ms);

/* Room for cache ids up to @max_id in both sets. 0 or -ENOMEM. */
int client_reserve_caches(struct client *client, uint32_t max_id);
void client_opened(struct client *client, uint32_t cache);
bool client_has_opened(const struct client *client, uint32_t cache);

/* Who asks, for access_role(). */
struct access_peer client_peer(const struct client *client);

/* Root, or the uid that the daemon runs as. */
bool client_is_privileged(const struct client *client);

#endif
