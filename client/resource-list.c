/* SPDX-License-Identifier: MIT */
/*
 * Looking at the resources of the realm, and dropping them
 */

#include "client/resource.h"

int cached_resource_list(cached *c, const char *cache, uint32_t page_size, uint64_t cursor,
                         cached_reply **ret)
{
        Cached__V1__ListResources m = CACHED__V1__LIST_RESOURCES__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_LIST_RESOURCES);

        if (!c)
                return call_refuse("cached_resource_list() needs a handle", ret);
        if (cache)
                m.cache = (char *)(uintptr_t)cache;
        m.page_size = page_size;
        m.cursor = cursor;
        call.request.list_resources = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_resource_drop(cached *c, const char *cache, const void *key, size_t n_key,
                         cached_reply **ret)
{
        Cached__V1__DropResource m = CACHED__V1__DROP_RESOURCE__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_DROP_RESOURCE);

        if (!c || !cache || !key)
                return call_refuse("cached_resource_drop() needs a handle, a cache and a key", ret);
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        call.request.drop_resource = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return call_run(c, &call, ret);
}
