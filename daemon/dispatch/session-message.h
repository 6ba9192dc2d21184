/* SPDX-License-Identifier: MIT */
#ifndef SESSION_MESSAGE_H
#define SESSION_MESSAGE_H

/* What several requests about sessions decode and encode in the same way. See session-message.c. */

#include "dispatch/dispatcher.h"
#include "services/session.h"

/* The session that the request is about. */
enum status session_of_token(struct request *r, const ProtobufCBinaryData *token,
                             struct session_ref *ret);

enum status decode_session_key(struct request *r, const char *key, struct session_item *ret);
/* INVALID: a key is named twice. */
enum status decode_session_sort(struct request *r, struct session_item *items, size_t n);
/* @n of what a request names; array in the request's memory, of at least one. */
enum status decode_session_items(struct request *r, size_t n, struct session_item **ret);

/* SessionInfo with its parts; `info` refers into the rest. */
struct session_message {
        Cached__V1__SessionInfo info;
        char id[SESSION_ID];
        char label[SESSION_LABEL_MAX + 1];
};
void session_message_init(struct session_message *m, const struct request *r,
                          const struct session_ref *ref);

/* What SessionItems with @n items are put together in, in the request's memory: taken before
 * anything is changed. */
struct session_item_message;
struct session_items_room {
        struct session_item_message *messages;
        Cached__V1__SessionItem **items;
};
enum status session_items_room(struct request *r, size_t n, struct session_items_room *ret);

/* Queues SessionItems as the reply, with its values as the body, in the order of @items. Those that
 * are not @found have no version; their status says so if @with_status. NO_MEMORY, TOO_LARGE: never
 * where room for the reply was reserved. */
struct session_items_reply {
        enum status status; /* with the verdict's text, unless OK or NOT_FOUND */
        const struct session_item *items;
        size_t n; /* that there is room for */
        uint64_t version;
        bool again, values, with_status;
};
enum status session_answer_items(struct request *r, const struct session_items_reply *what,
                                 const struct session_items_room *room);

#endif
