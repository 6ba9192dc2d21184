/* SPDX-License-Identifier: MIT */
/*
 * LockResource, UnlockResource, ReleaseResource and InvalidateResource: what a holder does with
 * what it holds.
 */
#include <errno.h>

#include "dispatch/client.h"
#include "dispatch/decode.h"
#include "dispatch/keeping.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"

/* An empty reply, unless the request is to have none. */
static enum status answer(struct request *r)
{
        if (!r->one_way) {
                Cached__V1__Reply reply = reply_to(r, STATUS_OK);
                reply_queue(r, &reply, NULL, 0, 0);
        }
        return STATUS_OK;
}

static enum status reserve(struct request *r)
{
        return r->one_way ? STATUS_OK : reply_reserve(r, REPLY_SMALL, 0);
}

/* ---- locking */

static enum status answer_lock(struct request *r, int k, const struct resource_reply *got,
                               struct resource *res, struct resource_holder *holder)
{
        Cached__V1__ResourceInfo info = CACHED__V1__RESOURCE_INFO__INIT;
        enum status status;
        switch (k) {
        case RESOURCE_IS_HELD:
                status = keeping_check_lock(r, res);
                if (status != STATUS_OK) {
                        (void)resource_unlock(&r->d->resources, res, holder, r->who.now_ms);
                        return status;
                }
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_HELD;
                info.owner_died = got->owner_died;
                resource_describe(r, &info, res);
                break;
        case RESOURCE_IS_BUSY:
                info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_BUSY;
                info.holder_pid = (uint32_t)got->pid;
                info.holder_uid = got->pid ? (uint32_t)got->uid : 0;
                break;
        case RESOURCE_IS_PARKED:
                return STATUS_OK; /* without a reply */
        case RESOURCE_IS_YOURS:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "this holder has the lock already, and would wait for itself: "
                                   "unlock it first");
        default:
                return resource_refusal(r, k, got);
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_RESOURCE;
        reply.resource = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

enum status op_lock_resource(struct request *r)
{
        const Cached__V1__LockResource *msg = r->msg->lock_resource;
        bool bounded = msg->patience_case == CACHED__V1__LOCK_RESOURCE__PATIENCE_WAIT_MS;
        struct resource_ask ask = {
                .party = resourcing_party(r->client),
                .wait_ms = bounded ? msg->wait_ms : RESOURCE_NEVER,
                .note = {.request_id = r->id},
        };
        struct resource *res;
        if (!ask.party)
                return verdict_errno(&r->verdict, -ENOMEM, "asking for a lock");
        enum status status =
                holding_find_instance(r, msg->holder, msg->instance, &ask.holder, &res);
        if (status == STATUS_OK && res->read_only)
                status =
                        verdict_set(&r->verdict, STATUS_INVALID,
                                    "the segment is read-only, and has no lock: nobody changes it");
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        struct resource_reply got = {0};
        int k = resource_lock(&r->d->resources, res, &ask, r->who.now_ms, &got);
        return answer_lock(r, k, &got, res, ask.holder);
}

enum status op_unlock_resource(struct request *r)
{
        const Cached__V1__UnlockResource *msg = r->msg->unlock_resource;
        struct resource_holder *holder;
        struct resource *res;
        enum status status = holding_find_instance(r, msg->holder, msg->instance, &holder, &res);
        if (status == STATUS_OK)
                status = reserve(r);
        if (status != STATUS_OK)
                return status;
        if (resource_unlock(&r->d->resources, res, holder, r->who.now_ms) != RESOURCE_IS_HELD)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "this holder does not have the lock: lock it first");
        return answer(r);
}

/* ---- giving back */

enum status op_release_resource(struct request *r)
{
        const Cached__V1__ReleaseResource *msg = r->msg->release_resource;
        struct resource_holder *holder;
        struct resource *res;
        enum status status = holding_find_instance(r, msg->holder, msg->instance, &holder, &res);
        if (status == STATUS_OK)
                status = reserve(r);
        if (status != STATUS_OK)
                return status;
        if (msg->all)
                (void)resource_release_all(&r->d->resources, res, holder, msg->broken,
                                           r->who.now_ms);
        else
                (void)resource_release(&r->d->resources, res, holder, msg->broken, r->who.now_ms);
        return answer(r);
}

enum status op_invalidate_resource(struct request *r)
{
        const Cached__V1__InvalidateResource *msg = r->msg->invalidate_resource;
        const char *fault = wire_reason_fault(msg->reason, decode_length(msg->reason));
        struct resource_holder *holder;
        struct resource *res;
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        enum status status = holding_find_instance(r, msg->holder, msg->instance, &holder, &res);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        Cached__V1__DropResult result = CACHED__V1__DROP_RESULT__INIT;
        if (res->cause == RESOURCE_LEFT_NOT) {
                result.resources = 1;
                result.holders = res->n_holders;
        }
        (void)resource_invalidate(&r->d->resources, res, holder,
                                  msg->reason[0] != '\0' ? msg->reason : NULL, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_DROPPED;
        reply.dropped = &result;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
