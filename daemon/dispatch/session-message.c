/* SPDX-License-Identifier: MIT */
/*
 * Messages of sessions
 */
#include "dispatch/session-message.h"

#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "dispatch/attach.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "proto/frame.h"
#include "proto/wire.h"
#include "services/limits.h"

/* ---- in */

enum status session_of_token(struct request *r, const ProtobufCBinaryData *token,
                             struct session_ref *ret)
{
        return session_find(&r->who, token->data, token->len, ret, &r->verdict);
}

enum status decode_session_key(struct request *r, const char *key, struct session_item *ret)
{
        size_t n = decode_length(key);
        const char *fault = wire_session_key_fault(key, n);
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        ret->key = (const uint8_t *)key;
        ret->n_key = (uint32_t)n;
        return STATUS_OK;
}

enum status decode_session_sort(struct request *r, struct session_item *items, size_t n)
{
        if (session_items_sort(items, n))
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "a key is named twice: name each of them once");
}

enum status decode_session_items(struct request *r, size_t n, struct session_item **ret)
{
        uint64_t max = r->d->cfg->limits.keys_per_request;
        if (n > max)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the request has %zu keys, more than limits.keys_per_request, "
                                   "%" PRIu64 ": %s",
                                   n, max, limit_advice.keys_per_request);
        *ret = bump_alloc_array(&r->d->bump, n + 1, sizeof(**ret));
        if (!*ret)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for %zu keys: name fewer at once", n);
        memset(*ret, 0, (n + 1) * sizeof(**ret));
        return STATUS_OK;
}

/* ---- out */

void session_message_init(struct session_message *m, const struct request *r,
                          const struct session_ref *ref)
{
        struct session_facts facts;
        session_facts(ref, r->who.now_ms, &facts);
        cached__v1__session_info__init(&m->info);
        memcpy(m->id, facts.id, sizeof(m->id));
        memcpy(m->label, facts.record->label, facts.record->n_label);
        m->label[facts.record->n_label] = '\0';
        m->info.id = m->id;
        m->info.label = m->label;
        m->info.uid = facts.uid;
        m->info.age_ms = facts.age_ms;
        m->info.unused_ms = facts.unused_ms;
        if (facts.record->idle_ms != SESSION_NEVER_IDLE) {
                m->info.idle_case = CACHED__V1__SESSION_INFO__IDLE_IDLE_MS;
                m->info.idle_ms = facts.record->idle_ms;
        }
        if (facts.record->bound) {
                m->info.bound_case = CACHED__V1__SESSION_INFO__BOUND_GRACE_MS;
                m->info.grace_ms = facts.record->grace_ms;
        }
        m->info.keys = facts.record->n_items;
        m->info.bytes = facts.record->n_stored;
        m->info.charge = facts.charge;
        m->info.version = facts.record->version;
        m->info.attached = attach_count(r->d, ref);
        m->info.caches = session_caches_count(ref->realm, ref->key);
}

/* One item with its key, which protobuf-c wants to end. */
struct session_item_message {
        Cached__V1__SessionItem item;
        char key[SESSION_ITEM_KEY + 1];
};

enum status session_items_room(struct request *r, size_t n, struct session_items_room *ret)
{
        struct bump *b = &r->d->bump;
        ret->messages = bump_alloc_array(b, n + 1, sizeof(*ret->messages));
        ret->items = bump_alloc_array(b, n + 1, sizeof(*ret->items));
        if (!ret->messages || !ret->items)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for %zu items: name fewer at once", n);
        return STATUS_OK;
}

static void fill(struct session_item_message *m, const struct session_item *item, bool with_status)
{
        cached__v1__session_item__init(&m->item);
        memcpy(m->key, item->key, item->n_key);
        m->key[item->n_key] = '\0';
        m->item.key = m->key;
        m->item.size = item->n_value;
        m->item.flags = item->flags;
        m->item.version = item->version;
        if (with_status && !item->found)
                m->item.status = (Cached__V1__Status)STATUS_NOT_FOUND;
}

static enum status reserve(struct request *r, size_t n_message, uint64_t n_body)
{
        if (n_message > r->d->cfg->limits.message_bytes)
                return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                                   "the reply has %zu bytes, more than limits.message_bytes: name "
                                   "fewer keys at once, or raise it",
                                   n_message);
        return reply_reserve(r, n_message, n_body);
}

enum status session_answer_items(struct request *r, const struct session_items_reply *what,
                                 const struct session_items_room *room)
{
        Cached__V1__SessionItems result = CACHED__V1__SESSION_ITEMS__INIT;
        uint64_t n_body = 0;
        for (size_t i = 0; i < what->n; i++) {
                fill(&room->messages[i], &what->items[i], what->with_status);
                room->items[i] = &room->messages[i].item;
                n_body += what->values ? what->items[i].n_value : 0;
        }
        result.items = room->items;
        result.n_items = what->n;
        result.version = what->version;
        result.again = what->again;
        Cached__V1__Reply reply = reply_to(r, what->status);
        reply.result_case = CACHED__V1__REPLY__RESULT_SESSION_ITEMS;
        reply.session_items = &result;
        if (what->status != STATUS_OK && what->status != STATUS_NOT_FOUND)
                reply.error = r->verdict.text;
        size_t n = protobuf_c_message_get_packed_size(&reply.base);
        enum status status = STATUS_OK;
        if (FRAME_HEADER_SIZE + n + n_body > r->n_out)
                status = reserve(r, n, n_body);
        if (status != STATUS_OK)
                return status;
        uint8_t *at = reply_pack(r, &reply, n_body);
        for (size_t i = 0; what->values && i < what->n; i++) {
                if (what->items[i].n_value > 0)
                        memcpy(at, what->items[i].value, what->items[i].n_value);
                at += what->items[i].n_value;
        }
        conn_commit(r->client->conn, (size_t)(at - r->out));
        return STATUS_OK;
}
