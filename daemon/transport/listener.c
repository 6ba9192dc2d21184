/* SPDX-License-Identifier: MIT */
/*
 * Listener
 *
 * Takes a bounded number of connections each time, so that a storm of them does not hold up those
 * that are there. When the process or the system is out of descriptors it takes none for a second:
 * the connection would stay in the queue and wake the loop again at once.
 */

#include "transport/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PAUSE_SEC        1

static void pause_accepting(struct listener *l, int code)
{
        struct timeval tv = {.tv_sec = PAUSE_SEC};

        log_peer(l->hub->log, LOG_WARNING, LOG_KIND_ACCEPT, l->hub->now_ns, NULL,
                 "cannot accept connections: %s; trying again every second", strerror(code));
        if (event_add(&l->resume, &tv) == 0)
                (void)event_del(&l->event);
}

static void on_connections(evutil_socket_t fd, short what, void *arg)
{
        struct listener *l = arg;

        (void)what;
        hub_tick(l->hub);
        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                int r, peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (peer < 0) {
                        if (errno == EINTR || errno == ECONNABORTED)
                                continue;
                        if (errno != EAGAIN)
                                pause_accepting(l, errno);
                        return;
                }
                r = hub_admit(l->hub, peer);
                if (r < 0)
                        log_peer(l->hub->log, LOG_WARNING, LOG_KIND_ACCEPT, l->hub->now_ns, NULL,
                                 "lost a new connection: %s", strerror(-r));
        }
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
        struct listener *l = arg;

        (void)fd;
        (void)what;
        if (event_add(&l->event, NULL) < 0)
                pause_accepting(l, ENOMEM);
}

int listener_init(struct listener *l, struct hub *hub, int fd)
{
        *l = (struct listener){.hub = hub, .fd = fd};
        event_assign(&l->event, hub->base, fd, EV_READ | EV_PERSIST, on_connections, l);
        event_assign(&l->resume, hub->base, -1, 0, on_resume, l);
        if (event_add(&l->event, NULL) < 0) {
                close(fd);
                l->fd = -1;
                return -ENOMEM;
        }
        return 0;
}

void listener_pause(struct listener *l)
{
        (void)event_del(&l->event);
        (void)event_del(&l->resume);
}

void listener_resume(struct listener *l)
{
        on_resume(-1, 0, l);
}

void listener_done(struct listener *l)
{
        if (l->fd < 0)
                return;
        (void)event_del(&l->event);
        (void)event_del(&l->resume);
        close(l->fd);
        l->fd = -1;
}
