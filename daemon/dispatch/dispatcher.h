/* SPDX-License-Identifier: MIT */
#ifndef DISPATCHER_H
#define DISPATCHER_H

/* What the parts of dispatch share: the state of the dispatcher, and that of a request that runs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "dispatch/attach.h"
#include "dispatch/bump.h"
#include "dispatch/client.h"
#include "dispatch/dispatch.h"
#include "dispatch/outcomes.h"
#include "dispatch/process.h"
#include "dispatch/quota.h"
#include "dispatch/schedule.h"
#include "dispatch/subscribe.h"
#include "dispatch/upload.h"
#include "dispatch/views.h"
#include "proto/cached.pb-c.h"
#include "realm/realm.h"
#include "services/backoff.h"
#include "services/data.h"
#include "services/lease.h"
#include "services/resource.h"
#include "services/verdict.h"

enum op_index {
#define OP(CASE, ...) OP_##CASE,
#include "dispatch/ops.def"
#undef OP
        N_OPS,
};

/* More than a Set of SetMany takes unpacked, with its reply. */
#define BUMP_PER_KEY ((size_t)512)

struct dispatcher {
        struct server *server;
        const struct config *cfg; /* borrowed */
        struct realms realms;     /* of which `first` is the list */
        struct bump bump;         /* of the request that runs */
        struct client *clients;
        struct quota uploads; /* long bodies on their way in */
        struct quota areas;   /* upload areas: their number, not their bytes */
        struct quota decoded; /* values on their way out, for clients that cannot decode */
        struct quota shares;  /* values that are kept for those who wait for them */
        struct leases leases;
        struct resources resources;
        struct list holdings;        /* see holding.c */
        bool resources_over;         /* descriptors are closed with the process */
        struct keeping *keeping;     /* see keeping.c */
        struct restoring *restoring; /* see restoring.c; NULL: there is nothing to restore */
        struct backoff backoff;      /* of values that could not be computed anew */
        struct outcomes outcomes;
        struct processes processes;
        struct views views;
        struct reaper *reaper;
        struct quota subscriptions; /* their number */
        struct subscribers subscribers;
        struct attachments attachments;
        struct schedules schedules;
        const struct client *running; /* whose request is being carried out, or was last in this
                                         turn; NULL: none */
        unsigned n_unfinished;
        size_t n_pending;       /* clients that have not been told of a change yet */
        uint64_t events_due_ms; /* when to try again to tell them */
        uid_t own_uid, overflow_uid;
        uint64_t requests, protocol_errors;
        uint64_t n_decoded, n_damaged;
        bool mapping_failed; /* and that was logged */
        struct histogram latencies[N_OPS];
};

struct request {
        struct dispatcher *d;
        struct client *client;
        const Cached__V1__Request *msg; /* in d->bump */
        const struct op *op;            /* once it was admitted as far as the operation */
        uint64_t id;
        const uint8_t *body;
        uint64_t n_body;
        int fd; /* the descriptor that the message names, owned; negative: see descriptor.h */
        struct store_sweep *sweep; /* that is under way, in d->bump; NULL: none */
        uint64_t n_resources;      /* that left when it began */
        struct upload *filling;    /* a part of the body, being copied to where it stays; owned */
        struct upload *upload;     /* of a long body, else NULL; owned by who runs the request */
        struct share *share;       /* borrowed: where the value that is answered lies; or NULL */
        Cached__V1__Lease *lease;  /* that goes with the reply, or NULL */
        uint64_t lease_id;         /* that the value belongs to which on_room() is about */
        bool lease_stays;          /* though the request failed */
        struct caller who;         /* realm is NULL in Hello */
        struct verdict verdict;
        uint8_t *out; /* reserved output, see reply.h */
        size_t n_out;
        const uint8_t *reply; /* message of the queued reply, valid until more is queued */
        size_t n_reply;       /* 0: none was queued */
        bool ran;             /* the operation was begun */
        void *state;          /* in d->bump: of an operation that runs in portions */
        bool again;           /* the operation is not done: it is to be run again, later */
        bool wait;            /* there is no room for the body at the moment */
        bool answered;        /* from memory: nothing is to be done */
        bool one_way;         /* it gets no reply */
        bool close;           /* after the reply */
};

/* Runs the request and queues its reply, or returns a failure (or NOT_FOUND) for the caller to
 * queue. Sets `again` instead when it has used its time (see unfinished.h), and keeps `state`. */
typedef enum status (*op_run)(struct request *r);
/* Decides on a body of @n_body bytes before it arrives. */
typedef enum status (*op_accept)(struct request *r, uint64_t n_body, struct upload **ret);

enum op_kind {
        OP_READS,   /* or may be carried out twice */
        OP_CHANGES, /* something, so that it must not be: its reply is kept, see repeat.c */
        OP_NOTES,   /* likewise, and what it changes remembers that by itself: a session. So it may
                     * be repeated with a new id, too, as on another connection than the first. */
};

struct op {
        const char *name;
        enum role role; /* that it takes at least */
        op_run run;
        op_accept accept; /* NULL: takes no body */
        enum op_kind kind;
};

extern const struct op ops[N_OPS];

#define OP(CASE, name, role, kind, run, accept) enum status run(struct request *r);
#include "dispatch/ops.def"
#undef OP

void request_init(struct request *r, struct client *client, uint64_t n_body);
/* Answers a failure, remembers the reply to a change, and closes if it is one of those failures. */
void request_finish(struct request *r, enum status status);

/* The rest of a Get: the reply with @e, as its message asks. NOT_FOUND: the value is of no use. */
enum status get_answer(struct request *r, const struct cache_ref *ref, const struct store_entry *e);

/* Room for a body of @n bytes, within what the peer's uid may send at the same time. OK without a
 * result: not now, the body has to wait. */
enum status upload_begin(struct request *r, uint64_t n, enum upload_to to, struct upload **ret);

/* The sweep of a Clear by prefix is over, done or not: subscribers are told of what was cleared. */
void clear_end_sweep(struct request *r);

enum status op_set_accept(struct request *r, uint64_t n_body, struct upload **ret);
enum status op_set_many_accept(struct request *r, uint64_t n_body, struct upload **ret);
enum status op_session_set_accept(struct request *r, uint64_t n_body, struct upload **ret);

#endif
