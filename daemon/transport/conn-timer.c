/* SPDX-License-Identifier: MIT */
/*
 * Deadlines of a connection
 *
 * A frame that was begun has to complete, and output that waits has to be taken; descriptors that
 * could not be sent are tried again. One timer for all, which exists only while a frame is
 * incomplete or output waits, and looks at the clock when it fires: so it need not be moved with
 * every byte.
 */

#include "log.h"
#include "transport/conn-private.h"

#define TIMER_MIN_MS 1
#define NEVER        UINT64_MAX

static uint64_t frame_due(const struct conn *c)
{
        const struct config_limits *limits = &c->hub->limits;

        if (c->frame_since_ns == 0)
                return NEVER;
        return c->frame_since_ns + limits->frame_ms * NSEC_PER_MSEC +
               (c->frame_body >> 20) * NSEC_PER_SEC;
}

static uint64_t stall_due(const struct conn *c)
{
        return c->stall_since_ns == 0 ? NEVER
                                      : c->stall_since_ns + c->hub->limits.stall_ms * NSEC_PER_MSEC;
}

/* Descriptors that had to wait are tried again. */
static uint64_t fds_due(const struct conn *c)
{
        return c->fds_due_ns == 0 ? NEVER : c->fds_due_ns;
}

/* The timer is never later than what is due; where it is earlier, it looks again. */
void conn_set_timer(struct conn *c)
{
        uint64_t a = frame_due(c), b = stall_due(c), now = c->hub->now_ns;
        uint64_t due = a < b ? a : b, ms;
        struct timeval tv;

        if (fds_due(c) < due)
                due = fds_due(c);
        if (due == NEVER) {
                if (c->timer_due_ns != 0)
                        (void)event_del(&c->timer);
                c->timer_due_ns = 0;
                return;
        }
        if (c->timer_due_ns != 0 && c->timer_due_ns <= due)
                return;
        ms = due > now ? (due - now) / NSEC_PER_MSEC + TIMER_MIN_MS : TIMER_MIN_MS;
        tv = (struct timeval){.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
        if (event_add(&c->timer, &tv) < 0)
                conn_out_of_memory(c);
        else
                c->timer_due_ns = due;
}

void conn_check_deadlines(struct conn *c)
{
        struct hub *h = c->hub;

        if (c->dead)
                return;
        if (stall_due(c) <= h->now_ns) {
                log_peer(h->log, LOG_INFO, LOG_KIND_STALL, h->now_ns,
                         &(struct log_fields){LOG_PEER(&c->peer)},
                         "pid %d (uid %u) took none of its replies for %llu ms: disconnected",
                         (int)c->peer.pid, (unsigned)c->peer.uid,
                         (unsigned long long)h->limits.stall_ms);
                conn_abort(c);
                return;
        }
        if (frame_due(c) <= h->now_ns) {
                c->frame_since_ns = 0;
                conn_violate(
                        c, "the frame was not complete in time (limits.frame_ms): send each frame "
                           "in one go");
        }
        conn_settle(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        struct conn *c = arg;

        (void)fd;
        (void)what;
        c->timer_due_ns = 0;
        hub_tick(c->hub);
        conn_check_deadlines(c);
}

void conn_timer_init(struct conn *c)
{
        event_assign(&c->timer, c->hub->base, -1, 0, on_timer, c);
}
