/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RESOURCE_H
#define CLIENT_RESOURCE_H

/*
 * Resources, between the files of which they are made
 *
 *   resource           the public calls: getting, publishing, giving back
 *   resource-ask       what the daemon is asked for that
 *   resource-held      what this process has of instances, and when it is rid of them
 *   resource-object    memory, open files and local objects as such
 *   resource-lock      exclusive use
 *   resource-list      looking
 *   resource-options   how to get one
 */

#include <cached.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/call.h"
#include "client/holder.h"
#include "client/options.h"

#define RESOURCE_REASON_SIZE 256
#define RESOURCE_KEY_MAX     255

struct segment_head;

struct callback {
        cached_resource_fn fn; /* NULL: none */
        void *data;
};

struct cached_resource_options {
        struct callback create, validate, on_release;
        uint32_t wait_ms, pool;
        bool has_policy;
        struct cached_policy policy;
        bool read_only, no_create;
};

/* An object as this process has it. */
struct resource_object {
        void *map; /* of a segment: head and data; NULL: not mapped */
        size_t n_map;
        bool is_read_only;
        int fd;       /* of a segment and of a descriptor; -1: none */
        void *object; /* local */
};

/* Who waits for a lock within this process, on the stack of its thread. */
struct lock_waiter {
        struct lock_waiter *next;
        bool has_it;
};

/* The lock of an instance within this process: whoever has it may go for the lock itself. */
struct lock_turn {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        bool is_taken;
        bool is_closed; /* nobody waits any more */
        struct lock_waiter *first, *last;
};

/* What this process has of an instance, or of a key that somebody is asking for. Under the holder's
 * mutex, but for what is said to be set once. */
struct held {
        struct held *next;
        Cached__V1__ResourceKind kind;
        char *cache;
        uint8_t key[RESOURCE_KEY_MAX];
        uint8_t n_key;
        bool is_pooled;
        bool is_made;              /* from then on `object` is set, and stays until the end */
        bool is_busy;              /* somebody asks for the key */
        bool is_told;              /* on_release was called */
        _Atomic uint64_t instance; /* 0: the daemon does not know it */
        unsigned n_uses;           /* cached_resource objects */
        unsigned n_pins;           /* others that are about to look at it */
        uint64_t n_holds;          /* that the daemon counts, at least */
        uint64_t claimed;          /* the holder's epoch in which the daemon was asked about it */
        _Atomic int cause;         /* CACHED_RESOURCE_*: it has left */
        int bell;                  /* eventfd: readable then; -1: nobody has asked for one */
        struct resource_object object;
        struct callback on_release;
        struct cached_policy policy; /* under which it was acquired, if any */
        bool has_policy;
        struct lock_turn turn;
        /* Of who has the turn: */
        _Atomic uint32_t locked; /* the number under which it is locked; 0: it is not */
        atomic_bool owes_unlock; /* the daemon is to be told that it is not locked any more */
};

struct cached_resource {
        cached *handle;
        struct holder *holder;
        struct held *held;
        uint64_t creation_id; /* 0: it is not being made, or the daemon was away */
        bool is_making;
        bool wants_read_only; /* of what is being made */
        atomic_bool is_locked;
        char reason[RESOURCE_REASON_SIZE];
        struct callback on_release;
};

/* What somebody wants. */
struct resource_want {
        cached *handle;
        Cached__V1__ResourceKind kind;
        const char *cache;
        const void *key;
        size_t n_key;
        size_t size;
        const cached_resource_options *o;
        struct deadline d; /* of waiting for others */
};

/* ---- resource-ask.c */

struct call resource_call(Cached__V1__Request__OpCase op);

/*
 * resource_ask() - AcquireResource, over and over until the daemon has decided
 * @have:  an instance that this process has; 0: none
 *
 * Return: CACHED_OK: *@ret has HELD, CREATE or FAILED; CACHED_DEADLINE; else why not. *@ret may be
 * set with all of them, and *f is if it is not.
 */
int resource_ask(const struct resource_want *w, struct holder *h, uint64_t have, struct failure *f,
                 cached_reply **ret);
/* PublishResource of what is made. */
int resource_ask_publish(cached_resource *r, struct failure *f, cached_reply **ret);
void resource_tell_creation_ended(cached_resource *r);

/*
 * resource_ask_waiting() - a request that may have to wait for others
 * @set_wait:  writes into the request how long the daemon is to wait; UINT32_MAX: for ever
 * @d:         until when
 *
 * At once over a connection of the pool, and if the answer is that it would have to wait over the
 * line: so nothing else of the process waits behind it.
 *
 * Return: CACHED_OK with a reply whose state is neither BUSY nor TIMEOUT; CACHED_DEADLINE with one
 * that is; else why not, with a reply or *f set.
 */
int resource_ask_waiting(cached *c, Cached__V1__Request *request,
                         void (*set_wait)(Cached__V1__Request *, uint32_t), struct deadline d,
                         struct failure *f, cached_reply **ret);
/* The daemon that answered, or failed to, is not the one that knows the holder, or is gone: its
 * thread is on its way to another one. */
bool resource_is_adrift(struct holder *h, int code, const cached_reply *r);

/* How long one call goes along with a daemon that goes: it may be on its way back. */
struct resource_patience {
        struct holder *h;
        struct deadline wait; /* of the call */
        uint32_t timeout_ms;  /* without a daemon */
        bool was_here;        /* there was one since the call began */
        int n_adrift;
        struct deadline until; /* 0: not needed yet */
};
/* Whether to ask again, the reply freed; it may have waited. */
bool resource_goes_on(struct resource_patience *p, int code, cached_reply **reply);

/* ---- resource-held.c: all with the mutex */

/* The one that others join; NULL: there is none. */
struct held *held_find(struct holder *h, const struct resource_want *w);
struct held *held_find_instance(struct holder *h, uint64_t instance);
/* A place for the key, busy, with one use. NULL: no memory. */
struct held *held_new(struct holder *h, const struct resource_want *w);
/* It has left its cache. */
void held_left(struct held *held, int cause);
/* What is readable when it has; made if there is none. -1: there is no descriptor free. */
int held_bell(struct held *held);
/* One use or pin less has been noted: ends it if it is done with. The mutex is given up meanwhile.
 */
void held_settle(struct holder *h, struct held *held);
/* The handle is freed: whatever is there ends. */
void held_end_all(struct holder *h);
/* By the thread, without the mutex: ends what has left and is not used. */
void held_sweep(struct holder *h);
/* An instance has left that may be known, or may be about to be. The thread sweeps afterwards. */
void held_take_news(struct holder *h, uint64_t instance, int cause);

/* ---- resource-object.c */

/* Memory for a segment to be filled, with its head. */
int object_make_segment(size_t size, struct failure *f, struct resource_object *ret);
/* Seals it, for good, and maps it anew where it is to be read-only. */
int object_seal_segment(struct resource_object *o, bool read_only, struct failure *f);
/* A segment that came. @fd: consumed. */
int object_map_segment(int fd, uint64_t size, bool read_only, struct failure *f,
                       struct resource_object *ret);
void object_done(struct resource_object *o);
size_t object_size(const struct resource_object *o);
struct segment_head *object_head(const struct resource_object *o);

/* ---- resource-lock.c */

/* False: no memory. */
bool turn_init(struct lock_turn *t);
void turn_done(struct lock_turn *t);
/* Who waits for it waits no more. */
void turn_close(struct lock_turn *t);

#endif
