/* SPDX-License-Identifier: MIT */
/*
 * Public calls about entries
 *
 * Each fills in its message, pointing at the caller's memory, and runs it. Ranges that the daemon
 * checks (lengths of names and keys, times) are left to it, so that there is one place that knows
 * them.
 */

#include "client/entries.h"

#include <string.h>

#include "client/call.h"
#include "client/many.h"
#include "client/map-get.h"
#include "client/set-file.h"
#include "client/value.h"
#include "client/view.h"

static ProtobufCBinaryData bytes_of(const void *data, size_t n)
{
        /* protobuf-c packs what it is pointed at and does not write to it. */
        return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
}

static bool is_bytes(const void *data, size_t n)
{
        return data || n == 0;
}

int entries_get_sent(cached *c, const char *cache, const void *key, size_t n_key,
                     struct get_how how, cached_reply **ret)
{
        struct view_want w = {.cache = cache,
                              .key = key,
                              .n_key = n_key,
                              .no_touch = how.no_touch,
                              .only_large = true,
                              .with_messages = how.with_messages,
                              .patience_ms = how.patience_ms};

        if (how.only_mapped) {
                if (ret)
                        *ret = NULL;
                return CACHED_ERR_AGAIN;
        }
        return view_get(c, &w, how.is_own, ret);
}

/* The mapping first, before anything that a request would need. */
int entries_get(cached *c, const char *cache, const void *key, size_t n_key, struct get_how how,
                cached_reply **ret)
{
        return map_get(c, cache, key, n_key, how, ret);
}

static int get(cached *c, const char *cache, const void *key, size_t n_key, bool no_touch,
               cached_reply **ret)
{
        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("a get needs a handle, a cache and a key", ret);
        return map_get(c, cache, key, n_key,
                       (struct get_how){.no_touch = no_touch, .is_own = c->options.own_values},
                       ret);
}

int cached_get(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        return get(c, cache, key, n_key, false, ret);
}

int cached_get_mapped(cached *c, const char *cache, const void *key, size_t n_key,
                      cached_reply **ret)
{
        struct get_how how = {.only_mapped = true, .at_once = true};

        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("a get needs a handle, a cache and a key", ret);
        how.is_own = c->options.own_values;
        return map_get(c, cache, key, n_key, how, ret);
}

int cached_get_with_messages(cached *c, const char *cache, const void *key, size_t n_key,
                             cached_reply **ret)
{
        if (!c || !cache || !is_bytes(key, n_key))
                return call_refuse("a get needs a handle, a cache and a key", ret);
        return entries_get(c, cache, key, n_key,
                           (struct get_how){.with_messages = true, .is_own = c->options.own_values},
                           ret);
}

int cached_peek(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret)
{
        return get(c, cache, key, n_key, true, ret);
}

bool set_needs_leases(const Cached__V1__Set *m)
{
        return m->n_tags > 0 || m->messages_size > 0 || m->negative || m->vary ||
               m->variant_of.len > 0 || m->lease_id || m->share_only;
}

int entries_get_many(cached *c, const char *cache, Cached__V1__GetMany *m, cached_reply **ret)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_GET_MANY);

        call.request.get_many = m;
        call.cache = cache;
        call.cache_id = &m->cache_id;
        call.cache_name = &m->cache;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

int cached_get_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, cached_reply **ret)
{
        struct get_many many;
        struct failure f;
        int code;

        if (!c || !cache)
                return call_refuse("cached_get_many() needs a handle and a cache", ret);
        code = get_many_init(&many, n, keys, n_keys, &f);
        if (code != CACHED_OK)
                return call_fail(code, &f, ret);
        if (!map_get_many(c, cache, &many.m, ret, &code))
                code = entries_get_many(c, cache, &many.m, ret);
        get_many_done(&many);
        return code;
}

static int set_sent(cached *c, const char *cache, Cached__V1__Set *m, struct set_value *value,
                    uint32_t patience_ms, cached_reply **ret)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET);

        call.request.set = m;
        call.cache = cache;
        call.cache_id = &m->cache_id;
        call.cache_name = &m->cache;
        call.value = value;
        call.patience_ms = patience_ms;
        call.needs_leases = set_needs_leases(m);
        return call_run(c, &call, ret);
}

int entries_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value,
                size_t n_value, const cached_set_options *o, uint32_t patience_ms,
                cached_reply **ret)
{
        struct iovec behind = set_options_messages(o);
        struct packing which = handle_packing(c);
        struct set_value v;
        Cached__V1__Set m;
        int code;

        set_options_to_message(o, &m);
        m.key = bytes_of(key, n_key);
        if (set_file_try(c, cache, &m, value, n_value, behind, patience_ms, ret, &code))
                return code;
        if (which.max == 0)
                which.max = PACK_DEFAULT_MAX;
        if (!set_options_are_plain(o))
                which.min = 0;
        set_value_init(&v, which, value, n_value, behind);
        code = set_sent(c, cache, &m, &v, patience_ms, ret);
        if (code == CACHED_TOO_LARGE && v.was_packed) {
                /* Perhaps only for a packed one: the daemon was not asked yet, or its limit was
                 * lowered. */
                if (ret)
                        cached_reply_free(*ret);
                m.encoding = CACHED__V1__ENCODING__ENCODING_RAW;
                m.raw_size = 0;
                set_value_make_plain(&v);
                code = set_sent(c, cache, &m, &v, patience_ms, ret);
        }
        set_value_done(&v);
        return code;
}

int cached_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value,
               size_t n_value, const cached_set_options *o, cached_reply **ret)
{
        if (!c || !cache || !is_bytes(key, n_key) || !is_bytes(value, n_value))
                return call_refuse("cached_set() needs a handle, a cache, a key and a value", ret);
        return entries_set(c, cache, key, n_key, value, n_value, o, 0, ret);
}

int cached_set_negative(cached *c, const char *cache, const void *key, size_t n_key,
                        const char *reason, const cached_set_options *o, cached_reply **ret)
{
        struct cached_set_options negative = {0};

        if (!c || !cache || !is_bytes(key, n_key) || !reason)
                return call_refuse(
                        "cached_set_negative() needs a handle, a cache, a key and a reason", ret);
        if (o)
                negative = *o;
        negative.is_negative = true;
        return entries_set(c, cache, key, n_key, reason, strlen(reason), &negative, 0, ret);
}

int cached_set_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, const void *const *values, const size_t *n_values,
                    const cached_set_options *o, cached_reply **ret)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET_MANY);
        struct set_many many;
        struct failure f;
        int code;

        if (!c || !cache)
                return call_refuse("cached_set_many() needs a handle and a cache", ret);
        code = set_many_init(&many, n, keys, n_keys, values, n_values, o, handle_packing(c), &f);
        if (code != CACHED_OK)
                return call_fail(code, &f, ret);
        call.request.set_many = &many.m;
        call.cache = cache;
        call.cache_id = &many.m.cache_id;
        call.cache_name = &many.m.cache;
        call.body = many.body;
        call.n_body_iov = many.n_body_iov;
        call.n_body = many.n_body;
        call.needs_leases = n > 0 && set_needs_leases(many.m.sets[0]);
        code = call_run(c, &call, ret);
        set_many_done(&many);
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
        touch_ttl_to_message(ttl_ms, keep_ttl, &m);
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

/* An older daemon would clear the whole cache. */
static int clear_some(cached *c, const char *cache, Cached__V1__Clear *m, cached_reply **ret)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_CLEAR);

        call.request.clear = m;
        call.cache = cache;
        call.cache_id = &m->cache_id;
        call.cache_name = &m->cache;
        call.needs_leases = true;
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

int cached_clear_tag(cached *c, const char *cache, const char *tag, cached_reply **ret)
{
        Cached__V1__Clear m = CACHED__V1__CLEAR__INIT;

        if (!c || !cache || !tag)
                return call_refuse("cached_clear_tag() needs a handle, a cache and a tag", ret);
        m.which_case = CACHED__V1__CLEAR__WHICH_TAG;
        m.tag = (char *)(uintptr_t)tag;
        return clear_some(c, cache, &m, ret);
}

int cached_clear_prefix(cached *c, const char *cache, const void *prefix, size_t n_prefix,
                        cached_reply **ret)
{
        Cached__V1__Clear m = CACHED__V1__CLEAR__INIT;

        if (!c || !cache || !is_bytes(prefix, n_prefix))
                return call_refuse("cached_clear_prefix() needs a handle, a cache and a prefix",
                                   ret);
        m.which_case = CACHED__V1__CLEAR__WHICH_PREFIX;
        m.prefix = bytes_of(prefix, n_prefix);
        return clear_some(c, cache, &m, ret);
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
