/* SPDX-License-Identifier: MIT */
#ifndef REPLY_H
#define REPLY_H

/*
 * Reply: messages into frames into a connection's output. See reply.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch/dispatcher.h"

/* More than any reply with one EntryInfo, also one with a lease that is granted, ClearResult or
 * PingResult. */
#define REPLY_SMALL 320

/* Room for a message of at most @n_message bytes and @n_body bytes after it, before anything is
 * changed. STATUS_OK or NO_MEMORY. */
enum status reply_reserve(struct request *r, size_t n_message, size_t n_body);

/* Packs @reply into the room that was reserved, copies @n_body bytes behind it and queues the
 * frame.
 * @n_later bytes of body follow by conn_attach() or conn_reserve(). */
void reply_queue(struct request *r, Cached__V1__Reply *reply, const void *body, size_t n_body,
                 uint64_t n_later);

/* Writes header and message into the room and returns where the body begins; nothing is queued. */
uint8_t *reply_pack(struct request *r, Cached__V1__Reply *reply, uint64_t n_body);

/* Both for a reply of any size without a body. */
enum status reply_message(struct request *r, Cached__V1__Reply *reply);

/* A reply without a result; false: no memory even for that. */
bool reply_failure(struct request *r, uint64_t id, enum status status, const char *text);

/* For a reply that cannot be completed: the peer sees the connection end inside a frame. */
void reply_abort(struct request *r);

/* Are @n bytes of the value sent from where they lie, or copied into the output? */
bool reply_is_attached(const struct request *r, const struct store_entry *e, uint64_t n);
/* Queues @n bytes of such a value, from @at on; they stay as long as the output needs them,
 * whatever becomes of the entry. False: no memory. */
bool reply_attach(struct request *r, const struct store_entry *e, uint64_t at, uint64_t n);

/* Adds the tags of the entry, in memory of @r. False: there is none. */
bool reply_tags(struct request *r, Cached__V1__EntryInfo *info, const struct store_entry *e);

/* Fills @info, which the caller initialised. */
void reply_entry(Cached__V1__EntryInfo *info, const struct store_entry *e, uint64_t now_ms);
void reply_policy(Cached__V1__Policy *to, const struct store_policy *from);

/* A reply to this request without its result. */
Cached__V1__Reply reply_to(const struct request *r, enum status status);

#endif
