/* SPDX-License-Identifier: MIT */
/*
 * The connection of the line: making it, sending, receiving, losing it
 *
 * Whatever is sent is a whole frame that is appended to `out` under the guard and leaves at once,
 * without waiting, unless the socket is full. One thread at a time reads: `is_read` is its right to
 * `in`, and to free the connection. So who finds it broken while another one reads only shuts the
 * socket down, which ends the other's wait.
 *
 * Replies that nobody waits for any more are read all the same. If one of them grants a lease that
 * is given back, or those who do wait would wait for nobody; and if it has a memory file the daemon
 * is told that nobody looks at it.
 */

#include "client/line-conn.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/call.h"
#include "client/release.h"

/* Receives in one go, of 64 KiB each, unless a large value is on its way. */
#define RECEIVES 16
/* While the socket has no room: who waits for it looks so often whether the connection stands. */
#define ROOM_SLICE_NS UINT64_C(10000000)

/* ---------------------------------------------------------------------------------------- guard */

/* In a child: what is there is the parent's. */
static void line_inherit(struct line *l, bool is_whole)
{
        struct conn *conn = l->conn;

        l->conn = NULL;
        if (conn && is_whole && !l->is_read && !l->is_opening)
                (void)conn_free(conn);
        else if (conn)
                conn_abandon(conn);
        if (l->part && is_whole && !l->is_read)
                cached_reply_free(l->part);
        l->part = NULL;
        l->asks = l->last_ask = NULL;
        l->n_unsent = 0;
        l->wake_bits = 0;
        l->is_opening = l->is_read = l->is_broken = false;
        l->n_leases = l->n_sent = l->n_left = 0;
        l->ping_id = 0;
        l->at.generation++;
}

void line_lock(struct pool *p)
{
        enum guard_found found = guard_lock(&p->line.guard, &p->self);

        if (found != GUARD_MINE)
                line_inherit(&p->line, found == GUARD_FORKED);
}

void line_unlock(struct pool *p)
{
        struct line *l = &p->line;
        uint32_t bits = l->wake_bits;

        l->wake_bits = 0;
        guard_unlock(&l->guard);
        if (bits)
                (void)syscall(SYS_futex, (uint32_t *)(void *)&l->wakes, FUTEX_WAKE_BITSET_PRIVATE,
                              INT_MAX, NULL, NULL, bits);
}

/* ----------------------------------------------------------------------------------------- asks */

void line_add(struct line *l, struct line_ask *a)
{
        a->bit = UINT32_C(1) << (l->next_bit++ % 32);
        a->is_listed = true;
        a->generation = l->at.generation;
        a->next = NULL;
        a->prev = l->last_ask;
        if (a->prev)
                a->prev->next = a;
        else
                l->asks = a;
        l->last_ask = a;
        l->n_unsent++;
}

void line_remove(struct line *l, struct line_ask *a)
{
        if (a->prev)
                a->prev->next = a->next;
        else
                l->asks = a->next;
        if (a->next)
                a->next->prev = a->prev;
        else
                l->last_ask = a->prev;
        if (!a->id)
                l->n_unsent--;
        a->is_listed = false;
}

void line_wake(struct line *l, const struct line_ask *a)
{
        if (l->wake_bits == 0)
                atomic_fetch_add_explicit(&l->wakes, 1, memory_order_relaxed);
        l->wake_bits |= a->bit;
}

void line_pass_place(struct line *l)
{
        if (l->n_unsent == 0)
                return;
        for (struct line_ask *a = l->asks; a; a = a->next)
                if (!a->id) {
                        line_wake(l, a);
                        return;
                }
}

/* Somebody else than who waits for it ends it. */
static void line_end_ask(struct line *l, struct line_ask *a)
{
        line_remove(l, a);
        line_wake(l, a);
        atomic_store_explicit(&a->is_done, true, memory_order_release);
}

static void line_fail_ask(struct line *l, struct line_ask *a, int code, const char *text)
{
        a->code = failure_set(&a->why, code, "%s", text);
        line_end_ask(l, a);
}

/* --------------------------------------------------------------------------------------- losing */

/* Nobody reads. */
static void line_drop_conn(struct line *l)
{
        struct conn *conn = l->conn;

        l->conn = NULL;
        l->is_broken = false;
        /* A child that is forked now must not find a freed connection. */
        atomic_signal_fence(memory_order_seq_cst);
        (void)conn_free(conn);
        cached_reply_free(l->part);
        l->part = NULL;
        l->n_leases = l->n_sent = l->n_left = 0;
        l->ping_id = 0;
}

void line_break(struct pool *p, int code, const char *text)
{
        struct line *l = &p->line;

        if (!l->conn)
                return;
        if (l->is_read || l->is_opening) {
                l->is_broken = true;
                (void)shutdown(l->conn->fd, SHUT_RDWR);
                return;
        }
        line_drop_conn(l);
        for (struct line_ask *a = l->asks, *next; a; a = next) {
                next = a->next;
                if (a->id && !a->is_done)
                        line_fail_ask(l, a, code, text);
                else if (!a->id)
                        line_wake(l, a); /* there are places now, on another one */
        }
}

void line_close(struct pool *p)
{
        struct line *l = &p->line;

        line_lock(p);
        l->is_closed = true;
        line_break(p, CACHED_ERR_CLOSED, cached_strerror(CACHED_ERR_CLOSED));
        for (struct line_ask *a = l->asks, *next; a; a = next) {
                next = a->next;
                if (!a->is_done && !a->id)
                        line_fail_ask(l, a, CACHED_ERR_CLOSED, cached_strerror(CACHED_ERR_CLOSED));
        }
        line_unlock(p);
}

void line_done(struct line *l)
{
        (void)conn_free(l->conn);
        cached_reply_free(l->part);
}

/* -------------------------------------------------------------------------------------- opening */

/* Everybody who waits for the connection looks again. */
static void line_opened(struct line *l)
{
        l->is_opening = false;
        for (struct line_ask *a = l->asks; a; a = a->next)
                if (!a->id)
                        line_wake(l, a);
}

/* Without the guard, but for the moments in which the connection becomes known. */
static int line_dial(cached *c, struct deadline d, struct failure *f)
{
        struct pool *p = c->pool;
        struct conn *conn = NULL;
        struct line_at at;
        size_t which = 0;
        bool is_ours;
        int code;

        line_lock(p);
        at = p->line.at;
        line_unlock(p);
        code = conn_dial(&c->options, &c->paths, d, &p->closed, f, &conn, &which);
        if (code != CACHED_OK)
                return code;
        conn->wants_events = conn->wants_files = true;
        line_lock(p);
        is_ours = !p->line.is_closed && p->line.at.generation == at.generation;
        if (is_ours) {
                p->line.conn = conn;
                p->line.at.epoch++;
        }
        line_unlock(p);
        if (!is_ours) {
                (void)conn_free(conn);
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        }
        code = conn_hello(conn, &c->options, d, f);
        if (code == CACHED_OK)
                conn_expect_file(conn, true);
        if (code == CACHED_OK && !conn->has_leases)
                code = failure_set(f, CACHED_UNSUPPORTED,
                                   "the daemon grants this client no leases");
        return code;
}

/* With the guard, which it gives up. */
static int line_attempt(cached *c, struct deadline d, struct failure *f)
{
        struct pool *p = c->pool;
        struct line *l = &p->line;
        int code;

        l->is_opening = true;
        line_unlock(p);
        code = line_dial(c, d, f);
        /* The daemon that gives way to another one sends those away who come meanwhile. */
        if (code == CACHED_SHUTTING_DOWN) {
                line_lock(p);
                line_drop_conn(l);
                line_unlock(p);
                code = line_dial(c, d, f);
        }
        /* That it takes no more connections is no reason to leave those alone that stand. */
        if (code != CACHED_ERR_NOMEM && code != CACHED_ERR_CLOSED && code != CACHED_LIMIT &&
            code != CACHED_UNSUPPORTED)
                pool_attempted(p, code, f);
        line_lock(p);
        if (code == CACHED_OK && l->is_closed)
                code = failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        if (code != CACHED_OK)
                line_drop_conn(l);
        line_opened(l);
        return code;
}

int line_open(cached *c, struct deadline d, struct failure *f)
{
        struct line *l = &c->pool->line;

        if (l->is_closed)
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        if (l->is_opening || l->is_broken)
                return CONN_AGAIN;
        if (l->conn)
                return CACHED_OK;
        return line_attempt(c, d, f);
}

/* -------------------------------------------------------------------------------------- sending */

/* As much as there is room for. */
static int line_flush(struct pool *p, struct failure *f)
{
        struct conn *conn = p->line.conn;

        while (buffer_n(&conn->out) > 0) {
                struct iovec iov = {conn->out.data + conn->out.start, buffer_n(&conn->out)};
                size_t n = 0;

                if (conn_send_some(conn, &iov, 1, f, &n) != CACHED_OK) {
                        line_break(p, f->code, f->text);
                        return f->code;
                }
                if (n == 0)
                        return CONN_AGAIN;
                buffer_take(&conn->out, n);
        }
        return CACHED_OK;
}

int line_send(struct pool *p, Cached__V1__Request *request, struct line_ask *a, struct deadline d,
              struct failure *f)
{
        struct line *l = &p->line;
        struct line_at at = l->at;
        int code;

        request->id = l->conn->next_id++;
        code = call_pack(l->conn, request, 0, &l->conn->out, f);
        if (code != CACHED_OK)
                return code;
        l->used_ns = deadline_now_ns();
        if (a) {
                /* From now on its reply may come. */
                a->id = request->id;
                a->since_ns = l->used_ns;
                l->n_unsent--;
                l->n_sent++;
        }
        for (;;) {
                struct pollfd poll_out = {.fd = l->conn->fd, .events = POLLOUT};
                struct deadline slice = {deadline_now_ns() + ROOM_SLICE_NS};

                code = line_flush(p, f);
                if (code != CONN_AGAIN)
                        return code;
                if (!deadline_is_never(d) && deadline_left_ns(d) == 0) {
                        line_break(p, CACHED_ERR_TIMEOUT, "the daemon reads no requests");
                        return failure_set(f, CACHED_ERR_TIMEOUT, "the daemon reads no requests");
                }
                line_unlock(p);
                (void)poll(&poll_out, 1, deadline_poll_ms(slice));
                line_lock(p);
                if (!l->conn || l->at.generation != at.generation || l->at.epoch != at.epoch)
                        return failure_set(f, CACHED_ERR_DISCONNECTED,
                                           "the connection broke before the request was sent");
        }
}

/* ------------------------------------------------------------------------------------ receiving */

/* Ids begin anew with each connection, so one that is over may have the same. */
static struct line_ask *line_find(struct line *l, uint64_t id)
{
        for (struct line_ask *a = l->asks; a; a = a->next)
                if (a->id == id && id && !a->is_done)
                        return a;
        return NULL;
}

static bool is_grant(const struct cached_reply *r)
{
        const Cached__V1__Lease *l = r->message->lease;

        return l && l->state == CACHED__V1__LEASE_STATE__LEASE_GRANTED;
}

/* The daemon is told that nobody looks at its memory file. */
static void line_release(struct conn *conn, uint64_t view_id)
{
        struct release told = {0};

        release_add(&told, conn->instance, view_id);
        release_pack(&told, conn, &conn->out);
        release_done(&told);
}

static void line_end_lease(struct conn *conn, uint64_t lease_id)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__EndLease end = CACHED__V1__END_LEASE__INIT;
        struct failure f;

        end.lease_id = lease_id;
        end.one_way = 1;
        request.op_case = CACHED__V1__REQUEST__OP_END_LEASE;
        request.end_lease = &end;
        request.id = conn->next_id++;
        (void)call_pack(conn, &request, 0, &conn->out, &f);
}

/* Nobody waits for it any more. What it grants and shows goes back, by requests that need not
 * arrive: if a lease's does not the connection has ended, and the lease with it. */
static void line_give_back(struct pool *p, const struct cached_reply *r)
{
        struct conn *conn = p->line.conn;
        struct failure f;

        assert(conn); /* whoever reads is in no child */
        if (p->line.n_left > 0)
                p->line.n_left--;
        if (reply_is_without_body(r) && r->message->entry->view_id)
                line_release(conn, r->message->entry->view_id);
        if (is_grant(r))
                line_end_lease(conn, r->message->lease->lease_id);
        (void)line_flush(p, &f);
}

/* An event is for who waits for the request that it names; others are none of the line's. */
static void line_take_event(struct line *l, struct cached_reply *r)
{
        const Cached__V1__Event *e = r->message->event;
        struct line_ask *a = NULL;

        if (e && e->kind_case == CACHED__V1__EVENT__KIND_PROGRESS && e->progress->lease)
                a = line_find(l, e->progress->request_id);
        if (!a) {
                cached_reply_free(r);
                return;
        }
        cached_reply_free(a->event);
        a->event = r;
        line_wake(l, a);
}

static void line_take_reply(struct pool *p, struct cached_reply *r)
{
        struct line *l = &p->line;
        struct line_ask *a = line_find(l, r->message->id);

        if (r->message->id == l->ping_id)
                l->ping_id = 0;
        else if (!a)
                line_give_back(p, r);
        if (!a) {
                line_pass_place(l);
                cached_reply_free(r);
                return;
        }
        l->n_sent--;
        /* From now on, and not from when its thread is awake: line_forsake(). */
        if (is_grant(r))
                l->n_leases++;
        line_pass_place(l);
        a->reply = r;
        a->code = CACHED_OK;
        line_end_ask(l, a);
}

/* Whether the body is more than a value: who asked for that may have given up. */
static bool has_messages(const struct cached_reply *r, uint64_t n_body)
{
        return r->code == CACHED_OK && r->message->result_case == CACHED__V1__REPLY__RESULT_ENTRY &&
               n_body > r->message->entry->size;
}

/* Who is to be woken is so when all is read: else each would take the guard, and the processor,
 * from who reads. */
static void line_unlock_later(struct pool *p)
{
        guard_unlock(&p->line.guard);
}

/* What a reply must be to be one. */
static int line_check(struct pool *p, struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        Cached__V1__Request__OpCase op = CACHED__V1__REQUEST__OP_GET;
        const struct line_ask *a;
        bool is_known;
        uint64_t id = r->message->id;

        line_lock(p);
        a = line_find(&p->line, id);
        if (a)
                op = a->op;
        else if (id == p->line.ping_id)
                op = CACHED__V1__REQUEST__OP_PING;
        is_known = id < p->line.conn->next_id;
        line_unlock_later(p);
        if (!is_known)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered a request that was not sent");
        if (op == CACHED__V1__REQUEST__OP_GET && reply_is_without_body(r)) {
                bool is_lost = false;

                if (r->message->entry->view_id)
                        r->fd = conn_take_file(p->line.conn, &is_lost);
                return reply_check_file(r, n_body, is_lost, f);
        }
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_RESOURCE &&
            r->message->resource->descriptor)
                r->fd = conn_take_file(p->line.conn, &r->has_lost_fd);
        /* Nobody knows what an old request was that gave up; with a value it was a Get. */
        if (!a && op == CACHED__V1__REQUEST__OP_GET && n_body == 0)
                return CACHED_OK;
        return reply_check(r, op, has_messages(r, n_body), n_body, f);
}

/* One whole reply, if it is there. *ret is set with CACHED_OK only. */
static int line_receive(struct pool *p, struct failure *f, struct cached_reply **ret)
{
        struct line *l = &p->line;
        struct conn *conn = l->conn;
        struct cached_reply *r = NULL;
        uint64_t n_body = 0;
        int code = CACHED_OK;

        if (!l->part) {
                code = conn_recv_message(conn, DEADLINE_NOW, false, f, &r, &n_body);
                if (code != CACHED_OK)
                        return code;
                if (conn_classify(r, n_body, f) == CONN_FAREWELL)
                        code = f->code;
                else if (r->message->id != 0)
                        code = line_check(p, r, n_body, f);
                if (code == CACHED_OK && r->code == CACHED_OK &&
                    r->message->result_case == CACHED__V1__REPLY__RESULT_ENTRY &&
                    !reply_is_without_body(r))
                        code = conn_body_begin(conn, r, n_body, f);
                else
                        conn->n_body_left = 0;
                if (code != CACHED_OK) {
                        cached_reply_free(r);
                        return code;
                }
                l->part = r;
        }
        code = conn->n_body_left > 0 ? conn_body_rest(conn, DEADLINE_NOW, f) : CACHED_OK;
        if (code == CACHED_OK) {
                r = l->part;
                assert(r);
                l->part = NULL;
                r->instance = conn->instance;
                if (has_messages(r, r->n_body) && !reply_split_messages(r)) {
                        cached_reply_free(r);
                        return failure_nomem(f);
                }
                *ret = r;
        }
        return code;
}

/* Takes all that is there. With the right to read, and without the guard. */
static int line_receive_all(struct pool *p, struct failure *f)
{
        struct line *l = &p->line;
        int code;

        l->conn->n_receives = RECEIVES;
        do {
                struct cached_reply *r = NULL;

                code = line_receive(p, f, &r);
                if (code != CACHED_OK)
                        break;
                assert(r);
                r->instance = l->conn->instance;
                line_lock(p);
                l->heard_ns = deadline_now_ns();
                if (r->message->id == 0)
                        line_take_event(l, r);
                else
                        line_take_reply(p, r);
                line_unlock_later(p);
        } while (code == CACHED_OK);
        return code == CONN_AGAIN ? CACHED_OK : code;
}

void line_read(struct pool *p, struct deadline until)
{
        struct line *l = &p->line;
        struct failure f;
        short ready;
        int code = CACHED_OK;

        l->is_read = true;
        line_unlock(p);
        if (!deadline_is_now(until) && !conn_linger(l->conn))
                code = conn_wait(l->conn, POLLIN, until, &f, &ready);
        if (code == CACHED_OK)
                code = line_receive_all(p, &f);
        line_lock(p);
        l->is_read = false;
        if (l->is_broken && (code == CACHED_OK || code == CACHED_ERR_TIMEOUT))
                code = failure_set(&f, CACHED_ERR_DISCONNECTED, "the connection broke");
        if (code != CACHED_OK && code != CACHED_ERR_TIMEOUT) {
                if (l->is_closed)
                        (void)failure_set(&f, CACHED_ERR_CLOSED, "%s",
                                          cached_strerror(CACHED_ERR_CLOSED));
                line_break(p, f.code, f.text);
        }
}
