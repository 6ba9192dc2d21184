/* SPDX-License-Identifier: MIT */
/*
 * Watching a peer's process
 *
 * By a descriptor of the process (pidfd), which becomes readable when it has ended. The kernel
 * gives out that of a socket's peer since 6.5; before that it is made from the process id, which
 * may be another process's by now: then that one is watched, and what hangs on it ends too late.
 *
 * A successor watches it again by its id, and knows by its mark whether it still is the same one:
 * by the number of its pidfd's inode, which is the process's alone since Linux 6.9, or else by the
 * moment at which it began, if /proc shows that of others' processes. In one tick an id does not
 * come around.
 */

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "transport/conn-private.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define PIDFS_MAGIC 0x50494446 /* the kernel's PID_FS_MAGIC, of 6.9 */
#define STAT_START  20         /* fields from behind the name to the beginning */

struct peer_watch {
        struct event event;
        int fd;
        void (*on_end)(void *ctx);
        void *ctx;
};

static int peer_pidfd(const struct conn *c)
{
        int fd = -1;
        socklen_t n = sizeof(fd);

        if (getsockopt(c->fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) == 0)
                return fd;
        if (errno == ENOPROTOOPT) {
                if (c->peer.pid <= 0) /* it is in another namespace of process ids */
                        return -ENOTSUP;
                fd = (int)syscall(SYS_pidfd_open, c->peer.pid, 0);
                if (fd >= 0)
                        return fd;
        }
        switch (errno) {
        case ENOSYS:
        case EPERM:
        case EACCES:
                return -ENOTSUP;
        case EINVAL: /* of SO_PEERPIDFD: the process was waited for */
                return -ESRCH;
        default:
                return -errno;
        }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct peer_watch *w = arg;

        (void)fd;
        (void)what;
        w->on_end(w->ctx);
}

/* Consumes @fd, which may be an error. */
static int watch(struct hub *h, int fd, void (*on_end)(void *ctx), void *ctx,
                 struct peer_watch **ret)
{
        struct peer_watch *w;

        if (fd < 0)
                return fd;
        w = calloc(1, sizeof(*w));
        if (!w) {
                close(fd);
                return -ENOMEM;
        }
        *w = (struct peer_watch){.fd = fd, .on_end = on_end, .ctx = ctx};
        event_assign(&w->event, h->base, w->fd, EV_READ, on_readable, w);
        if (event_add(&w->event, NULL) < 0) {
                close(w->fd);
                free(w);
                return -ENOMEM;
        }
        *ret = w;
        return 0;
}

int conn_watch_peer(const struct conn *c, void (*on_end)(void *ctx), void *ctx,
                    struct peer_watch **ret)
{
        return watch(c->hub, peer_pidfd(c), on_end, ctx, ret);
}

/* ---- marks */

static uint64_t start_of(pid_t pid)
{
        char path[32], text[1024];
        const char *at;
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (n <= 0)
                return 0;
        text[n] = '\0';
        at = strrchr(text, ')'); /* a name may have anything in it */
        for (unsigned i = 0; at && i < STAT_START; i++)
                at = strchr(at + 1, ' ');
        return at ? strtoull(at + 1, NULL, 10) : 0;
}

static void mark_of(int fd, pid_t pid, struct process_mark *ret)
{
        struct statfs fs;
        struct stat st;

        *ret = (struct process_mark){0};
        if (pid <= 0)
                return;
        if (fstatfs(fd, &fs) == 0 && fs.f_type == PIDFS_MAGIC && fstat(fd, &st) == 0)
                ret->ino = st.st_ino;
        ret->start = start_of(pid);
}

static bool is_over(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};

        return poll(&p, 1, 0) > 0;
}

/* What /proc said is true of it if it has not ended since. */
void peer_watch_mark(const struct peer_watch *w, pid_t pid, struct process_mark *ret)
{
        mark_of(w->fd, pid, ret);
        if (is_over(w->fd))
                *ret = (struct process_mark){0};
}

int hub_watch_process(struct hub *h, pid_t pid, const struct process_mark *mark,
                      void (*on_end)(void *ctx), void *ctx, struct peer_watch **ret)
{
        struct process_mark now;
        bool same;
        int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

        if (fd < 0)
                return pid > 0 && errno != EINVAL ? -errno : -ESRCH;
        mark_of(fd, pid, &now);
        if (mark->ino != 0 && now.ino != 0)
                same = mark->ino == now.ino;
        else
                same = mark->start != 0 && mark->start == now.start;
        if (!same || is_over(fd)) {
                close(fd);
                return -ESRCH;
        }
        return watch(h, fd, on_end, ctx, ret);
}

bool peer_watch_is_over(const struct peer_watch *w)
{
        return is_over(w->fd);
}

struct peer_watch *peer_watch_free(struct peer_watch *w)
{
        if (!w)
                return NULL;
        (void)event_del(&w->event);
        close(w->fd);
        free(w);
        return NULL;
}
