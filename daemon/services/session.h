/* SPDX-License-Identifier: MIT */
#ifndef SESSION_H
#define SESSION_H

/*
 * Sessions: dictionaries of which only those know who have the token. See session.c.
 */

#include "realm/session-caches.h"
#include "services/data.h"
#include "services/session-change.h"

#define SESSION_TOKEN 16u
#define SESSION_ID    17u /* text of an id, with its end */

/* A session that was found. */
struct session_ref {
        struct realm *realm; /* the hidden one */
        uint8_t key[SESSION_KEY_SIZE];
        struct store_entry entry;     /* borrowed until the store changes, as the record */
        struct session_record record; /* that is the entry's value */
};

/* The session with this token, which is used thereby. NOT_FOUND with one and the same text,
 * whatever the reason. */
enum status session_find(const struct caller *who, const uint8_t *token, size_t n_token,
                         struct session_ref *ret, struct verdict *v);
/* The answer where a session that was found has ended meanwhile: the same, too. */
enum status session_is_over(struct verdict *v);
/* The same, for session_apply(), which makes it a use. */
enum status session_find_to_change(const struct caller *who, const uint8_t *token, size_t n_token,
                                   struct session_ref *ret, struct verdict *v);
/* The same by the store's key, and not a use. False: it is no more. */
bool session_look(struct realm *hidden, const uint8_t *key, uint64_t now_ms,
                  struct session_ref *ret);

struct session_open {
        const char *label;
        size_t n_label;
        uint64_t idle_ms; /* SESSION_NEVER_IDLE */
        bool bound, attached;
        uint32_t grace_ms;
};
/* @token has room for SESSION_TOKEN bytes. */
enum status session_open(const struct caller *who, const struct session_open *what, uint8_t *token,
                         struct session_ref *ret, struct verdict *v);
enum status session_close(const struct caller *who, const struct session_ref *ref,
                          struct verdict *v);

/* Carries out @c, within the limits of the configuration. @ret: see session_change(); what is there
 * (EXISTS, VERSION_MISMATCH) lies in the record of @ref, which is as it was unless OK is returned.
 */
enum status session_apply(const struct caller *who, const struct session_ref *ref,
                          struct session_change *c, struct session_result *ret, struct verdict *v);

/* Somebody is attached to a session that is bound, or nobody is any more: from now on it ends after
 * its grace. False: there was no memory for that; nothing changed but the deadline. */
bool session_bind(const struct session_ref *ref, bool attached, uint64_t now_ms);
/* Nobody is attached to any of the realm's sessions: those that are bound end after their grace. */
void session_unbind_all(struct realm *hidden, uint64_t now_ms);

struct session_facts {
        char id[SESSION_ID];
        uint64_t age_ms, unused_ms;
        const struct session_record *record;
        uint32_t uid;
        uint64_t charge;
};
void session_facts(const struct session_ref *ref, uint64_t now_ms, struct session_facts *ret);
void session_id(const uint8_t *key, char ret[SESSION_ID]);

/* See store_list(): the sessions of the caller's realm; all, or those of one uid. */
typedef bool (*session_visit)(void *ctx, const struct session_ref *ref);
void session_list(const struct caller *who, bool all, uint32_t max, uint64_t *cursor,
                  session_visit visit, void *ctx);

#endif
