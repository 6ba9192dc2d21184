/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_H
#define RESOURCE_H

/*
 * Resources: live objects that processes share, who holds them, who has their locks, and who waits.
 * See resource.c.
 *
 * Pure: knows neither sockets nor messages nor the store nor descriptors, and is given `now` (ms).
 * What becomes of a waiter, and what a holder is to be told, is put into two queues, in the order
 * in which it was decided; the caller answers from there. Structs are to be read by the caller and
 * written by the table alone, but for what is "the caller's".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/chains.h"
#include "base/list.h"
#include "base/timerheap.h"
#include "store/store.h"

#define RESOURCE_NEVER          UINT64_MAX
#define RESOURCE_NUMBER_MAX     ((UINT32_C(1) << 30) - 1) /* of holders */
#define RESOURCE_REASON_MAX     1024u
#define RESOURCE_PAUSE_FIRST_MS UINT64_C(1000)
#define RESOURCE_PAUSE_MAX_MS   UINT64_C(60000)
#define RESOURCE_CALM_MS        UINT64_C(60000) /* without a failure: the next one is the first */
/* Behind the numbers that are known of a predecessor: it has given out fewer since. */
#define RESOURCE_NUMBERS_GAP (UINT64_C(1) << 32)
/* A cache whose number has this bit is apart: it counts for the bounds of its space, and is meant
 * by nothing but its number. */
#define RESOURCE_APART      (UINT32_C(1) << 31)
#define RESOURCE_FAILED_MAX 1024u /* slots that are remembered for their failures alone */

/* As in the protocol. */
enum resource_kind {
        RESOURCE_KIND_NONE,
        RESOURCE_KIND_SEGMENT,
        RESOURCE_KIND_DESCRIPTOR,
        RESOURCE_KIND_LOCAL,
};

/* As in the protocol: why an instance has left its cache. */
enum resource_cause {
        RESOURCE_LEFT_NOT,
        RESOURCE_LEFT_EXPIRED,
        RESOURCE_LEFT_EVICTED,
        RESOURCE_LEFT_CLEARED,
        RESOURCE_LEFT_DROPPED,
        RESOURCE_LEFT_REPLACED,
        RESOURCE_LEFT_INVALID,
        RESOURCE_LEFT_HUNG_UP,
        RESOURCE_LEFT_OWNER_DIED,
        RESOURCE_LEFT_UNCLAIMED,
        RESOURCE_LEFT_SESSION_ENDED,
        N_RESOURCE_CAUSES,
};

struct resource_account;
struct resource_space;
struct resource_cache;

struct resource_where {
        void *space;    /* realm */
        uint32_t cache; /* not 0; see RESOURCE_APART */
        const uint8_t *key;
        size_t n_key; /* at most STORE_KEY_MAX */
};

struct resource_policy {
        uint64_t ttl_ms;      /* from publication; RESOURCE_NEVER: none */
        uint64_t max_entries; /* instances in the cache; 0: no bound */
};

/* A key that has an instance, or a creation, or somebody who waits, or failed lately. */
struct resource_slot {
        struct chain_link link;
        struct list of_cache;
        struct list of_failed; /* in resources.failed, while it is there for that alone */
        struct list loose;     /* in resources.loose: somebody may be next, or it may go */
        struct resource_cache *cache;
        struct list instances; /* in the cache: those that were released last are at the end */
        struct list creations;
        struct list waiting; /* struct resource_waiter, who has waited longest first */
        uint32_t n_instances, n_creations, n_waiting;
        uint32_t n_gone;   /* instances that have left, and are held */
        uint32_t pool;     /* 0: one instance, shared */
        uint32_t failures; /* in a row */
        uint64_t calm_since, retry_at;
        struct timer timer;
        char *reason; /* of the last failure, or NULL */
        uint8_t kind; /* of what is there or is being created */
        uint8_t n_key;
        uint8_t key[STORE_KEY_MAX];
};

/* An instance. When it has left its cache it stays as long as somebody holds it, and its lock works
 * on; nobody finds it by its key then. */
struct resource {
        struct chain_link link; /* by number */
        struct list of_all;     /* in the order of numbers */
        struct list of_slot;    /* in none when it has left */
        struct list of_use;     /* by use, of the cache: with its held ones, or the others */
        struct list of_space;   /* by use, of the space: those that nobody holds */
        struct resource_slot *slot;
        struct list holds;           /* struct resource_hold, by `of_resource` */
        struct list lock_waiting;    /* struct resource_waiter */
        struct resource_hold *owner; /* of the lock, or NULL; of a segment: as far as is known, use
                                      * resource_lock_owner() */
        uint64_t number;             /* never used twice */
        uint64_t size;               /* bytes that are charged */
        uint64_t since, used;        /* published, and acquired or released last */
        uint64_t holds_total;
        struct timer timer;               /* time to live */
        struct resource_account *account; /* that is charged */
        uid_t uid;                        /* of its creator */
        pid_t pid;
        uint32_t n_holders, n_lock_waiting;
        uint8_t kind, cause; /* of resource_cause: not 0: it has left */
        bool read_only, pooled;
        bool owner_died;     /* who gets the lock next, or the instance from a pool, is told */
        bool lock_unclaimed; /* restored as locked, and not claimed yet */
        bool unsaved;        /* the caller's: as it is now it is not known to a successor */
        char *reason;        /* why it left, or NULL */
        void *payload;       /* the caller's: released by the hook */
};

/* A process that holds. */
struct resource_holder {
        struct chain_link by_id, by_number;
        struct list of_all;
        struct list holds;     /* by `of_holder` */
        struct list creations; /* by `of_holder` */
        struct list waiters;   /* acquire and lock ones, by `of_holder`, also decided ones */
        struct list blocked;   /* holds of which it cannot be told now, by `turn` */
        struct resource_account *account;
        void *space;
        uint64_t id;     /* the caller has drawn it */
        uint32_t number; /* 1 to RESOURCE_NUMBER_MAX, unique in its space while it lives */
        uid_t uid;
        pid_t pid;
        uint64_t since;
        uint64_t n_holds;
        bool lost;      /* has no connection: ends when `timer` is due */
        bool restored;  /* a predecessor knew it, and all that it had */
        bool stands_in; /* for one that has not come yet; see resource-anew.c */
        struct timer timer;
        void *ctx; /* the caller's: its connection; NULL while it is lost */
};

struct resource_hold {
        struct chain_link link; /* by holder and resource */
        struct list of_holder, of_resource;
        struct list turn; /* in resources.events, or holder->blocked; in none once it was told */
        struct resource_holder *holder;
        struct resource *resource;
        uint64_t count; /* not 0 */
        uint64_t since;
        bool unclaimed; /* restored, and not claimed yet */
        bool unsaved;   /* the caller's: likewise */
};

/* The right to create an instance. */
struct resource_creation {
        struct chain_link link; /* by id */
        struct list of_slot, of_holder;
        struct resource_slot *slot;
        struct resource_holder *holder;
        struct resource_policy policy;
        uint64_t id;
        uint64_t since;
        uint8_t kind;
};

/* A connection: what it waits for ends with it. */
struct resource_party {
        void *ctx;           /* the caller's */
        struct list waiters; /* by `of_party` */
        struct list blocked; /* by `turn`: were decided on, and cannot be answered now */
};

enum resource_outcome {
        RESOURCE_WAITS,         /* nothing is decided */
        RESOURCE_GOT_HOLD,      /* `instance`: held once more; or locked, of a lock */
        RESOURCE_GOT_RIGHT,     /* `creation_id` */
        RESOURCE_GOT_TIMEOUT,   /* `uid`, `pid`: who creates or has it */
        RESOURCE_GOT_FAILURE,   /* `reason`, `retry_ms` */
        RESOURCE_GOT_NOT_FOUND, /* it was not to create; its holder ended, or of a lock:
                                 * it left when the lock's owner died */
        RESOURCE_GOT_LIMIT,     /* as many resources as there may be */
        RESOURCE_GOT_NO_MEMORY,
        RESOURCE_GOT_CLOSED, /* the daemon ends */
        RESOURCE_GOT_ENDED,  /* its cache has ended */
};

/* What the caller keeps with a waiter: the request that is to be answered. */
struct resource_note {
        uint64_t request_id;
        uint64_t have_instance;
        uint32_t flags;
};

struct resource_waiter {
        struct list of_slot; /* slot->waiting, or resource->lock_waiting */
        struct list of_party, of_holder;
        struct list turn;           /* in resources.decided, or party->blocked */
        struct resource_slot *slot; /* NULL: it waits for a lock, or was decided on */
        struct resource *of_lock;   /* NULL: it does not, or was decided on */
        struct resource_party *party;
        struct resource_holder *holder; /* NULL: it ended */
        struct resource_policy policy;
        struct timer timer;
        uint64_t since;
        uint8_t kind;
        bool no_create, is_lock;
        uint8_t outcome; /* enum resource_outcome */
        bool owner_died; /* with HOLD */
        /* Of what was decided: as numbers, since it may have changed until it is answered. Find
         * them with resources_find() and resource_creation_find(); 0: none. */
        uint64_t instance, creation_id;
        uint64_t retry_ms;
        char *reason; /* a copy, or NULL */
        uid_t uid;    /* TIMEOUT: who creates it, or has it; pid 0: nobody is known */
        pid_t pid;
        struct resource_note note;
};

struct resource_ask {
        struct resource_party *party; /* waits */
        struct resource_holder *holder;
        enum resource_kind kind;
        uint64_t wait_ms; /* RESOURCE_NEVER: as long as it takes; 0: not at all */
        uint32_t pool;
        bool no_create;
        struct resource_policy policy; /* of the cache, for what is created */
        struct resource_note note;
};

enum resource_answer {
        RESOURCE_IS_HELD,   /* `resource` */
        RESOURCE_IS_YOURS,  /* `creation`: create it. Of a lock: it has it already */
        RESOURCE_IS_BUSY,   /* `uid`, `pid`: who creates or has it; pid 0: several */
        RESOURCE_IS_PARKED, /* a waiter was made: it will be in the queue */
        RESOURCE_IS_FAILED, /* `reason`, `retry_ms` */
        RESOURCE_IS_NOT_FOUND,
        RESOURCE_IS_CLOSED, /* it would have to wait, and the daemon ends */
        RESOURCE_E_KIND,    /* another kind is there: `kind` */
        RESOURCE_E_POOL,    /* is a pool there, and none here, or the other way; or local in a pool;
                             * or the lock of a pool's instance */
        RESOURCE_E_RESOURCES, /* its uid or its realm has as many as it may have, held ones */
        RESOURCE_E_WAITERS,   /* likewise */
        RESOURCE_E_SPACE,     /* bytes; see resources_biggest() */
        RESOURCE_E_NOT_HELD,  /* this holder does not hold it, or has not its lock */
};

/* What goes with an answer. */
struct resource_reply {
        struct resource *resource;
        struct resource_creation *creation;
        bool owner_died;
        uint8_t kind;
        uid_t uid;
        pid_t pid;
        const char *reason; /* until the table is used next */
        uint64_t retry_ms;
};

/*
 * The lock word of a segment, in memory that every holder of it can write; so the table believes it
 * only as far as it names a holder who holds this very instance. All are asked with the payload of
 * an instance of kind segment that is not read-only. None of the hooks may use the table.
 */
struct resource_hooks {
        /* If the word has no owner: makes @number the owner (the died bit goes; the waiters bit
         * stays as it is), *@ret_died: the died bit was set; returns 0. Else sets the waiters bit,
         * in the same atomic step, and returns the owner's number as it stands there. */
        uint32_t (*word_try)(void *ctx, void *payload, uint32_t number, bool *ret_died);
        /* Writes the word, whatever is there: the owner's number or 0, the waiters bit, the died
         * bit. */
        void (*word_write)(void *ctx, void *payload, uint32_t number, bool waiters, bool died);
        /* The owner's number that stands there, without the bits. */
        uint32_t (*word_owner)(void *ctx, void *payload);

        /* The payload is used no more. NULL payloads are not told. */
        void (*release)(void *ctx, void *payload);
        /* It has come: published, or registered anew, and not restored. NULL: nobody wants to
         * know. */
        void (*created)(void *ctx, const struct resource *r);
        /* It has left its cache, for r->cause. It is there yet, with its holders. */
        void (*left)(void *ctx, struct resource *r);
        /* Its holders or its lock's owner, as far as is known here, have changed: for a successor.
         * Not called when it has left. */
        void (*changed)(void *ctx, struct resource *r);
        /* Likewise: a hold has come, or another count; it ends, after what that changes of its
         * instance; a holder has ended. Not called of what has left. NULL: nobody wants to know. */
        void (*held)(void *ctx, struct resource_hold *d);
        void (*let_go)(void *ctx, const struct resource_hold *d);
        void (*ended)(void *ctx, const struct resource_holder *h);
        void *ctx;
};

struct resource_bounds {
        uint64_t holders;         /* of a uid */
        uint64_t waiters;         /* of a uid */
        uint64_t resources;       /* of a uid, with creations */
        uint64_t space_resources; /* of a space, with creations */
        uint64_t space_bytes;     /* of a space */
        uint64_t grace_ms;        /* of lost holders */
};

struct resources {
        struct chains slots, numbers, ids, holder_numbers, holds, creations, caches;
        struct list all;     /* instances */
        struct list holders; /* by `of_all` */
        struct list decided; /* waiters to be answered */
        struct list events;  /* holds whose holders are to be told */
        struct list failed;  /* slots, who failed first first */
        size_t n_failed;
        struct list loose;  /* slots; empty between two calls */
        struct list unheld; /* instances that have left and go, by `of_slot`; likewise */
        struct resource_account *accounts;
        struct resource_space *spaces;
        struct timerheap deadlines;
        uint64_t seed, last_instance, last_creation;
        uint32_t last_number;
        struct timer claims; /* when what is not claimed ends */
        struct resource_bounds bounds;
        bool closed; /* nobody waits any more */
        struct resource_hooks hooks;
};

/* @seed is for the hashes, and numbers of holders begin with it; those of instances and creations
 * begin behind @last. Without bounds nobody gets anything. */
void resources_init(struct resources *t, uint64_t seed, uint64_t last,
                    const struct resource_hooks *hooks);
/* No party is left. What is there is let go: payloads are released, nobody is told. */
void resources_done(struct resources *t);
/* Hold from now on. */
void resources_set_bounds(struct resources *t, const struct resource_bounds *bounds);

/* ---- connections that wait */

void resource_party_init(struct resource_party *p, void *ctx);
/* It ends: its waiters go, and what they got and were not told is given back. */
void resource_party_done(struct resources *t, struct resource_party *p, uint64_t now);

/* ---- holders */

/* 0, -EDQUOT (its uid has as many as it may have), -EEXIST (such an @id is there: draw another
 * one), -ENOMEM. @id is not 0. */
int resource_holder_open(struct resources *t, void *space, uid_t uid, pid_t pid, uint64_t id,
                         uint64_t now, void *ctx, struct resource_holder **ret);
/* NULL: none, or another uid's or space's. In time that does not depend on how much of @id is
 * right, as far as a hash goes. */
struct resource_holder *resource_holder_find(const struct resources *t, const void *space,
                                             uid_t uid, uint64_t id);
/* Whoever has it; NULL: nobody. */
struct resource_holder *resource_holder_of(const struct resources *t, uint64_t id);
/* Its connection is lost: it keeps what it holds for the grace time; its rights to create go to the
 * next at once. */
void resource_holder_lost(struct resources *t, struct resource_holder *h, uint64_t now);
/* It is here again, lost or not (then the caller lets go of its former connection). */
void resource_holder_again(struct resources *t, struct resource_holder *h, void *ctx);
/* It ends, is freed, and is told nothing. @died: its process ended, or the grace: what it had
 * locked was left in the middle. Else it gave all up in order. NULL is fine. */
void resource_holder_end(struct resources *t, struct resource_holder *h, bool died, uint64_t now);

/* ---- asking. All return an enum resource_answer, or -ENOMEM. */

int resources_acquire(struct resources *t, const struct resource_where *where,
                      const struct resource_ask *ask, uint64_t now, struct resource_reply *ret);
/* HELD: it has the lock now (ret->owner_died). Of ask only party, holder, wait_ms, note count. */
int resource_lock(struct resources *t, struct resource *r, const struct resource_ask *ask,
                  uint64_t now, struct resource_reply *ret);
/* RESOURCE_IS_HELD: it is done; RESOURCE_E_NOT_HELD. */
int resource_unlock(struct resources *t, struct resource *r, struct resource_holder *h,
                    uint64_t now);
/* One hold less; with the last one the lock is given up, too, in order. @broken: and it leaves, as
 * INVALID. @r may be gone then. */
int resource_release(struct resources *t, struct resource *r, struct resource_holder *h,
                     bool broken, uint64_t now);
/* The same with all holds of @h. */
int resource_release_all(struct resources *t, struct resource *r, struct resource_holder *h,
                         bool broken, uint64_t now);
/* The holder's check failed: the hold stays. In a row they make a pause, see resource.c. */
int resource_invalidate(struct resources *t, struct resource *r, struct resource_holder *h,
                        const char *reason, uint64_t now);

/* ---- creating */

struct resource_creation *resource_creation_find(const struct resources *t, uint64_t id);
/* What was created: takes the place of the right, is held once by its creator, and goes to those
 * who wait. The payload is the table's then. HELD, or E_KIND, E_SPACE, -ENOMEM: then the right
 * stays, and the payload is the caller's. */
int resource_publish(struct resources *t, struct resource_creation *c, enum resource_kind kind,
                     uint64_t size, bool read_only, void *payload, uint64_t now,
                     struct resource **ret);
/* It is given up. With a reason (else NULL), those who wait get it, and there is a pause, whose
 * length is returned; else the next one gets the right. */
uint64_t resource_creation_end(struct resources *t, struct resource_creation *c, const char *reason,
                               uint64_t now);

/* ---- what leaves. Those that give a number: so many instances left; @ret_told, unless NULL: so
 * many holders are told. */

/* @r may be gone then. */
void resource_drop(struct resources *t, struct resource *r, enum resource_cause cause,
                   const char *reason, uint64_t now);
size_t resources_dropped(struct resources *t, const struct resource_where *where,
                         enum resource_cause cause, uint64_t now, size_t *ret_told);
/* A cache, or with @cache 0 all of @space but for what is apart; of it what begins with @prefix. */
size_t resources_cleared(struct resources *t, void *space, uint32_t cache, const uint8_t *prefix,
                         size_t n_prefix, uint64_t now, size_t *ret_told);
/* A cache ends, for SESSION_ENDED: also its rights and its counters. Who waits gets ENDED. Its
 * number may be another one's then. */
void resources_cache_ends(struct resources *t, void *space, uint32_t cache, uint64_t now);
/* For room: the one leaves that nobody holds and that was used longest ago. False: there is none.
 */
bool resources_evict(struct resources *t, const void *space, uint64_t now);
/* The space ends: with its holders, who must be lost, all of its rights, and what was counted. */
void resources_space_ends(struct resources *t, void *space, uint64_t now);

/* ---- time */

void resources_tick(struct resources *t, uint64_t now);
uint64_t resources_next_due(const struct resources *t); /* RESOURCE_NEVER: nothing is */

/* ---- answering */

/* Who is to be answered next, or NULL. */
struct resource_waiter *resources_decided(struct resources *t);
/* It cannot be answered now; resource_party_unblock() puts all of a party back. */
void resource_waiter_block(struct resource_waiter *w);
void resource_party_unblock(struct resources *t, struct resource_party *p);
/* It was answered, and is gone. What it got is not lost with it. */
void resource_waiter_free(struct resources *t, struct resource_waiter *w);

/* Whose holder is to be told next that hold->resource has left, or NULL. Never of a lost one. */
struct resource_hold *resources_next_event(struct resources *t);
/* It was told: not again. */
void resource_hold_told(struct resource_hold *d);
/* It cannot be told now; resource_holder_unblock() puts all of a holder back. */
void resource_hold_block(struct resource_hold *d);
void resource_holder_unblock(struct resources *t, struct resource_holder *h);

/* Nobody waits any more: all who do get RESOURCE_GOT_CLOSED; and back. */
void resources_close(struct resources *t);
void resources_open(struct resources *t);

/* ---- looking */

/* Also one that has left, while it is held. */
struct resource *resources_find(const struct resources *t, uint64_t number);
/* NULL: it does not hold it. */
struct resource_hold *resource_hold_find(const struct resources *t, const struct resource *r,
                                         const struct resource_holder *h);
/* Who has the lock, or the instance of a pool; NULL: nobody who is known. */
struct resource_hold *resource_lock_owner(const struct resources *t, const struct resource *r);
bool resource_is_of(const struct resource *r, const void *space);
void *resource_space_of(const struct resource_slot *s);
uint32_t resource_cache_of(const struct resource_slot *s);
/* RESOURCE_NEVER: it has no end. */
uint64_t resource_ttl_left(const struct resource *r, uint64_t now);

/* Since the cache was made or its space was. */
struct resource_counters {
        uint64_t created;
        uint64_t acquired; /* that were there, or were waited for */
        uint64_t failures;
        uint64_t left[N_RESOURCE_CAUSES];
};

struct resource_gauge {
        uint64_t resources, bytes; /* in the cache */
        uint64_t held, locked;     /* of them */
        uint64_t creating;
        uint64_t waiting; /* for an instance, or for the lock of one that is in the cache */
        struct resource_counters counters;
};
/* Of a cache, or with @cache 0 all of @space but for what is apart. */
struct resource_gauge resources_gauge(const struct resources *t, const void *space, uint32_t cache);
/* What counts for the bounds of @space: also what is apart, and what has left and is held. */
struct resource_room {
        uint64_t resources, bytes; /* the former with what is being created */
        uint64_t holders;
};
struct resource_room resources_room(const struct resources *t, const void *space);
/* The biggest of @space that somebody holds, or NULL. */
struct resource *resources_biggest(const struct resources *t, const void *space);
/* The next instance of @space (NULL: of all) with a number above @after that is in its cache, or
 * NULL. @steps: how many are looked at, at most, and is decreased; with NULL and *@steps 0 there
 * may be more behind *@ret_at. */
struct resource *resources_next(const struct resources *t, const void *space, uint64_t after,
                                unsigned *steps, uint64_t *ret_at);

/* ---- a successor: what the predecessor knew, one after the other. Then what is to be claimed. */

struct resource_record {
        struct resource_where where;
        uint64_t number, size, since, used;
        uint64_t expires; /* RESOURCE_NEVER */
        uint32_t pool;
        uid_t uid;
        pid_t pid;
        uint8_t kind;
        bool read_only, owner_died;
        uint64_t lock_owner; /* id of a holder, or 0. Not of a pool's: there it is who holds it */
};

/* Strings and keys are those of @r. */
struct resource_record resource_export(const struct resources *t, const struct resource *r);
/* As of @record; the payload is the table's with 0. -EEXIST (the number is there, or the place is
 * taken), -EINVAL, -ENOMEM. Bounds do not count. */
int resource_restore(struct resources *t, const struct resource_record *record, void *payload,
                     uint64_t now, struct resource **ret);
/* A holder that is lost, with the grace from @now. -EEXIST, -EINVAL, -ENOMEM. */
int resource_holder_restore(struct resources *t, void *space, uid_t uid, pid_t pid, uint64_t id,
                            uint32_t number, uint64_t since, uint64_t now,
                            struct resource_holder **ret);
/* @h held it, and perhaps had its lock, and has not claimed that. -EEXIST, -EINVAL (a pool's that
 * is held), -ENOMEM. */
int resource_hold_restore(struct resources *t, struct resource *r, struct resource_holder *h,
                          uint64_t count, bool locked, uint64_t since);
/* All is restored (0 or -ENOMEM): what is not claimed at @due ends: holds, and with a lock its
 * instance (UNCLAIMED).
 */
int resources_claim_until(struct resources *t, uint64_t due);
/* @h has it, and @locked its lock: RESOURCE_IS_HELD; or RESOURCE_E_NOT_HELD. */
int resource_claim(struct resources *t, struct resource *r, struct resource_holder *h, bool locked);

/* ---- after a cold start: what processes had, one after the other */

/* A holder that has nothing yet wants the number that it had: it gets it, if it is free, or kept
 * for it with what it had locked. */
void resource_holder_wants(struct resources *t, struct resource_holder *h, uint32_t number,
                           uint64_t now);
/* What is there, shared by all; or NULL. *ret_taken: something is, or is being created. */
struct resource *resources_there(const struct resources *t, const struct resource_where *where,
                                 bool *ret_taken);
/* It has what is there: HELD, -ENOMEM. Not in a pool. */
int resource_join(struct resources *t, struct resource *r, struct resource_holder *h, uint64_t now);
struct resource_anew {
        enum resource_kind kind; /* no descriptor */
        uint64_t size;
        bool read_only;
        void *payload;
};
/* One that is not known: it is made, and held once by @h, as if it had been published; where a
 * local one is by now, that is held, and the payload stays the caller's. HELD, E_KIND, E_POOL,
 * E_RESOURCES, E_SPACE, -ENOMEM. */
int resources_register(struct resources *t, const struct resource_where *where,
                       struct resource_holder *h, const struct resource_policy *policy,
                       const struct resource_anew *what, uint64_t now, struct resource **ret);
/* A segment's word may name somebody who has not come yet: @id is for who stands in. 0, -ENOMEM. */
int resource_stand_in(struct resources *t, struct resource *r, uint64_t id, uint64_t now);

#endif
