/* SPDX-License-Identifier: MIT */
/*
 * Connections over socket pairs, with a handler that answers each frame with the same bytes:
 * frames cut at every byte, many in one write, lengths that lie, long bodies into a sink or thrown
 * away, disconnects at any point, back-pressure, fairness, deadlines, descriptors where none
 * belong, admission, attached output, the end of the daemon, and random traffic against what was
 * sent.
 *
 * Every case checks that no descriptor and no buffer is left.
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
        int n_fds;
};

/* ---- handler; conn_server() carries the fixture */

static struct fixture *fixture_of(struct conn *c)
{
        return (struct fixture *)conn_server(c);
}

static struct seen *seen_of(struct conn *c)
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

static void reply(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
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

static void on_release(void *ctx)
{
        struct fixture *f = ctx;

        f->n_released++;
}

static void on_frame(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                     uint64_t n_body, void *sink_ctx)
{
        struct fixture *f = fixture_of(c);
        struct seen *s = seen_of(c);

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
}

static void on_body(struct conn *c, const uint8_t *msg, size_t n_msg, uint64_t n_body,
                    struct body_sink *ret)
{
        struct seen *s = seen_of(c);

        if (fixture_of(c)->discard) {
                reply(c, msg, n_msg, NULL, 0);
                return;
        }
        s->n_sinks++;
        ret->ctx = ret->dst = malloc((size_t)n_body);
        assert_non_null(ret->dst);
}

static void drop_sink(struct conn *c, void *ctx)
{
        seen_of(c)->n_dropped++;
        free(ctx);
}

static void on_violation(struct conn *c, const char *what)
{
        struct seen *s = seen_of(c);

        s->n_violations++;
        (void)snprintf(s->violation, sizeof(s->violation), "%s", what);
        reply(c, (const uint8_t *)"bye", 3, NULL, 0);
}

static void on_close(struct conn *c)
{
        struct seen *s = seen_of(c);

        s->n_closed++;
        s->conn = NULL;
}

static const struct conn_handler handler = {
        .on_frame = on_frame,
        .on_body = on_body,
        .drop_sink = drop_sink,
        .on_violation = on_violation,
        .on_close = on_close,
};

static size_t refuse(enum hub_refusal why, const char *text, uint8_t *out, size_t n_out)
{
        (void)text;
        assert_true(n_out >= FRAME_HEADER_SIZE + 1);
        frame_header_write(out, 1, 0);
        out[FRAME_HEADER_SIZE] = (uint8_t)('0' + why);
        return FRAME_HEADER_SIZE + 1;
}

/* ---- fixture */

static int count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static int set_up(void **state)
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

static int tear_down(void **state)
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

static void turn(struct fixture *f)
{
        hub_turn_begin(&f->hub);
        assert_true(event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
        hub_turn_end(&f->hub);
}

static uint64_t ms_now(void)
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

static void idle_turns(struct fixture *f)
{
        for (int i = 0; i < 5 || hub_is_busy(&f->hub); i++)
                turn(f);
}

static void set_limits(struct fixture *f)
{
        hub_set_limits(&f->hub, &f->limits);
}

/* The client's end of a new connection. */
static int try_connect(struct fixture *f, int *ret_result)
{
        int sv[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
        *ret_result = hub_admit(&f->hub, sv[0]);
        return sv[1];
}

static int client(struct fixture *f)
{
        int r, fd = try_connect(f, &r);

        assert_int_equal(r, 0);
        return fd;
}

static struct conn *last_conn(struct fixture *f)
{
        assert_false(list_is_empty(&f->hub.conns));
        return LIST_ENTRY(f->hub.conns.prev, struct conn, node);
}

static void put(struct fixture *f, int fd, const uint8_t *p, size_t n)
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
static void take(struct fixture *f, int fd, uint8_t *p, size_t n)
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

static void assert_silent(int fd)
{
        uint8_t b;

        assert_int_equal(recv(fd, &b, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
}

/* The connection ends: nothing more comes. */
static void assert_end(struct fixture *f, int fd)
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
static size_t make_frame(uint8_t *out, uint32_t n_msg, uint64_t n_body, uint8_t seed)
{
        frame_header_write(out, n_msg, n_body);
        for (size_t i = 0; i < n_msg + n_body; i++)
                out[FRAME_HEADER_SIZE + i] = (uint8_t)(seed + i * 7 + (i >> 9));
        return FRAME_HEADER_SIZE + n_msg + (size_t)n_body;
}

static void expect_echo(struct fixture *f, int fd, const uint8_t *want, size_t n)
{
        uint8_t *got = malloc(n);

        assert_non_null(got);
        take(f, fd, got, n);
        assert_memory_equal(got, want, n);
        free(got);
}

/* Sends and takes at the same time, as one must where more is on its way than the queues hold. */
static void exchange(struct fixture *f, int fd, const uint8_t *stream, size_t n)
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

static void expect_bye(struct fixture *f, int fd)
{
        uint8_t got[FRAME_HEADER_SIZE + 3];

        take(f, fd, got, sizeof(got));
        assert_memory_equal(got + FRAME_HEADER_SIZE, "bye", 3);
        assert_end(f, fd);
}

static void finish(struct fixture *f, int fd)
{
        close(fd);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
}

/* ---- frames */

static void test_a_echo(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t frame[200];
        size_t n = make_frame(frame, 10, 100, 1);

        put(f, fd, frame, n);
        expect_echo(f, fd, frame, n);
        assert_silent(fd);
        assert_int_equal(seen_of(last_conn(f))->n_frames, 1);
        assert_int_equal(f->hub.stats.connections, 1);
        finish(f, fd);
        assert_int_equal(f->hub.stats.connections, 0);
}

static void test_b_idle_holds_nothing(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);
        uint8_t frame[200];
        size_t n = make_frame(frame, 10, 100, 1);

        put(f, fd, frame, n);
        expect_echo(f, fd, frame, n);
        idle_turns(f);
        assert_int_equal(c->in.cap, 0);
        assert_null(c->out.first);
        assert_false(evtimer_pending(&c->timer, NULL));
        assert_false(event_pending(&c->write_event, EV_WRITE, NULL));
        assert_true(f->hub.pool.bytes <= 2 * BLOCK_SIZE);

        /* The start of a frame is kept in memory of about its size, under a timer. */
        put(f, fd, frame, 50);
        idle_turns(f);
        assert_int_equal(c->in.cap, 50);
        assert_true(evtimer_pending(&c->timer, NULL));
        put(f, fd, frame + 50, n - 50);
        expect_echo(f, fd, frame, n);
        idle_turns(f);
        assert_int_equal(c->in.cap, 0);
        assert_false(evtimer_pending(&c->timer, NULL));
        finish(f, fd);
}

static void test_c_split_at_every_byte(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t stream[256];
        size_t n = make_frame(stream, 1, 0, 1);

        n += make_frame(stream + n, 20, 33, 2);
        n += make_frame(stream + n, 7, 1, 3);
        for (size_t cut = 0; cut <= n; cut++) {
                put(f, fd, stream, cut);
                idle_turns(f);
                put(f, fd, stream + cut, n - cut);
                expect_echo(f, fd, stream, n);
        }
        for (size_t i = 0; i < n; i++) {
                put(f, fd, stream + i, 1);
                idle_turns(f);
        }
        expect_echo(f, fd, stream, n);
        assert_int_equal(seen_of(last_conn(f))->n_frames, 3 * (n + 2));
        finish(f, fd);
}

static void test_d_many_in_one_write(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        const unsigned count = 2000;
        uint8_t *stream = malloc(count * 64);
        size_t n = 0;

        assert_non_null(stream);
        for (unsigned i = 0; i < count; i++)
                n += make_frame(stream + n, 1 + i % 20, i % 30, (uint8_t)i);
        put(f, fd, stream, n);
        expect_echo(f, fd, stream, n);
        assert_int_equal(seen_of(last_conn(f))->n_frames, count);
        free(stream);
        finish(f, fd);
}

static void test_e_middle_sizes(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        static const uint64_t sizes[] = {4095, 4096, 65000, 65536, 131072, 700000, 1048576};
        uint8_t *frame = malloc(2 * (1048576 + 200));

        assert_non_null(frame);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                size_t n = make_frame(frame, 100, sizes[i], (uint8_t)i);
                n += make_frame(frame + n, 5, sizes[i], (uint8_t)(i + 1));
                exchange(f, fd, frame, n);
        }
        idle_turns(f);
        assert_int_equal(last_conn(f)->in.cap, 0);
        free(frame);
        finish(f, fd);
}

static void test_f_length_lies(void **state)
{
        struct fixture *f = *state;
        struct {
                uint32_t msg;
                uint64_t body;
        } lies[] = {
                {0, 0},
                {0, 5},
                {(uint32_t)f->limits.message_bytes + 1, 0},
                {UINT32_MAX, 0},
                {0x80000000u, 0},
                {1, f->limits.value_bytes + 1},
                {1, UINT64_C(1) << 32},
                {1, UINT64_C(1) << 63},
                {1, UINT64_MAX},
        };

        f->limits.value_bytes = 1 << 30;
        set_limits(f);
        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                uint8_t head[FRAME_HEADER_SIZE + 4] = {0};
                int fd = client(f);
                size_t n = make_frame(head, 2, 0, 1);

                put(f, fd, head, n);
                expect_echo(f, fd, head, n);
                frame_header_write(head, lies[i].msg, lies[i].body);
                put(f, fd, head, sizeof(head));
                expect_bye(f, fd);
                assert_int_equal(f->seen->n_violations, 1);
                assert_int_equal(f->seen->n_frames, 1);
                finish(f, fd);
        }
        assert_int_equal(f->hub.stats.protocol_errors, sizeof(lies) / sizeof(lies[0]));
}

static void test_g_garbage(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

        put(f, fd, (const uint8_t *)http, sizeof(http) - 1);
        expect_bye(f, fd);
        assert_non_null(strstr(f->seen->violation, "max_message_bytes"));
        finish(f, fd);
}

/* ---- long bodies */

static void test_h_long_body(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t *stream = malloc(2 * LONG_BODY + 3000000);
        size_t n;

        assert_non_null(stream);
        n = make_frame(stream, 30, LONG_BODY, 1);
        n += make_frame(stream + n, 9, 10, 2);
        n += make_frame(stream + n, 5000, 1048577, 3);
        n += make_frame(stream + n, 1, 1048576, 4);
        n += make_frame(stream + n, 12, 1048577, 5);
        n += make_frame(stream + n, 12, 0, 6);
        exchange(f, fd, stream, n);
        assert_int_equal(f->seen->n_frames, 6);
        assert_in_range(f->seen->n_sinks, 2, 4);
        assert_int_equal(f->seen->n_dropped, 0);
        idle_turns(f);
        assert_int_equal(last_conn(f)->in.cap, 0);
        free(stream);
        finish(f, fd);
}

static void test_i_long_body_thrown_away(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t *stream = malloc(LONG_BODY + 1000), want[FRAME_HEADER_SIZE + 30];
        size_t n;

        assert_non_null(stream);
        f->discard = true;
        n = make_frame(stream, 30, LONG_BODY, 1);
        memcpy(want, stream, sizeof(want));
        frame_header_write(want, 30, 0);
        for (int i = 0; i < 2; i++) {
                put(f, fd, stream, n);
                expect_echo(f, fd, want, sizeof(want));
        }
        n = make_frame(stream, 9, 10, 2);
        put(f, fd, stream, n);
        expect_echo(f, fd, stream, n);
        assert_int_equal(f->seen->n_frames, 1);
        free(stream);
        finish(f, fd);
}

static void test_j_disconnect_anywhere(void **state)
{
        struct fixture *f = *state;
        uint8_t *stream = malloc(LONG_BODY + 1000);
        size_t n, cuts[] = {1, 4, 11, 12, 13, 42, 43, 70000, 1000000, LONG_BODY};

        assert_non_null(stream);
        n = make_frame(stream, 30, LONG_BODY, 1);
        assert_true(n > LONG_BODY);
        for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
                int fd = client(f);
                struct conn *c = last_conn(f);

                put(f, fd, stream, cuts[i]);
                idle_turns(f);
                (void)seen_of(c);
                finish(f, fd);
                assert_int_equal(f->seen->n_frames, 0);
                assert_int_equal(f->seen->n_dropped, cuts[i] >= 42 ? 1 : 0);
                assert_int_equal(f->seen->n_violations, 0);
        }
        free(stream);
}

/* ---- ends */

static void test_k_half_close(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t stream[300 * 20];
        size_t n = 0;

        for (int i = 0; i < 300; i++)
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
        put(f, fd, stream, n);
        put(f, fd, stream, 7); /* a frame that never completes */
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        expect_echo(f, fd, stream, n);
        assert_end(f, fd);
        assert_int_equal(f->seen->n_frames, 300);
        finish(f, fd);
}

static void test_l_peer_gone_frames_still_handled(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t stream[300 * 20];
        size_t n = 0;

        f->limits.requests_per_turn = 7;
        set_limits(f);
        for (int i = 0; i < 300; i++)
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
        put(f, fd, stream, n);
        finish(f, fd);
        assert_int_equal(f->seen->n_frames, 300);
}

static void test_m_daemon_ends(void **state)
{
        struct fixture *f = *state;
        int busy = client(f), idle = client(f), partial = client(f), r;
        uint8_t stream[300 * 20];
        size_t n = 0;

        for (int i = 0; i < 300; i++)
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
        put(f, busy, stream, n);
        put(f, partial, stream, 5);
        hub_end(&f->hub);
        expect_echo(f, busy, stream, n);
        assert_end(f, busy);
        assert_end(f, idle);
        assert_end(f, partial);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
        close(busy);
        close(idle);
        close(partial);
        busy = try_connect(f, &r);
        assert_int_equal(r, HUB_E_REFUSED);
        close(busy);
}

/* ---- fairness and back-pressure */

static void test_n_fair_turns(void **state)
{
        struct fixture *f = *state;
        int greedy = client(f), modest;
        struct seen *a = seen_of(last_conn(f)), *b;
        uint8_t stream[100 * 20];
        size_t n = 0, n_one = 0;

        modest = client(f);
        b = seen_of(last_conn(f));
        f->limits.requests_per_turn = 4;
        set_limits(f);
        for (int i = 0; i < 100; i++) {
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
                n_one = i == 0 ? n : n_one;
        }
        put(f, greedy, stream, n);
        put(f, modest, stream, n_one);
        turn(f);
        assert_int_equal(a->n_frames, 4);
        assert_int_equal(b->n_frames, 1);
        for (unsigned i = 2; i <= 25; i++) { /* with no new byte from the kernel */
                assert_true(hub_is_busy(&f->hub));
                turn(f);
                assert_int_equal(a->n_frames, 4 * i);
        }
        turn(f);
        assert_false(hub_is_busy(&f->hub));
        expect_echo(f, greedy, stream, n);
        close(modest);
        finish(f, greedy);
}

static void test_o_back_pressure(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);
        struct seen *s = seen_of(c);
        const unsigned count = 4000;
        const size_t each = 16 * 1024;
        uint8_t frame[32], *got = malloc(each);
        size_t n = make_frame(frame, 4, 4, 1), sent = 0;
        unsigned stuck;

        assert_non_null(got);
        f->limits.output_bytes = 65536;
        f->reply_bytes = each;
        set_limits(f);
        /* Sends until nothing more is taken. */
        for (int quiet = 0; quiet < 20 && sent < count * n;) {
                size_t at = sent % n;
                ssize_t r = send(fd, frame + at, n - at, MSG_NOSIGNAL);
                quiet = r > 0 ? 0 : quiet + 1;
                sent += r > 0 ? (size_t)r : 0;
                turn(f);
                assert_true(c->out.queued <= f->limits.output_bytes + each);
        }
        stuck = s->n_frames;
        assert_true(stuck < 100); /* what the socket and the queue hold */
        assert_false(event_pending(&c->read_event, EV_READ, NULL));
        assert_false(hub_is_busy(&f->hub)); /* it waits; it does not spin */
        assert_true(f->hub.pool.bytes < 1024 * 1024);
        for (unsigned i = 0; i < count; i++) {
                while (sent < count * n) {
                        size_t at = sent % n;
                        ssize_t r = send(fd, frame + at, n - at, MSG_NOSIGNAL);
                        if (r < 0)
                                break;
                        sent += (size_t)r;
                }
                take(f, fd, got, each);
                assert_int_equal(got[0], 'r');
        }
        assert_int_equal(s->n_frames, count);
        free(got);
        finish(f, fd);
}

/* ---- deadlines */

static void test_p_frame_too_slow(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t frame[32];
        size_t n = make_frame(frame, 4, 4, 1), sent = 0;

        f->limits.frame_ms = 40;
        set_limits(f);
        put(f, fd, frame, n);
        expect_echo(f, fd, frame, n);
        /* A byte from time to time does not help. */
        while (seen_of(last_conn(f))->n_violations == 0 && sent < n - 1) {
                put(f, fd, frame + sent, 1);
                sent++;
                for (int i = 0; i < 10 && seen_of(last_conn(f))->n_violations == 0; i++) {
                        turn(f);
                        if (f->seen->n_closed)
                                break;
                        (void)poll(NULL, 0, 1);
                }
                if (f->seen->n_closed)
                        break;
        }
        expect_bye(f, fd);
        assert_non_null(strstr(f->seen->violation, "frame_ms"));
        finish(f, fd);
}

static void test_q_reader_stalls(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t frame[32], *got = malloc(1 << 20);
        size_t n = make_frame(frame, 4, 4, 1);
        uint64_t start;

        assert_non_null(got);
        f->limits.stall_ms = 60;
        f->reply_bytes = 1 << 20;
        set_limits(f);
        start = ms_now();
        put(f, fd, frame, n);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
        assert_true(ms_now() - start >= 60);
        assert_int_equal(f->seen->n_closed, 1);
        assert_int_equal(f->seen->n_violations, 0);
        free(got);
        close(fd);
}

static void test_r_slow_reader_is_kept(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        uint8_t frame[32], *got = malloc(1 << 20);
        size_t n = make_frame(frame, 4, 4, 1), left = 1 << 20;

        assert_non_null(got);
        f->limits.stall_ms = 100;
        f->reply_bytes = 1 << 20;
        set_limits(f);
        put(f, fd, frame, n);
        while (left > 0) { /* takes longer in all than the limit */
                ssize_t r = recv(fd, got, 1 << 15, 0);
                left -= r > 0 ? (size_t)r : 0;
                for (int i = 0; i < 10; i++) {
                        turn(f);
                        (void)poll(NULL, 0, 1);
                }
        }
        assert_int_equal(f->seen->n_closed, 0);
        free(got);
        finish(f, fd);
}

/* ---- descriptors */

static void send_fds(int fd, const int *fds, size_t n_fds, const uint8_t *p, size_t n)
{
        union {
                struct cmsghdr align;
                uint8_t bytes[CMSG_SPACE(253 * sizeof(int))];
        } control = {0};
        struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(n_fds * sizeof(int))};
        struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(h), fds, n_fds * sizeof(int));
        assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), n);
}

static void descriptors_case(struct fixture *f, size_t n_fds, size_t at, int messages)
{
        int fd = client(f), pipes[2], fds[253];
        uint8_t frame[64], b;
        size_t n = make_frame(frame, 10, 10, 1);

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        for (size_t i = 0; i < n_fds; i++)
                fds[i] = pipes[1];
        put(f, fd, frame, n);
        expect_echo(f, fd, frame, n);
        if (at > 0)
                put(f, fd, frame, at);
        for (int i = 0; i < messages; i++) /* all but the first stay unread in the socket */
                send_fds(fd, fds, n_fds, frame + at, n - at);
        close(pipes[1]);
        expect_bye(f, fd);
        assert_non_null(strstr(f->seen->violation, "descriptor"));
        assert_int_equal(f->seen->n_frames, 1);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
        /* All copies are closed: the pipe ends. */
        assert_int_equal(read(pipes[0], &b, 1), 0);
        close(pipes[0]);
        close(fd);
        WAIT_UNTIL(f, f->hub.accounts[geteuid() % HUB_ACCOUNT_BUCKETS] == NULL);
}

static void test_s_descriptors(void **state)
{
        struct fixture *f = *state;

        descriptors_case(f, 1, 0, 1);
        descriptors_case(f, 1, 5, 1);
        descriptors_case(f, 253, 0, 1);
        descriptors_case(f, 253, 15, 1);
        descriptors_case(f, 100, 0, 8);
}

static void test_t_descriptors_with_a_long_body(void **state)
{
        struct fixture *f = *state;
        int fd = client(f), pipes[2];
        uint8_t *frame = malloc(LONG_BODY + 1000), b;
        size_t n = make_frame(frame, 10, LONG_BODY, 1);

        assert_non_null(frame);
        assert_true(n > 100000);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        put(f, fd, frame, 100000);
        idle_turns(f);
        send_fds(fd, &pipes[1], 1, frame + 100000, 1000);
        close(pipes[1]);
        expect_bye(f, fd);
        assert_int_equal(f->seen->n_dropped, 1);
        assert_int_equal(read(pipes[0], &b, 1), 0);
        close(pipes[0]);
        free(frame);
        close(fd);
        WAIT_UNTIL(f, f->hub.accounts[geteuid() % HUB_ACCOUNT_BUCKETS] == NULL);
}

static void test_u_descriptors_of_a_refused_peer(void **state)
{
        struct fixture *f = *state;
        int sv[2], pipes[2];
        uint8_t b = 0;

        f->limits.connections = 0;
        set_limits(f);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
        send_fds(sv[1], &pipes[1], 1, &b, 1);
        close(pipes[1]);
        assert_int_equal(hub_admit(&f->hub, sv[0]), HUB_E_REFUSED);
        WAIT_UNTIL(f, f->hub.accounts[geteuid() % HUB_ACCOUNT_BUCKETS] == NULL);
        assert_int_equal(read(pipes[0], &b, 1), 0);
        close(pipes[0]);
        close(sv[1]);
}

/* ---- admission */

static void expect_refusal(struct fixture *f, char why)
{
        uint8_t got[FRAME_HEADER_SIZE + 1];
        int r, fd = try_connect(f, &r);

        assert_int_equal(r, HUB_E_REFUSED);
        assert_int_equal(recv(fd, got, sizeof(got), 0), sizeof(got));
        assert_int_equal(got[FRAME_HEADER_SIZE], why);
        assert_int_equal(recv(fd, got, sizeof(got), 0), 0);
        close(fd);
}

static void test_v_admission(void **state)
{
        struct fixture *f = *state;
        int a, b;

        f->limits.connections_per_uid = 2;
        set_limits(f);
        a = client(f);
        b = client(f);
        for (int i = 0; i < 10000; i++)
                expect_refusal(f, '0' + HUB_REFUSED_LIMIT);
        assert_int_equal(f->hub.stats.refused, 10000);
        assert_int_equal(f->hub.stats.connections, 2);
        close(a);
        WAIT_UNTIL(f, f->hub.stats.connections == 1);
        a = client(f); /* there is room again */
        f->limits.connections_per_uid = 100;
        f->limits.connections = 2;
        set_limits(f);
        expect_refusal(f, '0' + HUB_REFUSED_LIMIT);
        f->limits.connections = 100;
        set_limits(f);
        f->hub.refuse_overflow_uid = true;
        f->hub.overflow_uid = geteuid();
        expect_refusal(f, '0' + HUB_REFUSED_DENIED);
        close(a);
        finish(f, b);
}

/* ---- output */

static void test_w_attached(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        size_t n_big = 5 * 1024 * 1024;
        uint8_t frame[64], *big = malloc(n_big);
        size_t n = make_frame(frame, 4, 4, 1);

        assert_non_null(big);
        for (size_t i = 0; i < n_big; i++)
                big[i] = (uint8_t)(i * 13 + (i >> 11));
        f->attach = big;
        f->n_attach = n_big;
        put(f, fd, frame, n);
        expect_echo(f, fd, big, n_big);
        idle_turns(f);
        assert_int_equal(f->n_released, 1);
        put(f, fd, frame, n); /* and is not leaked where nobody takes it */
        turn(f);
        assert_int_equal(f->n_released, 1);
        finish(f, fd);
        assert_int_equal(f->n_released, 2);
        free(big);
}

static void test_x_kick_and_close_from_outside(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);

        (void)seen_of(c);
        reply(c, (const uint8_t *)"event", 5, NULL, 0);
        conn_kick(c);
        conn_kick(c);
        assert_true(hub_is_busy(&f->hub));
        turn(f);
        uint8_t got[FRAME_HEADER_SIZE + 5];
        assert_int_equal(recv(fd, got, sizeof(got), 0), sizeof(got));
        assert_memory_equal(got + FRAME_HEADER_SIZE, "event", 5);
        reply(c, (const uint8_t *)"bye", 3, NULL, 0);
        conn_close(c);
        turn(f);
        expect_bye(f, fd);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
        close(fd);
}

/* ---- random traffic */

static uint64_t next_random(uint64_t *x)
{
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x;
}

static size_t random_stream(uint64_t *x, uint8_t *out, size_t n_max)
{
        size_t n = 0;

        for (;;) {
                uint32_t n_msg = 1 + (uint32_t)(next_random(x) % 300);
                uint64_t kind = next_random(x) % 100, n_body;

                n_body = kind < 80 ? next_random(x) % 200 : next_random(x) % 100000;
                if (kind >= 97)
                        n_body = 1000000 + next_random(x) % 500000;
                if (n + FRAME_HEADER_SIZE + n_msg + n_body > n_max)
                        return n;
                n += make_frame(out + n, n_msg, n_body, (uint8_t)*x);
        }
}

static void test_y_random(void **state)
{
        struct fixture *f = *state;
        uint64_t x = 88172645463325252u;
        const size_t n_max = 8 * 1024 * 1024;
        uint8_t *stream = malloc(n_max), *got = malloc(n_max);
        int rounds = getenv("CACHED_LONG") ? 200 : 10;

        assert_non_null(stream);
        assert_non_null(got);
        f->limits.requests_per_turn = 5;
        f->limits.output_bytes = 65536;
        set_limits(f);
        for (int round = 0; round < rounds; round++) {
                size_t n = random_stream(&x, stream, n_max), sent = 0, taken = 0;
                int fd = client(f);
                uint64_t end = ms_now() + WAIT_MS;

                while (taken < n) {
                        size_t want =
                                1 + next_random(&x) % (next_random(&x) % 8 == 0 ? 300000 : 500);
                        ssize_t r;

                        assert_true(ms_now() < end);
                        if (want > n - sent)
                                want = n - sent;
                        r = want > 0 ? send(fd, stream + sent, want, MSG_NOSIGNAL) : 0;
                        sent += r > 0 ? (size_t)r : 0;
                        if (next_random(&x) % 4 == 0)
                                turn(f);
                        r = recv(fd, got + taken, 1 + next_random(&x) % 200000, 0);
                        taken += r > 0 ? (size_t)r : 0;
                        if (r < 0)
                                turn(f);
                }
                assert_int_equal(taken, n);
                assert_memory_equal(got, stream, n);
                finish(f, fd);
        }
        free(stream);
        free(got);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                CASE(test_a_echo),
                CASE(test_b_idle_holds_nothing),
                CASE(test_c_split_at_every_byte),
                CASE(test_d_many_in_one_write),
                CASE(test_e_middle_sizes),
                CASE(test_f_length_lies),
                CASE(test_g_garbage),
                CASE(test_h_long_body),
                CASE(test_i_long_body_thrown_away),
                CASE(test_j_disconnect_anywhere),
                CASE(test_k_half_close),
                CASE(test_l_peer_gone_frames_still_handled),
                CASE(test_m_daemon_ends),
                CASE(test_n_fair_turns),
                CASE(test_o_back_pressure),
                CASE(test_p_frame_too_slow),
                CASE(test_q_reader_stalls),
                CASE(test_r_slow_reader_is_kept),
                CASE(test_s_descriptors),
                CASE(test_t_descriptors_with_a_long_body),
                CASE(test_u_descriptors_of_a_refused_peer),
                CASE(test_v_admission),
                CASE(test_w_attached),
                CASE(test_x_kick_and_close_from_outside),
                CASE(test_y_random),
        };

        return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
