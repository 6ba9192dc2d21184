/* SPDX-License-Identifier: MIT */
#ifndef LEASING_H
#define LEASING_H

/*
 * Leasing: requests that ask for leases, wait, or end them
 *
 *   leasing        its place in the dispatcher
 *   lease-ask      a Get with `lease`: answered at once, or parked
 *   lease-answer   parked requests are answered, as much at a time as a turn allows
 *   lease-end      what requests that change something mean for leases
 *   lease-message  leases as messages
 */

#include "dispatch/dispatcher.h"

struct client;
struct share;

/* 0 or -errno. */
int leasing_init(struct dispatcher *d);
void leasing_done(struct dispatcher *d);
/* The configuration is another one, and roles may be. */
void leasing_reconfigure(struct dispatcher *d);

/* The connection ends: so do its leases. */
void leasing_leave(struct client *client, uint64_t now_ms);

/* The daemon, or its part in everything, ends: who waits is told so; and goes on after all. */
void leasing_close(struct dispatcher *d);
void leasing_open(struct dispatcher *d);

/* One that this request may name; NULL: there is none. */
struct lease *leasing_find(const struct request *r, uint64_t id);
/* @n waiters refer to it from now on, and the caller does no more. NULL is fine. */
void leasing_handed_out(struct share *s, size_t n);

/* ---- asking */

/* The rest of a Get with `lease`: @status and @e are what was found. */
enum status leasing_get(struct request *r, const struct cache_ref *ref, struct key_ref key,
                        enum status status, const struct store_entry *e);

/* ---- changing. Cheap where nobody has a lease. */

/* Before a Set is carried out: whether it may be, under the lease that it names. */
enum status leasing_check(struct request *r, const struct cache_ref *ref,
                          const struct store_put *put);
/* It will not be stored: those who wait get @large, or the bytes of @put. */
void leasing_share(struct request *r, const struct store_put *put, struct large *large);
/* A request failed that may have named a lease. */
void leasing_refused(struct request *r, enum status status);

/* It could not be computed: if there is an old value that is served so long, this ends the lease,
 * and those who wait get that. */
bool leasing_serve_old(struct request *r, struct lease *l);

void leasing_stored_slow(struct request *r, const struct store_put *put);
void leasing_deleted_slow(struct request *r, const struct cache_ref *ref, struct key_ref key);

static inline bool leasing_is_on(const struct dispatcher *d)
{
        return __builtin_expect(d->leases.slots.n > 0, 0);
}

/* @put was stored, with its cache. */
static inline void leasing_stored(struct request *r, const struct store_put *put)
{
        if (leasing_is_on(r->d))
                leasing_stored_slow(r, put);
}

/* The key was to be deleted, whether it was there or not. */
static inline void leasing_deleted(struct request *r, const struct cache_ref *ref,
                                   struct key_ref key)
{
        if (leasing_is_on(r->d))
                leasing_deleted_slow(r, ref, key);
}

/* One cache was cleared, or with @ref NULL all of the realm. */
void leasing_cleared(struct request *r, const struct cache_ref *ref);
/* Only the entries of a cache that have this tag, or whose key begins so. */
void leasing_cleared_tag(struct request *r, const struct cache_ref *ref, const char *tag,
                         size_t n_tag);
void leasing_cleared_prefix(struct request *r, const struct cache_ref *ref, struct key_ref prefix);

/* ---- answering */

/* Answers who is to be answered, for a while. */
void leasing_flush(struct dispatcher *d);
/* Looks at deadlines, answers, tells progress. True: there is more to do. */
bool leasing_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps);
/* The client's output was sent. */
void leasing_drained(struct client *client);

static inline bool leasing_has_decided(const struct dispatcher *d)
{
        return __builtin_expect(!list_is_empty(&d->leases.decided), 0);
}

/* ---- messages */

/* Fills @to, initialised by the caller; it borrows from the lease and its holder. */
void lease_message(Cached__V1__Lease *to, Cached__V1__LeaseState state, const struct lease *l,
                   uint64_t now_ms);
void lease_share_message(Cached__V1__Lease *to, Cached__V1__LeaseState state,
                         const struct share *why);

/* A Computation with its parts. */
struct computation_message {
        Cached__V1__Computation computation;
        char name[STORE_CACHE_NAME_MAX + 1];
};
void computation_message_init(struct computation_message *m, const struct lease *l,
                              uint64_t now_ms);
/* What is being computed for this key, or NULL. */
const struct lease *leasing_holder(struct request *r, const struct cache_ref *ref,
                                   struct key_ref key);

#endif
