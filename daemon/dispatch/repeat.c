/* SPDX-License-Identifier: MIT */
/*
 * Repeat
 *
 * The rules of PROTOCOL.md, "Repeating". The reply to each change is kept as it was sent, so a
 * repeated request is answered with the same bytes and nothing needs to be known of what they say.
 * Failures are kept, too: what was refused before later requests ran must not happen after them.
 *
 * A connection with a client_id that comes again is aborted before the new one is answered. From
 * then on nobody handles its bytes, so what the log says is final: not in the log and not
 * forgotten means that it never was, and never will be, carried out but by this connection.
 *
 * A client that lies about its ids deceives only itself: what is remembered is found only by who
 * knows the client_id and has the same uid and realm.
 */
#include "dispatch/repeat.h"

#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/outcomes.h"
#include "dispatch/reply.h"
#include "dispatch/unfinished.h"
#include "proto/frame.h"

static enum status violation(struct request *r, const char *what)
{
        r->close = true;
        return verdict_set(&r->verdict, STATUS_PROTOCOL, "%s", what);
}

/* ---- clients that come again */

static void end_older(struct outcome_client *oc)
{
        struct client *older = oc->client;
        if (!older)
                return;
        if (older->last_id > oc->last_id)
                oc->last_id = older->last_id;
        unfinished_drop(older);
        older->past = NULL;
        oc->client = NULL;
        conn_abort(older->conn);
}

enum status repeat_enter(struct request *r, const struct realm *realm)
{
        const ProtobufCBinaryData *id = &r->msg->hello->client_id;
        struct outcomes *o = &r->d->outcomes;
        struct outcome_client *oc;
        if (id->len == 0)
                return STATUS_OK;
        if (id->len != CLIENT_ID_SIZE)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "client_id has %zu bytes: send %d random ones, or none", id->len,
                                   CLIENT_ID_SIZE);
        int k = outcomes_find(o, r->who.uid, realm->serial, id->data, r->id, &oc);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "remembering the client");
        const uint64_t last_id = oc->client ? oc->client->last_id : oc->last_id;
        if (r->id <= last_id)
                return violation(r, "the Hello's id is not larger than every id that was sent "
                                    "before with this client_id: count on, or take a new one");
        end_older(oc);
        outcomes_enter(o, oc, r->client);
        r->client->past = oc;
        r->client->hello_id = r->id;
        return STATUS_OK;
}

void repeat_leave(struct client *client, uint64_t now_ms)
{
        struct dispatcher *d = client->d;
        const struct config_limits *limits = &d->cfg->limits;
        const struct outcome_bounds bounds = {
                .clients = limits->outcome_clients,
                .clients_per_uid = limits->outcome_clients_per_uid,
                .ms = limits->outcome_ms,
        };
        if (client->past)
                outcomes_leave(&d->outcomes, client->past, client->last_id, now_ms, &bounds);
        client->past = NULL;
}

/* ---- requests that come again */

enum status repeat_check(struct request *r)
{
        struct client *client = r->client;
        if (!client->realm || r->msg->op_case == CACHED__V1__REQUEST__OP_HELLO)
                return violation(r, "a Hello is new on every connection and comes first: send it "
                                    "with a new id, and without `repeated`");
        if (!client->past)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "`repeated` takes a client_id: send one in Hello");
        if (r->id >= client->hello_id)
                return violation(r, "the request is marked as repeated, but its id is not smaller "
                                    "than that of this connection's Hello: new requests are not "
                                    "repeated");
        if (r->id <= client->last_repeated)
                return violation(r, "the repeated request's id is not larger than that of the one "
                                    "before it: repeat the oldest first, each once");
        client->last_repeated = r->id;
        return STATUS_OK;
}

/* What the first time did for its connection, beyond the realm: it told who wants to know of
 * changes of the policy. */
static enum status open_again(struct request *r)
{
        struct client *client = r->client;
        struct cache_ref ref;
        uint32_t cache;
        if (!(client->features & CACHED__V1__FEATURE__FEATURE_EVENTS) || r->msg->session.len > 0)
                return STATUS_OK;
        enum status status = decode_cache_name(r, r->msg->open_cache->cache, &ref);
        if (status == STATUS_OK)
                status = data_find_cache(&r->who, &ref, &cache, &r->verdict);
        if (status != STATUS_OK)
                return STATUS_OK; /* another request than the first time, or a realm made anew */
        int k = client_reserve_caches(client, cache);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "opening the cache");
        client_opened(client, cache);
        return STATUS_OK;
}

enum status repeat_answer(struct request *r, const struct op *op)
{
        struct outcomes *o = &r->d->outcomes;
        const uint8_t *msg;
        size_t n;
        switch (outcome_log_find(&r->client->past->log, r->id, &msg, &n)) {
        case OUTCOME_FOUND:
                break;
        case OUTCOME_E_NEVER:
                return STATUS_OK;
        default:
                o->unknown++;
                return verdict_set(&r->verdict, STATUS_OUTCOME_UNKNOWN,
                                   "the daemon does not remember what became of this request (it "
                                   "was started anew, or too much happened since): look whether "
                                   "the change is there, and ask for it anew if not");
        }
        enum status status = STATUS_OK;
        if (op == &ops[OP_OPEN_CACHE])
                status = open_again(r);
        if (status == STATUS_OK)
                status = reply_reserve(r, n, 0);
        if (status != STATUS_OK)
                return status;
        frame_header_write(r->out, (uint32_t)n, 0);
        memcpy(r->out + FRAME_HEADER_SIZE, msg, n);
        conn_commit(r->client->conn, FRAME_HEADER_SIZE + n);
        o->answered++;
        r->answered = true;
        return STATUS_OK;
}

void repeat_keep(struct request *r)
{
        outcome_log_add(&r->client->past->log, r->id, r->reply, r->n_reply,
                        (size_t)r->d->cfg->limits.outcome_bytes);
}

void repeat_forget(struct client *client, uint64_t id)
{
        if (client->past)
                outcome_log_add(&client->past->log, id, (const uint8_t *)"", 0,
                                (size_t)client->d->cfg->limits.outcome_bytes);
}
