/* SPDX-License-Identifier: MIT */
#ifndef POLICY_H
#define POLICY_H

/*
 * Policy: opening caches and deciding what holds for them. See policy.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "services/data.h"

/* What happened, beside the cache's new state. */
struct policy_result {
        uint32_t cache;
        bool created, changed; /* changed: the policy in force is another one now */
        struct store_cache_info info;
};

/* @policy NULL: leave it as it is. */
enum status policy_open(const struct caller *who, const struct cache_ref *ref,
                        const struct store_policy *policy, struct policy_result *ret,
                        struct verdict *v);

/* Which fields of a struct store_policy a change names. */
struct policy_fields {
        bool ttl, max_entries, max_bytes;
        bool stale_for, stale_if_error, refresh_ahead, expire_jitter;
};

struct policy_change {
        struct store_policy value; /* of the fields in `set` */
        struct policy_fields set;
        struct policy_fields reset; /* make these unlimited, or switch them off */
        bool unpin;                 /* then nothing else is set */
};

enum status policy_pin(const struct caller *who, const struct cache_ref *ref,
                       const struct policy_change *change, struct policy_result *ret,
                       struct verdict *v);

#endif
