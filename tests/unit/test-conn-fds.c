/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that a connection sends: with exactly the byte that they belong to, few at a time,
 * waiting where the kernel has no room for more of them, closed when nobody takes them.
 */

#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "conn-harness.h"

#define N_FDS 4u

/* A reply with descriptors, as a frame of one byte. */
static void reply_with_fds(struct conn *c, char what, unsigned n_fds)
{
        int fds[N_FDS];

        for (unsigned i = 0; i < n_fds; i++) {
                fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
                assert_true(fds[i] >= 0);
        }
        assert_int_equal(conn_put_fds(c, fds, n_fds, FRAME_HEADER_SIZE + 1), 0);
        reply(c, (const uint8_t *)&what, 1, NULL, 0);
}

/* Reads one byte. How many descriptors came with it; they are closed. -1: nothing is there. */
static int take_byte(int fd, uint8_t *ret)
{
        union {
                struct cmsghdr h;
                uint8_t bytes[CMSG_SPACE(16 * sizeof(int))];
        } control;
        struct iovec iov = {.iov_base = ret, .iov_len = 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        int n_fds = 0;

        if (recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) != 1)
                return -1;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
                n_fds = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                for (int i = 0; i < n_fds; i++) {
                        int got;

                        memcpy(&got, CMSG_DATA(h) + (size_t)i * sizeof(int), sizeof(got));
                        close(got);
                }
        }
        return n_fds;
}

/* Takes a frame of one byte; how many descriptors came with its first byte. */
static int take_frame_fds(struct fixture *f, int fd, char want)
{
        uint8_t b = 0;
        int n;

        WAIT_UNTIL(f, recv(fd, &b, 1, MSG_PEEK) == 1);
        n = take_byte(fd, &b);
        for (unsigned i = 0; i < FRAME_HEADER_SIZE; i++) /* with no byte behind it */
                assert_int_equal(take_byte(fd, &b), 0);
        assert_int_equal(b, want);
        return n;
}

static void test_a_with_the_first_byte(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);

        (void)seen_of(c);
        reply(c, (const uint8_t *)"a", 1, NULL, 0);
        reply_with_fds(c, 'b', 2);
        reply(c, (const uint8_t *)"c", 1, NULL, 0);
        reply_with_fds(c, 'd', 1);
        reply_with_fds(c, 'e', 3);
        conn_kick(c);
        turn(f);
        assert_int_equal(take_frame_fds(f, fd, 'a'), 0);
        assert_int_equal(take_frame_fds(f, fd, 'b'), 2);
        assert_int_equal(take_frame_fds(f, fd, 'c'), 0);
        assert_int_equal(take_frame_fds(f, fd, 'd'), 1);
        assert_int_equal(take_frame_fds(f, fd, 'e'), 3);
        finish(f, fd);
}

/* Room that was reserved, and is not used, is not in their way. */
static void test_b_after_a_reservation(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);

        (void)seen_of(c);
        assert_non_null(conn_reserve(c, 100));
        reply_with_fds(c, 'a', 2);
        assert_non_null(conn_reserve(c, 100));
        reply_with_fds(c, 'b', 1);
        conn_kick(c);
        turn(f);
        assert_int_equal(take_frame_fds(f, fd, 'a'), 2);
        assert_int_equal(take_frame_fds(f, fd, 'b'), 1);
        finish(f, fd);
}

static void test_c_few_in_flight(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);

        (void)seen_of(c);
        for (const char *what = "abcde"; *what; what++)
                reply_with_fds(c, *what, N_FDS);
        conn_kick(c);
        idle_turns(f);
        assert_int_equal(c->fds_in_flight, 2 * N_FDS);
        assert_int_equal(c->out.queued, 3 * (FRAME_HEADER_SIZE + 1));
        for (const char *what = "abcde"; *what; what++)
                assert_int_equal(take_frame_fds(f, fd, *what), N_FDS);
        assert_silent(fd);
        finish(f, fd);
}

/* tear_down() counts descriptors. */
static void test_d_closed_with_the_connection(void **state)
{
        struct fixture *f = *state;
        int fd = client(f);
        struct conn *c = last_conn(f);

        (void)seen_of(c);
        for (const char *what = "abcde"; *what; what++)
                reply_with_fds(c, *what, N_FDS);
        conn_kick(c);
        idle_turns(f);
        finish(f, fd);
}

/* ---- where many wait to be taken */

static unsigned n_sent;

static void note_sent(void *ctx, bool sent)
{
        (void)ctx;
        n_sent += sent;
}

/* Clients that come back all at once have not read yet: a value goes as bytes, and what has no
 * other way as a file, within a bound that keeps room for others. */
static void test_e_the_only_way(void **state)
{
        struct fixture *f = *state;
        int fd = client(f), file = open("/dev/null", O_RDONLY | O_CLOEXEC);
        struct conn *c = last_conn(f);
        unsigned were = c->account->fds_in_flight;

        (void)seen_of(c);
        c->account->fds_in_flight = 100;
        assert_int_equal(conn_put_file(c, file, false, FRAME_HEADER_SIZE + 1, note_sent, NULL),
                         -EBUSY);
        assert_int_equal(conn_put_file(c, file, true, FRAME_HEADER_SIZE + 1, note_sent, NULL), 0);
        reply(c, (const uint8_t *)"a", 1, NULL, 0);
        c->account->fds_in_flight = were;
        conn_kick(c);
        turn(f);
        assert_int_equal(take_frame_fds(f, fd, 'a'), 1);
        assert_int_equal(n_sent, 1);
        were = c->account->fds_in_flight;
        c->account->fds_in_flight = 8192;
        assert_int_equal(conn_put_file(c, file, true, FRAME_HEADER_SIZE + 1, note_sent, NULL),
                         -EBUSY);
        c->account->fds_in_flight = were;
        close(file);
        finish(f, fd);
}

/* ---- where the kernel refuses: not as root */

/* As many descriptors in flight as the limit allows, in a socket that nobody reads. */
static bool stuff(int fd)
{
        union {
                struct cmsghdr h;
                uint8_t bytes[CMSG_SPACE(200 * sizeof(int))];
        } control = {0};
        char byte = 0;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(200 * sizeof(int));
        for (size_t i = 0; i < 200; i++) {
                int zero = 0;

                memcpy(CMSG_DATA(h) + i * sizeof(int), &zero, sizeof(zero));
        }
        for (int i = 0; i < 100; i++)
                if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        return errno == ETOOMANYREFS;
        return false;
}

static int without_room(struct fixture *f)
{
        struct rlimit lim = {.rlim_cur = 256, .rlim_max = 256};
        int stuffed[2], r, fd;
        uint8_t b;

        if (event_reinit(f->base) < 0 || setrlimit(RLIMIT_NOFILE, &lim) < 0)
                return 1;
        if (geteuid() == 0 &&
            (setresgid(12345, 12345, 12345) < 0 || setresuid(12345, 12345, 12345) < 0))
                return 2;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stuffed) < 0)
                return 3;
        fd = try_connect(f, &r);
        (void)seen_of(last_conn(f));
        reply_with_fds(last_conn(f), 'a', N_FDS);
        if (!stuff(stuffed[0]))
                return 4;
        conn_kick(last_conn(f));
        for (int i = 0; i < 30; i++) {
                turn(f);
                (void)poll(NULL, 0, 1);
        }
        if (list_is_empty(&f->hub.conns) || last_conn(f)->deaf || take_byte(fd, &b) != -1)
                return 5;
        close(stuffed[0]); /* nobody will ever take them */
        close(stuffed[1]);
        for (int i = 0; i < 10000; i++) {
                turn(f);
                r = take_byte(fd, &b);
                if (r >= 0)
                        return r == N_FDS ? 0 : 6;
                (void)poll(NULL, 0, 1);
        }
        return 7;
}

static void test_f_too_many_of_the_uid(void **state)
{
        struct fixture *f = *state;
        int status = -1;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(without_room(f));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                CASE(test_a_with_the_first_byte), CASE(test_b_after_a_reservation),
                CASE(test_c_few_in_flight),       CASE(test_d_closed_with_the_connection),
                CASE(test_e_the_only_way),        CASE(test_f_too_many_of_the_uid),
        };

        return cmocka_run_group_tests_name("conn-fds", tests, NULL, NULL);
}
