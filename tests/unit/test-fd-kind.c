/* SPDX-License-Identifier: MIT */
/* What a descriptor is: every kind that is let in, and those that are not, by their names. */
#include <setjmp.h> /* these three come before cmocka.h */
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "dispatch/fd-kind.h"

/* Consumes @fd. */
static void expect(int fd, enum fd_kind kind, const char *what)
{
        struct fd_look look;
        assert_true(fd >= 0);
        fd_look(fd, NULL, 0, &look);
        assert_string_equal(look.what, what);
        assert_int_equal(look.kind, kind);
        assert_int_equal(look.hangs_up, kind == FD_KIND_STREAM || kind == FD_KIND_SEQPACKET);
        close(fd);
}

static int pair(int type)
{
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
        close(fds[1]);
        return fds[0];
}

static void test_connected_sockets(void **state)
{
        (void)state;
        expect(pair(SOCK_STREAM), FD_KIND_STREAM, "stream socket");
        expect(pair(SOCK_SEQPACKET), FD_KIND_SEQPACKET, "seqpacket socket");
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
        expect(fds[0], FD_KIND_DATAGRAM, "datagram socket");
        close(fds[1]);
}

static struct sockaddr_in loopback(void)
{
        struct sockaddr_in a = {.sin_family = AF_INET};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return a;
}

static void test_ip_sockets(void **state)
{
        (void)state;
        struct sockaddr_in a = loopback();
        socklen_t n = sizeof(a);
        int server = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(server, (struct sockaddr *)&a, n), 0);
        assert_int_equal(listen(server, 1), 0);
        assert_int_equal(getsockname(server, (struct sockaddr *)&a, &n), 0);
        int client = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(client, (struct sockaddr *)&a, n), 0);
        int udp = socket(AF_INET, SOCK_DGRAM, 0);
        assert_int_equal(connect(udp, (struct sockaddr *)&a, n), 0);
        expect(udp, FD_KIND_DATAGRAM, "datagram socket");
        expect(client, FD_KIND_STREAM, "stream socket");
        expect(server, FD_KIND_REFUSED, "a listening socket");
        expect(socket(AF_INET, SOCK_STREAM, 0), FD_KIND_REFUSED, "a socket that is not connected");
        expect(socket(AF_INET, SOCK_DGRAM, 0), FD_KIND_REFUSED, "a socket that is not connected");
        expect(socket(AF_INET6, SOCK_STREAM, 0), FD_KIND_REFUSED, "a socket that is not connected");
        expect(socket(AF_NETLINK, SOCK_RAW, 0), FD_KIND_REFUSED,
               "a socket that is neither of Unix nor of IP");
}

static void test_unix_sockets_without_an_end(void **state)
{
        (void)state;
        expect(socket(AF_UNIX, SOCK_STREAM, 0), FD_KIND_REFUSED, "a socket that is not connected");
        expect(socket(AF_UNIX, SOCK_DGRAM, 0), FD_KIND_REFUSED, "a socket that is not connected");
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(fd, 1), 0);
        expect(fd, FD_KIND_REFUSED, "a listening socket");
}

/* By the address at which the daemon listens. */
static void test_own_connection(void **state)
{
        (void)state;
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        socklen_t n = sizeof(a);
        struct fd_look look;
        int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(server, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(server, 1), 0);
        assert_int_equal(getsockname(server, (struct sockaddr *)&a, &n), 0);
        assert_int_equal(connect(client, (struct sockaddr *)&a, n), 0);
        fd_look(client, (struct sockaddr *)&a, n, &look);
        assert_int_equal(look.kind, FD_KIND_REFUSED);
        assert_string_equal(look.what, "a connection to this daemon");
        /* Another address, and that of sockets without a name, are not ours. */
        a.sun_path[1] ^= 1;
        fd_look(client, (struct sockaddr *)&a, n, &look);
        assert_int_equal(look.kind, FD_KIND_STREAM);
        int unnamed = pair(SOCK_STREAM);
        fd_look(unnamed, (struct sockaddr *)&a, sizeof(sa_family_t), &look);
        assert_int_equal(look.kind, FD_KIND_STREAM);
        close(unnamed);
        close(client);
        close(server);
}

static void test_files(void **state)
{
        (void)state;
        char path[] = "/tmp/cached-fd-kind-XXXXXX";
        int pipes[2], fd = mkstemp(path);
        assert_true(fd >= 0);
        expect(open(path, O_PATH), FD_KIND_REFUSED, "a descriptor that only names a file (O_PATH)");
        assert_int_equal(unlink(path), 0);
        expect(fd, FD_KIND_FILE, "regular file");
        assert_int_equal(pipe(pipes), 0);
        expect(pipes[0], FD_KIND_PIPE, "pipe");
        expect(pipes[1], FD_KIND_PIPE, "pipe");
        expect(memfd_create("plain", 0), FD_KIND_MEMFD, "memory file");
        fd = memfd_create("sealed", MFD_ALLOW_SEALING);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
        expect(fd, FD_KIND_MEMFD, "memory file");
        expect(open("/tmp", O_RDONLY | O_DIRECTORY), FD_KIND_REFUSED, "a directory");
        expect(open("/dev/null", O_RDWR), FD_KIND_REFUSED, "a character device");
}

static void test_named_pipe(void **state)
{
        (void)state;
        char dir[] = "/tmp/cached-fd-kind-XXXXXX", path[64];
        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/fifo", dir);
        assert_int_equal(mkfifo(path, 0600), 0);
        expect(open(path, O_RDWR), FD_KIND_PIPE, "pipe");
        unlink(path);
        rmdir(dir);
}

static void test_anonymous_files(void **state)
{
        (void)state;
        sigset_t none;
        sigemptyset(&none);
        expect(eventfd(0, 0), FD_KIND_EVENTFD, "eventfd");
        expect((int)syscall(SYS_pidfd_open, getpid(), 0), FD_KIND_PIDFD, "pidfd");
        expect(timerfd_create(CLOCK_MONOTONIC, 0), FD_KIND_REFUSED,
               "an anonymous file, anon_inode:[timerfd]");
        expect(signalfd(-1, &none, 0), FD_KIND_REFUSED, "an anonymous file, anon_inode:[signalfd]");
        expect(epoll_create1(0), FD_KIND_REFUSED, "an anonymous file, anon_inode:[eventpoll]");
}

static void test_nothing(void **state)
{
        (void)state;
        struct fd_look look;
        int fd = dup(0);
        close(fd);
        fd_look(fd, NULL, 0, &look);
        assert_int_equal(look.kind, FD_KIND_REFUSED);
        assert_string_equal(look.what, "no descriptor");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_connected_sockets),
                cmocka_unit_test(test_ip_sockets),
                cmocka_unit_test(test_unix_sockets_without_an_end),
                cmocka_unit_test(test_own_connection),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_named_pipe),
                cmocka_unit_test(test_anonymous_files),
                cmocka_unit_test(test_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
