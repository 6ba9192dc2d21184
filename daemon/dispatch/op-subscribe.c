/* SPDX-License-Identifier: MIT */
/*
 * Subscribe: the kinds of events that this connection is sent from now on.
 */
#include <inttypes.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "dispatch/schedule.h"
#include "dispatch/subscribe.h"
#include "server.h"
#include "services/limits.h"

static enum status decode_kinds(struct request *r, uint32_t *ret)
{
        const Cached__V1__Subscribe *msg = r->msg->subscribe;
        uint32_t kinds = 0;
        for (size_t i = 0; i < msg->n_kinds; i++) {
                int kind = (int)msg->kinds[i];
                if (kind < (int)CACHED__V1__EVENT_KIND__EVENT_STORED ||
                    kind > (int)CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "kind %d of events is unknown: use EVENT_STORED (1) to "
                                           "EVENT_RESOURCE_LEFT (9)",
                                           kind);
                kinds |= SUBSCRIBE_BIT(kind);
        }
        *ret = kinds;
        return STATUS_OK;
}

static enum status decode(struct request *r, uint32_t *ret_kinds, struct cache_ref *ret_cache)
{
        const Cached__V1__Subscribe *msg = r->msg->subscribe;
        *ret_cache = (struct cache_ref){.name = ""};
        enum status status = decode_kinds(r, ret_kinds);
        if (status == STATUS_OK && decode_length(msg->cache) > 0)
                status = decode_cache_name(r, msg->cache, ret_cache);
        if (status == STATUS_OK && *ret_kinds == 0 && ret_cache->n_name > 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request names a cache and no kinds of events: name kinds, "
                                   "or leave the cache out to end the subscription");
        return status;
}

static enum status begin(struct request *r, uint32_t kinds, const struct cache_ref *cache)
{
        if (!(r->client->features & CACHED__V1__FEATURE__FEATURE_EVENTS))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "FEATURE_EVENTS was not agreed in Hello: set it there to be "
                                   "sent events");
        schedules_run(r->d, r->who.now_ms); /* what was due before is not for who comes now */
        int k = subscribe_begin(r->client, kinds, cache);
        if (k == SUBSCRIBE_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "uid %u has subscribed on as many connections as "
                                   "limits.subscribers_per_uid allows, %" PRIu64 ": %s",
                                   (unsigned)r->who.uid, r->d->cfg->limits.subscribers_per_uid,
                                   limit_advice.subscribers_per_uid);
        return k < 0 ? verdict_errno(&r->verdict, k, "subscribing") : STATUS_OK;
}

enum status op_subscribe(struct request *r)
{
        struct cache_ref cache;
        uint32_t kinds;
        enum status status = decode(r, &kinds, &cache);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK && kinds != 0)
                status = begin(r, kinds, &cache);
        else if (status == STATUS_OK)
                subscribe_end(r->client);
        if (status != STATUS_OK)
                return status;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
