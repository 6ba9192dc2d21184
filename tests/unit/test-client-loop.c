/* SPDX-License-Identifier: MIT */
/*
 * Pipelines that wait for nothing: answers
 *
 * Windows of requests, requests before there is a connection and beyond the daemon's limits,
 * replies that come a byte at a time, a daemon that does not read, one whose backlog is full. No
 * call waits, each request comes out exactly once, and the descriptor stays the same and is quiet
 * when there is nothing to do.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "loop-harness.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

/* ----------------------------------------------------------------------------------------- hits */

static void test_a_window(void **state)
{
        struct world w;
        uint64_t asked = 0, answered = 0;
        int fd;

        world_start(&w, serve_good, NULL);
        fd = cached_pipeline_fd(w.p);
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        assert_int_equal(cached_pipeline_wants(w.p), 0);
        assert_false(is_readable(w.p, 0));
        while (answered < 5000) {
                for (; asked < 5000 && asked - answered < 16; asked++)
                        enqueue_get(w.p, asked);
                assert_int_equal(cached_pipeline_in_flight(w.p), asked - answered);
                /* The newest cannot have been answered. */
                if (asked < 5000)
                        assert_true(cached_pipeline_wants(w.p) & CACHED_WANT_READ);
                assert_int_equal(next_get(w.p), answered++);
        }
        assert_int_equal(cached_pipeline_in_flight(w.p), 0);
        assert_int_equal(cached_pipeline_wants(w.p), 0);
        assert_int_equal(cached_pipeline_fd(w.p), fd);
        assert_int_equal(atomic_load(&w.d.n_connections), 1);
        world_end(&w);
}

/* Nothing is to be done, so nothing wakes the loop. */
static void test_a_quiet_when_idle(void **state)
{
        struct world w;

        world_start(&w, serve_good, NULL);
        enqueue_get(w.p, 1);
        next_get(w.p);
        assert_int_equal(cached_pipeline_dispatch(w.p), CACHED_OK);
        assert_false(is_readable(w.p, 0));
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        world_end(&w);
}

/* A flush saves a turn; without it the descriptor asks for one. */
static void test_a_flush(void **state)
{
        struct world w;

        world_start(&w, serve_good, NULL);
        enqueue_get(w.p, 1);
        next_get(w.p);
        enqueue_get(w.p, 2);
        assert_int_equal(cached_pipeline_wants(w.p), CACHED_WANT_READ | CACHED_WANT_WRITE);
        assert_true(is_readable(w.p, 0));
        assert_int_equal(cached_pipeline_flush(w.p), CACHED_OK);
        assert_int_equal(cached_pipeline_wants(w.p), CACHED_WANT_READ);
        assert_int_equal(turn(w.p), CACHED_OK);
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_OK);
        world_end(&w);
}

static void test_a_large_values_both_ways(void **state)
{
        static uint8_t value[1 << 20];
        struct good g = {0};
        struct world w;
        size_t n;

        memset(value, 1, sizeof(value));
        world_start(&w, serve_good, &g);
        for (uint64_t i = 0; i < 20; i++) {
                assert_int_equal(cached_pipeline_get(w.p, "x", "big", 3, 2 * i), CACHED_OK);
                assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, sizeof(value), NULL,
                                                     2 * i + 1),
                                 CACHED_OK);
        }
        for (uint64_t i = 0; i < 40; i++) {
                cached_reply *r;
                uint64_t tag;

                assert_int_equal(next(w.p, &tag, &r), CACHED_OK);
                assert_int_equal(tag, i);
                if (i % 2 == 0) {
                        assert_non_null(cached_reply_value(r, &n));
                        assert_int_equal(n, BIG);
                }
                cached_reply_free(r);
        }
        assert_true(g.body_sum == 20 * sizeof(value));
        world_end(&w);
}

/* In a loop of the caller's own epoll: registered once, before there is any connection. */
static void test_a_inside_epoll(void **state)
{
        struct world w;
        struct epoll_event e = {.events = EPOLLIN};
        int outer = epoll_create1(EPOLL_CLOEXEC);
        uint64_t tag;

        world_start(&w, serve_good, NULL);
        assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, cached_pipeline_fd(w.p), &e), 0);
        for (uint64_t i = 0; i < 100; i++) {
                enqueue_get(w.p, i);
                while (cached_pipeline_next(w.p, &tag, NULL) == CACHED_ERR_AGAIN) {
                        assert_int_equal(epoll_wait(outer, &e, 1, PATIENCE_MS), 1);
                        assert_int_equal(cached_pipeline_dispatch(w.p), CACHED_OK);
                }
                assert_int_equal(tag, i);
        }
        close(outer);
        world_end(&w);
}

/* --------------------------------------------------------------------------------------- limits */

static void test_b_limit_in_flight(void **state)
{
        struct good g = {0};
        struct world w;

        world_start(&w, serve_limited, &g);
        w.d.max_in_flight = 4;
        for (uint64_t i = 0; i < 400; i++)
                enqueue_get(w.p, i);
        assert_int_equal(cached_pipeline_in_flight(w.p), 400);
        for (uint64_t i = 0; i < 400; i++)
                assert_int_equal(next_get(w.p), i);
        assert_int_equal(g.n_last_body, 0);
        world_end(&w);
}

/* Says nothing before the test allows it. */
static void serve_late(struct fake *d, int fd, int nth)
{
        struct gate *g = d->data;
        char byte;

        if (fake_read(d, g->open[0], &byte, 1))
                serve_good(d, fd, nth);
}

/* What is too large is known only after Hello: it alone is lost. */
static void test_b_too_large_before_hello(void **state)
{
        static const uint8_t value[2000];
        struct gate g;
        struct world w;
        cached_reply *r;
        uint64_t tag;

        gate_init(&g);
        world_start(&w, serve_late, &g);
        w.d.max_value = 1000;
        for (uint64_t i = 0; i < 9; i++) {
                size_t n = i % 3 == 1 ? sizeof(value) : 500;

                assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, n, NULL, i),
                                 CACHED_OK);
        }
        assert_int_equal(cached_pipeline_wants(w.p), CACHED_WANT_READ | CACHED_WANT_WRITE);
        assert_false(is_readable(w.p, 0));
        gate_open(&g);
        /* Losses are told as soon as they are known. */
        for (uint64_t i = 1; i < 9; i += 3) {
                assert_int_equal(next(w.p, &tag, &r), CACHED_TOO_LARGE);
                assert_int_equal(tag, i);
                assert_non_null(strstr(cached_reply_error(r), "2000 bytes"));
                cached_reply_free(r);
        }
        for (uint64_t i = 0; i < 9; i++)
                if (i % 3 != 1)
                        expect(w.p, i, CACHED_OK);
        assert_int_equal(cached_pipeline_in_flight(w.p), 0);
        /* From now on it is known at once. */
        assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, sizeof(value), NULL, 10),
                         CACHED_TOO_LARGE);
        enqueue_get(w.p, 11);
        assert_int_equal(next_get(w.p), 11);
        assert_int_equal(atomic_load(&w.d.n_connections), 1);
        world_end(&w);
        gate_done(&g);
}

/* Likewise what an older daemon would take for something else. */
static void test_b_too_new_before_hello(void **state)
{
        cached_set_options *o = cached_set_options_new();
        struct gate g;
        struct world w;
        cached_reply *r;
        uint64_t tag;

        gate_init(&g);
        world_start(&w, serve_late, &g);
        assert_int_equal(cached_set_options_add_tag(o, "tag"), CACHED_OK);
        for (uint64_t i = 0; i < 6; i++)
                assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, "v", 1,
                                                     i % 3 == 1 ? o : NULL, i),
                                 CACHED_OK);
        gate_open(&g);
        for (uint64_t i = 1; i < 6; i += 3) {
                assert_int_equal(next(w.p, &tag, &r), CACHED_UNSUPPORTED);
                assert_int_equal(tag, i);
                assert_non_null(strstr(cached_reply_error(r), "too old"));
                cached_reply_free(r);
        }
        for (uint64_t i = 0; i < 6; i++)
                if (i % 3 != 1)
                        expect(w.p, i, CACHED_OK);
        assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, "v", 1, o, 7), CACHED_UNSUPPORTED);
        assert_int_equal(cached_pipeline_in_flight(w.p), 0);
        world_end(&w);
        gate_done(&g);
        cached_set_options_free(o);
}

static void test_b_full(void **state)
{
        size_t n = 40u << 20;
        uint8_t *value = calloc(1, n);
        struct world w;

        assert_non_null(value);
        world_start(&w, serve_good, NULL);
        assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, n, NULL, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, n, NULL, 2),
                         CACHED_ERR_AGAIN);
        assert_int_equal(cached_pipeline_in_flight(w.p), 1);
        expect(w.p, 1, CACHED_OK);
        assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, n, NULL, 3), CACHED_OK);
        expect(w.p, 3, CACHED_OK);
        free(value);
        world_end(&w);
}

static void test_b_full_of_requests(void **state)
{
        struct world w;

        world_start(&w, serve_good, NULL);
        for (uint64_t i = 0; i < 65536; i++)
                enqueue_get(w.p, i);
        assert_int_equal(cached_pipeline_get(w.p, "x", "k", 1, 0), CACHED_ERR_AGAIN);
        for (uint64_t i = 0; i < 1000; i++)
                assert_int_equal(next_get(w.p), i);
        for (uint64_t i = 65536; i < 66536; i++)
                enqueue_get(w.p, i);
        assert_int_equal(cached_pipeline_in_flight(w.p), 65536);
        world_end(&w);
}

/* ---------------------------------------------------------------------------------- slow daemons
 */

/* Writes its Hello and its first answers a byte at a time, and goes on when each has been taken. */
static void write_bytes(struct fake *d, int fd, const uint8_t *frame, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int queued = 1;

                if (!fake_write(d, fd, frame + i, 1))
                        return;
                /* What the client has not read counts as unsent. */
                while (queued > 0 && ioctl(fd, TIOCOUTQ, &queued) == 0 && queued > 0) {
                        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

                        if (poll(&stop, 1, 0) != 0)
                                return;
                        sched_yield();
                }
        }
}

static void serve_bytes(struct fake *d, int fd, int nth)
{
        struct fake_request r;
        uint8_t *frame;
        size_t n;

        if (!fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        frame = fake_hello_frame(d, 1, &n);
        write_bytes(d, fd, frame, n);
        free(frame);
        while (fake_read_request(d, fd, &r)) {
                const ProtobufCBinaryData *key = &r.m->get->key;

                frame = entry_frame(r.m->id, key->data, key->len, &n);
                write_bytes(d, fd, frame, n);
                free(frame);
                fake_request_done(&r);
        }
}

static void test_c_a_byte_at_a_time(void **state)
{
        struct world w;

        world_start(&w, serve_bytes, NULL);
        for (uint64_t i = 0; i < 5; i++)
                enqueue_get(w.p, i);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(next_get(w.p), i);
        world_end(&w);
}

/* Answers one request, and reads no more until the test says so. */
static void serve_behind_gate(struct fake *d, int fd, int nth)
{
        struct gate *g = d->data;
        struct fake_request r;
        char byte;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        good_answer(d, fd, &r);
        fake_request_done(&r);
        if (fake_read(d, g->open[0], &byte, 1))
                serve_good_rest(d, fd);
}

static void test_c_stops_reading(void **state)
{
        static const uint8_t value[1 << 20];
        struct gate g;
        struct world w;

        gate_init(&g);
        world_start(&w, serve_behind_gate, &g);
        enqueue_get(w.p, 0);
        assert_int_equal(next_get(w.p), 0);
        for (uint64_t i = 0; i < 20; i++)
                assert_int_equal(cached_pipeline_set(w.p, "x", "k", 1, value, sizeof(value), NULL,
                                                     i),
                                 CACHED_OK);
        /* As much as the socket takes leaves; then there is nothing to do until the daemon reads.
         */
        while (is_readable(w.p, 0))
                assert_int_equal(cached_pipeline_dispatch(w.p), CACHED_OK);
        assert_int_equal(cached_pipeline_wants(w.p), CACHED_WANT_READ | CACHED_WANT_WRITE);
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        gate_open(&g);
        for (uint64_t i = 0; i < 20; i++)
                expect(w.p, i, CACHED_OK);
        assert_int_equal(atomic_load(&g.good.n_sets), 20);
        assert_int_equal(cached_pipeline_wants(w.p), 0);
        world_end(&w);
        gate_done(&g);
}

static void test_c_full_backlog(void **state)
{
        struct world w;
        int fds[16], n;

        fake_listen(&w.d, 0);
        n = fill_backlog(&w.d, fds);
        world_connect(&w, PATIENCE_MS);
        for (uint64_t i = 0; i < 5; i++)
                enqueue_get(w.p, i);
        assert_int_equal(cached_pipeline_wants(w.p), CACHED_WANT_WRITE);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(turn(w.p), CACHED_OK);
                assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        }
        close_all(fds, n);
        w.d.serve = serve_good;
        assert(pthread_create(&w.d.thread, NULL, fake_run, &w.d) == 0);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(next_get(w.p), i);
        world_end(&w);
}

static void test_c_full_backlog_until_the_deadline(void **state)
{
        struct world w;
        cached_reply *r;
        uint64_t tag;
        int fds[16], n;

        fake_listen(&w.d, 0);
        n = fill_backlog(&w.d, fds);
        world_connect(&w, 30);
        enqueue_get(w.p, 5);
        assert_int_equal(next(w.p, &tag, &r), CACHED_ERR_TIMEOUT);
        assert_int_equal(tag, 5);
        assert_non_null(strstr(cached_reply_error(r), "accept"));
        cached_reply_free(r);
        close_all(fds, n);
        world_end(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_a_window),
                TEST(test_a_quiet_when_idle),
                TEST(test_a_flush),
                TEST(test_a_large_values_both_ways),
                TEST(test_a_inside_epoll),
                TEST(test_b_limit_in_flight),
                TEST(test_b_too_large_before_hello),
                TEST(test_b_too_new_before_hello),
                TEST(test_b_full),
                TEST(test_b_full_of_requests),
                TEST(test_c_a_byte_at_a_time),
                TEST(test_c_stops_reading),
                TEST(test_c_full_backlog),
                TEST(test_c_full_backlog_until_the_deadline),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
