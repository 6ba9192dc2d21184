/* SPDX-License-Identifier: MIT */
/*
 * Dispatch
 *
 * A frame comes in, is unpacked into the request's memory, admitted (order, version, deadline,
 * role, body), run by its row of ops.def, and answered. That is one call for all but those that
 * take long: they run in portions (see unfinished.c).
 *
 * A long body does not pass through here: its message is admitted when it arrives, the operation
 * decides where the bytes go, and when the frame is complete it runs like any other, with
 * everything checked again, because the world may have changed meanwhile.
 *
 * Failures are answered here, in one place. A failure that cannot be answered for want of memory
 * closes the connection: a client must never wait for a reply that will not come.
 *
 * What requests mean is not known here: see services. How bytes travel is not, either: see
 * transport.
 */
#include "dispatch/dispatch.h"

#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "dispatch/descriptor.h"
#include "dispatch/dispatcher.h"
#include "dispatch/leasing.h"
#include "dispatch/peek.h"
#include "dispatch/repeat.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"
#include "dispatch/scope.h"
#include "dispatch/unfinished.h"
#include "log.h"
#include "realm/mapping.h"
#include "server.h"
#include "services/limits.h"
#include "store/large.h"

#define ROOM_AHEAD ((uint64_t)256 * 1024) /* what a sender's socket holds, about; guess */

const struct op ops[N_OPS] = {
#define OP(CASE, text, least, its_kind, handler, accepts)                                          \
        [OP_##CASE] = {.name = text,                                                               \
                       .role = ACCESS_##least,                                                     \
                       .run = handler,                                                             \
                       .accept = accepts,                                                          \
                       .kind = OP_##its_kind},
#include "dispatch/ops.def"
#undef OP
};

static const struct op *const op_of_case[] = {
#define OP(CASE, ...) [CACHED__V1__REQUEST__OP_##CASE] = &ops[OP_##CASE],
#include "dispatch/ops.def"
#undef OP
};
#define N_CASES (sizeof(op_of_case) / sizeof(op_of_case[0]))

/* ---- unpacking */

static uint64_t read_varint(const uint8_t **at, const uint8_t *end)
{
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
                uint8_t byte = *(*at)++;
                value |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80))
                        break;
        }
        return value;
}

/* The id of a message that cannot be unpacked for want of memory; 0: it has none where all known
 * encoders write it, at the start. */
static uint64_t peek_id(const uint8_t *msg, size_t n)
{
        if (n < 2 || msg[0] != 0x08)
                return 0;
        const uint8_t *at = msg + 1;
        return read_varint(&at, msg + n);
}

/* What a full request needs, and its bytes once more. It also bounds the time that unpacking takes:
 * most of it goes into pages that are touched for the first time. */
static size_t unpack_limit(const struct config *cfg)
{
        return (size_t)(cfg->limits.keys_per_request * BUMP_PER_KEY + cfg->limits.message_bytes);
}

static bool is_one_way(const Cached__V1__Request *m)
{
        switch (m->op_case) {
        case CACHED__V1__REQUEST__OP_DRAIN:
                return m->drain->one_way;
        case CACHED__V1__REQUEST__OP_RELEASE:
                return m->release->one_way;
        case CACHED__V1__REQUEST__OP_END_LEASE:
                return m->end_lease->one_way;
        case CACHED__V1__REQUEST__OP_LEASE_PROGRESS:
                return m->lease_progress->one_way;
        case CACHED__V1__REQUEST__OP_UNLOCK_RESOURCE:
                return m->unlock_resource->one_way;
        case CACHED__V1__REQUEST__OP_RELEASE_RESOURCE:
                return m->release_resource->one_way;
        default:
                return false;
        }
}

static enum status unpack(struct request *r, const uint8_t *msg, size_t n)
{
        struct bump *b = &r->d->bump;
        size_t limit = b->limit; /* of the reply, too */
        b->limit = unpack_limit(r->d->cfg);
        r->msg = (const Cached__V1__Request *)
                protobuf_c_message_unpack(&cached__v1__request__descriptor, &b->allocator, n, msg);
        b->limit = limit;
        if (__builtin_expect(r->msg != NULL, 1)) {
                r->id = r->msg->id;
                descriptor_take(r);
                r->one_way = is_one_way(r->msg);
                return STATUS_OK;
        }
        if (!b->out_of_memory && !b->over_limit) {
                r->close = true;
                return verdict_set(
                        &r->verdict, STATUS_PROTOCOL,
                        "the frame's message is not a Request of cached.proto: check the "
                        "framing (u32 message length, u64 body length, both "
                        "little-endian) and the encoding");
        }
        r->id = peek_id(msg, n);
        if (r->id > r->client->last_id)
                r->client->last_id = r->id;
        else
                r->close = true; /* a reply that belongs to no request is the last one */
        if (b->over_limit)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the message has too many fields for limits.keys_per_request, "
                                   "%" PRIu64 ": %s",
                                   r->d->cfg->limits.keys_per_request,
                                   limit_advice.keys_per_request);
        return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                           "the daemon has no memory to read the request: nothing was changed; try "
                           "again later");
}

/* ---- admission */

static enum status violation(struct request *r, const char *what)
{
        r->close = true;
        return verdict_set(&r->verdict, STATUS_PROTOCOL, "%s", what);
}

/* @again: it is one of an earlier connection, by its id. */
static enum status check_order(struct request *r, bool again)
{
        const struct client *client = r->client;
        if (r->id == 0)
                return violation(r, "the request has no id: ids begin at 1 and grow");
        if (__builtin_expect(again, 0))
                return repeat_check(r);
        if (r->id <= client->last_id)
                return violation(r,
                                 "the request's id is not larger than every id before it on this "
                                 "connection: count upwards");
        bool is_hello = r->msg->op_case == CACHED__V1__REQUEST__OP_HELLO;
        bool is_handover = r->msg->op_case == CACHED__V1__REQUEST__OP_HANDOVER;
        if (__builtin_expect(client->realm && is_handover, 0))
                return violation(r, "Handover comes instead of Hello: it is the first request on a "
                                    "connection of its own");
        if (!client->realm && !is_hello && !is_handover)
                return violation(r, "the first request on a connection is Hello: send it first");
        if (client->realm && is_hello)
                return violation(r, "Hello was sent before on this connection: send it once");
        return STATUS_OK;
}

static enum status check_deadline(struct request *r)
{
        uint64_t now = server_now_ns(r->d->server);
        uint64_t arrival = conn_arrival_ns(r->client->conn);
        uint64_t waited = now > arrival ? now - arrival : 0;
        if (waited < (uint64_t)r->msg->deadline_ms * 1000000)
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_DEADLINE,
                           "the request waited %" PRIu64 " ms, its deadline_ms is %" PRIu32
                           ": allow more time, or send less at once",
                           waited / 1000000, r->msg->deadline_ms);
}

static const char *role_name(enum role role)
{
        switch (role) {
        case ACCESS_NONE:
                return "none";
        case ACCESS_READER:
                return "reader";
        case ACCESS_WRITER:
                return "writer";
        case ACCESS_ADMIN:
                return "admin";
        }
        return "unknown";
}

static enum status check_role(struct request *r, const struct op *op)
{
        if (__builtin_expect(r->client->role >= op->role, 1))
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_DENIED,
                           "%s needs the role %s in the realm '%s', this peer is %s: ask the "
                           "administrator to list you among the realm's %ss",
                           op->name, role_name(op->role), r->client->realm->name,
                           role_name(r->client->role), role_name(op->role));
}

/* Whether the request may start; with its row. */
static enum status admit(struct request *r, const struct op **ret)
{
        unsigned op_case = (unsigned)r->msg->op_case;
        const struct op *op = op_case < N_CASES ? op_of_case[op_case] : NULL;
        bool again = __builtin_expect(r->msg->repeated, 0) &&
                     !(op && op->kind == OP_NOTES && r->id > r->client->last_id);
        enum status status = check_order(r, again);
        if (__builtin_expect(status != STATUS_OK, 0))
                return status;
        if (!again)
                r->client->last_id = r->id;
        if (!op)
                return verdict_set(&r->verdict, STATUS_UNSUPPORTED,
                                   "this daemon (" VERSION
                                   ") does not know the request: update the "
                                   "daemon, or do without it");
        if (__builtin_expect(again, 0) && op->kind == OP_CHANGES) {
                status = repeat_answer(r, op);
                if (status != STATUS_OK || r->answered)
                        return status;
        }
        r->op = op;
        if (server_stopping(r->d->server))
                return verdict_set(&r->verdict, STATUS_SHUTTING_DOWN,
                                   "the daemon is going away: nothing was changed; connect again");
        if (r->msg->deadline_ms != 0)
                status = check_deadline(r);
        if (status == STATUS_OK)
                status = check_role(r, op);
        if (status == STATUS_OK && r->n_body > 0 && !op->accept)
                status = verdict_set(&r->verdict, STATUS_INVALID,
                                     "%s takes no body, but the frame has one of %" PRIu64
                                     " bytes: send the body length 0",
                                     op->name, r->n_body);
        if (status == STATUS_OK && __builtin_expect(r->msg->session.len > 0, 0))
                status = scope_enter(r);
        *ret = op;
        return status;
}

/* ---- frames */

void request_init(struct request *r, struct client *client, uint64_t n_body)
{
        struct dispatcher *d = client->d;
        /* Field by field: clearing the verdict's text would cost more than the rest of admission.
         */
        d->running = client;
        r->d = d;
        r->client = client;
        r->msg = NULL;
        r->op = NULL;
        r->id = 0;
        r->body = NULL;
        r->n_body = n_body;
        r->fd = -1;
        r->upload = NULL;
        r->share = NULL;
        r->lease = NULL;
        r->lease_id = 0;
        r->lease_stays = false;
        r->filling = NULL;
        r->who = (struct caller){
                .realm = client->realm,
                .cfg = d->cfg,
                .uid = conn_peer(client->conn)->uid,
                .now_ms = server_now_ms(d->server),
        };
        r->verdict.status = STATUS_OK;
        r->out = NULL;
        r->n_out = 0;
        r->n_reply = 0;
        r->state = NULL;
        r->sweep = NULL;
        r->n_resources = 0;
        r->ran = r->again = r->wait = false;
        r->answered = r->one_way = r->close = false;
}

/* Failures of the peer's making are its business, but for breaking the protocol. */
static void log_failure(struct request *r, enum status status)
{
        struct server *server = r->d->server;
        const struct peer *peer = conn_peer(r->client->conn);
        const struct realm *realm = r->client->realm;
        const struct log_fields fields = {LOG_PEER(peer), .realm = realm ? realm->name : NULL};
        switch (status) {
        case STATUS_DENIED:
        case STATUS_LIMIT:
                if (realm)
                        break;
                /* It was not let in at all. */
                log_peer(server_log(server), LOG_INFO,
                         status == STATUS_LIMIT ? LOG_KIND_LIMIT : LOG_KIND_REFUSED,
                         server_now_ns(server), &fields, "refused pid %d (uid %u): %s",
                         (int)peer->pid, (unsigned)peer->uid, r->verdict.text);
                break;
        case STATUS_PROTOCOL:
                log_peer(server_log(server), LOG_INFO, LOG_KIND_VIOLATION, server_now_ns(server),
                         &fields, "pid %d (uid %u): %s", (int)peer->pid, (unsigned)peer->uid,
                         r->verdict.text);
                break;
        case STATUS_NO_MEMORY:
                log_peer(server_log(server), LOG_WARNING, LOG_KIND_MEMORY, server_now_ns(server),
                         &fields, "pid %d (uid %u): %s", (int)peer->pid, (unsigned)peer->uid,
                         r->verdict.text);
                break;
        case STATUS_INTERNAL:
                log_peer(server_log(server), LOG_ERR, LOG_KIND_DISPATCH, server_now_ns(server),
                         &fields, "request %" PRIu64 " of pid %d (uid %u): %s", r->id,
                         (int)peer->pid, (unsigned)peer->uid, r->verdict.text);
                break;
        default:
                break;
        }
}

void request_finish(struct request *r, enum status status)
{
        struct conn *c = r->client->conn;
        if (status != STATUS_OK) {
                /* A miss says nothing, unless it is more than that. */
                const char *text = r->verdict.status == status ? r->verdict.text : "";
                if (status == STATUS_PROTOCOL)
                        r->d->protocol_errors++;
                log_failure(r, status);
                if (leasing_is_on(r->d))
                        leasing_refused(r, status);
                if (r->one_way && !r->close)
                        return;
                if (!reply_failure(r, status == STATUS_PROTOCOL ? 0 : r->id, status, text))
                        r->close = true;
        }
        if (r->client->past && r->n_reply > 0 && r->op && r->op->kind == OP_CHANGES)
                repeat_keep(r);
        if (r->close)
                conn_close(c);
}

/* The connection's client, made with its first frame. NULL: no memory, the peer was told. */
static struct client *client_of(struct conn *c)
{
        struct client *client = conn_user(c);
        if (__builtin_expect(client != NULL, 1))
                return client;
        client = client_new(server_dispatcher(conn_server(c)), c);
        if (!client) {
                dispatch_refuse(c, STATUS_NO_MEMORY,
                                "the daemon has no memory for this connection: try again later");
                conn_close(c);
        }
        return client;
}

static enum status run(struct request *r, const uint8_t *msg, size_t n_msg)
{
        enum status status = unpack(r, msg, n_msg);
        if (status != STATUS_OK)
                return status;
        const struct op *op;
        status = admit(r, &op);
        if (status != STATUS_OK || r->answered)
                return status;
        r->ran = true;
        return op->run(r);
}

/* After the reply was queued. @busy_ns: what the request took. */
static void settle(struct request *r, uint64_t busy_ns)
{
        struct dispatcher *d = r->d;
        upload_free(r->upload);
        descriptor_drop(r);
        if (r->client->realm)
                realm_settle(r->client->realm);
        bump_reset(&d->bump);
        d->requests++;
        if (r->ran)
                histogram_add(&d->latencies[r->op - ops], busy_ns);
}

static uint64_t since(struct dispatcher *d, uint64_t start_ns)
{
        uint64_t now_ns = server_tick(d->server);
        return now_ns > start_ns ? now_ns - start_ns : 0;
}

/* The frame of an unfinished request comes again. */
static bool resume(struct client *client, const uint8_t *body, struct upload *upload)
{
        struct dispatcher *d = client->d;
        uint64_t start_ns = server_now_ns(d->server);
        struct request *r = unfinished_resume(client, body, upload);
        d->running = client;
        r->who.cfg = d->cfg;
        r->who.now_ms = server_now_ms(d->server);
        enum status status = r->op->run(r);
        if (r->again) {
                realm_settle(client->realm);
                unfinished_pause(client, since(d, start_ns));
                return false;
        }
        request_finish(r, status);
        uint64_t busy_ns = client->unfinished->busy_ns;
        settle(r, busy_ns + since(d, start_ns));
        unfinished_finish(client);
        if (leasing_has_decided(d))
                leasing_flush(d);
        if (resourcing_has_decided(d))
                resourcing_flush(d);
        return true;
}

static bool on_frame(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                     uint64_t n_body, void *sink_ctx)
{
        struct client *client = client_of(c);
        if (!client) {
                upload_free(sink_ctx);
                return true;
        }
        struct dispatcher *d = client->d;
        if (__builtin_expect(client->unfinished != NULL, 0))
                return resume(client, body, sink_ctx);
        if (__builtin_expect(!unfinished_may_begin(d, n_msg + n_body), 0))
                return false;
        uint64_t start_ns = server_now_ns(d->server);
        struct request r;
        request_init(&r, client, n_body);
        r.body = body;
        r.upload = sink_ctx;

        enum status status = run(&r, msg, n_msg);
        while (__builtin_expect(r.again, 0)) {
                if (unfinished_keep(&r, since(d, start_ns))) {
                        realm_settle(client->realm);
                        return false;
                }
                r.again = false;
                status = r.op->run(&r);
        }
        request_finish(&r, status);
        settle(&r, since(d, start_ns));
        if (leasing_has_decided(d))
                leasing_flush(d);
        if (resourcing_has_decided(d))
                resourcing_flush(d);
        return true;
}

/* What its realm's readers noted before these requests were sent comes before them. */
static void on_received(struct conn *c)
{
        const struct client *client = conn_user(c);
        if (client && client->realm)
                realm_drain(client->realm, server_now_ms(client->d->server));
}

static void drop_frame(struct conn *c)
{
        struct client *client = conn_user(c);
        if (client)
                unfinished_drop(client);
}

/* The keys of the frames that come next, as hints to the store. */
static void on_ahead(struct conn *c, const uint8_t *const *msgs, const size_t *n_msgs, unsigned n)
{
        const struct client *client = conn_user(c);
        struct store_ahead ahead[STORE_AHEAD_MAX];
        unsigned n_ahead = 0;

        if (!client || !client->realm)
                return;
        for (unsigned i = 0; i < n && n_ahead < STORE_AHEAD_MAX; i++) {
                struct peek p;
                struct store_ahead *a = &ahead[n_ahead];

                if (!peek_key(msgs[i], n_msgs[i], &p))
                        continue;
                *a = (struct store_ahead){.cache = p.cache_id,
                                          .key = p.key,
                                          .n_key = (uint32_t)p.n_key};
                if (a->cache != 0 ||
                    store_cache_find(client->realm->store, p.cache, p.n_cache, &a->cache) == 0)
                        n_ahead++;
        }
        if (n_ahead > 1)
                store_ahead(client->realm->store, ahead, n_ahead);
}

static enum status accept_body(struct request *r, const uint8_t *msg, size_t n_msg,
                               struct upload **ret)
{
        enum status status = unpack(r, msg, n_msg);
        if (status != STATUS_OK)
                return status;
        const struct op *op;
        struct client *client = r->client;
        uint64_t last_id = client->last_id, last_repeated = client->last_repeated;
        status = admit(r, &op);
        if (status != STATUS_OK || r->answered)
                return status;
        status = op->accept(r, r->n_body, ret);
        if (status == STATUS_OK) {
                /* The whole frame is still to come, with this id. */
                client->last_id = last_id;
                client->last_repeated = last_repeated;
        }
        return status;
}

static void on_body(struct conn *c, const uint8_t *msg, size_t n_msg, uint64_t n_body,
                    struct body_sink *ret)
{
        *ret = (struct body_sink){0};
        struct client *client = client_of(c);
        if (!client)
                return;
        struct request r;
        request_init(&r, client, n_body);
        struct upload *upload = NULL;
        enum status status = accept_body(&r, msg, n_msg, &upload);
        if (upload) {
                upload->request_id = r.id;
                if (r.op == &ops[OP_SET])
                        upload->lease_id = r.msg->set->lease_id;
                upload->op = r.op;
                *ret = (struct body_sink){.dst = upload_dst(upload),
                                          .room = upload->arrival.store ? 0 : n_body,
                                          .ctx = upload};
        } else if (r.wait) {
                ret->wait = true;
        } else {
                client->d->requests++;
        }
        request_finish(&r, status);
        descriptor_drop(&r); /* a message with a body names none, unless it is refused */
        if (client->realm)
                realm_settle(client->realm); /* room may have been reserved */
        bump_reset(&client->d->bump);
}

/* Room for the next bytes of a value, and memory for those that are copied: what is received by the
 * kernel needs none in advance. */
static enum status arrival_more(struct request *r, struct upload *u, uint64_t n, uint64_t n_copied,
                                uint64_t *ret_room)
{
        enum status status =
                data_arrival_more(&r->who, &u->arrival, n, n + ROOM_AHEAD, ret_room, &r->verdict);
        if (status != STATUS_OK || !u->large)
                return status;
        if (n_copied == 0) {
                large_retire(u->large, n - 1); /* what was received before */
                return STATUS_OK;
        }
        int k = large_commit(u->large, n_copied);
        return k < 0 ? verdict_errno(&r->verdict, k, "receiving the value") : STATUS_OK;
}

static bool on_room(struct conn *c, uint64_t n, uint64_t n_copied, struct body_sink *sink)
{
        struct client *client = conn_user(c);
        struct upload *u = sink->ctx;
        struct request r;
        request_init(&r, client, u->n);
        r.id = u->request_id;
        r.op = u->op;
        r.lease_id = u->lease_id;
        r.who.realm = u->realm;
        memcpy(r.who.session, u->session, SESSION_KEY_SIZE);
        enum status status = arrival_more(&r, u, n, n_copied, &sink->room);
        realm_settle(client->realm);
        if (status == STATUS_OK)
                return true;
        client->d->requests++;
        if (r.id > client->last_id)
                client->last_id = r.id;
        request_finish(&r, status);
        return false;
}

static void drop_sink(struct conn *c, void *sink_ctx)
{
        struct client *client = conn_user(c);
        upload_free(sink_ctx);
        if (client && client->realm)
                realm_settle(client->realm);
}

static void on_drained(struct conn *c)
{
        struct client *client = conn_user(c);
        if (!client)
                return;
        leasing_drained(client);
        resourcing_drained(client);
        subscribe_drained(client);
        attach_drained(client);
}

static void on_violation(struct conn *c, const char *what)
{
        server_dispatcher(conn_server(c))->protocol_errors++;
        dispatch_refuse(c, STATUS_PROTOCOL, what);
}

static void on_close(struct conn *c)
{
        struct client *client = conn_user(c);
        if (client)
                client_free(client, server_now_ms(client->d->server));
}

const struct conn_handler dispatch_handler = {
        .on_ahead = on_ahead,
        .on_received = on_received,
        .on_frame = on_frame,
        .drop_frame = drop_frame,
        .on_body = on_body,
        .on_room = on_room,
        .drop_sink = drop_sink,
        .on_drained = on_drained,
        .on_violation = on_violation,
        .on_close = on_close,
};
