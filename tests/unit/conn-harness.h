/* SPDX-License-Identifier: MIT */
#ifndef CONN_HARNESS_H
#define CONN_HARNESS_H

/*
 * Connections over socket pairs, with a handler that answers each frame with the same bytes. The
 * end of every case checks that no descriptor and no buffer is left.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"
#include "transport/conn-private.h"
#include "transport/hub.h"

#define WAIT_MS   10000
#define LONG_BODY (3 * 1024 * 1024 + 17)

/* What the handler saw of one connection; lives in the fixture. */
struct seen {
        struct conn *conn;
        unsigned n_frames, n_sinks, n_dropped, n_violations, n_closed;
        uint64_t n_body;
        char violation[200];
        struct seen *next;
};

struct fixture {
        struct event_base *base;
        struct clock clock;
        struct log log;
        struct hub hub;
        struct config_limits limits;
        struct seen *seen; /* newest first */
        size_t n_seen;
        bool discard;          /* on_body() takes no long body */
        size_t reply_bytes;    /* 0: echo; else so many bytes of 'r' for each frame */
        const uint8_t *attach; /* echo is replaced by this attached piece */
        uint64_t n_attach;
        unsigned n_released;
        unsigned portions; /* in which each frame is done, beyond the first */
        unsigned portions_left;
        unsigned n_again, n_frames_dropped;
        uint64_t frame_ns; /* time that each frame takes */
        bool hold_bodies;  /* on_body() asks for room first */
        int n_fds;
};

/* ---- handler; conn_server() carries the fixture */

static inline struct fixture *fixture_of(struct conn *c)
{
        return (struct fixture *)conn_server(c);
}

static inline struct seen *seen_of(struct conn *c)
{
        struct fixture *f = fixture_of(c);
        struct seen *s = conn_user(c);

        if (!s) {
                s = calloc(1, sizeof(*s));
                assert_non_null(s);
                s->conn = c;
                s->next = f->seen;
                f->seen = s;
                f->n_seen++;
                conn_set_user(c, s);
        }
        return s;
}

static inline void reply(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                         uint64_t n_body)
{
        uint8_t *out = conn_reserve(c, FRAME_HEADER_SIZE + n_msg + (size_t)n_body);

        assert_non_null(out);
        frame_header_write(out, (uint32_t)n_msg, n_body);
        memcpy(out + FRAME_HEADER_SIZE, msg, n_msg);
        if (n_body > 0)
                memcpy(out + FRAME_HEADER_SIZE + n_msg, body, (size_t)n_body);
        conn_commit(c, FRAME_HEADER_SIZE + n_msg + (size_t)n_body);
}

static inline void on_release(void *ctx)
{
        struct fixture *f = ctx;

        f->n_released++;
}

static inline bool on_frame(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                            uint64_t n_body, void *sink_ctx)
{
        struct fixture *f = fixture_of(c);
        struct seen *s = seen_of(c);

        f->hub.turn_start_ns -= f->frame_ns;
        c->slice_ns -= f->frame_ns;
        if (f->portions_left > 0) {
                f->portions_left--;
                f->n_again++;
                return false;
        }
        f->portions_left = f->portions;
        s->n_frames++;
        s->n_body += n_body;
        assert_true(n_body > BLOCK_SIZE || sink_ctx == NULL);
        if (f->attach) {
                assert_int_equal(conn_attach(c, f->attach, f->n_attach, on_release, f), 0);
        } else if (f->reply_bytes > 0) {
                uint8_t *out = conn_reserve(c, f->reply_bytes);
                assert_non_null(out);
                memset(out, 'r', f->reply_bytes);
                conn_commit(c, f->reply_bytes);
        } else {
                reply(c, msg, n_msg, body, n_body);
        }
        free(sink_ctx);
        return true;
}

static inline void on_body(struct conn *c, const uint8_t *msg, size_t n_msg, uint64_t n_body,
                           struct body_sink *ret)
{
        struct seen *s = seen_of(c);

        if (fixture_of(c)->discard) {
                reply(c, msg, n_msg, NULL, 0);
                return;
        }
        if (fixture_of(c)->hold_bodies && !conn_hold_body(c, n_body)) {
                ret->wait = true;
                return;
        }
        s->n_sinks++;
        ret->ctx = ret->dst = malloc((size_t)n_body);
        assert_non_null(ret->dst);
}

static inline void drop_frame(struct conn *c)
{
        struct fixture *f = fixture_of(c);

        f->n_frames_dropped++;
        f->portions_left = f->portions;
}

static inline void drop_sink(struct conn *c, void *ctx)
{
        seen_of(c)->n_dropped++;
        free(ctx);
}

static inline void on_violation(struct conn *c, const char *what)
{
        struct seen *s = seen_of(c);

        s->n_violations++;
        (void)snprintf(s->violation, sizeof(s->violation), "%s", what);
        reply(c, (const uint8_t *)"bye", 3, NULL, 0);
}

static inline void on_close(struct conn *c)
{
        struct seen *s = seen_of(c);

        s->n_closed++;
        s->conn = NULL;
}

static const struct conn_handler handler = {
        .on_frame = on_frame,
        .drop_frame = drop_frame,
        .on_body = on_body,
        .drop_sink = drop_sink,
        .on_violation = on_violation,
        .on_close = on_close,
};

static inline size_t refuse(enum hub_refusal why, const char *text, uint8_t *out, size_t n_out)
{
        (void)text;
        assert_true(n_out >= FRAME_HEADER_SIZE + 1);
        frame_header_write(out, 1, 0);
        out[FRAME_HEADER_SIZE] = (uint8_t)('0' + why);
        return FRAME_HEADER_SIZE + 1;
}

/* ---- fixture */

static inline int count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static inline int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct hub_params p;

        assert_non_null(f);
        f->n_fds = count_fds();
#define LIMIT(name, def, ...) f->limits.name = def;
#include "limits.def"
#undef LIMIT
        clock_init(&f->clock);
        log_init(&f->log, -1);
        f->base = event_base_new();
        p = (struct hub_params){.base = f->base,
                                .clock = &f->clock,
                                .log = &f->log,
                                .handler = &handler,
                                .server = (struct server *)f,
                                .limits = &f->limits,
                                .refuse = refuse};
        assert_int_equal(hub_init(&f->hub, &p), 0);
        *state = f;
        return 0;
}

static inline int tear_down(void **state)
{
        struct fixture *f = *state;

        hub_done(&f->hub); /* asserts that all buffers are back */
        event_base_free(f->base);
        clock_done(&f->clock);
        while (f->seen) {
                struct seen *s = f->seen;
                f->seen = s->next;
                assert_int_equal(s->n_closed, 1);
                free(s);
        }
        assert_int_equal(count_fds(), f->n_fds);
        free(f);
        return 0;
}

static inline void turn(struct fixture *f)
{
        hub_turn_begin(&f->hub);
        assert_true(event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
        hub_turn_end(&f->hub);
}

static inline uint64_t ms_now(void)
{
        return clock_monotonic_ns() / NSEC_PER_MSEC;
}

/* Turns until the condition holds; between idle ones a moment for the kernel's timers and for
 * threads. */
#define WAIT_UNTIL(f, cond)                                                                        \
        do {                                                                                       \
                uint64_t end_ = ms_now() + WAIT_MS;                                                \
                while (!(cond)) {                                                                  \
                        if (ms_now() > end_)                                                       \
                                fail_msg("waited in vain for: %s", #cond);                         \
                        turn(f);                                                                   \
                        if (!(cond) && !hub_is_busy(&(f)->hub))                                    \
                                (void)poll(NULL, 0, 1);                                            \
                }                                                                                  \
        } while (0)

static inline void idle_turns(struct fixture *f)
{
        for (int i = 0; i < 5 || hub_is_busy(&f->hub); i++)
                turn(f);
}

static inline void set_limits(struct fixture *f)
{
        hub_set_limits(&f->hub, &f->limits);
}

/* The client's end of a new connection. */
static inline int try_connect(struct fixture *f, int *ret_result)
{
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
        *ret_result = hub_admit(&f->hub, sv[0]);
        return sv[1];
}

static inline int client(struct fixture *f)
{
        int r, fd = try_connect(f, &r);

        assert_int_equal(r, 0);
        return fd;
}

static inline struct conn *last_conn(struct fixture *f)
{
        assert_false(list_is_empty(&f->hub.conns));
        return LIST_ENTRY(f->hub.conns.prev, struct conn, node);
}

static inline void put(struct fixture *f, int fd, const uint8_t *p, size_t n)
{
        while (n > 0) {
                ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
                if (sent < 0) {
                        assert_int_equal(errno, EAGAIN);
                        turn(f);
                        continue;
                }
                p += sent;
                n -= (size_t)sent;
        }
}

/* Takes exactly @n bytes. */
static inline void take(struct fixture *f, int fd, uint8_t *p, size_t n)
{
        uint64_t end = ms_now() + WAIT_MS;

        while (n > 0) {
                ssize_t got = recv(fd, p, n, 0);
                if (got < 0) {
                        assert_int_equal(errno, EAGAIN);
                        assert_true(ms_now() < end);
                        turn(f);
                        continue;
                }
                assert_true(got > 0);
                p += got;
                n -= (size_t)got;
        }
}

static inline void assert_silent(int fd)
{
        uint8_t b;

        assert_int_equal(recv(fd, &b, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
}

/* The connection ends: nothing more comes. */
static inline void assert_end(struct fixture *f, int fd)
{
        uint64_t end = ms_now() + WAIT_MS;
        uint8_t b;
        ssize_t n;

        while ((n = recv(fd, &b, 1, 0)) < 0 && errno == EAGAIN) {
                assert_true(ms_now() < end);
                turn(f);
                (void)poll(NULL, 0, 1);
        }
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* Writes a frame with a pattern; returns its length. */
static inline size_t make_frame(uint8_t *out, uint32_t n_msg, uint64_t n_body, uint8_t seed)
{
        frame_header_write(out, n_msg, n_body);
        for (size_t i = 0; i < n_msg + n_body; i++)
                out[FRAME_HEADER_SIZE + i] = (uint8_t)(seed + i * 7 + (i >> 9));
        return FRAME_HEADER_SIZE + n_msg + (size_t)n_body;
}

static inline void expect_echo(struct fixture *f, int fd, const uint8_t *want, size_t n)
{
        uint8_t *got = malloc(n);

        assert_non_null(got);
        take(f, fd, got, n);
        assert_memory_equal(got, want, n);
        free(got);
}

/* Sends and takes at the same time, as one must where more is on its way than the queues hold. */
static inline void exchange(struct fixture *f, int fd, const uint8_t *stream, size_t n)
{
        uint8_t *got = malloc(n);
        size_t sent = 0, taken = 0;
        uint64_t end = ms_now() + WAIT_MS;

        assert_non_null(got);
        while (taken < n) {
                ssize_t r = sent < n ? send(fd, stream + sent, n - sent, MSG_NOSIGNAL) : 0;

                sent += r > 0 ? (size_t)r : 0;
                turn(f);
                r = recv(fd, got + taken, n - taken, 0);
                taken += r > 0 ? (size_t)r : 0;
                assert_true(ms_now() < end);
        }
        assert_memory_equal(got, stream, n);
        free(got);
}

static inline void expect_bye(struct fixture *f, int fd)
{
        uint8_t got[FRAME_HEADER_SIZE + 3];

        take(f, fd, got, sizeof(got));
        assert_memory_equal(got + FRAME_HEADER_SIZE, "bye", 3);
        assert_end(f, fd);
}

static inline void finish(struct fixture *f, int fd)
{
        close(fd);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
