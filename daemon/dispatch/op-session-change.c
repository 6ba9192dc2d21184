/* SPDX-License-Identifier: MIT */
/*
 * SessionSet, SessionDelete, SessionIncrement, SessionAppend: what becomes of a session's keys.
 *
 * Everything that the request says is checked first, then the session is looked for, then room for
 * the reply is reserved; so a request that fails has changed nothing. Who is attached is told after
 * that.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "config.h"
#include "dispatch/attach.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "dispatch/session-message.h"
#include "services/limits.h"

/* Not less than one item in a reply takes, without its key and what the reply itself has. */
#define ITEM_MAX ((size_t)32)

static enum status check_body(struct request *r, uint64_t n_body)
{
        uint64_t max = r->d->cfg->limits.session_bytes;
        if (n_body <= max)
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                           "the body has %" PRIu64
                           " bytes, more than limits.session_bytes, %" PRIu64 ": %s",
                           n_body, max, limit_advice.session_bytes);
}

enum status op_session_set_accept(struct request *r, uint64_t n_body, struct upload **ret)
{
        enum status status = check_body(r, n_body);
        return status == STATUS_OK ? upload_begin(r, n_body, UPLOAD_TO_HEAP, ret) : status;
}

static enum status decode_operation(struct request *r, const Cached__V1__Operation *operation,
                                    struct session_change *c)
{
        if (!operation) {
                if (!r->msg->repeated)
                        return STATUS_OK;
                /* What may be done twice has none, and what may not must say which it is. */
                if (c->kind == SESSION_INCREMENT_ITEM || c->kind == SESSION_APPEND_ITEM ||
                    c->mode != SESSION_ANY || c->compare)
                        return verdict_set(&r->verdict, STATUS_OUTCOME_UNKNOWN,
                                           "the request is repeated and has no operation: nobody "
                                           "knows whether it was carried out; name one the first "
                                           "time");
                return STATUS_OK;
        }
        c->has_operation = true;
        c->lane = operation->lane;
        c->number = operation->number;
        c->repeated = r->msg->repeated;
        if (c->number == 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "operation.number is 0: numbers begin at 1 and grow");
        return STATUS_OK;
}

/* ---- carrying out and answering */

static void tell(struct request *r, const struct session_ref *ref, const struct session_change *c,
                 const struct session_result *result)
{
        struct attach_news news = {
                .change = CACHED__V1__SESSION_CHANGE__SESSION_SET,
                .version = result->version,
                .items = c->items,
                .n_items = c->n_items,
        };
        if (result->n == 0)
                return; /* nothing changed */
        if (c->kind == SESSION_DELETE_ITEMS)
                news.change = CACHED__V1__SESSION_CHANGE__SESSION_DELETED;
        if (c->kind == SESSION_CLEAR_ITEMS)
                news.change = CACHED__V1__SESSION_CHANGE__SESSION_CLEARED;
        attach_tell(r->d, ref->realm, ref->key, &news, r->who.now_ms);
}

/* What the answer is put together in. */
struct room {
        struct session_item *changed;
        struct session_items_room reply;
};

static bool is_of_one(const struct session_change *c)
{
        return c->kind == SESSION_INCREMENT_ITEM || c->kind == SESSION_APPEND_ITEM;
}

/* What was set or deleted, in the order in which it was named. */
static size_t list_changed(const struct session_change *c, const struct session_result *result,
                           struct session_item *to)
{
        size_t n = 0;
        for (size_t i = 0; i < c->n_items; i++) {
                const struct session_item *item = &c->items[c->items[i].moved];
                if (c->kind == SESSION_DELETE_ITEMS && !item->found)
                        continue;
                to[n] = *item;
                to[n].version = result->version;
                if (c->kind == SESSION_DELETE_ITEMS)
                        to[n].n_value = to[n].flags = 0;
                n++;
        }
        return n;
}

static enum status answer(struct request *r, const struct session_change *c,
                          const struct session_result *result, enum status status,
                          const struct room *room)
{
        struct session_items_reply reply = {
                .status = status,
                .items = &result->item,
                .n = 1,
                .version = result->version,
                .again = result->again,
                .values = status == STATUS_EXISTS ||
                          (status == STATUS_OK && c->kind == SESSION_INCREMENT_ITEM),
        };
        if (status == STATUS_NOT_FOUND) {
                reply.n = 0;
        } else if (status == STATUS_OK && !is_of_one(c)) {
                reply.items = room->changed;
                reply.n = list_changed(c, result, room->changed);
        }
        return session_answer_items(r, &reply, &room->reply);
}

/* All that the answer takes. */
static enum status reserve(struct request *r, const struct session_change *c, struct room *ret)
{
        size_t n_message = REPLY_SMALL + VERDICT_TEXT_MAX, n_body = SESSION_NUMBER_ROOM;
        for (size_t i = 0; i < c->n_items; i++)
                n_message += ITEM_MAX + c->items[i].n_key;
        if (n_message > r->d->cfg->limits.message_bytes)
                return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                                   "the reply would have up to %zu bytes, more than "
                                   "limits.message_bytes: name fewer keys at once, or raise it",
                                   n_message);
        enum status status = decode_session_items(r, c->n_items, &ret->changed);
        if (status == STATUS_OK)
                status = session_items_room(r, c->n_items, &ret->reply);
        return status == STATUS_OK ? reply_reserve(r, n_message, n_body) : status;
}

/* @c but for its operation and limits; its items are sorted. */
static enum status carry_out(struct request *r, const ProtobufCBinaryData *token,
                             const Cached__V1__Operation *operation, struct session_change *c)
{
        struct session_ref ref;
        struct session_result result;
        struct room room;
        enum status status = decode_operation(r, operation, c);
        if (status == STATUS_OK)
                status =
                        session_find_to_change(&r->who, token->data, token->len, &ref, &r->verdict);
        if (status == STATUS_OK)
                status = reserve(r, c, &room);
        if (status != STATUS_OK)
                return status;
        status = session_apply(&r->who, &ref, c, &result, &r->verdict);
        if (status == STATUS_OK)
                tell(r, &ref, c, &result);
        bool shows = status == STATUS_OK || status == STATUS_NOT_FOUND || status == STATUS_EXISTS ||
                     status == STATUS_VERSION_MISMATCH;
        return shows ? answer(r, c, &result, status, &room) : status;
}

/* ---- the requests */

static enum status decode_session_set(struct request *r, const Cached__V1__SessionSet *msg,
                                      struct session_change *c)
{
        const uint8_t *at = r->body;
        uint64_t left = r->n_body;
        enum status status = check_body(r, r->n_body);
        if (status == STATUS_OK)
                status = decode_session_items(r, msg->n_items, &c->items);
        for (size_t i = 0; status == STATUS_OK && i < msg->n_items; i++) {
                const Cached__V1__SessionItem *item = msg->items[i];
                status = decode_session_key(r, item->key, &c->items[i]);
                if (status == STATUS_OK && item->size > left)
                        status = verdict_set(&r->verdict, STATUS_INVALID,
                                             "the sizes of the items are more than the %" PRIu64
                                             " bytes of the body: send the values one after the "
                                             "other",
                                             r->n_body);
                if (status != STATUS_OK)
                        return status;
                c->items[i].value = at;
                c->items[i].n_value = (uint32_t)item->size;
                c->items[i].flags = item->flags;
                if (item->size > 0)
                        at += item->size;
                left -= item->size;
        }
        if (status == STATUS_OK && left > 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the body has %" PRIu64
                                   " bytes more than the items' sizes: send the values without "
                                   "gaps",
                                   left);
        c->n_items = msg->n_items;
        return status;
}

static enum status decode_session_mode(struct request *r, const Cached__V1__SessionSet *msg,
                                       struct session_change *c)
{
        c->compare = msg->compare_case == CACHED__V1__SESSION_SET__COMPARE_EXPECTED_VERSION;
        c->expected_version = msg->expected_version;
        switch (msg->mode) {
        case CACHED__V1__SET_MODE__SET_ANY:
                break;
        case CACHED__V1__SET_MODE__SET_ADD_ONLY:
                c->mode = SESSION_ADD_ONLY;
                break;
        case CACHED__V1__SET_MODE__SET_REPLACE_ONLY:
                c->mode = SESSION_REPLACE_ONLY;
                break;
        default:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "mode %d is unknown: use SET_ANY, SET_ADD_ONLY or "
                                   "SET_REPLACE_ONLY",
                                   (int)msg->mode);
        }
        if (c->compare && c->mode == SESSION_ADD_ONLY)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "expected_version is about a key that has a value, "
                                   "SET_ADD_ONLY about one that has none: use one of them");
        if ((c->compare || c->mode != SESSION_ANY) && msg->n_items != 1)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "mode and expected_version are about one item, the request has "
                                   "%zu: set them one by one",
                                   msg->n_items);
        return STATUS_OK;
}

enum status op_session_set(struct request *r)
{
        const Cached__V1__SessionSet *msg = r->msg->session_set;
        struct session_change c = {.kind = SESSION_SET_ITEMS};
        if (msg->n_items == 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request has no items: name at least one");
        enum status status = decode_session_set(r, msg, &c);
        if (status == STATUS_OK)
                status = decode_session_mode(r, msg, &c);
        if (status == STATUS_OK)
                status = decode_session_sort(r, c.items, c.n_items);
        return status == STATUS_OK ? carry_out(r, &msg->token, msg->operation, &c) : status;
}

enum status op_session_delete(struct request *r)
{
        const Cached__V1__SessionDelete *msg = r->msg->session_delete;
        struct session_change c = {
                .kind = msg->all ? SESSION_CLEAR_ITEMS : SESSION_DELETE_ITEMS,
                .n_items = msg->n_keys,
        };
        if (msg->all == (msg->n_keys > 0))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request names %s: name keys, or all",
                                   msg->all ? "keys, and all" : "nothing");
        enum status status = decode_session_items(r, msg->n_keys, &c.items);
        for (size_t i = 0; status == STATUS_OK && i < msg->n_keys; i++)
                status = decode_session_key(r, msg->keys[i], &c.items[i]);
        if (status == STATUS_OK)
                status = decode_session_sort(r, c.items, c.n_items);
        return status == STATUS_OK ? carry_out(r, &msg->token, msg->operation, &c) : status;
}

static enum status decode_increment(struct request *r, const Cached__V1__SessionIncrement *msg,
                                    struct session_change *c)
{
        switch (msg->by_case) {
        case CACHED__V1__SESSION_INCREMENT__BY_INTEGER:
                c->by.integer = msg->integer;
                break;
        case CACHED__V1__SESSION_INCREMENT__BY_REAL:
                c->by = (struct session_number){.is_real = true, .real = msg->real};
                break;
        default:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request does not say by how much: set integer or real");
        }
        c->has_start = msg->start_case != CACHED__V1__SESSION_INCREMENT__START__NOT_SET;
        if (msg->start_case == CACHED__V1__SESSION_INCREMENT__START_START_INTEGER)
                c->start.integer = msg->start_integer;
        else if (c->has_start)
                c->start = (struct session_number){.is_real = true, .real = msg->start_real};
        if ((c->by.is_real && !isfinite(c->by.real)) ||
            (c->start.is_real && !isfinite(c->start.real)))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "real and start_real are finite numbers: send such ones");
        if (c->start.is_real && !c->by.is_real)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "a real start is counted on by a real number: set real, or "
                                   "start_integer");
        return STATUS_OK;
}

enum status op_session_increment(struct request *r)
{
        const Cached__V1__SessionIncrement *msg = r->msg->session_increment;
        struct session_item item = {0};
        struct session_change c = {.kind = SESSION_INCREMENT_ITEM, .items = &item, .n_items = 1};
        enum status status = decode_session_key(r, msg->key, &item);
        if (status == STATUS_OK)
                status = decode_increment(r, msg, &c);
        return status == STATUS_OK ? carry_out(r, &msg->token, msg->operation, &c) : status;
}

enum status op_session_append(struct request *r)
{
        const Cached__V1__SessionAppend *msg = r->msg->session_append;
        struct session_item item = {
                .value = r->body,
                .n_value = (uint32_t)r->n_body,
                .flags = msg->flags,
        };
        struct session_change c = {
                .kind = SESSION_APPEND_ITEM,
                .items = &item,
                .n_items = 1,
                .append_max = msg->max_bytes,
        };
        enum status status = check_body(r, r->n_body);
        if (status == STATUS_OK)
                status = decode_session_key(r, msg->key, &item);
        return status == STATUS_OK ? carry_out(r, &msg->token, msg->operation, &c) : status;
}
