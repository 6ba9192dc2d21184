/* SPDX-License-Identifier: MIT */
/*
 * Ours: cached_memoize(), as a program would call it; the threads of a process share a handle.
 */
#include <cached.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "herd.h"

struct memoizer {
        struct herd_caller base;
        cached *c;
        cached_memo_options *o;
};

struct job {
        uint64_t (*compute)(void *data);
        void *data;
};

static void cached_caller_close(struct herd_caller *c)
{
        struct memoizer *m = (struct memoizer *)c;
        cached_memo_options_free(m->o);
        cached_free(m->c);
        free(m);
}

static int cached_caller_open(const char *path, struct herd_caller **ret)
{
        struct memoizer *m = calloc(1, sizeof(*m));
        cached_options *o = cached_options_new();
        int code = CACHED_ERR_NOMEM;
        if (m && o)
                m->o = cached_memo_options_new();
        if (m && m->o) {
                code = cached_options_set_socket(o, path);
                if (code == CACHED_OK)
                        code = cached_memo_options_set_version(m->o, "1");
                if (code == CACHED_OK)
                        code = cached_new(o, &m->c);
        }
        cached_options_free(o);
        if (code == CACHED_OK) {
                *ret = &m->base;
                return 0;
        }
        if (m)
                cached_caller_close(&m->base);
        return -EIO;
}

static int run(void *data, cached_result *out)
{
        const struct job *j = data;
        uint64_t value = j->compute(j->data);
        return cached_result_set(out, &value, sizeof(value));
}

static int cached_caller_call(struct herd_caller *c, const char *key,
                              uint64_t (*compute)(void *data), void *data, uint64_t *ret)
{
        struct memoizer *m = (struct memoizer *)c;
        struct job job = {compute, data};
        cached_key *k = cached_key_new();
        cached_result *r = NULL;
        size_t n = 0;
        const void *value;
        int code;
        cached_key_add_text(k, key, strnlen(key, HERD_KEY_SIZE));
        code = cached_memoize(m->c, "herd", k, run, &job, m->o, &r);
        value = cached_result_value(r, &n);
        if (code == CACHED_OK && n == sizeof(*ret))
                memcpy(ret, value, sizeof(*ret));
        else
                code = -EIO;
        if (cached_result_cache_code(r) != CACHED_OK)
                code = -EIO; /* no cache is no contest */
        cached_result_free(r);
        cached_key_free(k);
        return code;
}

static uint64_t nothing(void *data)
{
        (void)data;
        return 0;
}

static int cached_caller_warm(struct herd_caller *c)
{
        uint64_t value;
        return cached_caller_call(c, "warm", nothing, NULL, &value);
}

const struct herd_type herd_cached = {
        .name = "cached",
        .open = cached_caller_open,
        .warm = cached_caller_warm,
        .call = cached_caller_call,
        .close = cached_caller_close,
};
