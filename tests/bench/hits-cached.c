/* SPDX-License-Identifier: MIT */
/*
 * Look-ups through libcached, as an application makes them
 *
 * A first byte of each value is read, so that no copy can be left out.
 */
#include <cached.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hits.h"
#include "stamp.h"

#define MANY 100

struct lib {
        struct hits base;
        cached *handle;
        volatile uint64_t sum;
};

static void lib_close(struct hits *h)
{
        struct lib *l = (struct lib *)h;
        cached_free(l->handle);
        free(l);
}

static int connect_to(struct lib *l, const char *path, int mapped)
{
        cached_options *o = cached_options_new();
        if (!o)
                return -ENOMEM;
        int code = cached_options_set_socket(o, path);
        if (code == CACHED_OK)
                code = cached_options_set_mapped(o, mapped);
        if (code == CACHED_OK)
                code = cached_new(o, &l->handle);
        cached_options_free(o);
        if (code == CACHED_OK)
                code = cached_open_cache(l->handle, HITS_CACHE, NULL, NULL);
        return code == CACHED_OK ? 0 : -ECONNREFUSED;
}

static int lib_open(const char *path, int mapped, const struct hits_type *type, struct hits **ret)
{
        struct lib *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->base.type = type;
        int e = connect_to(l, path, mapped);
        if (e < 0) {
                lib_close(&l->base);
                return e;
        }
        *ret = &l->base;
        return 0;
}

static int lib_run(struct hits *h, unsigned n, char (*keys)[HITS_KEY], uint64_t *stamps)
{
        struct lib *l = (struct lib *)h;
        int found = 0;
        uint64_t sum = 0;
        for (unsigned i = 0; i < n; i++) {
                cached_reply *r = NULL;
                size_t n_value;
                int code = cached_get(l->handle, HITS_CACHE, keys[i], HITS_KEY, &r);
                const uint8_t *value = cached_reply_value(r, &n_value);
                if (value) {
                        sum += value[0];
                        found++;
                }
                cached_reply_free(r);
                if (code > CACHED_NOT_FOUND)
                        return -EPROTO;
                if (stamps)
                        stamps[i] = stamp_now();
        }
        l->sum += sum;
        return found;
}

/* The stamps of one request's keys lie evenly between its begin and its end. */
static void spread(uint64_t from, uint64_t to, unsigned n, uint64_t *stamps)
{
        for (unsigned i = 0; i < n; i++)
                stamps[i] = from + (to - from) * (i + 1) / n;
}

static int many_run(struct hits *h, unsigned n, char (*keys)[HITS_KEY], uint64_t *stamps)
{
        struct lib *l = (struct lib *)h;
        int found = 0;
        for (unsigned at = 0; at < n; at += MANY) {
                const void *key[MANY] = {NULL};
                size_t n_key[MANY], n_value, k = n - at < MANY ? n - at : MANY;
                uint64_t before = stamps ? stamp_now() : 0, sum = 0;
                cached_reply *r = NULL;
                for (unsigned i = 0; i < k; i++) {
                        key[i] = keys[at + i];
                        n_key[i] = HITS_KEY;
                }
                int code = cached_get_many(l->handle, HITS_CACHE, k, key, n_key, &r);
                for (unsigned i = 0; code == CACHED_OK && i < k; i++) {
                        const uint8_t *value = cached_reply_item_value(r, i, &n_value);
                        sum += value ? value[0] : 0;
                        found += value != NULL;
                }
                cached_reply_free(r);
                if (code != CACHED_OK)
                        return -EPROTO;
                if (stamps)
                        spread(before, stamp_now(), (unsigned)k, stamps + at);
                l->sum += sum;
        }
        return found;
}

static int mapped_open(const char *path, struct hits **ret)
{
        return lib_open(path, 1, &hits_cached, ret);
}

static int many_open(const char *path, struct hits **ret)
{
        return lib_open(path, 1, &hits_many, ret);
}

static int socket_open(const char *path, struct hits **ret)
{
        return lib_open(path, 0, &hits_socket, ret);
}

const struct hits_type hits_cached = {
        .name = "cached",
        .help = "cached_get(), mapped",
        .open = mapped_open,
        .close = lib_close,
        .run = lib_run,
};

const struct hits_type hits_many = {
        .name = "many",
        .help = "cached_get_many() of 100 keys, mapped",
        .open = many_open,
        .close = lib_close,
        .run = many_run,
};

const struct hits_type hits_socket = {
        .name = "socket",
        .help = "cached_get(), not mapped: a round trip each",
        .open = socket_open,
        .close = lib_close,
        .run = lib_run,
};

const struct hits_type *hits_find(const char *name)
{
        static const struct hits_type *const types[HITS_N_TYPES] = HITS_TYPES;
        for (unsigned i = 0; i < HITS_N_TYPES; i++)
                if (strcmp(name, types[i]->name) == 0)
                        return types[i];
        return NULL;
}
