/* SPDX-License-Identifier: MIT */
#ifndef LEASE_H
#define LEASE_H

/*
 * Leases: who computes what, and who waits for it. See lease.c.
 *
 * Pure: knows neither sockets nor messages nor the store, and is given `now`. What becomes of a
 * waiter is put into a queue, in the order in which it was decided; the caller answers from there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/chains.h"
#include "base/list.h"
#include "base/timerheap.h"
#include "store/store.h"

#define LEASE_NEVER    UINT64_MAX
#define LEASE_TAGS_MAX 8 /* cleared tags that a lease remembers; then any tag is one of them */

struct lease_account;
struct lease_group;

/* A connection: owns leases and waiters. */
struct lease_party {
        struct lease_account *account;
        void *ctx;           /* the caller's */
        struct list leases;  /* held and late ones, by `of_party` */
        struct list waiters; /* by `of_party` */
        struct list blocked; /* by `turn`: were decided on, and cannot be answered now */
        struct timer timer;
};

/* What one key's leases and waiters have in common: there as long as there are any. */
struct lease_slot {
        struct chain_link link;
        struct list of_group;
        struct list news; /* in leases.news: progress is to be told */
        struct lease_group *group;
        struct lease *holder; /* or NULL */
        struct list lates;    /* leases that were lost in time and may still be stored under */
        struct list waiting;  /* who has waited longest first */
        struct list *news_at; /* the next to be told */
        bool news_again;
        uint8_t n_key;
        uint32_t n_waiting;
        uint32_t n_waiters; /* those that were decided on, too */
        uint8_t key[STORE_KEY_MAX];
};

struct lease {
        struct chain_link link; /* by id */
        struct list of_all;     /* in the order of ids */
        struct list of_party;
        struct list of_late; /* of the account; in no list while it is held */
        struct list of_slot; /* the same, of the slot */
        struct lease_slot *slot;
        struct lease_party *party;
        uint64_t id;
        uint64_t number; /* of its owner */
        uint64_t since;
        struct timer timer;
        bool refresh; /* a value is there */
        bool late;
        uint8_t n_tags; /* that were cleared since; LEASE_TAGS_MAX + 1: more than are noted */
        uint16_t permille;
        char *progress;   /* or NULL */
        uint64_t version; /* with `refresh`: the caller's */
        uint64_t tags[LEASE_TAGS_MAX];
};

enum lease_outcome {
        LEASE_WAITS,          /* nothing is decided */
        LEASE_GOT_LEASE,      /* `lease_id` is its own */
        LEASE_GOT_VALUE,      /* `payload` */
        LEASE_GOT_FAILURE,    /* `payload` */
        LEASE_GOT_UNSTORABLE, /* `payload`, or NULL */
        LEASE_GOT_TIMEOUT,
        LEASE_GOT_LIMIT,     /* its uid has as many leases as it may have */
        LEASE_GOT_NO_MEMORY, /* for the lease */
        LEASE_GOT_NOTHING,   /* it may not have a lease any more */
        LEASE_GOT_CLOSED,    /* the daemon ends */
};

/* What the caller keeps with a waiter: the request that is to be answered. */
struct lease_note {
        uint64_t request_id;
        uint64_t version;
        uint32_t flags;
};

struct lease_waiter {
        struct chain_link link; /* by owner, while nothing is decided */
        struct list of_slot;
        struct list of_party;
        struct list turn; /* in leases.decided, or party->blocked */
        struct lease_slot *slot;
        struct lease_party *party;
        uint64_t number;
        uint64_t since;
        struct timer timer;
        uint32_t hold_ms;
        bool want_failure, want_progress;
        uint8_t outcome; /* enum lease_outcome */
        uint64_t lease_id;
        void *payload; /* the caller's, who counts references */
        struct lease_note note;
};

struct lease_where {
        void *space; /* realm */
        uint32_t cache;
        const uint8_t *key;
        size_t n_key;
};

struct lease_ask {
        struct lease_party *party;
        uint64_t number;
        uint64_t wait_ms; /* LEASE_NEVER: as long as it takes */
        uint32_t hold_ms; /* 0: no bound */
        bool want_failure, want_progress;
        struct lease_note note;
};

enum lease_answer {
        LEASE_GRANTED,
        LEASE_YOURS,
        LEASE_BUSY,
        LEASE_CYCLE,
        LEASE_PARKED,    /* a waiter was made: it will be in the queue */
        LEASE_CLOSED,    /* it would have to wait, and the daemon ends */
        LEASE_E_LEASES,  /* its uid has as many as it may have */
        LEASE_E_WAITERS, /* likewise */
};

enum lease_count {
        LEASE_COUNT_GRANTED,
        LEASE_COUNT_REFRESH,
        LEASE_COUNT_WAIT,
        LEASE_COUNT_LOST,
        LEASE_COUNT_FAILED,
};

/* What the caller is told, with `ctx`. */
struct lease_hooks {
        void (*count)(void *ctx, void *space, uint32_t cache, enum lease_count what);
        /* A lease for a value that is there is held no more, for whatever reason. */
        void (*over)(void *ctx, const struct lease *l);
        void *ctx;
};

struct leases {
        struct chains slots, ids, owners, groups;
        struct list all;     /* leases */
        struct list decided; /* waiters to be answered */
        struct list news;    /* slots with progress to be told */
        struct lease_account *accounts;
        struct timerheap deadlines;
        uint64_t seed, last_id;
        uint64_t max_leases, max_waiters; /* of a uid */
        bool closed;                      /* nobody waits any more */
        struct lease_hooks hooks;
};

/* @seed is for the hashes; ids begin behind @last_id. Without bounds nobody gets a lease. */
void leases_init(struct leases *t, uint64_t seed, uint64_t last_id,
                 const struct lease_hooks *hooks);
/* No party is left. */
void leases_done(struct leases *t);

/* Hold from now on. */
void leases_set_bounds(struct leases *t, uint64_t max_leases, uint64_t max_waiters);

/* ---- connections */

int lease_party_new(struct leases *t, uid_t uid, void *ctx, struct lease_party **ret);
/* It ends: its leases go to those who wait, its waiters go, with @drop for each that has a payload.
 * NULL is fine; returns NULL. */
struct lease_party *lease_party_free(struct leases *t, struct lease_party *p, uint64_t now,
                                     void (*drop)(void *payload));
/* Its process has ended: at @due at the latest its leases are lost. */
void lease_party_expire(struct leases *t, struct lease_party *p, uint64_t due);
/* It may have none any more: its leases are lost, and those of it that wait get @outcome. */
void lease_party_refuse(struct leases *t, struct lease_party *p, enum lease_outcome outcome,
                        uint64_t now);

/* ---- asking */

/* @ret: the lease that was granted, or is the owner's, or its holder's; untouched with errors. An
 * enum lease_answer, or -ENOMEM. */
int leases_ask(struct leases *t, const struct lease_where *where, const struct lease_ask *ask,
               uint64_t now, struct lease **ret);
/* For a value that is there: granted unless it is held, and never waits. */
int leases_ask_refresh(struct leases *t, const struct lease_where *where,
                       const struct lease_ask *ask, uint64_t now, struct lease **ret);

/* Held or late; NULL: it is not known. */
struct lease *leases_find(const struct leases *t, uint64_t id);
bool lease_is_of(const struct lease *l, const struct lease_where *where);
/* Who computes it now, or NULL. */
struct lease *leases_holder(const struct leases *t, const struct lease_where *where);
uid_t lease_party_uid(const struct lease_party *p);
void *lease_space(const struct lease_slot *s);
uint32_t lease_cache(const struct lease_slot *s);

/* ---- ends. Those that give a number: so many waiters got the payload. */

/* The key has a new value, by whomsoever. */
size_t leases_stored(struct leases *t, const struct lease_where *where, void *payload);
/* How many would get it. */
size_t leases_waiting_for(const struct leases *t, const struct lease_where *where);
/* The key was deleted. */
void leases_deleted(struct leases *t, const struct lease_where *where, uint64_t now);
/* A cache was cleared, or with @cache 0 all of @space. */
void leases_cleared(struct leases *t, void *space, uint32_t cache, uint64_t now);
/* What begins with the where's key. */
void leases_cleared_prefix(struct leases *t, const struct lease_where *where, uint64_t now);
/* A tag of a cache: leases that were granted before may not be stored with it. */
void leases_cleared_tag(struct leases *t, void *space, uint32_t cache, const char *tag,
                        size_t n_tag);
bool lease_tag_was_cleared(const struct leases *t, const struct lease *l, const char *tag,
                           size_t n_tag);

/* The holder gives up. With @payload, which says why, those who want to know get it. The next one
 * gets the lease. */
size_t lease_give_up(struct leases *t, struct lease *l, void *payload, uint64_t now);
/* Its value was not stored: those who wait get @payload, as @outcome (VALUE or UNSTORABLE). */
size_t lease_share(struct leases *t, struct lease *l, enum lease_outcome outcome, void *payload);
/* What it holds is too old: whoever is next begins anew. */
void lease_supersede(struct leases *t, struct lease *l, uint64_t now);

/* ---- progress */

/* @text is copied; @n 0: none. False: no memory for it. */
bool lease_progress(struct leases *t, struct lease *l, unsigned permille, const char *text,
                    size_t n);
/* The next waiter that is to be told of progress; NULL: that was all. @steps: how many are looked
 * at, at most, and is decreased. */
struct lease_waiter *leases_next_news(struct leases *t, unsigned *steps);

/* ---- time */

void leases_tick(struct leases *t, uint64_t now);
uint64_t leases_next_due(const struct leases *t); /* LEASE_NEVER: nothing is */

/* ---- answering */

/* Who is to be answered next, or NULL. */
struct lease_waiter *leases_decided(struct leases *t);
/* It cannot be answered now; lease_party_unblock() puts all of a party back. */
void lease_waiter_block(struct lease_waiter *w);
void lease_party_unblock(struct leases *t, struct lease_party *p);
/* It was answered, and is gone. */
void lease_waiter_free(struct leases *t, struct lease_waiter *w);

/* Nobody waits any more: all who do get LEASE_GOT_CLOSED; and back. */
void leases_close(struct leases *t);
void leases_open(struct leases *t);

/* ---- looking */

struct lease_gauge {
        uint64_t computing, waiting;
};
/* Of a cache, or with @cache 0 of all of @space. */
struct lease_gauge leases_gauge(const struct leases *t, const void *space, uint32_t cache);

/* The next held lease of @space with an id above @after, or NULL. @steps as above: with NULL and
 * *@steps 0 there may be more behind *@ret_at. */
struct lease *leases_next(const struct leases *t, const void *space, uint64_t after,
                          unsigned *steps, uint64_t *ret_at);

#endif
