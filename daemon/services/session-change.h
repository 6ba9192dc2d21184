/* SPDX-License-Identifier: MIT */
#ifndef SESSION_CHANGE_H
#define SESSION_CHANGE_H

/*
 * Session change: the next record of a session. See session-change.c.
 */

#include "services/session-number.h"
#include "services/session-record.h"

enum session_change_kind {
        SESSION_SET_ITEMS,
        SESSION_DELETE_ITEMS,
        SESSION_CLEAR_ITEMS,
        SESSION_INCREMENT_ITEM,
        SESSION_APPEND_ITEM,
};

enum session_mode { SESSION_ANY = 0, SESSION_ADD_ONLY, SESSION_REPLACE_ONLY };

struct session_change {
        enum session_change_kind kind;
        /* Sorted. One, but to set and delete; none to clear. To append, its value is what is
         * appended, and flags are those of a new value. */
        struct session_item *items;
        size_t n_items;
        enum session_mode mode; /* about one item, as `compare` */
        bool compare;
        uint64_t expected_version;
        struct session_number by, start; /* to increment */
        bool has_start;
        uint64_t append_max; /* 0: no bound */
        bool has_operation, repeated;
        uint64_t lane, number;
        uint64_t max_keys, max_stored; /* bounds of the session */
};

enum {
        SESSION_CHANGE_OK = 0,
        SESSION_CHANGE_E_MISSING,  /* the key has no value */
        SESSION_CHANGE_E_EXISTS,   /* it has: result.item */
        SESSION_CHANGE_E_VERSION,  /* its value has another version: result.item */
        SESSION_CHANGE_E_TEXT,     /* its value is no number of this kind */
        SESSION_CHANGE_E_OVERFLOW, /* the sum, or the value, has no place in the type */
        SESSION_CHANGE_E_KEYS,     /* too many; result.would_be */
        SESSION_CHANGE_E_STORED,   /* too many bytes; result.would_be */
        SESSION_CHANGE_E_UNKNOWN,  /* whether it was carried out before */
        SESSION_CHANGE_E_NUMBER,   /* of the operation: not larger than the lane's last one */
};

struct session_result {
        size_t n;                 /* of the new record; 0: nothing changed */
        bool again;               /* it was carried out before, and this is its answer */
        uint64_t version;         /* of the session now, or after it, if `again` */
        struct session_item item; /* of increment and append: the new one; with EXISTS and VERSION:
                                     what is there. Its value lies in the old record or in `text` */
        uint64_t would_be;
        char text[SESSION_NUMBER_ROOM];
};

/* Bytes that the new record may take. */
size_t session_change_room(const struct session_record *r, const struct session_change *c);

/* Writes the new record to @to, which has that room. After deleting, `found` of each item says
 * whether it was there. Unless it returns OK nothing is to be changed. */
int session_change(const struct session_record *r, struct session_change *c, uint8_t *to,
                   struct session_result *ret);

#endif
