/* SPDX-License-Identifier: MIT */
/*
 * What can be asked of a pipeline
 *
 * As entries.c is for calls: each function fills in its message, pointing at the caller's memory,
 * and submits it. A wrong argument and a request that is not accepted are told by the code alone:
 * only what was accepted has a reply.
 */

#include "client/entries.h"
#include "client/many.h"
#include "client/pipeline.h"

static ProtobufCBinaryData bytes_of(const void *data, size_t n)
{
        /* protobuf-c packs what it is pointed at and does not write to it. */
        return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
}

/* As call_init(), where a function call would show in the figures. */
static inline struct call ask_init(Cached__V1__Request__OpCase op)
{
        struct call call = {.request = CACHED__V1__REQUEST__INIT};

        call.request.op_case = op;
        return call;
}

static inline bool is_usable(const cached_pipeline *p, const char *cache, const void *key,
                             size_t n_key)
{
        return p && cache && (key || n_key == 0);
}

/* Nothing is packed before the daemon has said what it takes. */
static struct packing pipeline_packing(const cached_pipeline *p)
{
        struct packing which = handle_packing(p->handle);

        if (p->conn && p->conn->max_lz4 > 0)
                which.max = p->conn->max_lz4;
        return which;
}

static int ask_get(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                   bool no_touch, uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_GET);
        Cached__V1__Get m = CACHED__V1__GET__INIT;

        if (!is_usable(p, cache, key, n_key))
                return CACHED_ERR_USAGE;
        m.key = bytes_of(key, n_key);
        m.no_touch = no_touch;
        call.request.get = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return pipeline_submit(p, &call, tag);
}

int cached_pipeline_get(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        uint64_t tag)
{
        return ask_get(p, cache, key, n_key, false, tag);
}

int cached_pipeline_peek(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                         uint64_t tag)
{
        return ask_get(p, cache, key, n_key, true, tag);
}

int cached_pipeline_delete(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                           uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_DELETE);
        Cached__V1__Delete m = CACHED__V1__DELETE__INIT;

        if (!is_usable(p, cache, key, n_key))
                return CACHED_ERR_USAGE;
        m.key = bytes_of(key, n_key);
        call.request.delete_ = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return pipeline_submit(p, &call, tag);
}

int cached_pipeline_touch(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                          uint64_t ttl_ms, int keep_ttl, uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_TOUCH);
        Cached__V1__Touch m = CACHED__V1__TOUCH__INIT;

        if (!is_usable(p, cache, key, n_key))
                return CACHED_ERR_USAGE;
        m.key = bytes_of(key, n_key);
        touch_ttl_to_message(ttl_ms, keep_ttl, &m);
        call.request.touch = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        return pipeline_submit(p, &call, tag);
}

int cached_pipeline_set(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        const void *value, size_t n_value, const cached_set_options *o,
                        uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_SET);
        struct iovec body[2] = {{(void *)(uintptr_t)value, n_value}, set_options_messages(o)};
        struct packed packed = {0};
        Cached__V1__Set m;
        int code;

        if (!is_usable(p, cache, key, n_key) || (!value && n_value > 0))
                return CACHED_ERR_USAGE;
        set_options_to_message(o, &m);
        if (set_options_are_plain(o) && packed_init(&packed, pipeline_packing(p), value, n_value)) {
                m.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
                m.raw_size = n_value;
                body[0] = (struct iovec){packed.bytes, packed.n};
        }
        m.key = bytes_of(key, n_key);
        call.request.set = &m;
        call.cache = cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.body = n_value > 0 ? body : body + 1;
        call.n_body_iov = (n_value > 0) + (body[1].iov_len > 0);
        call.n_body = body[0].iov_len + body[1].iov_len;
        call.needs_leases = set_needs_leases(&m);
        code = pipeline_submit(p, &call, tag);
        packed_done(&packed);
        return code;
}

int cached_pipeline_get_many(cached_pipeline *p, const char *cache, size_t n,
                             const void *const *keys, const size_t *n_keys, uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_GET_MANY);
        struct get_many many;
        struct failure f;
        int code;

        if (!p || !cache)
                return CACHED_ERR_USAGE;
        code = get_many_init(&many, n, keys, n_keys, &f);
        if (code != CACHED_OK)
                return code;
        call.request.get_many = &many.m;
        call.cache = cache;
        call.cache_id = &many.m.cache_id;
        call.cache_name = &many.m.cache;
        code = pipeline_submit(p, &call, tag);
        get_many_done(&many);
        return code;
}

int cached_pipeline_set_many(cached_pipeline *p, const char *cache, size_t n,
                             const void *const *keys, const size_t *n_keys,
                             const void *const *values, const size_t *n_values,
                             const cached_set_options *o, uint64_t tag)
{
        struct call call = ask_init(CACHED__V1__REQUEST__OP_SET_MANY);
        struct set_many many;
        struct failure f;
        int code;

        if (!p || !cache)
                return CACHED_ERR_USAGE;
        code = set_many_init(&many, n, keys, n_keys, values, n_values, o, pipeline_packing(p), &f);
        if (code != CACHED_OK)
                return code;
        call.request.set_many = &many.m;
        call.cache = cache;
        call.cache_id = &many.m.cache_id;
        call.cache_name = &many.m.cache;
        call.body = many.body;
        call.n_body_iov = many.n_body_iov;
        call.n_body = many.n_body;
        call.needs_leases = n > 0 && set_needs_leases(many.m.sets[0]);
        code = pipeline_submit(p, &call, tag);
        set_many_done(&many);
        return code;
}
