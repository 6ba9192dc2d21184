/* SPDX-License-Identifier: MIT */
/*
 * ReclaimResource: what a holder had of another daemon
 *
 * A daemon that took over knows all that there was, so what it does not know is gone, and is not
 * made anew for a holder of that time: it may have been dropped in the last moment. A daemon that
 * started cold knows no holders either; to those who open anew it believes that they had what they
 * say, as far as nobody else has made another one of it meanwhile.
 *
 * What is a session's is claimed as all else. With the session's token it has to be that session's,
 * which is there then (scope_enter()): so nothing comes back in one that is over, or was before a
 * cold start.
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

/* ---- what is not known */

/* A segment's word has its owner; the lock of a local one was the lost daemon's to know. Whoever
 * was faster has it now: that cannot be told from who comes late. */
static void lock_anew(struct request *r, struct resource *res, struct resource_holder *h)
{
        const struct resource_ask ask = {.party = resourcing_party(r->client), .holder = h};
        struct resource_reply got = {0};
        if (r->msg->reclaim_resource->locked && res->kind == RESOURCE_KIND_LOCAL && ask.party)
                (void)resource_lock(&r->d->resources, res, &ask, r->who.now_ms, &got);
}

/* It is held; or the holder does not have it after all. */
static enum status answer_anew(struct request *r, struct resource *res, struct resource_holder *h)
{
        struct resources *t = &r->d->resources;
        enum status status = keeping_registered(r, res, resource_hold_find(t, res, h));
        if (status == STATUS_OK) {
                lock_anew(r, res, h);
                return answer(r, res);
        }
        (void)resource_release(t, res, h, res->n_holders == 1, r->who.now_ms);
        return status;
}

/* @o is consumed. */
static enum status registered(struct request *r, int k, struct resource *res,
                              struct resource_holder *h, struct resource_object *o)
{
        bool is_new = k == RESOURCE_IS_HELD && res->payload == o;
        if (is_new)
                o->number = res->number;
        else
                resource_object_unref(o);
        if (k == RESOURCE_IS_HELD)
                return answer_anew(r, res, h);
        return resource_refusal(r, k, NULL);
}

static enum status register_local(struct request *r, const struct resource_where *where,
                                  const struct resource_policy *policy, struct resource_holder *h)
{
        struct resource_object *o = resource_object_new(r->d, where);
        struct resource *res = NULL;
        if (!o)
                return verdict_errno(&r->verdict, -ENOMEM, "keeping the resource");
        const struct resource_anew what = {.kind = RESOURCE_KIND_LOCAL, .payload = o};
        int k = resources_register(&r->d->resources, where, h, policy, &what, r->who.now_ms, &res);
        return registered(r, k, res, h, o);
}

/* The same file is there by now: somebody else had it, too. */
static enum status join_segment(struct request *r, struct resource *there,
                                struct resource_holder *h, const struct resource_object *o)
{
        const struct resource_object *its = there->payload;
        if (there->kind != RESOURCE_KIND_SEGMENT || its->dev != o->dev || its->ino != o->ino)
                return STATUS_NOT_FOUND;
        int k = resource_join(&r->d->resources, there, h, r->who.now_ms);
        return k == RESOURCE_IS_HELD ? answer_anew(r, there, h) : resource_refusal(r, k, NULL);
}

static enum status register_segment(struct request *r, const struct resource_where *where,
                                    const struct resource_policy *policy, struct resource_holder *h)
{
        const Cached__V1__ReclaimResource *msg = r->msg->reclaim_resource;
        struct resources *t = &r->d->resources;
        struct resource_object *o = resource_object_new(r->d, where);
        struct resource *res = NULL;
        bool taken;
        if (!o)
                return verdict_errno(&r->verdict, -ENOMEM, "keeping the resource");
        enum status status = resource_take_segment(r, o, msg->size, msg->read_only);
        struct resource *there = resources_there(t, where, &taken);
        if (status != STATUS_OK || taken) {
                if (status == STATUS_OK)
                        status = there ? join_segment(r, there, h, o) : STATUS_NOT_FOUND;
                resource_object_unref(o);
                return status;
        }
        const struct resource_anew what = {.kind = RESOURCE_KIND_SEGMENT,
                                           .size = msg->size,
                                           .read_only = msg->read_only,
                                           .payload = o};
        int k = resources_register(t, where, h, policy, &what, r->who.now_ms, &res);
        if (k == RESOURCE_IS_HELD && o->head && holding_stand_in(r->d, res, r->who.now_ms) < 0)
                resource_drop(t, res, RESOURCE_LEFT_UNCLAIMED, NULL, r->who.now_ms);
        return registered(r, k, res, h, o);
}

static enum status register_anew(struct request *r, struct resource_holder *h)
{
        const Cached__V1__ReclaimResource *msg = r->msg->reclaim_resource;
        struct resource_where where = {0};
        struct resource_policy policy;
        struct key_ref key = {0};
        enum status status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = resource_open_cache(r, 0, msg->cache, msg->policy, &where, &policy);
        if (status != STATUS_OK)
                return status;
        where.key = key.data;
        where.n_key = key.n;
        return msg->descriptor ? register_segment(r, &where, &policy, h)
                               : register_local(r, &where, &policy, h);
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
        if (res && r->who.realm->hidden && !resourcing_is_in_scope(r, resource_cache_of(res->slot)))
                return STATUS_NOT_FOUND;
        if (res && resource_hold_find(&r->d->resources, res, h))
                return claim(r, res, h);
        /* Without a number it was made while no daemon was there. */
        if ((h->restored && msg->instance != 0) || (res && res->cause) || msg->cache[0] == '\0')
                return STATUS_NOT_FOUND;
        return register_anew(r, h);
}
