/* SPDX-License-Identifier: MIT */
/*
 * Public calls about caches and policies
 */

#include <assert.h>

#include "client/call.h"

/* Bit i of CACHED_POLICY_* is field i + 1 of the contract. */
#define POLICY_FIELDS 7
static_assert(CACHED_POLICY_TTL == 1u << (CACHED__V1__POLICY_FIELD__POLICY_TTL - 1) &&
                      CACHED_POLICY_EXPIRE_JITTER ==
                              1u << (CACHED__V1__POLICY_FIELD__POLICY_EXPIRE_JITTER - 1) &&
                      CACHED__V1__POLICY_FIELD__POLICY_EXPIRE_JITTER == POLICY_FIELDS,
              "the bits are in the order of the fields");

int cached_open_cache(cached *c, const char *cache, const cached_policy *p, cached_reply **ret)
{
        Cached__V1__OpenCache m = CACHED__V1__OPEN_CACHE__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_OPEN_CACHE);
        Cached__V1__Policy policy;

        if (!c || !cache)
                return call_refuse("cached_open_cache() needs a handle and a cache", ret);
        policy_to_message(p, &policy);
        if (p)
                m.policy = &policy;
        call.request.open_cache = &m;
        call.cache = cache;
        call.cache_name = &m.cache;
        call.opens = true;
        return call_run(c, &call, ret);
}

int cached_set_policy(cached *c, const char *cache, const cached_policy *p, uint32_t reset_fields,
                      int unpin, cached_reply **ret)
{
        Cached__V1__SetPolicy m = CACHED__V1__SET_POLICY__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET_POLICY);
        Cached__V1__PolicyField reset[POLICY_FIELDS];
        Cached__V1__Policy policy;

        if (!c || !cache)
                return call_refuse("cached_set_policy() needs a handle and a cache", ret);
        if (reset_fields >> POLICY_FIELDS)
                return call_refuse("cached_set_policy(): reset_fields has unknown bits", ret);
        if (c->options.has_session)
                return call_refuse_scoped("pinned policies", ret);
        policy_to_message(p, &policy);
        if (p)
                m.policy = &policy;
        m.unpin = unpin != 0;
        m.reset = reset;
        for (unsigned i = 0; i < POLICY_FIELDS; i++)
                if (reset_fields >> i & 1)
                        reset[m.n_reset++] = (Cached__V1__PolicyField)(i + 1);
        call.request.set_policy = &m;
        call.cache = cache;
        call.cache_name = &m.cache;
        call.opens = true;
        return call_run(c, &call, ret);
}
