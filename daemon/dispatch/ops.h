/* SPDX-License-Identifier: MIT */
#ifndef OPS_H
#define OPS_H

/* What several requests encode in the same way. */

#include "dispatch/dispatcher.h"

/* A CacheInfo with its parts; `info` refers into the rest. */
struct cache_message {
        Cached__V1__CacheInfo info;
        Cached__V1__Policy policy;
        char name[STORE_CACHE_NAME_MAX + 1];
};
#define CACHE_MESSAGE_MAX 320 /* more than a reply or event with one takes */

void cache_message_init(struct cache_message *m, uint32_t cache,
                        const struct store_cache_info *info);

/* A CacheStats with its parts. */
struct cache_stats_message {
        Cached__V1__CacheStats stats;
        Cached__V1__Policy policy;
        char name[STORE_CACHE_NAME_MAX + 1];
};

void cache_stats_message_init(struct cache_stats_message *m, const struct store_cache_info *info);
/* What is computed and waited for now, and what there is of resources; @cache 0: in all of the
 * realm. */
void cache_stats_message_gauge(struct cache_stats_message *m, const struct request *r,
                               uint32_t cache);

#endif
