/* SPDX-License-Identifier: MIT */
/*
 * Large values of cached, by every way that the library has
 *
 * Views of which each is to be the first are looked up by a handle of their own, which is connected
 * before the clock starts.
 */
#include <cached-large.h>
#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "large.h"
#include "stamp.h"

#define KEY   LARGE_KEY, sizeof(LARGE_KEY) - 1
#define SMALL "x", 1

/* Buffers are prepared so many at a time: as one value follows the other, with the peers. */
#define BATCH_MAX   16u
#define BATCH_BYTES (UINT64_C(64) << 20)

#define LONG_MIN_BYTES (UINT64_C(4) << 20)
#define LONG_MAX_BYTES (UINT64_C(128) << 20)

struct lib {
        struct large_client base;
        cached *handle;
        cached_options *options;
        unsigned n_prepared;
        uint64_t sum; /* so that reads are not in vain */
};

static int open_handle(cached_options *o, cached **ret)
{
        int code = cached_new(o, ret);
        if (code == CACHED_OK)
                code = cached_peek(*ret, LARGE_CACHE, SMALL, NULL);
        if (code <= CACHED_NOT_FOUND)
                return 0;
        cached_free(*ret);
        *ret = NULL;
        return -ECONNREFUSED;
}

static void lib_close(struct large_client *c)
{
        struct lib *l = (struct lib *)c;
        cached_free(l->handle);
        cached_options_free(l->options);
        free(l);
}

static int lib_open(const char *path, struct large_client **ret)
{
        struct lib *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->options = cached_options_new();
        int e = l->options ? 0 : -ENOMEM;
        if (e == 0 && (cached_options_set_socket(l->options, path) != CACHED_OK ||
                       cached_options_set_timeout_ms(l->options, 60000) != CACHED_OK))
                e = -EINVAL;
        if (e == 0)
                e = open_handle(l->options, &l->handle);
        if (e < 0) {
                lib_close(&l->base);
                return e;
        }
        *ret = &l->base;
        return 0;
}

/* ---------------------------------------------------------------------------------------- storing
 */

static int run_set(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        uint64_t start = stamp_clock_ns();
        int code = cached_set(l->handle, LARGE_CACHE, KEY, c->value, c->n_value, NULL, NULL);
        *ret_ns = stamp_clock_ns() - start;
        return code == CACHED_OK ? 0 : -EPROTO;
}

/* A memory file of its own for each value: what a program without a buffer would do by hand. */
static int make_file(const struct large_client *c)
{
        int fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        for (size_t at = 0; at < c->n_value;) {
                ssize_t n = write(fd, c->value + at, c->n_value - at);
                if (n <= 0) {
                        close(fd);
                        return -EIO;
                }
                at += (size_t)n;
        }
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
                return fd;
        close(fd);
        return -EPERM;
}

static int run_set_file(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        uint64_t start = stamp_clock_ns();
        int fd = make_file(c);
        if (fd < 0)
                return fd;
        int code = cached_set_fd(l->handle, LARGE_CACHE, KEY, fd, 0, c->n_value, NULL, NULL);
        close(fd);
        *ret_ns = stamp_clock_ns() - start;
        return code == CACHED_OK ? 0 : -EPROTO;
}

static int prepare(struct lib *l)
{
        uint64_t n = l->base.n_value, most = BATCH_BYTES / n;
        if (l->n_prepared == 0) {
                l->n_prepared = most < 1 ? 1 : most < BATCH_MAX ? (unsigned)most : BATCH_MAX;
                if (cached_buffers_prepare(l->handle, n, l->n_prepared) != CACHED_OK)
                        return -ENOMEM;
        }
        l->n_prepared--;
        return 0;
}

static int set_buffer(struct lib *l, bool fill, bool prepared, uint64_t *ret_ns)
{
        struct large_client *c = &l->base;
        if (prepared && prepare(l) < 0)
                return -ENOMEM;
        uint64_t start = stamp_clock_ns();
        cached_buffer *b;
        if (cached_buffer_new(l->handle, c->n_value, &b) != CACHED_OK)
                return -ENOMEM;
        if (fill)
                memcpy(cached_buffer_data(b), c->value, c->n_value);
        int code = cached_set_buffer(l->handle, LARGE_CACHE, KEY, b, c->n_value, NULL, NULL);
        *ret_ns = stamp_clock_ns() - start;
        cached_buffer_free(b);
        return code == CACHED_OK ? 0 : -EPROTO;
}

static int run_set_buffer(struct large_client *c, uint64_t *ret_ns)
{
        return set_buffer((struct lib *)c, false, true, ret_ns);
}

static int run_fill_buffer(struct large_client *c, uint64_t *ret_ns)
{
        return set_buffer((struct lib *)c, true, true, ret_ns);
}

static int run_fill_fresh(struct large_client *c, uint64_t *ret_ns)
{
        return set_buffer((struct lib *)c, true, false, ret_ns);
}

/* Long ones in a buffer that was prepared: so it is where reading fast matters. */
static int lib_fill(struct large_client *c)
{
        struct lib *l = (struct lib *)c;
        uint64_t ns;
        int code = cached_set(l->handle, LARGE_CACHE, SMALL, "x", 1, NULL, NULL);
        if (code != CACHED_OK)
                return -EPROTO;
        if (c->n_value < LONG_MIN_BYTES || c->n_value > LONG_MAX_BYTES)
                return run_set(c, &ns);
        return set_buffer(l, true, true, &ns);
}

/* ---------------------------------------------------------------------------------------- reading
 */

static int run_get(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        cached_reply *r;
        size_t n = 0;
        uint64_t start = stamp_clock_ns();
        int code = cached_get(l->handle, LARGE_CACHE, KEY, &r);
        const uint8_t *value = cached_reply_value(r, &n);
        bool same = value && n == c->n_value && value[n - 1] == c->value[n - 1];
        cached_reply_free(r);
        *ret_ns = stamp_clock_ns() - start;
        return code == CACHED_OK && same ? 0 : -EPROTO;
}

static int look(struct lib *l, cached *handle, int mode, bool read_pages, uint64_t *ret_ns)
{
        const struct large_client *c = &l->base;
        cached_view *v;
        uint64_t start = stamp_clock_ns();
        if (cached_get_view(handle, LARGE_CACHE, KEY, mode, &v, NULL) != CACHED_OK)
                return -EPROTO;
        if (read_pages)
                l->sum += large_read_pages(cached_view_data(v), cached_view_size(v));
        bool same = cached_view_size(v) == c->n_value;
        cached_view_release(v);
        *ret_ns = stamp_clock_ns() - start;
        return same ? 0 : -EPROTO;
}

static int run_view(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        return look(l, l->handle, CACHED_VIEW_READ, false, ret_ns);
}

static int run_view_private(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        return look(l, l->handle, CACHED_VIEW_PRIVATE, false, ret_ns);
}

static int look_first(struct lib *l, bool read_pages, uint64_t *ret_ns)
{
        cached *handle;
        int e = open_handle(l->options, &handle);
        if (e == 0) {
                e = look(l, handle, CACHED_VIEW_READ, read_pages, ret_ns);
                cached_free(handle);
        }
        return e;
}

static int run_view_first(struct large_client *c, uint64_t *ret_ns)
{
        return look_first((struct lib *)c, false, ret_ns);
}

static int run_view_pages(struct large_client *c, uint64_t *ret_ns)
{
        return look_first((struct lib *)c, true, ret_ns);
}

/* The second look at the same value; the handle has looked at others before. */
static int run_view_second(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        cached *handle;
        uint64_t first_ns;
        int e = open_handle(l->options, &handle);
        if (e < 0)
                return e;
        for (int i = 0; i < 3; i++) {
                cached_view *small;
                if (cached_get_view(handle, LARGE_CACHE, SMALL, CACHED_VIEW_READ, &small, NULL) ==
                    CACHED_OK)
                        cached_view_release(small);
        }
        e = look(l, handle, CACHED_VIEW_READ, false, &first_ns);
        if (e == 0)
                e = look(l, handle, CACHED_VIEW_READ, false, ret_ns);
        cached_free(handle);
        return e;
}

/* For the sum of what many readers take: all pages read, and then it stays until the end of input.
 */
static int run_hold(struct large_client *c, uint64_t *ret_ns)
{
        struct lib *l = (struct lib *)c;
        cached_view *v;
        char byte;
        uint64_t start = stamp_clock_ns();
        if (cached_get_view(l->handle, LARGE_CACHE, KEY, CACHED_VIEW_PRIVATE, &v, NULL) !=
            CACHED_OK)
                return -EPROTO;
        l->sum += large_read_pages(cached_view_data(v), cached_view_size(v));
        *ret_ns = stamp_clock_ns() - start;
        int e = write(STDOUT_FILENO, "\n", 1) == 1 ? 0 : -EIO;
        while (e == 0 && read(STDIN_FILENO, &byte, 1) > 0)
                ;
        cached_view_release(v);
        return e;
}

static const struct large_way ways[] = {
        {"set", "cached_set()", run_set},
        {"set-file", "a new memory file, written and handed over", run_set_file},
        {"set-buffer", "cached_set_buffer() of a prepared buffer", run_set_buffer},
        {"fill-buffer", "the same, with a copy into it", run_fill_buffer},
        {"fill-fresh", "a buffer that was not prepared, with a copy into it", run_fill_fresh},
        {"get", "cached_get()", run_get},
        {"view", "cached_get_view(), re-validated", run_view},
        {"view-private", "the same, writable", run_view_private},
        {"view-first", "the first cached_get_view() of a handle", run_view_first},
        {"view-second", "the second of the same value", run_view_second},
        {"view-pages", "the first, and a byte of each page read", run_view_pages},
        {"hold", "a view, read, and a line of output; it stays until the end of input", run_hold},
        {NULL, NULL, NULL},
};

const struct large_type large_cached = {
        .name = "cached",
        .help = "libcached, mapped",
        .open = lib_open,
        .close = lib_close,
        .fill = lib_fill,
        .ways = ways,
};
