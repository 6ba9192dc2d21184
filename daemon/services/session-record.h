/* SPDX-License-Identifier: MIT */
#ifndef SESSION_RECORD_H
#define SESSION_RECORD_H

/*
 * Session record: all that a session is, as one run of bytes. See session-record.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSION_VERIFIER     16u
#define SESSION_LABEL_MAX    64u
#define SESSION_ITEM_KEY     128u /* bytes of an item's key, at most */
#define SESSION_LANES        64u
#define SESSION_NEVER_IDLE   UINT64_MAX
#define SESSION_ITEMS_MAX    65535u
#define SESSION_RECORD_HEAD  48u
#define SESSION_RECORD_BOUND 12u /* more, of those that are bound */

/* A record, checked from end to end. All pointers are into it. */
struct session_record {
        const uint8_t *bytes;
        size_t n;
        const uint8_t *verifier; /* SESSION_VERIFIER bytes */
        const uint8_t *label;
        size_t n_label;
        bool bound;  /* it ends when nobody has been attached for grace_ms */
        bool forgot; /* a lane was forgotten for want of room */
        uint32_t grace_ms;
        uint64_t until_ms; /* of one that is bound: it ends then, boottime; 0: somebody is attached
                            */
        uint64_t created_ms; /* boottime */
        uint64_t idle_ms;    /* SESSION_NEVER_IDLE */
        uint64_t version;
        uint32_t n_items;
        uint64_t n_stored; /* bytes of keys and values */
        unsigned n_lanes;
        const uint8_t *lanes, *items; /* where they begin; `items` is where lanes end */
};

/* One key. In a change: what it is to become. */
struct session_item {
        const uint8_t *key;
        uint32_t n_key; /* 1 to SESSION_ITEM_KEY */
        uint32_t n_value;
        const uint8_t *value;
        uint32_t flags;
        uint64_t version;
        bool found; /* set by session_items_find() and by changes: the record had it */
        bool done;  /* of changes: it was written */
        /* Of a list that was sorted: where this one was before; where the one is that was here. */
        uint32_t place, moved;
};

/* False: these bytes are no whole record, and nothing of them is to be used. */
bool session_record_read(const void *bytes, size_t n, struct session_record *ret);

/* The next item from *at on, which is NULL at the start. False: that was all. */
bool session_record_next(const struct session_record *r, const uint8_t **at,
                         struct session_item *ret);

/* Sorts by key, and says where each was in `place`. False: a key is there twice. */
bool session_items_sort(struct session_item *items, size_t n);

/* Which of @items (sorted) this is; NULL: none. */
struct session_item *session_items_search(struct session_item *items, size_t n,
                                          const struct session_item *what);

/* Fills in those of @items (sorted) that the record has. */
void session_items_find(const struct session_record *r, struct session_item *items, size_t n);

/* What a new session begins with. */
struct session_record_new {
        const uint8_t *verifier;
        const char *label;
        size_t n_label; /* at most SESSION_LABEL_MAX */
        bool bound;
        uint32_t grace_ms;
        uint64_t until_ms;
        uint64_t created_ms, idle_ms;
};
#define SESSION_RECORD_NEW_MAX (SESSION_RECORD_HEAD + SESSION_RECORD_BOUND + SESSION_LABEL_MAX)
/* Writes it to @to, which has room for SESSION_RECORD_NEW_MAX bytes. Returns its length. */
size_t session_record_new(const struct session_record_new *what, uint8_t *to);

/* The same record, which is bound, with another `until_ms`. @to has room for r->n bytes. */
void session_record_bind(const struct session_record *r, uint64_t until_ms, uint8_t *to);

#endif
