/* SPDX-License-Identifier: MIT */
/*
 * Notify
 *
 * The protocol is that of sd_notify(3): a datagram of assignments to the socket that $NOTIFY_SOCKET
 * names. libsystemd's functions for it wait while the service manager's queue is full, and the loop
 * waits for nobody: least of all with the message that says that it is not stuck. So this is a
 * socket of our own that does not block.
 *
 * It is connected, since poll() tells only then when the other side has room.
 */
#include "notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(int r, const char *path, char *err, size_t n_err)
{
        (void)snprintf(err, n_err, "the service manager's socket, $NOTIFY_SOCKET (%.120s): %s",
                       path, strerror(-r));
        return r;
}

/* A path, or, after an @, a name that is in no file system. Its length; 0: neither. */
static socklen_t address(const char *path, struct sockaddr_un *ret)
{
        size_t n = strlen(path);

        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        if ((path[0] != '/' && path[0] != '@') || n < 2 || n >= sizeof(ret->sun_path))
                return 0;
        memcpy(ret->sun_path, path, n);
        if (path[0] == '@')
                ret->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
}

int notify_init(struct notify *n, char *err, size_t n_err)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un to;
        socklen_t n_to;
        int fd;

        n->fd = -1;
        if (!path || path[0] == '\0')
                return 0;
        n_to = address(path, &to);
        if (n_to == 0)
                return fail(-EINVAL, path, err, n_err);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return fail(-errno, path, err, n_err);
        if (connect(fd, (struct sockaddr *)&to, n_to) < 0) {
                int r = fail(-errno, path, err, n_err);

                close(fd);
                return r;
        }
        n->fd = fd;
        return 0;
}

int notify_send(struct notify *n, const char *assignments, int fd)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec iov = {.iov_base = (char *)assignments, .iov_len = strlen(assignments)};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n->fd < 0)
                return -ENOTCONN;
        if (fd >= 0) {
                msg.msg_control = control.bytes;
                msg.msg_controllen = sizeof(control.bytes);
                *CMSG_FIRSTHDR(&msg) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                                        .cmsg_type = SCM_RIGHTS,
                                                        .cmsg_len = CMSG_LEN(sizeof(int))};
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(int));
        }
        while (sendmsg(n->fd, &msg, MSG_NOSIGNAL) < 0) {
                if (errno == EINTR)
                        continue;
                /* As many descriptors are in flight as the kernel lets this user have; or a moment
                 * without memory. */
                if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)
                        return -EAGAIN;
                return -errno;
        }
        return 0;
}

void notify_wait(const struct notify *n, int ms)
{
        struct pollfd p = {.fd = n->fd, .events = POLLOUT};

        (void)poll(&p, 1, ms);
}

void notify_done(struct notify *n)
{
        if (n->fd >= 0)
                close(n->fd);
        n->fd = -1;
}
