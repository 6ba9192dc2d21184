/* SPDX-License-Identifier: MIT */
/*
 * OpenCache and SetPolicy: the reply is what holds now; other clients of the cache are told.
 */
#include <stdio.h>

#include "dispatch/decode.h"
#include "dispatch/events.h"
#include "dispatch/ops.h"
#include "dispatch/reply.h"
#include "realm/realm.h"

void cache_message_init(struct cache_message *m, uint32_t cache,
                        const struct store_cache_info *info)
{
        cached__v1__cache_info__init(&m->info);
        cached__v1__policy__init(&m->policy);
        snprintf(m->name, sizeof(m->name), "%.*s", (int)info->n_name, info->name);
        reply_policy(&m->policy, &info->policy);
        m->info.name = m->name;
        m->info.cache_id = cache;
        m->info.policy = &m->policy;
        m->info.pinned = info->pinned;
        m->info.opens = info->counters.opens;
        m->info.policy_changes = info->counters.policy_changes;
}

/* Of a session's cache nobody is told: who has the token shares it with whom they please. */
static bool tells_changes(const struct request *r)
{
        return !r->who.realm->hidden;
}

/* Room for the reply, and for the cache in the client's set, before anything is changed. */
static enum status prepare(struct request *r)
{
        if (tells_changes(r) && r->client->features & CACHED__V1__FEATURE__FEATURE_EVENTS) {
                uint32_t max_id = store_n_caches(r->who.realm->store) + 1;
                int k = client_reserve_caches(r->client, max_id);
                if (k < 0)
                        return verdict_errno(&r->verdict, k, "opening the cache");
        }
        return reply_reserve(r, CACHE_MESSAGE_MAX, 0);
}

static void answer(struct request *r, const struct policy_result *result)
{
        struct cache_message message;
        cache_message_init(&message, result->cache, &result->info);
        message.info.created = result->created;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_CACHE;
        reply.cache = &message.info;
        reply_queue(r, &reply, NULL, 0, 0);
        if (!result->changed || !tells_changes(r))
                return;
        events_policy_changed(r->d, r->client, result->cache);
        subscribe_policy_changed(r, result);
}

enum status op_open_cache(struct request *r)
{
        const Cached__V1__OpenCache *msg = r->msg->open_cache;
        struct cache_ref ref;
        struct store_policy policy;
        struct policy_fields set;
        enum status status = decode_cache_name(r, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_policy(r, msg->policy, &policy, &set);
        if (status == STATUS_OK)
                status = prepare(r);
        struct policy_result result;
        if (status == STATUS_OK)
                status = policy_open(&r->who, &ref, msg->policy ? &policy : NULL, &result,
                                     &r->verdict);
        if (status != STATUS_OK)
                return status;
        if (tells_changes(r))
                client_opened(r->client, result.cache);
        answer(r, &result);
        return STATUS_OK;
}

static bool are_both(const struct policy_fields *a, const struct policy_fields *b)
{
        return (a->ttl && b->ttl) || (a->max_entries && b->max_entries) ||
               (a->max_bytes && b->max_bytes) || (a->stale_for && b->stale_for) ||
               (a->stale_if_error && b->stale_if_error) || (a->refresh_ahead && b->refresh_ahead) ||
               (a->expire_jitter && b->expire_jitter);
}

static enum status decode_reset(struct request *r, const Cached__V1__SetPolicy *msg,
                                struct policy_change *change)
{
        for (size_t i = 0; i < msg->n_reset; i++) {
                switch (msg->reset[i]) {
                case CACHED__V1__POLICY_FIELD__POLICY_TTL:
                        change->reset.ttl = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_MAX_ENTRIES:
                        change->reset.max_entries = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_MAX_BYTES:
                        change->reset.max_bytes = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_STALE_FOR:
                        change->reset.stale_for = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_STALE_IF_ERROR:
                        change->reset.stale_if_error = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_REFRESH_AHEAD:
                        change->reset.refresh_ahead = true;
                        break;
                case CACHED__V1__POLICY_FIELD__POLICY_EXPIRE_JITTER:
                        change->reset.expire_jitter = true;
                        break;
                default:
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "reset names the policy field %d, which is unknown: use "
                                           "POLICY_TTL (1), POLICY_MAX_ENTRIES (2), "
                                           "POLICY_MAX_BYTES (3), POLICY_STALE_FOR (4), "
                                           "POLICY_STALE_IF_ERROR (5), POLICY_REFRESH_AHEAD (6) or "
                                           "POLICY_EXPIRE_JITTER (7)",
                                           (int)msg->reset[i]);
                }
        }
        const struct policy_fields *set = &change->set;
        if (are_both(set, &change->reset))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "a policy field is both set and in reset: leave one out");
        bool changes = are_both(set, set) || msg->n_reset > 0;
        if (change->unpin && changes)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "unpin takes no policy and no reset: unpin first, then open the "
                                   "cache with the policy that it shall have");
        return STATUS_OK;
}

enum status op_set_policy(struct request *r)
{
        const Cached__V1__SetPolicy *msg = r->msg->set_policy;
        struct cache_ref ref;
        struct policy_change change = {.unpin = msg->unpin};
        enum status status = decode_cache_name(r, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_policy(r, msg->policy, &change.value, &change.set);
        if (status == STATUS_OK)
                status = decode_reset(r, msg, &change);
        if (status == STATUS_OK)
                status = prepare(r);
        struct policy_result result;
        if (status == STATUS_OK)
                status = policy_pin(&r->who, &ref, &change, &result, &r->verdict);
        if (status != STATUS_OK)
                return status;
        answer(r, &result);
        return STATUS_OK;
}
