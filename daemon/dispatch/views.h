/* SPDX-License-Identifier: MIT */
#ifndef VIEWS_H
#define VIEWS_H

/*
 * Views: memory files of values that were sent to readers and not reported released. See views.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct client;
struct large;
struct realm;
struct view;
struct viewer;
struct views_account;

struct views {
        struct view **buckets; /* by id */
        size_t n_buckets;      /* a power of two, or 0 */
        size_t n;
        uint64_t last_id;
        struct views_account *accounts;
        unsigned n_ended; /* processes that have ended and still have views */
};

enum {
        VIEWS_OK = 0,
        VIEWS_E_NOT, /* the value is to be sent as a body */
};

struct viewer_info {
        uint64_t n, bytes;
};

/* 0 or -errno. */
int views_init(struct views *v);
/* Ends all. The realms may be gone. */
void views_done(struct views *v);

/* The client, who has entered the realm, is about to be sent this value's file. 0 and the view's
 * number; VIEWS_E_NOT: it has as many as it may have, or cannot be watched; -ENOMEM. */
int views_add(struct views *v, struct client *client, struct large *l, uint64_t *ret_id);

/* Ends one, if there is such a view of this uid. */
void views_release(struct views *v, uid_t uid, uint64_t id);

/* The connection ends: its views stay until their process ends, if that is watched. */
void views_leave(struct views *v, struct client *client);

/* Ends the views of processes that have ended, at most @steps of them. True: there are more. */
bool views_reap(struct views *v, unsigned steps);

/* Of one connection. */
struct viewer_info views_of(const struct client *client);

#endif
