/* SPDX-License-Identifier: MIT */
/*
 * What connections do with bytes: frames cut at every byte, many in one write, lengths that lie,
 * long bodies into a sink or thrown away, disconnects at any point, the end of the daemon, and
 * random traffic against what was sent.
 */

#include "conn-harness.h"

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
                        size_t most = 1 + next_random(&x) % 200000;
                        ssize_t r;

                        assert_true(ms_now() < end);
                        if (want > n - sent)
                                want = n - sent;
                        r = want > 0 ? send(fd, stream + sent, want, MSG_NOSIGNAL) : 0;
                        sent += r > 0 ? (size_t)r : 0;
                        if (next_random(&x) % 4 == 0)
                                turn(f);
                        r = recv(fd, got + taken, most < n_max - taken ? most : n_max - taken, 0);
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
                CASE(test_y_random),
        };

        return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
