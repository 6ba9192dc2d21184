/* SPDX-License-Identifier: MIT */
/*
 * What a descriptor is
 *
 * Whatever a peer sends may hang whoever touches it: a file of a file system in user space whose
 * server sleeps, a device. So only questions are asked that the kernel answers from what it has at
 * hand: flags, seals, the state of a socket, the type of an inode as it is cached, and the name
 * that /proc gives to it, by which anonymous files can be told from each other.
 *
 * A list of what is let in, since a kind that nobody has thought of may do anything. Not in it:
 * listening sockets (who accepts from one?), sockets without another end, devices and directories
 * (they are more than a stream of bytes), epoll and io_uring (they hold other descriptors), and the
 * daemon's own sockets, which would keep themselves open.
 */
#include "dispatch/fd-kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum fd_kind say(struct fd_look *to, enum fd_kind kind, const char *what)
{
        to->kind = kind;
        snprintf(to->what, sizeof(to->what), "%s", what);
        return kind;
}

static enum fd_kind refuse(struct fd_look *to, const char *what)
{
        return say(to, FD_KIND_REFUSED, what);
}

/* ---- sockets */

static int option(int fd, int name)
{
        int value = -1;
        socklen_t n = sizeof(value);
        return getsockopt(fd, SOL_SOCKET, name, &value, &n) < 0 ? -1 : value;
}

/* Is its other end the daemon? An unnamed address is nobody's. */
static bool is_own(const struct sockaddr_storage *peer, socklen_t n, const struct sockaddr *own,
                   socklen_t n_own)
{
        return n_own > sizeof(sa_family_t) && n == n_own && memcmp(peer, own, n) == 0;
}

static enum fd_kind look_at_socket(int fd, int type, const struct sockaddr *own, socklen_t n_own,
                                   struct fd_look *ret)
{
        struct sockaddr_storage peer;
        socklen_t n = sizeof(peer);
        int domain = option(fd, SO_DOMAIN);
        if (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6)
                return refuse(ret, "a socket that is neither of Unix nor of IP");
        if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
                return refuse(ret, "a raw socket");
        if (option(fd, SO_ACCEPTCONN) == 1)
                return refuse(ret, "a listening socket");
        if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0)
                return refuse(ret, "a socket that is not connected");
        if (n > sizeof(peer) || is_own(&peer, n, own, n_own))
                return refuse(ret, "a connection to this daemon");
        ret->hangs_up = type != SOCK_DGRAM;
        if (type == SOCK_STREAM)
                return say(ret, FD_KIND_STREAM, "stream socket");
        if (type == SOCK_DGRAM)
                return say(ret, FD_KIND_DATAGRAM, "datagram socket");
        return say(ret, FD_KIND_SEQPACKET, "seqpacket socket");
}

/* ---- files */

/* What it is called in /proc; false: nobody knows. */
static bool name_of(int fd, char *to, size_t n_to)
{
        char path[32];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, to, n_to - 1);
        if (n < 0)
                return false;
        to[n] = '\0';
        return true;
}

static bool begins_with(const char *text, const char *with)
{
        return strncmp(text, with, strlen(with)) == 0;
}

static enum fd_kind look_at_anonymous(const char *name, struct fd_look *ret)
{
        if (strcmp(name, "anon_inode:[eventfd]") == 0)
                return say(ret, FD_KIND_EVENTFD, "eventfd");
        if (strcmp(name, "anon_inode:[pidfd]") == 0 || begins_with(name, "pidfd:["))
                return say(ret, FD_KIND_PIDFD, "pidfd");
        ret->kind = FD_KIND_REFUSED;
        snprintf(ret->what, sizeof(ret->what), "an anonymous file, %.40s", name);
        return FD_KIND_REFUSED;
}

static enum fd_kind look_at_type(mode_t mode, struct fd_look *ret)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
                return say(ret, FD_KIND_FILE, "regular file");
        case S_IFIFO:
                return say(ret, FD_KIND_PIPE, "pipe");
        case S_IFDIR:
                return refuse(ret, "a directory");
        case S_IFCHR:
                return refuse(ret, "a character device");
        case S_IFBLK:
                return refuse(ret, "a block device");
        default:
                return refuse(ret, "a file of an unknown type");
        }
}

static enum fd_kind look_at_file(int fd, struct fd_look *ret)
{
        char name[64];
        struct statx st;
        if (!name_of(fd, name, sizeof(name)))
                return refuse(ret, "a file that cannot be told here (is /proc mounted?)");
        if (fcntl(fd, F_GET_SEALS) >= 0 && begins_with(name, "/memfd:"))
                return say(ret, FD_KIND_MEMFD, "memory file");
        if (name[0] != '/' && !begins_with(name, "pipe:["))
                return look_at_anonymous(name, ret);
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) <
            0)
                return refuse(ret, "a file of an unknown type");
        return look_at_type(st.stx_mode, ret);
}

enum fd_kind fd_look(int fd, const struct sockaddr *own, socklen_t n_own, struct fd_look *ret)
{
        *ret = (struct fd_look){0};
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return refuse(ret, "no descriptor");
        if (flags & O_PATH)
                return refuse(ret, "a descriptor that only names a file (O_PATH)");
        int type = option(fd, SO_TYPE);
        if (type >= 0)
                return look_at_socket(fd, type, own, n_own, ret);
        return look_at_file(fd, ret);
}
