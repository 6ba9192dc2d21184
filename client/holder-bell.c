/* SPDX-License-Identifier: MIT */
/*
 * The holder's connection, and the thread that keeps it
 *
 * The thread connects, says what this process holds, and then sleeps until the daemon tells that
 * something has left. When the connection breaks it tries again at once, and then at growing
 * intervals as long as there is anything to keep; who acquires something meanwhile has it try at
 * once.
 *
 * What others give back goes over this connection, too: they put it into its output, with the
 * mutex, and send what there is room for; the thread sends the rest.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/resource.h"

#define PAUSE_FIRST_MS  20u
#define PAUSE_MAX_MS    2000u
#define RECEIVES_A_TURN 16u
#define PROBE_MS        1u
/* What is given back when the handle ends is to leave. */
#define FAREWELL_MS 200u

/* -------------------------------------------------------------------------------------- sending */

void holder_flush(struct holder *h)
{
        struct buffer *out = &h->conn->out;
        struct failure f;

        while (buffer_n(out) > 0) {
                struct iovec iov = {out->data + out->start, buffer_n(out)};
                size_t n = 0;

                if (conn_send_some(h->conn, &iov, 1, &f, &n) != CACHED_OK) {
                        (void)shutdown(h->conn->fd, SHUT_RDWR); /* the thread sees it */
                        return;
                }
                if (n == 0) {
                        holder_wake(h);
                        return;
                }
                buffer_take(out, n);
        }
}

/* ------------------------------------------------------------------------------------ receiving */

static void take_event(struct holder *h, const struct cached_reply *r)
{
        const Cached__V1__Event *e = r->message->event;

        if (!e || e->kind_case != CACHED__V1__EVENT__KIND_RESOURCE)
                return;
        (void)pthread_mutex_lock(&h->mutex);
        held_take_news(h, e->resource->instance, (int)e->resource->cause);
        (void)pthread_mutex_unlock(&h->mutex);
}

/* One frame. *ret: a reply; NULL: it was an event. */
static int receive(struct holder *h, struct deadline d, struct failure *f,
                   struct cached_reply **ret, uint64_t *ret_n_body)
{
        struct cached_reply *r = NULL;
        int code = conn_recv_message(h->conn, d, false, f, &r, ret_n_body);

        *ret = NULL;
        if (code != CACHED_OK)
                return code;
        switch (conn_classify(r, *ret_n_body, f)) {
        case CONN_ASKED:
                *ret = r;
                return CACHED_OK;
        case CONN_EVENT:
                take_event(h, r);
                break;
        case CONN_FAREWELL:
                code = f->code;
                break;
        }
        cached_reply_free(r);
        return code;
}

static int send_now(struct holder *h, int fd, struct deadline d, struct failure *f)
{
        enum conn_sent sent;
        int code = CACHED_OK;

        (void)pthread_mutex_lock(&h->mutex);
        if (fd >= 0) {
                code = conn_send_file(h->conn, h->conn->out.data + h->conn->out.start,
                                      buffer_n(&h->conn->out), fd, d, f, &sent);
        } else {
                struct iovec iov = {h->conn->out.data + h->conn->out.start,
                                    buffer_n(&h->conn->out)};

                code = conn_send(h->conn, &iov, 1, d, f, &sent);
        }
        if (code == CACHED_OK)
                buffer_take(&h->conn->out, buffer_n(&h->conn->out));
        (void)pthread_mutex_unlock(&h->mutex);
        return code;
}

int holder_ask(struct holder *h, Cached__V1__Request *request, int fd, struct deadline d,
               struct failure *f, struct cached_reply **ret)
{
        uint64_t n_body = 0;
        int code;

        *ret = NULL;
        /* Nobody else sends before the holder is here. */
        request->id = h->conn->next_id++;
        code = call_pack(h->conn, request, 0, &h->conn->out, f);
        if (code == CACHED_OK)
                code = send_now(h, fd, d, f);
        while (code == CACHED_OK && !*ret)
                code = receive(h, d, f, ret, &n_body);
        if (code != CACHED_OK)
                return code;
        if ((*ret)->message->id != request->id)
                code = failure_set(
                        f, CACHED_ERR_BAD_REPLY,
                        "the daemon answered another request than the one that was made");
        else
                code = reply_check(*ret, request->op_case, false, n_body, f);
        if (code != CACHED_OK) {
                cached_reply_free(*ret);
                *ret = NULL;
        }
        return code;
}

/* ----------------------------------------------------------------------------------- connecting */

static void set_dialing(struct holder *h, struct conn *conn)
{
        (void)pthread_mutex_lock(&h->mutex);
        h->dialing = conn;
        (void)pthread_mutex_unlock(&h->mutex);
}

static int dial_once(struct holder *h, struct deadline d, struct failure *f, struct conn **ret)
{
        struct cached *c = &h->handle;
        struct conn *conn = NULL;
        size_t which = 0;
        int code = conn_dial(&c->options, &c->paths, d, &h->stops, f, &conn, &which);

        if (code != CACHED_OK)
                return code;
        conn->wants_events = true;
        set_dialing(h, conn);
        code = atomic_load(&h->stops)
                       ? failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED))
                       : conn_hello(conn, &c->options, d, f);
        set_dialing(h, NULL);
        if (code != CACHED_OK) {
                (void)conn_free(conn);
                return code;
        }
        *ret = conn;
        return CACHED_OK;
}

static int dial(struct holder *h, struct deadline *d, struct failure *f, struct conn **ret)
{
        struct pool *p = h->handle.pool;
        bool is_probe = false;
        int code = pool_may_connect(p, deadline_now_ns(), f, &is_probe);

        *d = deadline_in_ms(is_probe ? PROBE_MS : h->handle.options.timeout_ms);
        if (code != CACHED_OK)
                return code;
        code = dial_once(h, *d, f, ret);
        /* As one daemon gives way to another: the other one is on the same socket. */
        if (code == CACHED_SHUTTING_DOWN)
                code = dial_once(h, *d, f, ret);
        if (code != CACHED_ERR_NOMEM && code != CACHED_ERR_CLOSED && code != CACHED_LIMIT)
                pool_attempted(p, code, f);
        *d = deadline_in_ms(h->handle.options.timeout_ms);
        if (code != CACHED_OK)
                return code;
        code = call_check_resources(*ret, f);
        if (code == CACHED_OK && !((*ret)->features & CACHED__V1__FEATURE__FEATURE_EVENTS))
                code = failure_set(f, CACHED_UNSUPPORTED, "the daemon tells no events");
        if (code != CACHED_OK)
                *ret = conn_free(*ret);
        return code;
}

/* It is known by a number from then on. */
static int open_holder(struct holder *h, struct deadline d, struct failure *f)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__OpenHolder m = CACHED__V1__OPEN_HOLDER__INIT;
        const Cached__V1__HolderInfo *info;
        struct cached_reply *r = NULL;
        int code;

        m.before = h->id;
        m.before_number = atomic_load(&h->number);
        request.op_case = CACHED__V1__REQUEST__OP_OPEN_HOLDER;
        request.open_holder = &m;
        code = holder_ask(h, &request, -1, d, f, &r);
        if (code != CACHED_OK)
                return code;
        if (r->code != CACHED_OK) {
                code = failure_set(f, r->code, "%s", cached_reply_error(r));
                cached_reply_free(r);
                return code;
        }
        info = r->message->holder;
        (void)pthread_mutex_lock(&h->mutex);
        h->id = info->holder;
        atomic_store(&h->number, info->number);
        h->instance = h->conn->instance;
        (void)pthread_mutex_unlock(&h->mutex);
        cached_reply_free(r);
        return CACHED_OK;
}

static int connect_holder(struct holder *h, struct failure *f)
{
        struct conn *conn = NULL;
        struct deadline d;
        int code = dial(h, &d, f, &conn);

        if (code != CACHED_OK)
                return code;
        (void)pthread_mutex_lock(&h->mutex);
        h->conn = conn;
        h->epoch++;
        if (h->is_closing)
                (void)shutdown(conn->fd, SHUT_RDWR);
        (void)pthread_mutex_unlock(&h->mutex);
        code = open_holder(h, d, f);
        return code == CACHED_OK ? holder_claim(h, d, f) : code;
}

/* --------------------------------------------------------------------------------------- serving
 */

static void pay_debts(struct holder *h)
{
        size_t n = h->n_debts;

        h->n_debts = 0;
        for (size_t i = 0; i < n; i++) {
                struct holder_debt debt = h->debts[i];

                holder_give_back(h, debt.instance, debt.n);
        }
}

static void hear(struct holder *h)
{
        uint64_t n;

        while (read(h->wake, &n, sizeof(n)) < 0 && errno == EINTR)
                ;
}

/* Until something comes, there is room to send, or somebody wakes. False: the handle ends. */
static bool sleep_on_it(struct holder *h)
{
        struct pollfd fds[2] = {{.fd = h->wake, .events = POLLIN},
                                {.fd = h->conn->fd, .events = POLLIN}};
        bool is_closing;

        (void)pthread_mutex_lock(&h->mutex);
        if (buffer_n(&h->conn->out) > 0)
                fds[1].events |= POLLOUT;
        is_closing = h->is_closing;
        (void)pthread_mutex_unlock(&h->mutex);
        if (is_closing)
                return false;
        if (poll(fds, 2, -1) <= 0)
                return true;
        if (fds[0].revents)
                hear(h);
        if (fds[1].revents & POLLOUT) {
                (void)pthread_mutex_lock(&h->mutex);
                holder_flush(h);
                (void)pthread_mutex_unlock(&h->mutex);
        }
        return true;
}

/* What was given back is to arrive before this process goes on without the handle: the daemon
 * closes the connection when it has read all of it. */
static void say_farewell(struct holder *h)
{
        struct deadline d = deadline_in_ms(FAREWELL_MS);
        struct failure ignored;
        int code = CACHED_OK;

        if (buffer_n(&h->conn->out) > 0)
                code = send_now(h, -1, d, &ignored);
        (void)shutdown(h->conn->fd, SHUT_WR);
        while (code == CACHED_OK) {
                struct cached_reply *r;
                uint64_t n_body;

                code = receive(h, d, &ignored, &r, &n_body);
                cached_reply_free(r);
        }
}

/* Until the connection breaks or the handle ends. */
static void serve(struct holder *h, struct failure *f)
{
        int code = CACHED_OK;

        /* What functions of the program's are called here ends nothing that they might wait for. */
        while (held_sweep(h), sleep_on_it(h)) {
                h->conn->n_receives = RECEIVES_A_TURN;
                while (code == CACHED_OK) {
                        struct cached_reply *r;
                        uint64_t n_body;

                        code = receive(h, DEADLINE_NOW, f, &r, &n_body);
                        /* Nothing that was asked for here is answered by now. */
                        if (r)
                                code = failure_set(f, CACHED_ERR_BAD_REPLY,
                                                   "the daemon answered a request that was not "
                                                   "made");
                        cached_reply_free(r);
                }
                if (code != CONN_AGAIN)
                        return;
                code = CACHED_OK;
        }
        (void)failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        say_farewell(h);
}

/* ------------------------------------------------------------------------------------ the thread
 */

/* With the mutex. */
static void drop_conn(struct holder *h)
{
        h->conn = conn_free(h->conn);
}

/* With the mutex, which is given up. After an attempt that failed. */
static void pause_for(struct holder *h, uint32_t ms)
{
        struct pollfd fd = {.fd = h->wake, .events = POLLIN};
        bool keeps = h->all || h->n_debts > 0;
        bool goes_on = h->is_wanted || h->is_closing;

        (void)pthread_mutex_unlock(&h->mutex);
        if (!goes_on && poll(&fd, 1, keeps ? (int)ms : -1) > 0)
                hear(h);
        (void)pthread_mutex_lock(&h->mutex);
}

void *holder_run(void *arg)
{
        struct holder *h = arg;
        uint32_t pause_ms = PAUSE_FIRST_MS;

        (void)pthread_mutex_lock(&h->mutex);
        h->keeper = pthread_self();
        while (!h->is_closing) {
                struct failure f = {0};
                int code;

                h->is_wanted = false;
                (void)pthread_mutex_unlock(&h->mutex);
                code = connect_holder(h, &f);
                (void)pthread_mutex_lock(&h->mutex);
                if (code == CACHED_OK) {
                        h->state = HOLDER_HERE;
                        pay_debts(h);
                        (void)pthread_cond_broadcast(&h->changed);
                        (void)pthread_mutex_unlock(&h->mutex);
                        serve(h, &f);
                        (void)pthread_mutex_lock(&h->mutex);
                        pause_ms = PAUSE_FIRST_MS;
                }
                drop_conn(h);
                h->why = f;
                /* After one that stood the next attempt is made at once, and waited for. */
                h->state = code == CACHED_OK ? HOLDER_COMING : HOLDER_AWAY;
                (void)pthread_cond_broadcast(&h->changed);
                if (code != CACHED_OK) {
                        pause_for(h, pause_ms);
                        pause_ms = pause_ms < PAUSE_MAX_MS / 2 ? 2 * pause_ms : PAUSE_MAX_MS;
                }
        }
        h->state = HOLDER_AWAY;
        (void)failure_set(&h->why, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        (void)pthread_cond_broadcast(&h->changed);
        (void)pthread_mutex_unlock(&h->mutex);
        return NULL;
}
