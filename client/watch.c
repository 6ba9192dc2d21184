/* SPDX-License-Identifier: MIT */
/*
 * What somebody else's event loop waits for
 *
 * A connection's descriptor is a bad thing to hand out: the next connection has another one, or,
 * worse, another one with the same number, which a loop that compares numbers never registers; and
 * where a forked child holds a copy of a closed socket, epoll goes on reporting it and nobody can
 * tell it to stop. So the loop gets an epoll descriptor that stays the same as long as the pipeline
 * lives. The socket and a timer are registered in it. It is never waited for from here: whether the
 * socket has something is seen by trying.
 *
 * System calls are made only when something changes. The timer is left alone when the moment moves
 * away, as it does with every reply: it wakes the loop once in vain and is then set to what is
 * true.
 *
 * After a fork the child has the same epoll object and timer, not copies: it changes neither, since
 * that would change the parent's.
 */

#include "client/watch.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "client/deadline.h"

int watch_init(struct watch *w, const struct guard_self *self)
{
        struct epoll_event e = {.events = EPOLLIN};
        struct watch made = WATCH_NONE;
        int r;

        made.self = self;
        made.pid = guard_pid(self);
        made.alarm_ns = UINT64_MAX;
        made.fd = epoll_create1(EPOLL_CLOEXEC);
        made.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (made.fd < 0 || made.timer < 0 ||
            epoll_ctl(made.fd, EPOLL_CTL_ADD, made.timer, &e) < 0) {
                r = -errno;
                if (made.timer >= 0)
                        (void)close(made.timer);
                if (made.fd >= 0)
                        (void)close(made.fd);
                return r;
        }
        *w = made;
        return 0;
}

/*
 * A child may have closed all descriptors and given our numbers to others. That both are still what
 * they were shows in that the one knows the other: to say again what it knows changes nothing.
 */
static bool watch_is_whole(const struct watch *w)
{
        struct epoll_event e = {.events = EPOLLIN};

        return epoll_ctl(w->fd, EPOLL_CTL_MOD, w->timer, &e) == 0;
}

void watch_done(struct watch *w)
{
        if (w->fd >= 0 && (watch_is_ours(w) || watch_is_whole(w))) {
                (void)close(w->timer);
                (void)close(w->fd);
        }
        *w = WATCH_NONE;
}

bool watch_is_ours(const struct watch *w)
{
        return w->pid == guard_pid(w->self);
}

bool watch_socket(struct watch *w, int fd, uint32_t events)
{
        struct epoll_event e = {.events = events};
        int op = EPOLL_CTL_MOD;

        if (events == w->events)
                return true;
        if (w->events == 0)
                op = EPOLL_CTL_ADD;
        else if (events == 0)
                op = EPOLL_CTL_DEL;
        if (watch_is_ours(w) && epoll_ctl(w->fd, op, fd, &e) < 0)
                return false;
        w->events = events;
        return true;
}

void watch_look(struct watch *w)
{
        w->rang = w->alarm_ns != UINT64_MAX && deadline_now_ns() >= w->alarm_ns;
}

void watch_alarm(struct watch *w, uint64_t at_ns)
{
        struct itimerspec t = {0};

        if (!w->rang && at_ns >= w->alarm_ns)
                return;
        /* Zero takes it back, also that it has rung. */
        if (at_ns != UINT64_MAX) {
                t.it_value.tv_sec = (time_t)(at_ns / 1000000000u);
                t.it_value.tv_nsec = (long)(at_ns % 1000000000u);
        }
        if (watch_is_ours(w))
                (void)timerfd_settime(w->timer, TFD_TIMER_ABSTIME, &t, NULL);
        w->alarm_ns = at_ns;
        w->rang = false;
}
