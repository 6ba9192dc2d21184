/* SPDX-License-Identifier: MIT */
/*
 * Answers about resources
 *
 * What was waited for is answered, and holders are told what has left, in portions: others are
 * served in between. Each connection is given as much as it may have waiting in its output, and the
 * rest when it has read that. The table keeps what is to be told with the hold that it is about, so
 * that nothing is lost however long a holder does not read, and nothing more is kept for it.
 *
 * A hold or a right is for somebody who learns of it: what cannot be told is given back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/keeping.h"
#include "dispatch/reply.h"
#include "dispatch/resource-flags.h"
#include "dispatch/resourcing.h"
#include "proto/frame.h"
#include "server.h"
#include "services/limits.h"
#include "services/session.h"
#include "transport/conn.h"

#define PORTION_NS   UINT64_C(100000)
#define PORTION_LOOK 8u   /* answers between two looks at the clock */
#define FILES_QUEUE  8192 /* bytes of replies that come with descriptors: some 40 */
#define EVENTS_QUEUE ((uint64_t)64 * 1024)

/* ---- what is said of an instance */

void resource_describe(const struct request *r, Cached__V1__ResourceInfo *to,
                       const struct resource *res)
{
        const struct resource_object *o = res->payload;
        uint64_t ttl = resource_ttl_left(res, r->who.now_ms);
        to->instance = res->number;
        to->kind = (Cached__V1__ResourceKind)res->kind;
        if (res->kind == RESOURCE_KIND_SEGMENT)
                to->size = res->size;
        to->read_only = res->read_only;
        to->what = (char *)o->what; /* only read, but protobuf-c's structs know no const */
        to->holders = res->n_holders;
        to->cause = (Cached__V1__ResourceCause)res->cause;
        if (ttl != RESOURCE_NEVER) {
                to->ttl_case = CACHED__V1__RESOURCE_INFO__TTL_TTL_MS;
                to->ttl_ms = ttl;
        }
}

static void sent(void *ctx, bool was_sent)
{
        (void)was_sent;
        resource_object_unref(ctx);
}

static enum status queue(struct request *r, Cached__V1__ResourceInfo *info)
{
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_RESOURCE;
        reply.resource = info;
        return reply_message(r, &reply);
}

enum status resource_answer_with(struct request *r, Cached__V1__ResourceInfo *info,
                                 const struct resource *res)
{
        struct resource_object *o = res ? res->payload : NULL;
        if (!o || !o->kept)
                return queue(r, info);
        info->descriptor = true;
        o->refs++;
        int k = conn_put_file(r->client->conn, kept_fd(o->kept), true,
                              FRAME_HEADER_SIZE + REPLY_SMALL, sent, o);
        if (k == 0)
                return queue(r, info); /* the room came with the descriptor */
        resource_object_unref(o);
        if (k != -EBUSY)
                return verdict_errno(&r->verdict, k, "sending the descriptor");
        return verdict_set(&r->verdict, STATUS_LIMIT,
                           "too many descriptors wait to be taken by the clients of uid %u: read "
                           "the replies, and try again",
                           (unsigned)r->who.uid);
}

/* ---- why not */

static enum status full(struct request *r)
{
        const struct config_limits *limits = &r->d->cfg->limits;
        return verdict_set(&r->verdict, STATUS_LIMIT,
                           "all resources that the realm (limits.resources_per_realm, %" PRIu64
                           ") or uid %u in it (limits.resources_per_uid, %" PRIu64
                           ") may have are held: %s",
                           limits->resources_per_realm, (unsigned)r->who.uid,
                           limits->resources_per_uid, limit_advice.resources_per_realm);
}

static enum status no_space(struct request *r)
{
        const struct config_limits *limits = &r->d->cfg->limits;
        const struct resource *big = resources_biggest(&r->d->resources, r->client->realm);
        return verdict_set(&r->verdict, STATUS_NO_SPACE,
                           "the segments of the realm would have more than "
                           "limits.resource_bytes_per_realm, %" PRIu64
                           " bytes, and what is there is held (the largest, of %" PRIu64
                           " bytes, was created by pid %d of uid %u): %s",
                           limits->resource_bytes_per_realm, big ? big->size : 0,
                           big ? (int)big->pid : 0, big ? (unsigned)big->uid : 0,
                           limit_advice.resource_bytes_per_realm);
}

static enum status closed(struct request *r)
{
        return verdict_set(&r->verdict, STATUS_SHUTTING_DOWN,
                           "the daemon is going away, and what was asked for is not there: connect "
                           "again");
}

static enum status wrong_kind(struct request *r)
{
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "a resource of another kind is there, or is being created: ask for that "
                           "kind, or drop it first");
}

enum status resource_refusal(struct request *r, int k, const struct resource_reply *why)
{
        (void)why;
        switch (k) {
        case RESOURCE_IS_NOT_FOUND:
        case RESOURCE_E_NOT_HELD:
                return STATUS_NOT_FOUND;
        case RESOURCE_IS_CLOSED:
                return closed(r);
        case RESOURCE_E_KIND:
                return wrong_kind(r);
        case RESOURCE_E_POOL:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "a pool is there and the request names none, or the other way, "
                                   "or it cannot be a pool (of local resources), or has no lock of "
                                   "its own (in a pool who holds it has it): ask for what is "
                                   "there");
        case RESOURCE_E_RESOURCES:
                return full(r);
        case RESOURCE_E_WAITERS:
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "as many requests of uid %u wait for resources as "
                                   "limits.resource_waiters_per_uid allows, %" PRIu64 ": %s",
                                   (unsigned)r->who.uid, r->d->cfg->limits.resource_waiters_per_uid,
                                   limit_advice.resource_waiters_per_uid);
        case RESOURCE_E_SPACE:
                return no_space(r);
        default:
                return verdict_errno(&r->verdict, k, "keeping the resource");
        }
}

/* ---- who waited */

/* What it got and cannot be told of is given back. */
static void give_back(struct dispatcher *d, const struct resource_waiter *w)
{
        struct resources *t = &d->resources;
        uint64_t now_ms = server_now_ms(d->server);
        if (w->outcome == RESOURCE_GOT_RIGHT) {
                struct resource_creation *c = resource_creation_find(t, w->creation_id);
                if (c)
                        (void)resource_creation_end(t, c, NULL, now_ms);
        }
        struct resource *res =
                w->outcome == RESOURCE_GOT_HOLD ? resources_find(t, w->instance) : NULL;
        if (!res || !w->holder)
                return;
        if (w->is_lock)
                (void)resource_unlock(t, res, w->holder, now_ms);
        else
                (void)resource_release(t, res, w->holder, false, now_ms);
}

void resource_waiter_drop(struct dispatcher *d, struct resource_waiter *w)
{
        give_back(d, w);
        resource_waiter_free(&d->resources, w);
}

static enum status answer_hold(struct request *r, const struct resource_waiter *w,
                               Cached__V1__ResourceInfo *info)
{
        struct resource *res = resources_find(&r->d->resources, w->instance);
        if (!res || !w->holder || !resource_hold_find(&r->d->resources, res, w->holder))
                return STATUS_NOT_FOUND; /* its holder has given it up, or ended */
        bool silent = w->is_lock ||
                      (w->note.flags & RESOURCE_NOTE_HAS && w->note.have_instance == w->instance);
        enum status status = w->is_lock ? keeping_check_lock(r, res)
                                        : keeping_check_hold(r, resource_hold_find(&r->d->resources,
                                                                                   res, w->holder));
        if (status != STATUS_OK)
                return status;
        info->state = CACHED__V1__RESOURCE_STATE__RESOURCE_HELD;
        info->owner_died = w->owner_died;
        resource_describe(r, info, res);
        return resource_answer_with(r, info, silent ? NULL : res);
}

static enum status answer(struct request *r, const struct resource_waiter *w,
                          Cached__V1__ResourceInfo *info)
{
        info->reason = w->reason ? w->reason : info->reason;
        info->retry_ms = w->retry_ms;
        info->holder_pid = (uint32_t)w->pid;
        info->holder_uid = w->pid ? (uint32_t)w->uid : 0;
        switch ((enum resource_outcome)w->outcome) {
        case RESOURCE_GOT_HOLD:
                return answer_hold(r, w, info);
        case RESOURCE_GOT_RIGHT:
                info->state = CACHED__V1__RESOURCE_STATE__RESOURCE_CREATE;
                info->creation_id = w->creation_id;
                if (!resource_creation_find(&r->d->resources, w->creation_id))
                        return STATUS_NOT_FOUND;
                return resource_answer_with(r, info, NULL);
        case RESOURCE_GOT_TIMEOUT:
                info->state = CACHED__V1__RESOURCE_STATE__RESOURCE_TIMEOUT;
                return resource_answer_with(r, info, NULL);
        case RESOURCE_GOT_FAILURE:
                info->state = CACHED__V1__RESOURCE_STATE__RESOURCE_FAILED;
                return resource_answer_with(r, info, NULL);
        case RESOURCE_GOT_LIMIT:
                return full(r);
        case RESOURCE_GOT_NO_MEMORY:
                return verdict_errno(&r->verdict, -ENOMEM, "keeping the resource");
        case RESOURCE_GOT_CLOSED:
                return closed(r);
        case RESOURCE_GOT_ENDED:
                return session_is_over(&r->verdict);
        case RESOURCE_GOT_NOT_FOUND:
        case RESOURCE_WAITS:
        default:
                return STATUS_NOT_FOUND;
        }
}

static void answer_waiter(struct dispatcher *d, struct resource_waiter *w)
{
        struct client *client = w->party->ctx;
        struct request r;
        request_init(&r, client, 0);
        Cached__V1__ResourceInfo info = CACHED__V1__RESOURCE_INFO__INIT;
        r.id = w->note.request_id;
        info.waited_ms = r.who.now_ms > w->since ? r.who.now_ms - w->since : 0;
        enum status status = answer(&r, w, &info);
        if (status != STATUS_OK)
                give_back(d, w);
        request_finish(&r, status);
        resource_waiter_free(&d->resources, w);
        conn_kick(client->conn);
}

static bool is_closing(const struct client *client)
{
        struct conn_info conn;
        conn_info(client->conn, &conn);
        return conn.closing;
}

static bool is_full(const struct client *client, uint64_t most)
{
        struct conn_info conn;
        conn_info(client->conn, &conn);
        return conn.queued >= most;
}

static void handle_waiter(struct dispatcher *d, struct resource_waiter *w)
{
        struct client *client = w->party->ctx;
        if (is_closing(client)) {
                resource_waiter_drop(d, w);
        } else if (is_full(client, FILES_QUEUE)) {
                resource_waiter_block(w);
                conn_await_drain(client->conn);
        } else {
                answer_waiter(d, w);
        }
}

/* ---- who is told */

/* False: there is no memory for it. */
static bool tell(struct client *client, const struct resource *res)
{
        const struct resource_slot *s = res->slot;
        struct request r;
        char name[STORE_CACHE_NAME_MAX + 1];
        request_init(&r, client, 0);
        resourcing_cache_name(client->realm, res, name, sizeof(name));
        Cached__V1__ResourceEvent resource = CACHED__V1__RESOURCE_EVENT__INIT;
        resource.instance = res->number;
        resource.cause = (Cached__V1__ResourceCause)res->cause;
        resource.reason = res->reason ? res->reason : resource.reason;
        resource.cache = name;
        resource.key = (ProtobufCBinaryData){s->n_key, (uint8_t *)s->key};
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        event.kind_case = CACHED__V1__EVENT__KIND_RESOURCE;
        event.resource = &resource;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        reply.event = &event;
        return reply_message(&r, &reply) == STATUS_OK;
}

static void handle_event(struct resource_hold *h)
{
        struct client *client = h->holder->ctx;
        if (is_closing(client)) {
                resource_hold_block(h); /* its holder is lost in a moment */
        } else if (is_full(client, EVENTS_QUEUE) || !tell(client, h->resource)) {
                resource_hold_block(h);
                conn_await_drain(client->conn);
        } else {
                resource_hold_told(h);
                conn_kick(client->conn);
        }
}

/* Not while room for a reply of the same connection may be reserved: at the end of a frame. */
void resourcing_flush(struct dispatcher *d)
{
        uint64_t until = server_tick(d->server) + PORTION_NS;
        unsigned n = 0;
        while (resourcing_has_decided(d)) {
                struct resource_waiter *w = resources_decided(&d->resources);
                struct resource_hold *h = w ? NULL : resources_next_event(&d->resources);
                if (w)
                        handle_waiter(d, w);
                else if (h)
                        handle_event(h);
                else
                        return;
                if (++n % PORTION_LOOK == 0 && server_tick(d->server) >= until)
                        return;
        }
}

void resourcing_drained(struct client *client)
{
        struct resources *t = &client->d->resources;
        if (client->parked)
                resource_party_unblock(t, client->parked);
        if (client->holding)
                holding_drained(client->holding);
}
