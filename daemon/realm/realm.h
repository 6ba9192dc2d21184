/* SPDX-License-Identifier: MIT */
#ifndef REALM_H
#define REALM_H

/*
 * Realm: a security and memory domain with a store of its own. See realm.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realm/charge.h"
#include "realm/takeover.h"
#include "store/store.h"

struct config;
struct keeper;
struct readers;
struct reaper;
struct realms;
struct session_caches;
struct store_adopted;
struct store_files;
struct subscription;

/* A realm without clients, entries and pinned policies is freed after this time. */
#define REALM_IDLE_MS (UINT64_C(10) * 60 * 1000)

struct realm {
        struct realms *realms;
        uint64_t serial; /* never used for another realm of this process */
        struct store *store;
        struct charge charge;
        uint32_t kept[2];        /* slots of arena and table with the keeper; KEEPER_NONE */
        struct readers *readers; /* NULL: nobody has ever looked into the arena */
        struct realm *sessions;  /* NULL: none yet; see realm_sessions() */
        struct realm *parent; /* of one that holds sessions; NULL: it is none, or not linked yet */
        bool hidden;          /* it holds sessions */
        struct session_caches *caches; /* of one that does, once it is linked; else NULL */
        size_t n_kept;                 /* of what else is in it, as its caller counts */
        size_t n_clients;
        uint64_t idle_since_ms; /* when the last client left */
        /* Who wants to know what happens, and of what: subscribe.c's. */
        struct subscription *subscribers;
        uint32_t subscribed;
        bool keeps_policy; /* has pinned policies; valid without clients */
        struct realm *next;
        char name[];
};

struct realms {
        const struct config *cfg; /* borrowed */
        struct charge_pool pool;
        struct realm *first;
        struct realm *turn; /* the one whose upkeep comes next; NULL: the first */
        size_t n;           /* in the list */
        size_t n_hidden;    /* of them */
        uint64_t last_serial;
        uint64_t instance;
        uint64_t boot[2]; /* id of the machine's run; zeros: not known */
        struct takeover takeover;
        struct reaper *reaper; /* borrowed; NULL: none */
        /* A session left by itself; called in the middle of a change of its store. May be NULL. */
        void (*session_departed)(void *ctx, struct realm *hidden, const uint8_t *key,
                                 enum store_cause cause, uint64_t now_ms);
        void *session_ctx;
        /* A realm that was unused for long is freed. May be NULL. */
        void (*ends)(void *ctx, struct realm *r);
        void *ends_ctx;
        const struct keeper *keeper; /* borrowed; NULL: nobody keeps anything for a successor */
        size_t n_unkept;             /* realms whose files are not with it */
        uint64_t large_due_ms;       /* when to look for large values that are not */
        uint32_t
                n_left; /* arenas that another daemon had, until readers know which of them go on */
        /* mapping.c's */
        int epoch_fd; /* borrowed; -1: none */
        bool offers_mapping;
        unsigned slots; /* of what readers noted: may still be taken over in this turn, beside what
                           each realm has for itself */
        uint64_t holes_due_ms, holes_found_ms;
        uint64_t n_used, n_stale, n_lost; /* of realms that are gone */
};

enum {
        REALM_OK = 0,
        REALM_E_LIMIT, /* limits.realms */
};

/* How many large values there may be, a descriptor each: limits.large_values, or what connections
 * leave of RLIMIT_NOFILE, and half of what there is at least where there is little. */
uint64_t realms_max_files(const struct config *cfg);

void realms_init(struct realms *rs, const struct config *cfg, uint64_t instance);
void realms_done(struct realms *rs); /* no clients are left */

/* Budgets and limits apply at once to every realm, but for a raised limits.caches_per_realm or
 * limits.session_caches_per_realm: that is laid out when a realm is made. */
void realms_reconfigure(struct realms *rs, const struct config *cfg);

/* A test clock's. */
void realms_set_clock_offset(struct realms *rs, int64_t ms);

/* The limit on caches that is in force in it: limits.caches_per_realm, or, of one that holds
 * sessions, limits.session_caches_per_realm; less where it was made under a smaller one. */
uint32_t realm_max_caches(const struct realm *r);
/* The least of all such realms, or of all others. */
uint32_t realms_least_caches(const struct realms *rs, bool hidden);

/* Enters one client, who may (see access_role()); makes the realm if it is not there. 0,
 * REALM_E_LIMIT, -ENOMEM, -ENOSPC, -EMFILE. */
int realm_enter(struct realms *rs, const char *name, struct realm **ret);
/* Makes the realm of a store that another process left; not entered by anybody. 0, STORE_E_REFUSED
 * with the reason in the report, -errno. */
int realm_adopt(struct realms *rs, const char *name, const struct store_files *files,
                uint64_t now_ms, struct store_adopted *ret_report);
void realm_leave(struct realm *r, uint64_t now_ms);

/* The realm that holds this one's sessions, and the caches of these: nobody enters or maps it, and
 * it is told nowhere. Made if it is not there; it goes when @r does. 0, -ENOMEM, -ENOSPC, -EMFILE.
 */
int realm_sessions(struct realm *r, struct realm **ret);
/* After realms_reconfigure(): what is over limits.sessions_per_realm leaves. */
void realms_limit_sessions(struct realms *rs, uint64_t now_ms);

/* The name of such a realm's parent; NULL: this is the name of an ordinary one. */
const char *realm_parent_name(const char *name);
/* After all realms were adopted: puts parents and children together. Parents that did not come are
 * made anew. Returns how many children had to go, since there was no memory for that. */
size_t realms_link_sessions(struct realms *rs, uint64_t now_ms);

/* In the epoch file. */
void realms_note_arenas(const struct realms *rs);

/* To be called after what may have changed the realm's store. */
void realm_settle(struct realm *r);

/* At most about @steps units of work. True: more is pending. */
bool realms_maintain(struct realms *rs, uint64_t now_ms, unsigned steps);
uint64_t realms_next_deadline(const struct realms *rs);

#endif
