/* SPDX-License-Identifier: MIT */
/*
 * Watching a peer's process
 *
 * By a descriptor of the process (pidfd), which becomes readable when it has ended. The kernel
 * gives out that of a socket's peer since 6.5; before that it is made from the process id, which
 * may be another process's by now: then that one is watched, and what hangs on it ends too late.
 */

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/conn-private.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

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

int conn_watch_peer(const struct conn *c, void (*on_end)(void *ctx), void *ctx,
                    struct peer_watch **ret)
{
        struct peer_watch *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        *w = (struct peer_watch){.fd = peer_pidfd(c), .on_end = on_end, .ctx = ctx};
        if (w->fd < 0) {
                int r = w->fd;
                free(w);
                return r;
        }
        event_assign(&w->event, c->hub->base, w->fd, EV_READ, on_readable, w);
        if (event_add(&w->event, NULL) < 0) {
                close(w->fd);
                free(w);
                return -ENOMEM;
        }
        *ret = w;
        return 0;
}

bool peer_watch_is_over(const struct peer_watch *w)
{
        struct pollfd p = {.fd = w->fd, .events = POLLIN};

        return poll(&p, 1, 0) > 0;
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
