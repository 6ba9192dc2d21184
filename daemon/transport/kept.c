/* SPDX-License-Identifier: MIT */
/*
 * Kept descriptors
 *
 * They are closed like all that peers have sent: elsewhere, at the cost of the uid that sent them.
 *
 * Sockets that may hang up are in an epoll of their own, which the loop watches like a single
 * descriptor. It asks for the end alone, and at its edge: what others send and receive over the
 * same socket wakes nobody here. (libevent's EV_CLOSED would do but for connections that are reset,
 * which it takes for readable ones.) A copy may be open elsewhere when ours is closed, so a socket
 * is taken out before that.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/conn-private.h"

#define ENDS_AT_ONCE 64

struct kept {
        struct hub *hub;
        uid_t uid;
        int fd;
        bool watched;
        void (*on_hang_up)(void *ctx);
        void *ctx;
};

/* One at a time: what is called may end any other. The epoll is level-triggered to the loop, so
 * what is left is told in the next turn. */
static void on_ends(evutil_socket_t fd, short what, void *arg)
{
        struct hub *h = arg;
        (void)what;
        hub_tick(h);
        for (unsigned i = 0; i < ENDS_AT_ONCE && h->n_ends > 0; i++) {
                struct epoll_event e;
                if (epoll_wait(fd, &e, 1, 0) != 1)
                        return;
                struct kept *k = e.data.ptr;
                if (e.events & (EPOLLRDHUP | EPOLLHUP))
                        k->on_hang_up(k->ctx);
        }
}

static int begin_watching(struct hub *h)
{
        if (h->ends_fd >= 0)
                return 0;
        int fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd < 0)
                return -errno;
        event_assign(&h->ends_event, h->base, fd, EV_READ | EV_PERSIST, on_ends, h);
        if (event_add(&h->ends_event, NULL) < 0) {
                close(fd);
                return -ENOMEM;
        }
        h->ends_fd = fd;
        return 0;
}

/* Without any there is no epoll. */
static void settle(struct hub *h)
{
        if (h->n_ends == 0)
                kept_end(h);
}

static int watch(struct kept *k)
{
        struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = k};
        int r = begin_watching(k->hub);
        if (r == 0 && epoll_ctl(k->hub->ends_fd, EPOLL_CTL_ADD, k->fd, &e) < 0)
                r = -errno;
        if (r < 0) {
                settle(k->hub);
                return r;
        }
        k->watched = true;
        k->hub->n_ends++;
        return 0;
}

int hub_keep_fd(struct hub *h, uid_t uid, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                struct kept **ret)
{
        struct kept *k = calloc(1, sizeof(*k));
        if (!k)
                return -ENOMEM;
        *k = (struct kept){.hub = h, .uid = uid, .fd = fd, .on_hang_up = on_hang_up, .ctx = ctx};
        int r = on_hang_up ? watch(k) : 0;
        if (r < 0) {
                free(k);
                return r;
        }
        *ret = k;
        return 0;
}

int conn_keep_fd(struct conn *c, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                 struct kept **ret)
{
        return hub_keep_fd(c->hub, c->peer.uid, fd, on_hang_up, ctx, ret);
}

int kept_fd(const struct kept *k)
{
        return k->fd;
}

struct kept *kept_free(struct kept *k)
{
        if (!k)
                return NULL;
        if (k->watched) {
                (void)epoll_ctl(k->hub->ends_fd, EPOLL_CTL_DEL, k->fd, NULL);
                k->hub->n_ends--;
                settle(k->hub);
        }
        struct account *a = hub_account(k->hub, k->uid);
        /* Without memory it stays open: closed here it could stop everybody. */
        if (a) {
                hub_close_elsewhere(k->hub, a, &k->fd, 1);
                hub_account_settle(k->hub, a);
        }
        free(k);
        return NULL;
}

struct kept *kept_leave(struct kept *k)
{
        free(k);
        return NULL;
}

void kept_end(struct hub *h)
{
        if (h->ends_fd < 0)
                return;
        (void)event_del(&h->ends_event);
        close(h->ends_fd);
        h->ends_fd = -1;
}

void conn_own_address(const struct conn *c, struct sockaddr_storage *ret, unsigned *ret_n)
{
        socklen_t n = sizeof(*ret);
        *ret_n = getsockname(c->fd, (struct sockaddr *)ret, &n) == 0 && n <= sizeof(*ret) ? n : 0;
}
