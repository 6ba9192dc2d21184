/* SPDX-License-Identifier: MIT */
#ifndef OUTCOMES_H
#define OUTCOMES_H

/*
 * Outcomes: what became of the changes that clients asked for, by client_id. See outcomes.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "dispatch/outcome-log.h"

#define CLIENT_ID_SIZE   16
#define OUTCOMES_BUCKETS 1024

struct client;

/* The clients of one uid. */
struct outcome_account {
        uid_t uid;
        size_t n, n_ended;
        struct list ended; /* oldest first */
        struct outcome_account *next;
};

/* What is remembered under one client_id. Owned by the registry, borrowed by the client. */
struct outcome_client {
        struct outcome_client *next; /* in its bucket */
        struct list ended_node, account_node;
        struct outcome_account *account;
        uint64_t realm; /* its serial number */
        uint8_t id[CLIENT_ID_SIZE];
        struct client *client; /* NULL: its connection has ended */
        uint64_t last_id;      /* the largest request id of connections that ended */
        uint64_t ended_ms;
        struct outcome_log log;
};

struct outcomes {
        struct outcome_client **buckets;
        struct list ended; /* oldest first */
        struct outcome_account *accounts;
        size_t n, n_ended;
        uint64_t seed;
        uint64_t answered, unknown; /* repeated requests */
};

/* How much is kept of clients whose connection has ended. */
struct outcome_bounds {
        uint64_t clients, clients_per_uid, ms;
};

int outcomes_init(struct outcomes *o);  /* 0 or -errno */
void outcomes_done(struct outcomes *o); /* all clients have left */

/* What is known of this client. A new one is made as if it had sent all ids up to @first_id, and
 * nobody knew what became of them. Then it belongs to the caller's client, until outcomes_leave().
 * 0 or -ENOMEM. */
int outcomes_find(struct outcomes *o, uid_t uid, uint64_t realm, const uint8_t id[CLIENT_ID_SIZE],
                  uint64_t first_id, struct outcome_client **ret);
void outcomes_enter(struct outcomes *o, struct outcome_client *oc, struct client *client);

/* The client's connection has ended; what is too much now is forgotten, perhaps all of it. */
void outcomes_leave(struct outcomes *o, struct outcome_client *oc, uint64_t last_id,
                    uint64_t now_ms, const struct outcome_bounds *bounds);

/* Forgets what ended @ms ago and more. */
void outcomes_expire(struct outcomes *o, uint64_t now_ms, uint64_t ms);
/* When that comes next; UINT64_MAX: never. */
uint64_t outcomes_next_deadline(const struct outcomes *o, uint64_t ms);

#endif
