/* SPDX-License-Identifier: MIT */
#ifndef LOOP_HARNESS_H
#define LOOP_HARNESS_H

/*
 * What the tests of pipelines that wait for nothing share: a caller's loop of poll() on the one
 * descriptor. Every poll() waits for what must come, so a wake-up that is missing shows as a
 * failure. Included by a test's one source file.
 */

#include "pipeline-harness.h"

#include <fcntl.h>

static inline cached_pipeline *pipeline_new(cached *c)
{
        cached_pipeline *p = NULL;

        assert_int_equal(cached_pipeline_new_nonblocking(c, &p), CACHED_OK);
        assert_true(cached_pipeline_fd(p) >= 0);
        assert_int_equal(fcntl(cached_pipeline_fd(p), F_GETFD), FD_CLOEXEC);
        return p;
}

static inline bool is_readable(const cached_pipeline *p, int timeout_ms)
{
        struct pollfd pfd = {.fd = cached_pipeline_fd(p), .events = POLLIN};
        int n;

        do
                n = poll(&pfd, 1, timeout_ms);
        while (n < 0 && errno == EINTR);
        return n == 1;
}

/* One turn of a caller's loop. */
static inline int turn(cached_pipeline *p)
{
        assert_true(is_readable(p, PATIENCE_MS));
        return cached_pipeline_dispatch(p);
}

/* The next result, after as many turns as it takes. */
static inline int next(cached_pipeline *p, uint64_t *ret_tag, cached_reply **ret)
{
        int code;

        while ((code = cached_pipeline_next(p, ret_tag, ret)) == CACHED_ERR_AGAIN) {
                if (ret)
                        assert_null(*ret);
                turn(p);
        }
        return code;
}

static inline void expect(cached_pipeline *p, uint64_t expected_tag, int expected_code)
{
        uint64_t tag = UINT64_MAX;

        assert_int_equal(next(p, &tag, NULL), expected_code);
        assert_int_equal(tag, expected_tag);
}

static inline uint64_t next_get(cached_pipeline *p)
{
        cached_reply *r;
        uint64_t tag;
        int code = next(p, &tag, &r);

        return check_get(code, tag, r);
}

struct world {
        struct fake d;
        cached *c;
        cached_pipeline *p;
};

static inline void world_connect(struct world *w, uint32_t timeout_ms)
{
        w->c = client_new(w->d.path, timeout_ms);
        w->p = pipeline_new(w->c);
}

static inline void world_start(struct world *w, void (*serve)(struct fake *, int, int), void *data)
{
        fake_start(&w->d, serve, data);
        world_connect(w, PATIENCE_MS);
}

static inline void world_end(struct world *w)
{
        cached_pipeline_free(w->p);
        cached_free(w->c);
        fake_unlisten(&w->d);
}

/* Connections that nobody accepts, until there is no room for another. */
static inline int fill_backlog(const struct fake *d, int fds[16])
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int n = 0;

        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", d->path);
        for (; n < 16; n++) {
                fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_true(fds[n] >= 0);
                if (connect(fds[n], (struct sockaddr *)&a, sizeof(a)) < 0) {
                        assert_int_equal(errno, EAGAIN);
                        return n + 1;
                }
        }
        fail();
        return n;
}

static inline void close_all(const int *fds, int n)
{
        while (n-- > 0)
                close(fds[n]);
}

/* Opened by the test: a byte in open[1]. */
struct gate {
        struct good good;
        int open[2];
};

static inline void gate_init(struct gate *g)
{
        *g = (struct gate){0};
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, g->open), 0);
}

static inline void gate_open(struct gate *g)
{
        assert_int_equal(write(g->open[1], "", 1), 1);
}

static inline void gate_done(struct gate *g)
{
        close(g->open[0]);
        close(g->open[1]);
}

static inline uint8_t *entry_frame(uint64_t id, const void *body, size_t n_body, size_t *ret_n)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;

        entry.version = 1;
        entry.size = n_body;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        return fake_frame(&m, body, n_body, ret_n);
}

#endif
