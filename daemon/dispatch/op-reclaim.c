/* SPDX-License-Identifier: MIT */
/*
 * ReclaimResource: what a holder had of another daemon
 *
 * A daemon that took over knows all that there was, so what it does not know is gone, and is not
 * made anew for a holder of that time: it may have been dropped in the last moment. A daemon that
 * started cold knows no holders either; to those who open anew it believes that they had what they
 * say, as far as nobody else has made another one of it meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "dispatch/client.h"
#include "dispatch/decode.h"
#include "dispatch/keeping.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"

static enum status answer(struct request *r, struct resource *res)
{
        Cached__V1__ResourceInfo info = CACHED__V1__RESOURCE_INFO__INIT;
        info.state = CACHED__V1__RESOURCE_STATE__RESOURCE_HELD;
        resource_describe(r, &info, res);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_RESOURCE;
        reply.resource = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

/* A lock that its holder does not know of is one that was given in the last moment. */
static enum status claim(struct request *r, struct resource *res, struct resource_holder *h)
{
        struct resources *t = &r->d->resources;
        const struct resource_object *o = res->payload;
        const struct resource_hold *owner = resource_lock_owner(t, res);
        bool owns = owner && owner->holder == h;
        bool locked = o->head || res->pooled ? owns : r->msg->reclaim_resource->locked;
        if (res->cause || resource_claim(t, res, h, locked) != RESOURCE_IS_HELD)
                return STATUS_NOT_FOUND;
        if (owns && !locked)
                (void)resource_unlock(t, res, h, r->who.now_ms);
        return answer(r, res);
}

enum status op_reclaim_resource(struct request *r)
{
        const Cached__V1__ReclaimResource *msg = r->msg->reclaim_resource;
        struct resource_holder *h;
        enum status status = holding_find(r, msg->holder, &h);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        struct resource *res = resources_find(&r->d->resources, msg->instance);
        if (res && resource_hold_find(&r->d->resources, res, h))
                return claim(r, res, h);
        return STATUS_NOT_FOUND;
}
