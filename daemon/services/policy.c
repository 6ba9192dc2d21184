/* SPDX-License-Identifier: MIT */
/*
 * Policy
 *
 * Each cache has two policies: what clients opened it with last (the newest open wins), and the one
 * in force. They are the same unless an admin pinned the latter: then opens are remembered and
 * counted but change nothing until it is unpinned: then what was opened last is in force.
 *
 * Telling other clients is not done here: who asked learns whether the policy in force changed.
 */
#include "services/policy.h"

#include "realm/realm.h"

static bool is_same(const struct store_policy *a, const struct store_policy *b)
{
        return a->ttl_ms == b->ttl_ms && a->max_entries == b->max_entries &&
               a->max_bytes == b->max_bytes && a->stale_for_ms == b->stale_for_ms &&
               a->stale_if_error_ms == b->stale_if_error_ms &&
               a->refresh_ahead == b->refresh_ahead && a->expire_jitter == b->expire_jitter;
}

/* Finds or creates the cache and what holds for it. */
static enum status begin(const struct caller *who, const struct cache_ref *ref,
                         struct policy_result *ret, struct verdict *v)
{
        *ret = (struct policy_result){0};
        enum status status = data_need_cache(who, ref, &ret->cache, &ret->created, v);
        if (status != STATUS_OK)
                return status;
        if (!data_cache_info(who, ret->cache, &ret->info))
                return verdict_set(v, STATUS_INTERNAL, "the cache has no description");
        return STATUS_OK;
}

/* Lets @opened and @policy hold and reads back what does. */
static void apply(const struct caller *who, const struct store_policy *opened,
                  const struct store_policy *policy, bool pinned, struct policy_result *r)
{
        struct store *s = who->realm->store;
        r->changed = !is_same(policy, &r->info.policy);
        if (r->changed || pinned != r->info.pinned || !is_same(opened, &r->info.opened))
                store_cache_set_policy(s, r->cache, opened, policy, pinned, who->now_ms);
        struct store_counters *counters = store_cache_counters(s, r->cache);
        if (counters && r->changed)
                counters->policy_changes++;
        (void)data_cache_info(who, r->cache, &r->info);
}

enum status policy_open(const struct caller *who, const struct cache_ref *ref,
                        const struct store_policy *policy, struct policy_result *ret,
                        struct verdict *v)
{
        enum status status = begin(who, ref, ret, v);
        if (status != STATUS_OK)
                return status;
        struct store_counters *counters = store_cache_counters(who->realm->store, ret->cache);
        if (counters)
                counters->opens++;
        const struct store_policy opened = policy ? *policy : ret->info.opened;
        const struct store_policy force = ret->info.pinned || !policy ? ret->info.policy : *policy;
        apply(who, &opened, &force, ret->info.pinned, ret);
        return STATUS_OK;
}

static void take_fields(struct store_policy *to, const struct store_policy *from,
                        const struct policy_fields *which)
{
        if (which->ttl)
                to->ttl_ms = from->ttl_ms;
        if (which->max_entries)
                to->max_entries = from->max_entries;
        if (which->max_bytes)
                to->max_bytes = from->max_bytes;
        if (which->stale_for)
                to->stale_for_ms = from->stale_for_ms;
        if (which->stale_if_error)
                to->stale_if_error_ms = from->stale_if_error_ms;
        if (which->refresh_ahead)
                to->refresh_ahead = from->refresh_ahead;
        if (which->expire_jitter)
                to->expire_jitter = from->expire_jitter;
}

enum status policy_pin(const struct caller *who, const struct cache_ref *ref,
                       const struct policy_change *change, struct policy_result *ret,
                       struct verdict *v)
{
        enum status status = begin(who, ref, ret, v);
        if (status != STATUS_OK)
                return status;
        static const struct store_policy no_policy = {.ttl_ms = STORE_NEVER,
                                                      .max_entries = STORE_UNLIMITED,
                                                      .max_bytes = STORE_UNLIMITED};
        const struct store_policy opened = ret->info.opened;
        struct store_policy force = ret->info.policy;
        if (change->unpin) {
                apply(who, &opened, &opened, false, ret);
                return STATUS_OK;
        }
        take_fields(&force, &change->value, &change->set);
        take_fields(&force, &no_policy, &change->reset);
        apply(who, &opened, &force, true, ret);
        return STATUS_OK;
}
