/* SPDX-License-Identifier: MIT */
/*
 * Public calls about entries
 *
 * Each fills in its message, pointing at the caller's memory, and runs it. Ranges that the daemon
 * checks (lengths of names and keys, times) are left to it, so that there is one place that knows
 * them.
 */

#include <stdlib.h>

#include "client/call.h"

static ProtobufCBinaryData bytes_of(const void *data, size_t n)
{
        /* protobuf-c packs what it is pointed at and does not write to it. */
        return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
}

static bool is_bytes(const void *data, size_t n)
{
        return data || n == 0;
}

static int get(cached *c, const char *cache, const void *key, size_t n_key, bool no_touch,
               cached_reply **ret)
{
        Cached__V1__Get m = CACHED__V1__GET__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_GET);

        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("a get needs a handle, a cache and a key", ret);
        m.key = bytes_of(key, n_key);
        m.no_touch = no_touch;
        call.request.get = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_get(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        return get(c, cache, key, n_key, false, ret);
}

int cached_peek(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        return get(c, cache, key, n_key, true, ret);
}

int cached_get_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, cached_reply **ret)
{
        Cached__V1__GetMany m = CACHED__V1__GET_MANY__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_GET_MANY);
        struct failure f;
        int code;

        if (!c || !cache || (n > 0 && (!keys || !n_keys)))
                return call_refuse("cached_get_many() needs a handle, a cache and keys", ret);
        for (size_t i = 0; i < n; i++)
                if (!is_bytes(keys[i], n_keys[i]))
                        return call_refuse("cached_get_many(): a key is NULL", ret);
        if (n > 0) {
                m.keys = calloc(n, sizeof(*m.keys));
                if (!m.keys)
                        return call_fail(failure_nomem(&f), &f, ret);
        }
        for (size_t i = 0; i < n; i++)
                m.keys[i] = bytes_of(keys[i], n_keys[i]);
        m.n_keys = n;
        call.request.get_many = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.idempotent = true;
        code = call_run(c, &call, ret);
        free(m.keys);
        return code;
}

int cached_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value,
               size_t n_value, const cached_set_options *o, cached_reply **ret)
{
        Cached__V1__Set m;
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET);
        struct iovec body = {(void *)(uintptr_t)value, n_value};

        if (!c || !cache || !is_bytes(key, n_key) || !is_bytes(value, n_value))
                return call_refuse("cached_set() needs a handle, a cache, a key and a value", ret);
        set_options_to_message(o, &m);
        m.key = bytes_of(key, n_key);
        call.request.set = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.body = &body;
        call.n_body_iov = n_value > 0 ? 1 : 0;
        call.n_body = n_value;
        return call_run(c, &call, ret);
}

/* The four arrays of a SetMany, in one allocation. */
struct many {
        Cached__V1__Set *set;
        Cached__V1__Set **pointer;
        uint64_t *size;
        struct iovec *body;
};

static void *many_new(size_t n, struct many *ret)
{
        size_t each =
                sizeof(*ret->set) + sizeof(*ret->pointer) + sizeof(*ret->size) + sizeof(*ret->body);
        void *memory = calloc(n ? n : 1, each);

        if (!memory)
                return NULL;
        ret->set = memory;
        ret->pointer = (void *)(ret->set + n);
        ret->size = (void *)(ret->pointer + n);
        ret->body = (void *)(ret->size + n);
        return memory;
}

static bool are_bytes(size_t n, const void *const *data, const size_t *n_data)
{
        if (n > 0 && (!data || !n_data))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_bytes(data[i], n_data[i]))
                        return false;
        return true;
}

int cached_set_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, const void *const *values, const size_t *n_values,
                    const cached_set_options *o, cached_reply **ret)
{
        Cached__V1__SetMany m = CACHED__V1__SET_MANY__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET_MANY);
        struct many many;
        struct failure f;
        void *memory;
        int code;

        if (!c || !cache || !are_bytes(n, keys, n_keys) || !are_bytes(n, values, n_values))
                return call_refuse("cached_set_many() needs a handle, a cache, keys and values",
                                   ret);
        memory = many_new(n, &many);
        if (!memory)
                return call_fail(failure_nomem(&f), &f, ret);
        for (size_t i = 0; i < n; i++) {
                set_options_to_message(o, &many.set[i]);
                many.set[i].key = bytes_of(keys[i], n_keys[i]);
                many.pointer[i] = &many.set[i];
                many.size[i] = n_values[i];
                if (n_values[i] > 0)
                        many.body[call.n_body_iov++] =
                                (struct iovec){(void *)(uintptr_t)values[i], n_values[i]};
                /* A sum that saturates is refused for its size. */
                if (__builtin_add_overflow(call.n_body, (uint64_t)n_values[i], &call.n_body))
                        call.n_body = UINT64_MAX;
        }
        m.n_sets = m.n_sizes = n;
        m.sets = many.pointer;
        m.sizes = many.size;
        call.request.set_many = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.body = many.body;
        code = call_run(c, &call, ret);
        free(memory);
        return code;
}

int cached_touch(cached *c, const char *cache, const void *key, size_t n_key, uint64_t ttl_ms,
                 int keep_ttl, cached_reply **ret)
{
        Cached__V1__Touch m = CACHED__V1__TOUCH__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_TOUCH);

        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("cached_touch() needs a handle, a cache and a key", ret);
        m.key = bytes_of(key, n_key);
        if (!keep_ttl && ttl_ms == CACHED_NEVER) {
                m.ttl_case = CACHED__V1__TOUCH__TTL_NEVER_EXPIRES;
                m.never_expires = 1;
        } else if (!keep_ttl) {
                m.ttl_case = CACHED__V1__TOUCH__TTL_TTL_MS;
                m.ttl_ms = ttl_ms;
        }
        call.request.touch = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return call_run(c, &call, ret);
}

int cached_delete(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        Cached__V1__Delete m = CACHED__V1__DELETE__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_DELETE);

        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("cached_delete() needs a handle, a cache and a key", ret);
        m.key = bytes_of(key, n_key);
        call.request.delete_ = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return call_run(c, &call, ret);
}

int cached_clear(cached *c, const char *cache, cached_reply **ret)
{
        Cached__V1__Clear m = CACHED__V1__CLEAR__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_CLEAR);

        if (!c || !cache)
                return call_refuse("cached_clear() needs a handle and a cache", ret);
        call.request.clear = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return call_run(c, &call, ret);
}

int cached_clear_all(cached *c, cached_reply **ret)
{
        Cached__V1__Clear m = CACHED__V1__CLEAR__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_CLEAR);

        if (!c)
                return call_refuse("cached_clear_all() needs a handle", ret);
        m.all = 1;
        call.request.clear = &m;
        return call_run(c, &call, ret);
}
