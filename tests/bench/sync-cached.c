/* SPDX-License-Identifier: MIT */
/*
 * cached, asked and waited for: through libcached, and as a bare round trip of the same frames
 *
 * The bare client packs one Get with protobuf-c and only changes its id and its key from then on;
 * of the reply it looks at nothing but that something came. It is what a call cannot be cheaper
 * than.
 */
#include <cached.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hello.h"
#include "proto/cached.pb-c.h"
#include "proto/frame.h"
#include "sync.h"

#define CACHE "bench"

/* --------------------------------------------------------------------------------------- handle */

struct lib {
        struct sync_client base;
        cached *handle;
        bool is_share, sleeps;
};

static void lib_close(struct sync_client *c)
{
        struct lib *l = (struct lib *)c;
        if (!l->is_share)
                cached_free(l->handle);
        free(l);
}

static int lib_connect(struct lib *l, const char *path)
{
        cached_options *o = cached_options_new();
        if (!o)
                return -ENOMEM;
        int code = cached_options_set_socket(o, path);
        if (code == CACHED_OK) /* what is measured here is asking */
                code = cached_options_set_mapped(o, 0);
        if (code == CACHED_OK)
                code = cached_options_set_spin(o, !l->sleeps);
        if (code == CACHED_OK)
                code = cached_new(o, &l->handle);
        cached_options_free(o);
        if (code == CACHED_OK)
                code = cached_open_cache(l->handle, CACHE, NULL, NULL);
        return code == CACHED_OK ? 0 : -ECONNREFUSED;
}

static int lib_open_with(const char *path, struct sync_client *first, bool sleeps,
                         struct sync_client **ret)
{
        struct lib *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->sleeps = sleeps;
        if (first) {
                l->handle = ((struct lib *)first)->handle;
                l->is_share = true;
        } else {
                int e = lib_connect(l, path);
                if (e < 0) {
                        lib_close(&l->base);
                        return e;
                }
        }
        *ret = &l->base;
        return 0;
}

static int lib_open(const char *path, struct sync_client *first, struct sync_client **ret)
{
        return lib_open_with(path, first, false, ret);
}

static int lib_open_sleeping(const char *path, struct sync_client *first, struct sync_client **ret)
{
        return lib_open_with(path, first, true, ret);
}

static int lib_open_own(const char *path, struct sync_client *first, struct sync_client **ret)
{
        (void)first;
        return lib_open(path, NULL, ret);
}

static int lib_get_one(struct lib *l, const char *key)
{
        size_t n_value;
        cached_reply *r;
        int code = cached_get(l->handle, CACHE, key, SYNC_KEY_SIZE, &r);
        int found = cached_reply_value(r, &n_value) != NULL;
        cached_reply_free(r);
        return code <= CACHED_NOT_FOUND ? found : -EPROTO;
}

static int lib_get_many(struct lib *l, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        const void *key[SYNC_BATCH_MAX] = {NULL};
        size_t n_key[SYNC_BATCH_MAX] = {0}, n_value;
        cached_reply *r;
        int found = 0;
        for (unsigned i = 0; i < n; i++) {
                key[i] = keys[i];
                n_key[i] = SYNC_KEY_SIZE;
        }
        int code = cached_get_many(l->handle, CACHE, n, key, n_key, &r);
        for (unsigned i = 0; code == CACHED_OK && i < n; i++)
                found += cached_reply_item_value(r, i, &n_value) != NULL;
        cached_reply_free(r);
        return code == CACHED_OK ? found : -EPROTO;
}

static int lib_get(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        struct lib *l = (struct lib *)c;
        return n == 1 ? lib_get_one(l, keys[0]) : lib_get_many(l, n, keys);
}

const struct sync_type sync_cached = {
        .name = "cached",
        .help = "cached: one handle for all threads",
        .open = lib_open,
        .close = lib_close,
        .get = lib_get,
};

const struct sync_type sync_cached_handles = {
        .name = "cached-handles",
        .help = "cached: a handle a thread",
        .open = lib_open_own,
        .close = lib_close,
        .get = lib_get,
};

const struct sync_type sync_cached_sleeps = {
        .name = "cached-sleeps",
        .help = "cached: one handle, which sleeps for its replies at once",
        .open = lib_open_sleeping,
        .close = lib_close,
        .get = lib_get,
};

/* ----------------------------------------------------------------------------------------- bare */

/* The id is written with five digits of a varint, so that each frame has the same length. */
#define ID_FIRST  (UINT64_C(1) << 28)
#define ID_DIGITS 5

struct bare {
        struct sync_client base;
        struct hello hello;
        uint64_t next_id;
        size_t n_frame, key_at;
        uint8_t frame[256];
        uint8_t in[65536];
};

static void bare_close(struct sync_client *c)
{
        struct bare *b = (struct bare *)c;
        hello_done(&b->hello);
        free(b);
}

static int bare_turn(struct bare *b, const uint8_t *frame, size_t n_frame, size_t *ret_n)
{
        if (send(b->hello.fd, frame, n_frame, MSG_NOSIGNAL) != (ssize_t)n_frame)
                return -EPIPE;
        ssize_t n = recv(b->hello.fd, b->in, sizeof(b->in), 0);
        *ret_n = n > 0 ? (size_t)n : 0;
        return n > FRAME_HEADER_SIZE ? 0 : -EPIPE;
}

/* The frame of a Get by the cache's id. */
static void bare_prepare(struct bare *b)
{
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        uint8_t key[SYNC_KEY_SIZE] = {0};
        get.cache_id = b->hello.cache_id;
        get.key = (ProtobufCBinaryData){sizeof(key), key};
        m.id = b->next_id = ID_FIRST;
        m.op_case = CACHED__V1__REQUEST__OP_GET;
        m.get = &get;
        size_t n = cached__v1__request__pack(&m, b->frame + FRAME_HEADER_SIZE);
        frame_header_write(b->frame, (uint32_t)n, 0);
        b->n_frame = FRAME_HEADER_SIZE + n;
        b->key_at = b->n_frame - SYNC_KEY_SIZE;
}

static int bare_open(const char *path, struct sync_client *first, struct sync_client **ret)
{
        (void)first;
        struct bare *b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        int e = hello_open(path, CACHE, false, &b->hello);
        if (e < 0) {
                free(b);
                return e;
        }
        bare_prepare(b);
        *ret = &b->base;
        return 0;
}

static int bare_get(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        struct bare *b = (struct bare *)c;
        uint64_t id = b->next_id++;
        size_t n_in = 0;
        if (n != 1 || id >> (7 * ID_DIGITS))
                return -EINVAL;
        for (unsigned i = 0; i < ID_DIGITS; i++) /* behind the tag of the id */
                b->frame[FRAME_HEADER_SIZE + 1 + i] =
                        (uint8_t)((id >> (7 * i) & 127) | (i + 1 < ID_DIGITS ? 128 : 0));
        memcpy(b->frame + b->key_at, keys[0], SYNC_KEY_SIZE);
        int e = bare_turn(b, b->frame, b->n_frame, &n_in);
        return e < 0 ? e : n_in > SYNC_KEY_SIZE + FRAME_HEADER_SIZE;
}

const struct sync_type sync_bare = {
        .name = "bare",
        .help = "cached: send and recv of a prepared frame",
        .open = bare_open,
        .close = bare_close,
        .get = bare_get,
};
