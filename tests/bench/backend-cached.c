/* SPDX-License-Identifier: MIT */
/*
 * cached through libcached's pipeline: what a C program gets from the public header
 *
 * This is the back end that stands for us in every comparison. Each get makes a reply object that
 * owns the value, as it would in an application; the peers' clients only borrow it from their
 * buffers.
 */
#include <cached.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "text.h"

#define LIB_CACHE "bench"

struct lib {
        struct backend base;
        cached *handle;
        cached_pipeline *pipeline;
        cached_set_options *set_options;
        uint64_t set_ttl_ms; /* of set_options */
};

static int to_errno(int code)
{
        switch (code) {
        case CACHED_OK:
                return 0;
        case CACHED_ERR_NOMEM:
                return -ENOMEM;
        case CACHED_ERR_UNREACHABLE:
                return -ECONNREFUSED;
        case CACHED_ERR_TIMEOUT:
                return -ETIMEDOUT;
        case CACHED_ERR_DISCONNECTED:
                return -EPIPE;
        case CACHED_LIMIT:
                return -ENOBUFS;
        default:
                return -EPROTO;
        }
}

static void lib_close(struct backend *b)
{
        struct lib *l = (struct lib *)b;
        cached_pipeline_free(l->pipeline);
        cached_set_options_free(l->set_options);
        cached_free(l->handle);
        free(l);
}

static int lib_connect(struct lib *l, const char *path)
{
        cached_options *o = cached_options_new();
        if (!o)
                return -ENOMEM;
        int r = cached_options_set_socket(o, path);
        if (r == CACHED_OK)
                r = cached_options_set_client_name(o, "bench-load");
        if (r == CACHED_OK)
                r = cached_new(o, &l->handle);
        cached_options_free(o);
        if (r == CACHED_OK)
                r = cached_open_cache(l->handle, LIB_CACHE, NULL, NULL);
        if (r != CACHED_OK)
                return to_errno(r);
        l->set_options = cached_set_options_new();
        l->pipeline = cached_pipeline_new(l->handle);
        return l->set_options && l->pipeline ? 0 : -ENOMEM;
}

static int lib_open(const char *path, unsigned window, struct backend **ret)
{
        (void)window; /* the daemon's own limit is far above what the driver asks for */
        struct lib *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->base.type = &backend_cached;
        int e = lib_connect(l, path);
        if (e < 0) {
                lib_close(&l->base);
                return e;
        }
        *ret = &l->base;
        return 0;
}

static int lib_get(struct backend *b, const char *key, size_t n_key, uint64_t tag)
{
        struct lib *l = (struct lib *)b;
        return to_errno(cached_pipeline_get(l->pipeline, LIB_CACHE, key, n_key, tag));
}

static int lib_set(struct backend *b, const char *key, size_t n_key, const void *value,
                   size_t n_value, uint64_t ttl_ms, uint64_t tag)
{
        struct lib *l = (struct lib *)b;
        if (ttl_ms != l->set_ttl_ms) {
                int r = cached_set_options_set_ttl_ms(l->set_options,
                                                      ttl_ms ? ttl_ms : CACHED_NEVER);
                if (r != CACHED_OK)
                        return to_errno(r);
                l->set_ttl_ms = ttl_ms;
        }
        return to_errno(cached_pipeline_set(l->pipeline, LIB_CACHE, key, n_key, value, n_value,
                                            ttl_ms ? l->set_options : NULL, tag));
}

static enum outcome to_outcome(int code)
{
        switch (code) {
        case CACHED_OK:
                return OUTCOME_OK;
        case CACHED_NOT_FOUND:
                return OUTCOME_MISS;
        case CACHED_TOO_LARGE:
        case CACHED_NO_SPACE:
        case CACHED_NO_MEMORY:
                return OUTCOME_REFUSED;
        default:
                return OUTCOME_ERROR;
        }
}

static int lib_next(struct backend *b, struct reply *ret)
{
        struct lib *l = (struct lib *)b;
        cached_reply *r = NULL;
        int code = cached_pipeline_next(l->pipeline, &ret->tag, &r);
        ret->n_value = 0;
        ret->outcome = to_outcome(code);
        if (ret->outcome == OUTCOME_OK) {
                cached_reply_value(r, &ret->n_value);
        } else if (ret->outcome != OUTCOME_MISS) {
                const char *error = r ? cached_reply_error(r) : NULL;
                if (!error || !*error)
                        error = cached_strerror(code);
                text_copy(ret->error, sizeof(ret->error), error, strlen(error));
        }
        cached_reply_free(r);
        return code >= 64 ? to_errno(code) : 0;
}

const struct backend_type backend_cached = {
        .name = "cached",
        .help = "cached: libcached's pipeline",
        .open = lib_open,
        .close = lib_close,
        .get = lib_get,
        .set = lib_set,
        .next = lib_next,
};
