/* SPDX-License-Identifier: MIT */
/*
 * Public calls that look and change nothing, and the reload of the configuration
 */

#include "client/call.h"

int cached_ping(cached *c, cached_reply **ret)
{
        Cached__V1__Ping m = CACHED__V1__PING__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_PING);

        if (!c)
                return call_refuse("cached_ping() needs a handle", ret);
        call.request.ping = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_list_caches(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret)
{
        Cached__V1__ListCaches m = CACHED__V1__LIST_CACHES__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_LIST_CACHES);

        if (!c)
                return call_refuse("cached_list_caches() needs a handle", ret);
        m.page_size = page_size;
        m.cursor = cursor;
        call.request.list_caches = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_list_entries(cached *c, const char *cache, uint32_t page_size, uint64_t cursor,
                        cached_reply **ret)
{
        Cached__V1__ListEntries m = CACHED__V1__LIST_ENTRIES__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_LIST_ENTRIES);

        if (!c || !cache)
                return call_refuse("cached_list_entries() needs a handle and a cache", ret);
        m.page_size = page_size;
        m.cursor = cursor;
        call.request.list_entries = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_explain(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        Cached__V1__Explain m = CACHED__V1__EXPLAIN__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_EXPLAIN);

        if (!c || !cache || (!key && n_key > 0))
                return call_refuse("cached_explain() needs a handle, a cache and a key", ret);
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        call.request.explain = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_stats(cached *c, const char *cache, cached_reply **ret)
{
        Cached__V1__Stats m = CACHED__V1__STATS__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_STATS);

        if (!c)
                return call_refuse("cached_stats() needs a handle", ret);
        call.request.stats = &m;
        if (cache) {
                call.cache = cache;
                call.cache_name = &m.cache;
        }
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_list_clients(cached *c, cached_reply **ret)
{
        Cached__V1__ListClients m = CACHED__V1__LIST_CLIENTS__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_LIST_CLIENTS);

        if (!c)
                return call_refuse("cached_list_clients() needs a handle", ret);
        call.request.list_clients = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_list_computations(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret)
{
        Cached__V1__ListLeases m = CACHED__V1__LIST_LEASES__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_LIST_LEASES);

        if (!c)
                return call_refuse("cached_list_computations() needs a handle", ret);
        m.page_size = page_size;
        m.cursor = cursor;
        call.request.list_leases = &m;
        call.idempotent = true;
        call.needs_leases = true;
        return call_run(c, &call, ret);
}

int cached_get_config(cached *c, cached_reply **ret)
{
        Cached__V1__GetConfig m = CACHED__V1__GET_CONFIG__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_GET_CONFIG);

        if (!c)
                return call_refuse("cached_get_config() needs a handle", ret);
        call.request.get_config = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_reload_config(cached *c, cached_reply **ret)
{
        Cached__V1__ReloadConfig m = CACHED__V1__RELOAD_CONFIG__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_RELOAD_CONFIG);

        if (!c)
                return call_refuse("cached_reload_config() needs a handle", ret);
        call.request.reload_config = &m;
        return call_run(c, &call, ret);
}
