/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_POOL_H
#define CLIENT_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/backoff.h"
#include "client/conn.h"
#include "client/deadline.h"
#include "client/failure.h"
#include "client/guard.h"
#include "client/line.h"
#include "client/map.h"
#include "client/prepared.h"
#include "client/release.h"
#include "client/view-cache.h"
#include "client/warm.h"

/* Connections of one handle, at most. */
#define POOL_MAX 64

struct holder;
struct pool_waiter;

enum pool_slot_state {
        POOL_FREE, /* no call has it; `conn` may be NULL: not connected */
        POOL_BUSY, /* one call has it */
};

/* A place for a connection. Whoever has a busy one uses its connection alone. */
struct pool_slot {
        struct conn *conn; /* changed under the guard; see pool.c */
        enum pool_slot_state state;
        /* The reply to Hello has come: nearly always, unless the daemon is away. */
        atomic_bool greeted;
        uint64_t used; /* when it was given back: counts gives */
        /* Each slot is a client of its own to the daemon, whose ids go on over its connections. */
        uint64_t next_id;
};

/* The calls inside one handle. Zeroed memory: none. Under the pool's guard. */
struct pool_user {
        unsigned n_inside;
        unsigned generation; /* of the pool, when n_inside was counted */
};

/* What handles on the same connections share. */
struct pool {
        unsigned n_slots; /* never changed */
        /* Index into the socket paths: the one that answered last. */
        _Atomic size_t which;
        atomic_bool closed;
        /* The daemon's limit on packed values, as of its last greeting; 0: it has not said any. */
        _Atomic uint64_t max_lz4;
        /* An enum pool_files: whether the daemon takes memory files, likewise. */
        atomic_int files;
        /* An enum pool_leases, likewise. */
        atomic_int leases;

        _Atomic uint64_t rested_ns; /* when upload areas were looked at */

        struct map map;
        struct warm *warm; /* never changed; NULL: no cache is to be warmed */
        struct line line;  /* under a guard of its own */

        struct guard guard;
        struct guard_self self;
        /* The rest under the guard. */
        unsigned n_refs;
        unsigned generation; /* goes up in a child, after fork */
        uint64_t n_given;
        struct pool_waiter *waiters; /* oldest first */
        _Atomic uint32_t left;       /* futex: changes when a call left that somebody waits for */
        bool is_left_awaited;
        uint64_t answered_ns; /* the latest start of a call that was answered */
        bool has_client_id;
        uint8_t client_id[CONN_CLIENT_ID_SIZE]; /* of slot 0; others differ in the last byte */
        struct backoff backoff;
        struct names opened; /* caches that were opened, ids unused */
        struct view_cache views;
        /* Memory files of the daemon's that this process has, in the cache or not. */
        unsigned n_held;
        atomic_uint n_kept; /* values in `views`; also read without the guard */
        struct release released;
        atomic_bool has_released; /* there are some; likewise */
        struct conn *teller;      /* when it is closed: for those views that are still out */
        struct pool_user telling; /* nobody waits for these */
        struct prepared prepared;
        struct holder *holder; /* NULL: nothing is held, or a parent's; see holder.h */
        bool has_no_holder;    /* nor gets one any more */
        struct pool_slot slots[];
};

/* The pool's guard; in a child the first to lock takes it over. */
void pool_lock(struct pool *p);
void pool_unlock(struct pool *p);

enum pool_files {
        POOL_FILES_UNKNOWN,
        POOL_FILES_YES,
        POOL_FILES_NO,
};
static inline enum pool_files pool_files(struct pool *p)
{
        return (enum pool_files)atomic_load_explicit(&p->files, memory_order_relaxed);
}

enum pool_leases {
        POOL_LEASES_UNKNOWN,
        POOL_LEASES_YES,
        POOL_LEASES_NO,
};
static inline enum pool_leases pool_leases(struct pool *p)
{
        return (enum pool_leases)atomic_load_explicit(&p->leases, memory_order_relaxed);
}
/* Whether the next call on a connection of a slot's should come first: it learns what the daemon
 * does, or brings a mapping. */
bool pool_wants_call(struct pool *p);

struct pool_params {
        unsigned n_slots;
        bool maps;        /* it asks for a mapping */
        unsigned n_views; /* are kept for the next look */
        uint64_t prepared_bytes;
};

/* NULL: out of memory. The caller has the first reference. */
struct pool *pool_new(const struct pool_params *params);
void pool_ref(struct pool *p);
void pool_unref(struct pool *p);

/*
 * pool_leave() - ends a user: waits until its calls have left, and drops the reference
 *
 * The last one frees the pool.
 */
void pool_leave(struct pool *p, struct pool_user *u);

/* Every call inside ends soon, every later one at once. */
void pool_close(struct pool *p);

/*
 * pool_take() - enters the pool, with a slot: the one used last of those that are connected, else
 * one that is not
 *
 * Return: CACHED_OK, then pool_give() leaves; CACHED_ERR_CLOSED; CACHED_ERR_TIMEOUT: none came free
 * in time; the failure of the last attempt if none is free and the daemon is away.
 */
int pool_take(struct pool *p, struct pool_user *u, struct deadline d, struct failure *f,
              struct pool_slot **ret);

/*
 * pool_exchange() - where the daemon takes no more connections but others of the pool stand, one of
 * those instead of this slot, which has none
 *
 * Return: false: that is not so, and nothing happened. Else *s is another slot; or NULL, when none
 * came free: then the pool was left, and *f says why.
 */
bool pool_exchange(struct pool *p, struct pool_user *u, struct deadline d, struct failure *f,
                   struct pool_slot **s);

/* @answered_ns: when the call began, if the daemon answered it; else 0. */
void pool_give(struct pool *p, struct pool_user *u, struct pool_slot *s, uint64_t answered_ns);

/* Now and then: the upload areas of free slots that were not used for long give their memory back.
 * Only inside the pool. False: not now. */
bool pool_rest_uploads(struct pool *p, uint64_t now_ns);

/* Where no slot has to be waited for. */
enum pool_idle {
        POOL_IDLE_TAKEN, /* one with a greeted connection: pool_give() leaves */
        POOL_IDLE_BUSY,  /* all of those are in use */
        POOL_IDLE_NONE,  /* there are none, or the pool is closed */
};
enum pool_idle pool_take_idle(struct pool *p, struct pool_user *u, struct pool_slot **ret);

/* A free slot whose connection was not greeted yet, else one without any: pool_give() leaves.
 * False: there is none, or the pool is closed. */
bool pool_take_ungreeted(struct pool *p, struct pool_user *u, struct pool_slot **ret);

/* Counts a call inside that needs no slot. False: the pool is closed, and nothing is counted. */
bool pool_stay(struct pool *p, struct pool_user *u);
void pool_unstay(struct pool *p, struct pool_user *u);

/*
 * Puts a connection that has not said Hello into a busy slot that has none, with the slot's
 * client_id. Consumed also if the pool is closed already.
 */
int pool_put_conn(struct pool *p, struct pool_slot *s, struct conn *conn, struct failure *f);
/* Frees the connection of a busy slot. */
void pool_drop_conn(struct pool *p, struct pool_slot *s);
/* Frees those connections of free slots that have ended: after one has broken others may have. */
void pool_drop_stale(struct pool *p);

/*
 * pool_may_connect() - whether there should be an attempt now
 * @ret_probe:  the daemon is away and silent: the attempt should wait for next to nothing
 *
 * Return: CACHED_OK; or the failure of the last attempt.
 */
int pool_may_connect(struct pool *p, uint64_t now_ns, struct failure *f, bool *ret_probe);
/* What an attempt came to. `f` is read only if `code` is not CACHED_OK. */
void pool_attempted(struct pool *p, int code, const struct failure *f);
/* A request that began then was answered, on a connection that is no slot's. */
void pool_answered(struct pool *p, uint64_t start_ns);
/* A call that began then had no answer in time. */
void pool_timed_out(struct pool *p, uint64_t start_ns, const struct failure *f);

/*
 * pool_map() - publishes what was offered to the connection of a busy slot, if that was to map
 *
 * Its descriptors are closed, whatever becomes of them.
 */
void pool_map(struct pool *p, struct pool_slot *s);
/* A mapping that was seen to count no more, if it is still published; its connections go, too. */
void pool_end_mapping(struct pool *p, const struct mapping *mp);
bool pool_is_mapped(struct pool *p);

/*
 * pool_view_gone() - a memory file of the daemon's was let go of, and its reference to the pool is
 * @generation:  of the pool that it came to: a child tells nobody of its parent's
 */
void pool_view_gone(struct pool *p, unsigned generation, uint64_t instance, uint64_t view_id);

void pool_note_open(struct pool *p, const char *cache);
bool pool_has_opened(struct pool *p, const char *cache);

#endif
