/* SPDX-License-Identifier: MIT */
/*
 * AcquireResource, PublishResource and EndCreation: getting a resource, or the right to create it,
 * and what becomes of the right.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/decode.h"
#include "dispatch/descriptor.h"
#include "dispatch/events.h"
#include "dispatch/fd-kind.h"
#include "dispatch/keeping.h"
#include "dispatch/reply.h"
#include "dispatch/resource-flags.h"
#include "dispatch/resourcing.h"
#include "dispatch/segment.h"
#include "proto/segment.h"
#include "server.h"
#include "transport/conn.h"

#define POOL_MAX 4096u

/* ---- acquiring */

static enum status check_kind(struct request *r, Cached__V1__ResourceKind kind)
{
        if (kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT ||
            kind == CACHED__V1__RESOURCE_KIND__RESOURCE_DESCRIPTOR ||
            kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL)
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "kind %d is unknown: use RESOURCE_SEGMENT (1), RESOURCE_DESCRIPTOR (2) "
                           "or RESOURCE_LOCAL (3)",
                           (int)kind);
}

enum status resource_open_cache(struct request *r, uint32_t cache_id, const char *cache,
                                const Cached__V1__Policy *given, struct resource_where *where,
                                struct resource_policy *ret)
{
        struct cache_ref ref;
        struct store_policy policy;
        struct policy_fields set;
        struct policy_result result = {0};
        bool created;
        enum status status = decode_cache(r, cache_id, (char *)cache, &ref);
        if (status == STATUS_OK)
                status = decode_policy(r, given, &policy, &set);
        if (status != STATUS_OK)
                return status;
        if (given && cache_id == 0) {
                status = policy_open(&r->who, &ref, &policy, &result, &r->verdict);
                if (status == STATUS_OK && result.changed && !r->who.realm->hidden) {
                        events_policy_changed(r->d, r->client, result.cache);
                        subscribe_policy_changed(r, &result);
                }
        } else {
                status = data_need_cache(&r->who, &ref, &result.cache, &created, &r->verdict);
        }
        if (status != STATUS_OK)
                return status;
        int k = store_cache_info(r->who.realm->store, result.cache, &result.info);
        if (k != 0)
                return verdict_errno(&r->verdict, -ENOENT, "finding the cache");
        const struct store_policy *p = &result.info.policy;
        where->space = r->client->realm;
        where->cache = resourcing_cache(r, result.cache);
        ret->ttl_ms = p->ttl_ms == STORE_NEVER ? RESOURCE_NEVER : p->ttl_ms;
        ret->max_entries = p->max_entries == STORE_UNLIMITED ? 0 : p->max_entries;
        return STATUS_OK;
}

/* Answers for now: it holds it, may create it, or neither. */
static enum status answer_acquire(struct request *r, int k, const struct resource_reply *got,
                                  struct resource_holder *holder)
{
        const Cached__V1__AcquireResource *msg = r->msg->acquire_resource;
        Cached__V1__ResourceInfo info = CACHED__V1__RESOURCE_INFO__INIT;
        struct resources *t = &r->d->resources;
        bool has = msg->have_case == CACHED__V1__ACQUIRE_RESOURCE__HAVE_HAVE_INSTANCE;
        enum status status;
        switch (k) {
        case RESOURCE_IS_HELD:
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_HELD;
                info.owner_died = got->owner_died;
                resource_describe(r, &info, got->resource);
                has = has && msg->have_instance == got->resource->number;
                status = keeping_check_hold(r, resource_hold_find(t, got->resource, holder));
                if (status == STATUS_OK)
                        status = resource_answer_with(r, &info, has ? NULL : got->resource);
                if (status != STATUS_OK)
                        (void)resource_release(t, got->resource, holder, false, r->who.now_ms);
                return status;
        case RESOURCE_IS_YOURS:
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_CREATE;
                info.creation_id = got->creation->id;
                status = resource_answer_with(r, &info, NULL);
                if (status != STATUS_OK)
                        (void)resource_creation_end(t, got->creation, NULL, r->who.now_ms);
                return status;
        case RESOURCE_IS_BUSY:
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_BUSY;
                info.holder_pid = (uint32_t)got->pid;
                info.holder_uid = got->pid ? (uint32_t)got->uid : 0;
                return resource_answer_with(r, &info, NULL);
        case RESOURCE_IS_FAILED:
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_FAILED;
                info.reason = got->reason ? (char *)got->reason : info.reason;
                info.retry_ms = got->retry_ms;
                return resource_answer_with(r, &info, NULL);
        case RESOURCE_IS_PARKED:
                return STATUS_OK; /* without a reply */
        default:
                return resource_refusal(r, k, got);
        }
}

static enum status decode_acquire(struct request *r, struct resource_where *where,
                                  struct resource_ask *ask)
{
        const Cached__V1__AcquireResource *msg = r->msg->acquire_resource;
        struct key_ref key = {0};
        enum status status = holding_find(r, msg->holder, &ask->holder);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = check_kind(r, msg->kind);
        if (status == STATUS_OK && msg->pool > POOL_MAX)
                status = verdict_set(&r->verdict, STATUS_INVALID, "pool is %u: it is at most %u",
                                     (unsigned)msg->pool, POOL_MAX);
        if (status == STATUS_OK)
                status = resource_open_cache(r, msg->cache_id, msg->cache, msg->policy, where,
                                             &ask->policy);
        where->key = key.data;
        where->n_key = key.n;
        return status;
}

enum status op_acquire_resource(struct request *r)
{
        const Cached__V1__AcquireResource *msg = r->msg->acquire_resource;
        bool has = msg->have_case == CACHED__V1__ACQUIRE_RESOURCE__HAVE_HAVE_INSTANCE;
        bool bounded = msg->patience_case == CACHED__V1__ACQUIRE_RESOURCE__PATIENCE_WAIT_MS;
        struct resource_where where = {0};
        struct resource_ask ask = {
                .party = resourcing_party(r->client),
                .kind = (enum resource_kind)msg->kind,
                .wait_ms = bounded ? msg->wait_ms : RESOURCE_NEVER,
                .pool = msg->pool,
                .no_create = msg->no_create,
                .note = {.request_id = r->id,
                         .have_instance = msg->have_instance,
                         .flags = has ? RESOURCE_NOTE_HAS : 0},
        };
        if (!ask.party)
                return verdict_errno(&r->verdict, -ENOMEM, "asking for a resource");
        enum status status = decode_acquire(r, &where, &ask);
        if (status != STATUS_OK)
                return status;
        struct resource_reply got = {0};
        int k = resources_acquire(&r->d->resources, &where, &ask, r->who.now_ms, &got);
        return answer_acquire(r, k, &got, ask.holder);
}

/* ---- publishing */

/* The right belongs to a holder of the peer's, and what is to be created to the request's session,
 * or to none. */
static enum status find_creation(struct request *r, uint64_t id, struct resource_creation **ret)
{
        struct resource_creation *c = resource_creation_find(&r->d->resources, id);
        if (!c || c->holder->uid != r->who.uid || c->holder->space != r->client->realm ||
            !resourcing_is_in_scope(r, resource_cache_of(c->slot)))
                return STATUS_NOT_FOUND;
        *ret = c;
        return STATUS_OK;
}

/* Keeps the request's descriptor. */
static enum status keep(struct request *r, struct resource_object *o, unsigned kind, bool hangs_up)
{
        int k = keeping_name(o, r->fd, kind);
        if (k == 0)
                k = conn_keep_fd(r->client->conn, r->fd, hangs_up ? resource_hung_up : NULL, o,
                                 &o->kept);
        if (k == -EMFILE)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the descriptors that the daemon has left are kept for "
                                   "connections (RLIMIT_NOFILE): drop resources that nobody needs, "
                                   "or raise LimitNOFILE= in the unit");
        if (k < 0)
                return verdict_errno(&r->verdict, k, "keeping the descriptor");
        r->fd = -1;
        return STATUS_OK;
}

enum status resource_take_segment(struct request *r, struct resource_object *o, uint64_t size,
                                  bool read_only)
{
        int seals = F_SEAL_SHRINK | F_SEAL_GROW | (read_only ? F_SEAL_WRITE : 0);
        if (size > INT64_MAX - SEGMENT_HEAD)
                return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                                   "no segment has %" PRIu64 " bytes", size);
        enum status status = descriptor_check_file(r, seals, SEGMENT_HEAD + size);
        if (status != STATUS_OK)
                return status;
        const char *fault = segment_fault(r->fd, size);
        if (!fault && !read_only)
                fault = segment_is_writable(r->fd)
                                ? NULL
                                : "the segment cannot be written to: send the descriptor that "
                                  "memfd_create() returned, or say read_only";
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        int k = read_only ? 0 : segment_map(r->fd, &o->head);
        return k < 0 ? verdict_errno(&r->verdict, k, "mapping the segment's head")
                     : keep(r, o, FD_KIND_MEMFD, false);
}

static enum status take_descriptor(struct request *r, struct resource_object *o)
{
        struct sockaddr_storage own;
        unsigned n_own;
        struct fd_look look;
        enum status status = descriptor_there(r);
        if (status != STATUS_OK)
                return status;
        conn_own_address(r->client->conn, &own, &n_own);
        if (fd_look(r->fd, (const struct sockaddr *)&own, n_own, &look) == FD_KIND_REFUSED)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the descriptor is %s: what can be shared are connected stream, "
                                   "datagram and seqpacket sockets, regular files, pipes, "
                                   "eventfds, pidfds and memory files",
                                   look.what);
        snprintf(o->what, sizeof(o->what), "%s", look.what);
        return keep(r, o, look.kind, look.hangs_up);
}

void resource_hung_up(void *object)
{
        struct resource_object *o = object;
        struct dispatcher *d = o->d;
        if (keeping_is_still(d)) {
                keeping_hung_up(o);
                return;
        }
        struct resource *res = resources_find(&d->resources, o->number);
        if (res)
                resource_drop(&d->resources, res, RESOURCE_LEFT_HUNG_UP, NULL,
                              server_now_ms(d->server));
}

/* Looks at what came, and keeps it. */
static enum status take(struct request *r, struct resource_object *o)
{
        const Cached__V1__PublishResource *msg = r->msg->publish_resource;
        if (msg->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL)
                return STATUS_OK;
        if (msg->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT)
                return resource_take_segment(r, o, msg->size, msg->read_only);
        return take_descriptor(r, o);
}

static enum status publish(struct request *r, struct resource_creation *c,
                           struct resource_object *o)
{
        const Cached__V1__PublishResource *msg = r->msg->publish_resource;
        bool is_segment = msg->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT;
        uint64_t number = r->d->resources.last_instance + 1, holder = c->holder->id;
        struct realm *realm = resource_space_of(c->slot);
        struct resource *res;
        enum status status = keeping_announce(r, c, o);
        if (status != STATUS_OK)
                return status;
        int k = resource_publish(&r->d->resources, c, (enum resource_kind)msg->kind,
                                 is_segment ? msg->size : 0, is_segment && msg->read_only, o,
                                 r->who.now_ms, &res);
        if (k != RESOURCE_IS_HELD || res->number != number)
                keeping_withdraw(r, realm, holder, number);
        if (k != RESOURCE_IS_HELD)
                return resource_refusal(r, k, NULL);
        if (res->number == number) /* else @o is gone, and it holds what was there by then */
                o->number = number;
        Cached__V1__ResourceInfo info = CACHED__V1__RESOURCE_INFO__INIT;
        info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_HELD;
        resource_describe(r, &info, res);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_RESOURCE;
        reply.resource = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

enum status op_publish_resource(struct request *r)
{
        const Cached__V1__PublishResource *msg = r->msg->publish_resource;
        struct resource_creation *c;
        enum status status = check_kind(r, msg->kind);
        if (status == STATUS_OK)
                status = find_creation(r, msg->creation_id, &c);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        const struct resource_where where = {.space = resource_space_of(c->slot),
                                             .cache = resource_cache_of(c->slot)};
        struct resource_object *o = resource_object_new(r->d, &where);
        if (!o)
                return verdict_errno(&r->verdict, -ENOMEM, "keeping the resource");
        status = take(r, o);
        if (status == STATUS_OK)
                status = publish(r, c, o);
        if (status != STATUS_OK)
                resource_object_unref(o);
        return status;
}

enum status op_end_creation(struct request *r)
{
        const Cached__V1__EndCreation *msg = r->msg->end_creation;
        size_t n = decode_length(msg->reason);
        const char *fault = wire_reason_fault(msg->reason, n);
        struct resource_creation *c;
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        enum status status = find_creation(r, msg->creation_id, &c);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        (void)resource_creation_end(&r->d->resources, c, n > 0 ? msg->reason : NULL, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
