/* SPDX-License-Identifier: MIT */
/*
 * What connections refuse or put off: fair turns, back-pressure, deadlines, descriptors where none
 * belong, admission; and output that is attached or comes from outside a callback.
 */

#include "conn-harness.h"

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
        /* With no new byte from the kernel after the first turn. Four a turn, or what it had time
         * for; the modest one waits for one portion at most. */
        for (unsigned i = 0; a->n_frames < 100; i++) {
                unsigned before = (unsigned)a->n_frames;

                assert_true(i == 0 || hub_is_busy(&f->hub));
                turn(f);
                assert_in_range(a->n_frames - before, 0, 4);
                assert_true(a->n_frames <= 4 || b->n_frames == 1);
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
        f->limits.stall_ms = 250;
        f->reply_bytes = 1 << 20;
        set_limits(f);
        put(f, fd, frame, n);
        while (left > 0) { /* takes longer in all than the limit */
                ssize_t r = recv(fd, got, 1 << 15, 0);
                assert_int_not_equal(r, 0);
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

int main(void)
{
        static const struct CMUnitTest tests[] = {
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
        };

        return cmocka_run_group_tests_name("conn-limits", tests, NULL, NULL);
}
