/* SPDX-License-Identifier: MIT */
/*
 * ListResources and DropResource: who has what, for people; and out with it.
 */
#include "config.h"
#include "dispatch/client.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"

#define LIST_STEPS     4096 /* resources that are looked at for a page */
#define HOLDERS_TOLD   64   /* of one resource; their number is told in any case */
#define FIELD_OVERHEAD 8    /* tag and length of a repeated message */

/* ---- the list */

static uint64_t since(uint64_t now_ms, uint64_t then_ms)
{
        return now_ms > then_ms ? now_ms - then_ms : 0;
}

static bool list_holders(struct request *r, const struct resource *res,
                         Cached__V1__ListedResource *to)
{
        struct bump *b = &r->d->bump;
        size_t n = res->n_holders < HOLDERS_TOLD ? res->n_holders : HOLDERS_TOLD;
        const struct resource_hold *owner = resource_lock_owner(&r->d->resources, res);
        Cached__V1__ResourceHolder *all = bump_alloc_array(b, n, sizeof(*all));
        to->holders = bump_alloc_array(b, n, sizeof(*to->holders));
        if (n > 0 && (!all || !to->holders))
                return false;
        for (struct list *l = res->holds.next; l != &res->holds && to->n_holders < n; l = l->next) {
                const struct resource_hold *h = LIST_ENTRY(l, struct resource_hold, of_resource);
                Cached__V1__ResourceHolder *one = &all[to->n_holders];
                cached__v1__resource_holder__init(one);
                one->pid = (uint32_t)h->holder->pid;
                one->uid = (uint32_t)h->holder->uid;
                one->name = (char *)holding_name(h->holder);
                one->since_ms = since(r->who.now_ms, h->since);
                one->holds = h->count;
                one->locked = h == owner;
                to->holders[to->n_holders++] = one;
        }
        return true;
}

/* With its parts, in memory of the request. NULL: there is none. */
static Cached__V1__ListedResource *listed(struct request *r, const struct resource *res)
{
        struct bump *b = &r->d->bump;
        const struct resource_slot *s = res->slot;
        struct {
                Cached__V1__ListedResource listed;
                Cached__V1__ResourceInfo info;
                char name[STORE_CACHE_NAME_MAX + 1];
        } *m = bump_alloc(b, sizeof(*m));
        if (!m)
                return NULL;
        cached__v1__listed_resource__init(&m->listed);
        cached__v1__resource_info__init(&m->info);
        resourcing_cache_name(r->client->realm, res, m->name, sizeof(m->name));
        resource_describe(r, &m->info, res);
        m->listed.cache = m->name;
        m->listed.key = (ProtobufCBinaryData){s->n_key, (uint8_t *)s->key};
        m->listed.info = &m->info;
        m->listed.age_ms = since(r->who.now_ms, res->since);
        m->listed.unused_ms = since(r->who.now_ms, res->used);
        m->listed.uid = (uint32_t)res->uid;
        m->listed.pid = (uint32_t)res->pid;
        m->listed.waiters = s->n_waiting + res->n_lock_waiting;
        return list_holders(r, res, &m->listed) ? &m->listed : NULL;
}

/* @cache 0: of all that the request is about. */
static bool is_meant(const struct request *r, const struct resource *res, uint32_t cache)
{
        uint32_t its = resource_cache_of(res->slot);
        return cache != 0 ? its == cache : resourcing_is_in_scope(r, its);
}

/* More resources, up to what fits. */
static bool fill_page(struct request *r, Cached__V1__ListResourcesResult *to, size_t max,
                      uint32_t cache, uint64_t after)
{
        size_t room = (size_t)r->d->cfg->limits.message_bytes - REPLY_SMALL;
        unsigned steps = LIST_STEPS;
        uint64_t at = after, behind = after;
        while (to->n_resources < max) {
                const struct resource *res =
                        resources_next(&r->d->resources, r->client->realm, at, &steps, &behind);
                if (!res) {
                        at = steps == 0 ? behind : 0;
                        break;
                }
                if (!is_meant(r, res, cache)) {
                        at = res->number;
                        if (steps == 0)
                                break;
                        steps--;
                        continue;
                }
                Cached__V1__ListedResource *m = listed(r, res);
                if (!m && to->n_resources == 0)
                        return false;
                size_t n = m ? protobuf_c_message_get_packed_size(&m->base) + FIELD_OVERHEAD
                             : room + 1;
                if (n > room)
                        break; /* what there was room for is a page, too */
                room -= n;
                at = res->number;
                to->resources[to->n_resources++] = m;
        }
        to->next = at;
        return true;
}

enum status op_list_resources(struct request *r)
{
        const Cached__V1__ListResources *msg = r->msg->list_resources;
        uint32_t max = decode_page_size(r, msg->page_size), cache = 0;
        Cached__V1__ListResourcesResult result = CACHED__V1__LIST_RESOURCES_RESULT__INIT;
        if (decode_length(msg->cache) > 0) {
                struct cache_ref ref;
                enum status status = decode_cache_name(r, msg->cache, &ref);
                if (status == STATUS_OK)
                        status = data_find_cache(&r->who, &ref, &cache, &r->verdict);
                if (status != STATUS_OK)
                        return status;
                cache = resourcing_cache(r, cache);
        }
        result.resources = bump_alloc_array(&r->d->bump, max, sizeof(*result.resources));
        if (!result.resources || !fill_page(r, &result, max, cache, msg->cursor))
                return verdict_set(
                        &r->verdict, STATUS_NO_MEMORY,
                        "the daemon has no memory for a page of %u: ask for a smaller one",
                        (unsigned)max);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_RESOURCES;
        reply.list_resources = &result;
        return reply_message(r, &reply);
}

/* ---- dropping */

enum status op_drop_resource(struct request *r)
{
        const Cached__V1__DropResource *msg = r->msg->drop_resource;
        struct resource_where where = {.space = r->client->realm};
        struct cache_ref ref;
        struct key_ref key = {0};
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = data_find_cache(&r->who, &ref, &where.cache, &r->verdict);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        size_t told = 0;
        where.cache = resourcing_cache(r, where.cache);
        where.key = key.data;
        where.n_key = key.n;
        Cached__V1__DropResult result = CACHED__V1__DROP_RESULT__INIT;
        result.resources = resources_dropped(&r->d->resources, &where, RESOURCE_LEFT_DROPPED,
                                             r->who.now_ms, &told);
        result.holders = told;
        if (result.resources == 0)
                return STATUS_NOT_FOUND;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_DROPPED;
        reply.dropped = &result;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
