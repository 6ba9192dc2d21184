/* SPDX-License-Identifier: MIT */
/*
 * Pipelines that wait for nothing, for somebody else's event loop
 *
 * The loop waits for one descriptor (watch.c) to become readable, calls dispatch() and collects
 * what has finished. Each dispatch is one turn: connect as far as that goes, receive what is there,
 * send what the socket takes, see whether the deadline passed. No step waits, each goes on where
 * the one before stopped, and each is bounded, so that one pipeline does not hold up a whole loop:
 * what is left makes the descriptor readable again.
 *
 * Requests are accepted before there is a connection, and beyond what the daemon takes at a time.
 * They lie in `out`, in order: first those that may leave (n_released bytes), then those that are
 * held (n_held requests) until Hello is answered and enough replies have come. Only Hello's reply
 * tells how large a request may be, and what the daemon knows; one that was accepted before and is
 * nothing for it is lost then, and the rest goes on.
 *
 * The deadline is that of the reply that comes next, as for a pipeline that waits: the handle's
 * timeout after the last reply, or after the first request when nothing was on the way.
 *
 * Results that come up anywhere but in a dispatch (a flush that finds the connection broken) set
 * the alarm to now, so that the loop comes to collect them.
 */

#include <string.h>
#include <sys/epoll.h>

#include "client/map-touch.h"
#include "client/pipeline.h"
#include "proto/frame.h"

/* As for a pipeline that waits: requests leave when there are this many bytes of them. */
#define OUT_FLUSH (64u << 10)
/* Receives in one turn, of 64 KiB each unless a large value is on its way. */
#define RECEIVES_A_TURN 16
/* A daemon whose backlog is full is asked again after 1, 2, 4 … ms. */
#define REDIAL_MAX_MS 32

static bool is_ready(const cached_pipeline *p)
{
        return p->conn && p->conn->hello_state == CONN_HELLO_DONE;
}

/* -------------------------------------------------------------------------------------- sending */

/* As many requests as the daemon takes at a time may leave. */
static void pipeline_release(cached_pipeline *p)
{
        struct pipeline_loop *l = &p->loop;
        size_t most = p->conn->max_in_flight ? p->conn->max_in_flight : 1;

        while (l->n_held > 0 && p->n_open - l->n_held < most) {
                struct frame_header h =
                        frame_header_read(p->out.data + p->out.start + l->n_released);

                l->n_released += FRAME_HEADER_SIZE + h.n_message + (size_t)h.n_body;
                l->n_held--;
        }
}

int pipeline_loop_send(cached_pipeline *p)
{
        struct pipeline_loop *l = &p->loop;

        if (!is_ready(p))
                return CACHED_OK;
        if (pipeline_is_foreign(p))
                return pipeline_break_foreign(p);
        pipeline_release(p);
        if (l->n_released > 0)
                map_before_request(&p->handle->pool->map);
        while (l->n_released > 0) {
                struct iovec iov = {p->out.data + p->out.start, l->n_released};
                size_t n = 0;

                if (conn_send_some(p->conn, &iov, 1, &p->failure, &n) != CACHED_OK) {
                        p->conn->n_receives = RECEIVES_A_TURN;
                        return pipeline_send_failed(p, DEADLINE_NOW);
                }
                l->full = n == 0;
                if (l->full)
                        break;
                buffer_take(&p->out, n);
                l->n_released -= n;
        }
        return CACHED_OK;
}

void pipeline_loop_asked(cached_pipeline *p)
{
        if (buffer_n(&p->out) >= OUT_FLUSH && !p->loop.full)
                (void)pipeline_loop_send(p); /* next() tells what became of it */
        pipeline_loop_update(p);
}

/* ----------------------------------------------------------------------------------- connecting */

/* Now that the daemon has told its limits: what it would not take goes no further. */
static void pipeline_refuse(cached_pipeline *p)
{
        uint8_t *from, *to;

        if (p->loop.n_held == 0)
                return;
        from = to = p->out.data + p->out.start;
        for (uint64_t id = p->end - p->loop.n_held; id != p->end; id++) {
                struct frame_header h = frame_header_read(from);
                size_t n = FRAME_HEADER_SIZE + h.n_message + (size_t)h.n_body;

                if (call_check_sizes(p->conn, h.n_message, h.n_body, &p->failure) != CACHED_OK ||
                    call_check_features(p->conn, slot_at(p, id)->needs_leases, &p->failure) !=
                            CACHED_OK) {
                        p->loop.n_held--;
                        pipeline_lose(p, id);
                } else {
                        if (to != from)
                                memmove(to, from, n);
                        to += n;
                }
                from += n;
        }
        p->out.end = (size_t)(to - p->out.data);
        buffer_take(&p->out, 0);
}

static int pipeline_dial(cached_pipeline *p)
{
        struct pipeline_loop *l = &p->loop;
        int code = handle_dial(p->handle, p->conn, &p->failure, &l->greeting);

        if (code == CONN_AGAIN) {
                l->redial_ns = deadline_now_ns() + (uint64_t)l->redial_ms * 1000000u;
                if (l->redial_ms < REDIAL_MAX_MS)
                        l->redial_ms *= 2;
        } else if (code == CACHED_OK && !watch_socket(&l->watch, p->conn->fd, EPOLLIN)) {
                code = failure_nomem(&p->failure);
        }
        return code;
}

static int pipeline_hello(cached_pipeline *p)
{
        int code;

        p->conn->n_receives = RECEIVES_A_TURN;
        code = conn_hello(p->conn, &p->handle->options, DEADLINE_NOW, &p->failure);
        if (code != CONN_AGAIN && code != CACHED_ERR_NOMEM)
                pool_attempted(p->handle->pool, code, &p->failure);
        if (code == CACHED_OK)
                pipeline_refuse(p);
        return code;
}

int pipeline_loop_connect(cached_pipeline *p)
{
        struct failure *f = &p->failure;
        int code;

        if (!watch_is_ours(&p->loop.watch))
                return failure_set(f, CACHED_ERR_DISCONNECTED,
                                   "a pipeline does not survive a fork");
        p->conn = conn_new();
        if (!p->conn)
                return failure_nomem(f);
        p->loop.redial_ms = 1;
        p->loop.full = false;
        code = pipeline_dial(p);
        if (code == CACHED_OK)
                code = pipeline_hello(p);
        if (code == CACHED_OK || code == CONN_AGAIN)
                return CACHED_OK;
        (void)watch_socket(&p->loop.watch, p->conn->fd, 0);
        p->conn = conn_free(p->conn);
        return code;
}

/* Until the connection can take requests. */
static int turn_connect(cached_pipeline *p)
{
        int code;

        if (p->conn->fd < 0) {
                if (deadline_now_ns() < p->loop.redial_ns)
                        return CONN_AGAIN;
                code = pipeline_dial(p);
                if (code == CONN_AGAIN)
                        return code;
                if (code != CACHED_OK)
                        return pipeline_break(p);
        }
        code = pipeline_hello(p);
        return code == CACHED_OK || code == CONN_AGAIN ? code : pipeline_break(p);
}

/* ------------------------------------------------------------------------------------- one turn */

static int turn_receive(cached_pipeline *p)
{
        size_t n_open = p->n_open;
        int code;

        p->conn->n_receives = RECEIVES_A_TURN;
        do
                code = pipeline_receive_to_queue(p, DEADLINE_NOW);
        while (code == CACHED_OK);
        if (code != CONN_AGAIN)
                return code;
        if (p->n_open != n_open)
                p->loop.deadline = deadline_in_ms(p->handle->options.timeout_ms);
        return CACHED_OK;
}

/* Never, where nothing is on its way. */
static struct deadline turn_deadline(const cached_pipeline *p)
{
        const struct pipeline_loop *l = &p->loop;

        if (p->n_open > 0 && !is_ready(p) && l->greeting.at_ns < l->deadline.at_ns)
                return l->greeting;
        return l->deadline;
}

static bool is_over(struct deadline d)
{
        return !deadline_is_never(d) && deadline_left_ns(d) == 0;
}

static int turn_timed_out(cached_pipeline *p)
{
        const char *what = p->conn->fd < 0 ? "the daemon does not accept connections in time"
                                           : "the daemon did not answer in time";

        (void)failure_set(&p->failure, CACHED_ERR_TIMEOUT, "%s", what);
        if (!is_ready(p))
                pool_attempted(p->handle->pool, CACHED_ERR_TIMEOUT, &p->failure);
        return pipeline_break(p);
}

static int turn(cached_pipeline *p)
{
        int code = CACHED_OK;

        if (!p->conn)
                return CACHED_OK;
        if (pipeline_is_foreign(p))
                return pipeline_break_foreign(p);
        if (!is_ready(p))
                code = turn_connect(p);
        if (code == CACHED_OK)
                code = turn_receive(p);
        if (code == CACHED_OK)
                code = pipeline_loop_send(p);
        if (p->conn && is_over(turn_deadline(p)))
                return turn_timed_out(p);
        return code == CONN_AGAIN ? CACHED_OK : code;
}

int cached_pipeline_dispatch(cached_pipeline *p)
{
        int code;

        if (!p || !p->nonblocking)
                return CACHED_ERR_USAGE;
        watch_look(&p->loop.watch);
        code = turn(p);
        p->loop.news = false;
        pipeline_loop_update(p);
        return code;
}

/* --------------------------------------------------------------------------- what to wait for */

static bool is_sending(const cached_pipeline *p)
{
        return p->conn->hello_state < CONN_HELLO_ASKED || p->loop.n_released > 0;
}

void pipeline_loop_update(cached_pipeline *p)
{
        struct pipeline_loop *l = &p->loop;
        uint64_t alarm_ns;

        if (p->n_open == 0)
                l->deadline = DEADLINE_NEVER;
        else if (deadline_is_never(l->deadline))
                l->deadline = deadline_in_ms(p->handle->options.timeout_ms);
        alarm_ns = l->news ? 1 : p->conn ? turn_deadline(p).at_ns : UINT64_MAX;
        if (p->conn && p->conn->fd < 0) {
                /* Nobody waits for this connection any more. */
                if (p->n_open == 0)
                        p->conn = conn_free(p->conn);
                else if (l->redial_ns < alarm_ns)
                        alarm_ns = l->redial_ns;
        } else if (p->conn) {
                if (is_ready(p))
                        pipeline_release(p);
                (void)watch_socket(&l->watch, p->conn->fd,
                                   is_sending(p) ? EPOLLIN | EPOLLOUT : EPOLLIN);
        }
        watch_alarm(&l->watch, alarm_ns);
}

int cached_pipeline_fd(const cached_pipeline *p)
{
        return p ? p->loop.watch.fd : -1;
}

int cached_pipeline_wants(const cached_pipeline *p)
{
        if (!p || !p->nonblocking || !p->conn || p->n_open == 0)
                return 0;
        if (p->conn->fd < 0)
                return CACHED_WANT_WRITE;
        return p->loop.n_released + p->loop.n_held > 0 ? CACHED_WANT_READ | CACHED_WANT_WRITE
                                                       : CACHED_WANT_READ;
}
