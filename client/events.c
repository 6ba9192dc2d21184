/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions
 *
 * A connection of its own that asks once and then only reads. Everything is one step,
 * events_turn(), that waits for nothing: dial, say Hello, subscribe, take one event, each as far as
 * it goes. Who waits does so on the same descriptor that a caller's loop waits on (watch.c): it
 * stays the same over reconnects and has the next moment in it at which something is to be done.
 *
 * Nothing is read ahead but what one receive brings, so what a caller does not take stays with the
 * daemon, which bounds it and tells how much it dropped.
 *
 * A connection that breaks leaves a gap of unknown size: from the break to the daemon's answer to
 * the next Subscribe. So that answer is followed by LOST, before anything else is read: who drops
 * what it knows when it sees that misses nothing that happens later.
 *
 * Whether a failure is the daemon's absence, which ends some time, or an answer that somebody has
 * to look at, is_away() decides.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "client/call.h"
#include "client/event.h"
#include "client/session.h"
#include "client/watch.h"

/* Pauses between attempts, in milliseconds. */
#define PAUSE_FIRST_MS 10
#define PAUSE_MAX_MS   1000
/* What can be subscribed to. */
#define SUBSCRIBED (CACHED_EVENT_ALL | CACHED_EVENT_RESOURCES)
/* Receives in one turn, of 64 KiB each. */
#define RECEIVES_A_TURN 4

enum events_state {
        EVENTS_APART,   /* no connection */
        EVENTS_DIALING, /* the daemon's backlog is full */
        EVENTS_HELLO,
        EVENTS_ASKING, /* Subscribe is on its way */
        EVENTS_TOLD,   /* it was answered */
};

struct cached_events {
        cached *handle; /* borrowed */
        char *cache;    /* owned; "": all */
        uint32_t kinds;
        bool has_session; /* instead: of this one */
        uint8_t session[SESSION_TOKEN_SIZE];

        struct watch watch;
        struct conn *conn;
        enum events_state state;
        struct deadline deadline; /* of what the daemon is to answer */
        struct deadline greeting; /* of Hello, where the daemon was silent of late */
        uint64_t retry_ns;        /* the next attempt */
        uint32_t pause_ms;
        uint64_t id;           /* of Subscribe */
        bool was_told, is_gap; /* there was a subscription; it broke, and nobody was told */
        struct failure failure;
        struct cached_event event;
        bool is_out;  /* the caller has it */
        bool is_over; /* it was the last one: the session has ended */
};

/* --------------------------------------------------------------------------------- what breaks */

/* Such failures end by themselves. */
static bool is_away(int code)
{
        switch (code) {
        case CACHED_LIMIT:
        case CACHED_SHUTTING_DOWN:
        case CACHED_NO_MEMORY:
        case CACHED_ERR_UNREACHABLE:
        case CACHED_ERR_TIMEOUT:
        case CACHED_ERR_DISCONNECTED:
        case CACHED_ERR_BAD_REPLY:
                return true;
        default:
                return false;
        }
}

/* The connection is of no more use, for what e->failure says. After one that stood the next attempt
 * is made at once. */
static int events_break(struct cached_events *e)
{
        e->retry_ns = deadline_now_ns();
        if (e->state != EVENTS_TOLD) {
                e->retry_ns += (uint64_t)e->pause_ms * 1000000u;
                e->pause_ms = e->pause_ms < PAUSE_MAX_MS / 2 ? 2 * e->pause_ms : PAUSE_MAX_MS;
        }
        if (e->was_told)
                e->is_gap = true;
        if (e->conn && e->conn->fd >= 0)
                (void)watch_socket(&e->watch, e->conn->fd, 0);
        e->conn = conn_free(e->conn);
        e->state = EVENTS_APART;
        return e->failure.code;
}

/* --------------------------------------------------------------------------------- connecting */

static int events_dial(struct cached_events *e)
{
        int code;

        if (deadline_now_ns() < e->retry_ns)
                return CONN_AGAIN;
        if (!e->conn) {
                e->conn = conn_new();
                if (!e->conn)
                        return failure_nomem(&e->failure);
                e->conn->wants_events = true;
                e->deadline = deadline_in_ms(e->handle->options.timeout_ms);
        }
        e->state = EVENTS_DIALING;
        code = handle_dial(e->handle, e->conn, &e->failure, &e->greeting);
        if (code == CONN_AGAIN)
                e->retry_ns = deadline_now_ns() + (uint64_t)PAUSE_FIRST_MS * 1000000u;
        if (code != CACHED_OK)
                return code;
        e->state = EVENTS_HELLO;
        return watch_socket(&e->watch, e->conn->fd, EPOLLIN) ? CACHED_OK
                                                             : failure_nomem(&e->failure);
}

static int attach_pack(struct cached_events *e)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__AttachSession m = CACHED__V1__ATTACH_SESSION__INIT;

        m.token = (ProtobufCBinaryData){sizeof(e->session), e->session};
        m.stay = m.want_events = 1;
        request.op_case = CACHED__V1__REQUEST__OP_ATTACH_SESSION;
        request.attach_session = &m;
        request.id = e->id = e->conn->next_id++;
        return call_pack(e->conn, &request, 0, &e->conn->out, &e->failure);
}

static int subscribe_pack(struct cached_events *e)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Subscribe m = CACHED__V1__SUBSCRIBE__INIT;
        Cached__V1__EventKind kinds[EVENT_KIND_LAST];

        for (Cached__V1__EventKind kind = EVENT_KIND_FIRST; kind <= EVENT_KIND_LAST; kind++)
                if (e->kinds & event_kind_bit(kind))
                        kinds[m.n_kinds++] = kind;
        m.kinds = kinds;
        m.cache = e->cache;
        request.op_case = CACHED__V1__REQUEST__OP_SUBSCRIBE;
        request.subscribe = &m;
        request.id = e->id = e->conn->next_id++;
        return call_pack(e->conn, &request, 0, &e->conn->out, &e->failure);
}

static int events_hello(struct cached_events *e)
{
        const uint64_t needed =
                CACHED__V1__FEATURE__FEATURE_EVENTS | CACHED__V1__FEATURE__FEATURE_LEASES;
        int code = conn_hello(e->conn, &e->handle->options, DEADLINE_NOW, &e->failure);

        if (code != CONN_AGAIN && code != CACHED_ERR_NOMEM)
                pool_attempted(e->handle->pool, code, &e->failure);
        if (code != CACHED_OK)
                return code;
        if ((e->conn->features & needed) != needed)
                return failure_set(&e->failure, CACHED_UNSUPPORTED,
                                   "the daemon is too old for subscriptions: update it");
        code = e->has_session ? call_check_sessions(e->conn, &e->failure) : CACHED_OK;
        if (e->kinds & CACHED_EVENT_RESOURCES)
                code = call_check_resources(e->conn, &e->failure);
        if (code == CACHED_OK)
                code = e->has_session ? attach_pack(e) : subscribe_pack(e);
        if (code == CACHED_OK)
                e->state = EVENTS_ASKING;
        return code;
}

/* ----------------------------------------------------------------------------------- receiving */

static int events_flush(struct cached_events *e)
{
        struct buffer *out;

        assert(e->conn);
        out = &e->conn->out;
        while (buffer_n(out) > 0) {
                struct iovec iov = {out->data + out->start, buffer_n(out)};
                size_t n = 0;
                int code = conn_send_some(e->conn, &iov, 1, &e->failure, &n);

                if (code != CACHED_OK)
                        return code;
                if (n == 0)
                        return CONN_AGAIN;
                buffer_take(out, n);
        }
        return CACHED_OK;
}

/* What is not an event. */
static int events_answer(struct cached_events *e, struct cached_reply *r, uint64_t n_body)
{
        Cached__V1__Request__OpCase op = e->has_session ? CACHED__V1__REQUEST__OP_ATTACH_SESSION
                                                        : CACHED__V1__REQUEST__OP_SUBSCRIBE;
        int code;

        if (e->state != EVENTS_ASKING || r->message->id != e->id)
                return failure_set(&e->failure, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered a request that was not made");
        code = reply_check(r, op, false, n_body, &e->failure);
        if (code != CACHED_OK)
                return code;
        if (r->code != CACHED_OK)
                return failure_set(&e->failure, r->code, "%s", cached_reply_error(r));
        e->state = EVENTS_TOLD;
        e->was_told = true;
        e->pause_ms = PAUSE_FIRST_MS;
        e->failure.text[0] = '\0';
        return CACHED_OK;
}

static bool is_end(int change)
{
        return change == CACHED_SESSION_CLOSED || change == CACHED_SESSION_EXPIRED ||
               change == CACHED_SESSION_EVICTED;
}

/* One frame. CACHED_OK: e->event has one, or the state is another. */
static int events_receive(struct cached_events *e)
{
        struct cached_reply *r = NULL;
        uint64_t n_body = 0;
        int code = conn_recv_message(e->conn, DEADLINE_NOW, false, &e->failure, &r, &n_body);

        if (code != CACHED_OK)
                return code;
        switch (conn_classify(r, n_body, &e->failure)) {
        case CONN_EVENT:
                /* Before the answer they are those of no subscription. */
                if (e->state == EVENTS_TOLD) {
                        event_take(&e->event, r);
                        e->is_over = e->has_session && is_end(cached_session_event(&e->event));
                        return CACHED_OK;
                }
                break;
        case CONN_ASKED:
                code = events_answer(e, r, n_body);
                break;
        case CONN_FAREWELL:
                code = e->failure.code;
                break;
        }
        cached_reply_free(r);
        return code;
}

/* Until there is an event. */
static int events_read(struct cached_events *e)
{
        int code = CACHED_OK;

        if (e->state == EVENTS_ASKING)
                code = events_flush(e);
        while (code == CACHED_OK && e->event.kind == 0) {
                if (e->state == EVENTS_TOLD && e->is_gap) {
                        event_set_lost(&e->event, UINT64_MAX);
                        e->is_gap = false;
                } else {
                        code = events_receive(e);
                }
        }
        return code;
}

/* ------------------------------------------------------------------------------------- one turn */

static bool is_late(const struct cached_events *e)
{
        struct deadline d = e->deadline;

        if (!e->conn || e->state == EVENTS_TOLD)
                return false;
        if (e->state == EVENTS_HELLO && e->greeting.at_ns < d.at_ns)
                d = e->greeting;
        return !deadline_is_never(d) && deadline_left_ns(d) == 0;
}

static int events_late(struct cached_events *e)
{
        (void)failure_set(&e->failure, CACHED_ERR_TIMEOUT, "the daemon did not answer in time");
        if (e->state < EVENTS_ASKING)
                pool_attempted(e->handle->pool, CACHED_ERR_TIMEOUT, &e->failure);
        return events_break(e);
}

/* CACHED_OK: there is an event; CONN_AGAIN; else the connection broke. */
static int events_turn(struct cached_events *e)
{
        int code = CACHED_OK;

        if (e->state <= EVENTS_DIALING)
                code = events_dial(e);
        if (e->conn)
                e->conn->n_receives = RECEIVES_A_TURN;
        if (code == CACHED_OK && e->state == EVENTS_HELLO)
                code = events_hello(e);
        if (code == CACHED_OK)
                code = events_read(e);
        if (code == CONN_AGAIN && is_late(e))
                return events_late(e);
        return code == CACHED_OK || code == CONN_AGAIN ? code : events_break(e);
}

/* What a loop waits for. */
static void events_update(struct cached_events *e)
{
        uint64_t alarm_ns = UINT64_MAX;

        if (e->state <= EVENTS_DIALING) {
                alarm_ns = e->retry_ns;
        } else if (e->state < EVENTS_TOLD) {
                alarm_ns = e->deadline.at_ns;
                if (e->state == EVENTS_HELLO && e->greeting.at_ns < alarm_ns)
                        alarm_ns = e->greeting.at_ns;
        }
        if (e->state > EVENTS_DIALING && e->conn) {
                bool sends = e->conn->hello_state < CONN_HELLO_ASKED || buffer_n(&e->conn->out) > 0;

                (void)watch_socket(&e->watch, e->conn->fd, sends ? EPOLLIN | EPOLLOUT : EPOLLIN);
        }
        watch_alarm(&e->watch, alarm_ns);
}

/* Turns until there is an event, or `until` (may be NULL) says that it is enough. CONN_AGAIN: the
 * deadline passed. */
static int events_run(struct cached_events *e, struct deadline d,
                      bool (*until)(const struct cached_events *e), bool stays)
{
        for (;;) {
                struct pollfd p = {.fd = e->watch.fd, .events = POLLIN};
                int code;

                watch_look(&e->watch);
                code = events_turn(e);
                events_update(e);
                if (code == CACHED_OK || (until && until(e)))
                        return CACHED_OK;
                if (code != CONN_AGAIN && !(stays && is_away(code)))
                        return code;
                if (deadline_is_now(d) || (!deadline_is_never(d) && deadline_left_ns(d) == 0))
                        return CONN_AGAIN;
                if (poll(&p, 1, deadline_poll_ms(d)) < 0 && errno != EINTR)
                        return failure_nomem(&e->failure);
        }
}

/* --------------------------------------------------------------------------------------- public */

static struct cached_events *events_new(cached *c, const char *cache, uint32_t kinds)
{
        struct cached_events *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        e->handle = c;
        e->kinds = kinds;
        e->pause_ms = PAUSE_FIRST_MS;
        e->watch = WATCH_NONE;
        e->cache = strdup(cache ? cache : "");
        if (!e->cache || watch_init(&e->watch, &c->pool->self) < 0) {
                cached_events_free(e);
                return NULL;
        }
        return e;
}

void cached_events_free(cached_events *e)
{
        if (!e)
                return;
        if (e->conn && e->conn->fd >= 0)
                (void)watch_socket(&e->watch, e->conn->fd, 0);
        (void)conn_free(e->conn);
        watch_done(&e->watch);
        event_done(&e->event);
        free(e->cache);
        explicit_bzero(e->session, sizeof(e->session)); /* it may be a token */
        free(e);
}

static bool is_told(const struct cached_events *e)
{
        return e->state == EVENTS_TOLD;
}

/* Consumes `e`, which may be NULL: out of memory. */
static int events_begin(struct cached_events *e, cached_events **ret, cached_reply **reply)
{
        struct failure f;
        int code;

        if (!e)
                return call_fail(failure_nomem(&f), &f, reply);
        code = events_run(e, deadline_in_ms(e->handle->options.timeout_ms), is_told, false);
        if (code == CONN_AGAIN)
                code = failure_set(&e->failure, CACHED_ERR_TIMEOUT, "%s",
                                   cached_strerror(CACHED_ERR_TIMEOUT));
        if (code == CACHED_OK) {
                /* One that came with the answer is read already: nothing else makes the descriptor
                 * ready for it. */
                if (e->event.kind)
                        watch_alarm(&e->watch, deadline_now_ns());
                *ret = e;
                return CACHED_OK;
        }
        f = e->failure;
        cached_events_free(e);
        return call_fail(code, &f, reply);
}

int events_watch_session(cached *c, const uint8_t token[SESSION_TOKEN_SIZE], cached_events **ret,
                         cached_reply **reply)
{
        struct cached_events *e = events_new(c, NULL, 0);

        if (e) {
                e->has_session = true;
                memcpy(e->session, token, sizeof(e->session));
        }
        return events_begin(e, ret, reply);
}

int cached_subscribe(cached *c, const char *cache, uint32_t kinds, cached_events **ret,
                     cached_reply **reply)
{
        if (reply)
                *reply = NULL;
        if (!c || !ret || kinds == 0 || kinds & ~SUBSCRIBED)
                return call_refuse(
                        "cached_subscribe() needs a handle, kinds of events, and a place "
                        "for the subscription",
                        reply);
        if (c->options.has_session)
                return call_refuse_scoped("subscriptions", reply);
        return events_begin(events_new(c, cache, kinds), ret, reply);
}

int cached_events_fd(const cached_events *e)
{
        return e ? e->watch.fd : -1;
}

int cached_events_next(cached_events *e, uint32_t timeout_ms, const cached_event **ret)
{
        struct deadline d = deadline_of_wait(timeout_ms);
        int code;

        if (!e || !ret || !watch_is_ours(&e->watch))
                return CACHED_ERR_USAGE;
        if (e->is_out)
                event_done(&e->event);
        e->is_out = false;
        if (e->is_over && e->event.kind == 0)
                return failure_set(&e->failure, CACHED_NOT_FOUND, "the session has ended");
        /* One may have come with the answer to Subscribe. */
        code = e->event.kind ? CACHED_OK : events_run(e, d, NULL, true);
        if (code == CACHED_OK) {
                e->is_out = true;
                *ret = &e->event;
        }
        return code == CONN_AGAIN ? CACHED_ERR_AGAIN : code;
}

const char *cached_events_error(const cached_events *e)
{
        return e ? e->failure.text : "";
}
