/* SPDX-License-Identifier: MIT */
/*
 * Watching processes again by their marks: the same one, another one of its id, one that has ended;
 * and sockets that a predecessor kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "conn-harness.h"

static void on_end(void *ctx)
{
        ++*(int *)ctx;
}

/* One that goes on until it is killed. */
static pid_t a_child(void)
{
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                for (;;)
                        (void)pause();
        return pid;
}

static void end(pid_t pid)
{
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void marked(struct fixture *f, struct process_mark *ret)
{
        struct peer_watch *w;
        int n = 0;
        assert_int_equal(conn_watch_peer(last_conn(f), on_end, &n, &w), 0);
        peer_watch_mark(w, getpid(), ret);
        peer_watch_free(w);
}

static void test_a_the_same_process(void **state)
{
        struct fixture *f = *state;
        struct process_mark mark, part;
        struct peer_watch *w;
        int fd = client(f), n = 0;
        marked(f, &mark);
        assert_true(mark.start != 0);
        assert_int_equal(hub_watch_process(&f->hub, getpid(), &mark, on_end, &n, &w), 0);
        assert_false(peer_watch_is_over(w));
        peer_watch_free(w);
        part = (struct process_mark){.start = mark.start};
        assert_int_equal(hub_watch_process(&f->hub, getpid(), &part, on_end, &n, &w), 0);
        peer_watch_free(w);
        if (mark.ino != 0) {
                part = (struct process_mark){.ino = mark.ino};
                assert_int_equal(hub_watch_process(&f->hub, getpid(), &part, on_end, &n, &w), 0);
                peer_watch_free(w);
        }
        assert_int_equal(n, 0);
        finish(f, fd);
}

static void test_b_another_process(void **state)
{
        struct fixture *f = *state;
        struct process_mark mark, other;
        struct peer_watch *w = NULL;
        int fd = client(f), n = 0;
        pid_t pid = a_child();
        marked(f, &mark);
        assert_int_equal(hub_watch_process(&f->hub, pid, &mark, on_end, &n, &w), -ESRCH);
        other = (struct process_mark){.start = mark.start + 1};
        assert_int_equal(hub_watch_process(&f->hub, getpid(), &other, on_end, &n, &w), -ESRCH);
        other = (struct process_mark){.start = mark.start, .ino = mark.ino + 1};
        if (mark.ino != 0)
                assert_int_equal(hub_watch_process(&f->hub, getpid(), &other, on_end, &n, &w),
                                 -ESRCH);
        other = (struct process_mark){0}; /* nobody knows */
        assert_int_equal(hub_watch_process(&f->hub, getpid(), &other, on_end, &n, &w), -ESRCH);
        assert_int_equal(hub_watch_process(&f->hub, 0, &mark, on_end, &n, &w), -ESRCH);
        assert_int_equal(hub_watch_process(&f->hub, -1, &mark, on_end, &n, &w), -ESRCH);
        end(pid);
        assert_int_equal(hub_watch_process(&f->hub, pid, &mark, on_end, &n, &w), -ESRCH);
        assert_null(w);
        finish(f, fd);
}

/* Its mark is read by way of a watch of our own: pids and inodes are the child's. */
static void test_c_it_ends(void **state)
{
        struct fixture *f = *state;
        struct process_mark mark = {0};
        struct peer_watch *w;
        pid_t pid = a_child();
        char path[64], text[512], *at;
        int n = 0, fd;
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        ssize_t got = read(fd, text, sizeof(text) - 1);
        assert_true(got > 0);
        text[got] = '\0';
        close(fd);
        at = strrchr(text, ')');
        for (int i = 0; i < 20; i++)
                at = strchr(at + 1, ' ');
        mark.start = strtoull(at, NULL, 10);
        assert_int_equal(hub_watch_process(&f->hub, pid, &mark, on_end, &n, &w), 0);
        idle_turns(f);
        assert_int_equal(n, 0);
        end(pid);
        for (int i = 0; i < 1000 && n == 0; i++) {
                turn(f);
                (void)poll(NULL, 0, 1);
        }
        assert_int_equal(n, 1);
        assert_true(peer_watch_is_over(w));
        peer_watch_free(w);
}

static void test_d_a_kept_socket_hangs_up(void **state)
{
        struct fixture *f = *state;
        struct kept *k, *plain;
        int pair[2], n = 0;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(hub_keep_fd(&f->hub, 1000, pair[0], on_end, &n, &k), 0);
        assert_int_equal(hub_keep_fd(&f->hub, 1000, dup(pair[0]), NULL, NULL, &plain), 0);
        assert_int_equal(kept_fd(k), pair[0]);
        assert_int_equal(write(pair[1], "x", 1), 1);
        idle_turns(f);
        assert_int_equal(n, 0);
        close(pair[1]);
        for (int i = 0; i < 1000 && n == 0; i++) {
                turn(f);
                (void)poll(NULL, 0, 1);
        }
        assert_int_equal(n, 1);
        kept_free(k);
        kept_free(plain);
        for (int i = 0; i < 1000 && fcntl(pair[0], F_GETFD) >= 0; i++) {
                turn(f);
                (void)poll(NULL, 0, 1);
        }
        assert_true(fcntl(pair[0], F_GETFD) < 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                CASE(test_a_the_same_process),
                CASE(test_b_another_process),
                CASE(test_c_it_ends),
                CASE(test_d_a_kept_socket_hangs_up),
        };
        return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
