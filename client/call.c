/* SPDX-License-Identifier: MIT */
/*
 * The handle, and one call through it
 *
 * A handle owns at most one connection, made by the first call that needs it. Its guard is held for
 * a whole call: one request is on the way at a time. (Only attempt() sends and receives, and it
 * matches by id, so that calls of several threads can share the stream later.)
 *
 * When the connection breaks, the handle drops it, and the next call makes another. Within the call
 * that met the break a request is sent again, once, if that cannot do harm: it changes nothing, or
 * its frame never left completely, and the daemon acts on whole frames only. Everything else comes
 * back as CACHED_ERR_DISCONNECTED, since nobody knows whether the change happened. A call that ran
 * into its deadline drops the connection as well: its reply may still come, and nobody waits for
 * it.
 */

#include "client/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/codec.h"
#include "proto/frame.h"

/* --------------------------------------------------------------------------------------- handle */

int cached_new(const cached_options *o, cached **ret)
{
        cached *c;

        if (!ret)
                return CACHED_ERR_USAGE;
        c = calloc(1, sizeof(*c));
        if (!c)
                return CACHED_ERR_NOMEM;
        if (!options_copy(o, &c->options)) {
                free(c);
                return CACHED_ERR_NOMEM;
        }
        if (sockpaths_resolve(c->options.socket, &c->paths) < 0) {
                cached_free(c);
                return CACHED_ERR_USAGE;
        }
        *ret = c;
        return CACHED_OK;
}

void cached_free(cached *c)
{
        if (!c)
                return;
        (void)conn_free(c->conn);
        options_done(&c->options);
        free(c);
}

const char *cached_socket_path(const cached *c)
{
        return c ? c->paths.at[atomic_load(&c->which)].path : NULL;
}

/* The pointer goes first: a child that is forked meanwhile must not find a freed connection. */
static void handle_drop(cached *c)
{
        struct conn *conn = c->conn;

        c->conn = NULL;
        atomic_signal_fence(memory_order_seq_cst);
        (void)conn_free(conn);
}

static void handle_lock(cached *c)
{
        switch (guard_lock(&c->guard)) {
        case GUARD_MINE:
                break;
        case GUARD_FORKED:
                handle_drop(c);
                break;
        case GUARD_TORN:
                /* Its memory is lost: some KiB, once for each fork in the middle of a call. */
                if (c->conn)
                        conn_abandon(c->conn);
                c->conn = NULL;
                break;
        }
}

static int handle_connect(cached *c, struct deadline d, struct failure *f)
{
        size_t which;
        int code;

        if (c->conn)
                return CACHED_OK;
        code = conn_open(&c->options, &c->paths, d, f, &c->conn, &which);
        if (code == CACHED_OK)
                atomic_store(&c->which, which);
        return code;
}

/* -------------------------------------------------------------------------------------- replies */

/* Hands out what came, or makes a reply of the failure. */
static int hand_out(int code, struct cached_reply *r, const struct failure *f, cached_reply **ret)
{
        if (!ret) {
                cached_reply_free(r);
                return code;
        }
        if (!r)
                r = reply_new_failure(f);
        *ret = r;
        return r ? code : CACHED_ERR_NOMEM;
}

int call_fail(int code, const struct failure *f, cached_reply **ret)
{
        return hand_out(code, NULL, f, ret);
}

int call_refuse(const char *text, cached_reply **ret)
{
        struct failure f;
        int code = failure_set(&f, CACHED_ERR_USAGE, "%s", text);

        return hand_out(code, NULL, &f, ret);
}

/* ------------------------------------------------------------------------------------- one call */

/* The daemon would close the connection over a request that is larger than it takes. */
int call_check_sizes(const struct conn *c, size_t n_message, uint64_t n_body, struct failure *f)
{
        if (n_message > c->max_message || n_message > UINT32_MAX)
                return failure_set(
                        f, CACHED_TOO_LARGE,
                        "the request has %zu bytes beside its values, the daemon takes %" PRIu64
                        ": send fewer keys at once",
                        n_message, c->max_message);
        if (n_body > c->max_value)
                return failure_set(f, CACHED_TOO_LARGE,
                                   "the value has %" PRIu64 " bytes, the daemon takes %" PRIu64
                                   ": store a smaller one or raise limits.value_bytes",
                                   n_body, c->max_value);
        return CACHED_OK;
}

int call_pack(struct conn *c, const Cached__V1__Request *request, uint64_t n_body,
              struct buffer *out, struct failure *f)
{
        bool packed;
        size_t n;
        int code;

        if (!buffer_reserve(out, FRAME_HEADER_SIZE + CODEC_PACK_MAX))
                return failure_nomem(f);
        n = codec_pack(request, out->data + out->end + FRAME_HEADER_SIZE);
        packed = n > 0;
        if (!packed)
                n = cached__v1__request__get_packed_size(request);
        code = call_check_sizes(c, n, n_body, f);
        if (code != CACHED_OK)
                return code;
        if (!packed) {
                if (!buffer_reserve(out, FRAME_HEADER_SIZE + n))
                        return failure_nomem(f);
                (void)cached__v1__request__pack(request, out->data + out->end + FRAME_HEADER_SIZE);
        }
        frame_header_write(out->data + out->end, (uint32_t)n, n_body);
        out->end += FRAME_HEADER_SIZE + n;
        return CACHED_OK;
}

struct call call_init(Cached__V1__Request__OpCase op)
{
        struct call call = {.request = CACHED__V1__REQUEST__INIT};

        call.request.op_case = op;
        return call;
}

/* What one attempt came to. */
enum attempt {
        ATTEMPT_DONE,    /* a reply, or a failure that another attempt would not change */
        ATTEMPT_UNSENT,  /* the connection broke before the daemon had the request */
        ATTEMPT_UNKNOWN, /* it broke afterwards */
};

static int call_send(cached *c, struct call *call, struct deadline d, struct failure *f,
                     enum conn_sent *ret_sent)
{
        struct conn *conn = c->conn;
        struct iovec one[2], *iov = one;
        int code;

        *ret_sent = CONN_SENT_NOTHING;
        buffer_take(&conn->out, buffer_n(&conn->out));
        code = call_pack(conn, &call->request, call->n_body, &conn->out, f);
        if (code != CACHED_OK)
                return code;
        if (call->n_body_iov > 1) {
                iov = calloc(1 + call->n_body_iov, sizeof(*iov));
                if (!iov)
                        return failure_nomem(f);
        }
        iov[0] = (struct iovec){conn->out.data, buffer_n(&conn->out)};
        if (call->n_body_iov > 0)
                memcpy(iov + 1, call->body, call->n_body_iov * sizeof(*iov));
        code = conn_send(conn, iov, 1 + call->n_body_iov, d, f, ret_sent);
        if (iov != one)
                free(iov);
        return code;
}

/* The reply to this request, events passed over. */
static int call_receive(cached *c, const struct call *call, struct deadline d, bool block,
                        struct failure *f, struct cached_reply **ret)
{
        struct cached_reply *r;
        uint64_t n_body;
        int code;

        for (;;) {
                enum conn_unasked unasked;

                code = conn_recv_message(c->conn, d, block, f, &r, &n_body);
                if (code != CACHED_OK)
                        return code;
                block = false;
                unasked = conn_classify(r, n_body, f);
                if (unasked == CONN_ASKED)
                        break;
                cached_reply_free(r);
                if (unasked == CONN_FAREWELL)
                        return f->code;
        }
        if (r->message->id != call->request.id)
                code = failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered request %" PRIu64 " when asked %" PRIu64,
                                   r->message->id, call->request.id);
        else
                code = reply_check(r, call->request.op_case, n_body, f);
        if (code == CACHED_OK &&
            (n_body > 0 || call->request.op_case == CACHED__V1__REQUEST__OP_GET) &&
            r->code == CACHED_OK)
                code = conn_recv_body(c->conn, r, n_body, d, f);
        if (code != CACHED_OK) {
                cached_reply_free(r);
                return code;
        }
        *ret = r;
        return CACHED_OK;
}

/* The farewell of a daemon that goes in good order is no more of an answer than a broken
 * connection. */
static bool is_break(int code)
{
        return code == CACHED_ERR_DISCONNECTED || code == CACHED_SHUTTING_DOWN;
}

/* Whether the socket's own receive timeout, which is a whole call's, is what is left of the
 * deadline. */
static bool may_block(const cached *c, struct deadline d)
{
        uint64_t slack_ns = 10000000u;

        return deadline_is_never(d) ||
               deadline_left_ns(d) + slack_ns >= (uint64_t)c->options.timeout_ms * 1000000u;
}

/* Sends and receives once. *ret: NULL unless a whole reply came. */
static enum attempt attempt(cached *c, struct call *call, struct deadline d, struct failure *f,
                            struct cached_reply **ret)
{
        enum conn_sent sent;
        int code;

        call->request.id = c->conn->next_id++;
        call->request.deadline_ms = c->options.timeout_ms;
        if (call->cache_name) {
                uint32_t id = call->cache_id ? names_id(&c->conn->names, call->cache) : 0;

                if (call->cache_id)
                        *call->cache_id = id;
                *call->cache_name = id ? (char *)protobuf_c_empty_string : (char *)call->cache;
        }
        code = call_send(c, call, d, f, &sent);
        if (code != CACHED_OK && sent == CONN_SENT_NOTHING && !is_break(code) &&
            code != CACHED_ERR_TIMEOUT)
                return ATTEMPT_DONE; /* nothing left: the stream is whole */
        if (code == CACHED_OK || is_break(code)) {
                struct failure why = {0};

                /* Perhaps the daemon said why it closed, while we were sending. */
                code = call_receive(c, call, d, may_block(c, d), &why, ret);
                if (code == CACHED_OK) {
                        if (sent != CONN_SENT_ALL)
                                handle_drop(c);
                        return ATTEMPT_DONE;
                }
                if (sent == CONN_SENT_ALL || code != CACHED_ERR_DISCONNECTED)
                        *f = why;
        }
        handle_drop(c);
        if (!is_break(f->code))
                return ATTEMPT_DONE;
        return sent == CONN_SENT_ALL ? ATTEMPT_UNKNOWN : ATTEMPT_UNSENT;
}

static void call_learn(cached *c, const struct call *call, const struct cached_reply *r)
{
        if (call->opens && r->code == CACHED_OK && c->conn)
                (void)names_put(&c->conn->names, call->cache, r->message->cache->cache_id);
}

int call_run(cached *c, struct call *call, cached_reply **ret)
{
        struct deadline d = deadline_in_ms(c->options.timeout_ms);
        struct cached_reply *r = NULL;
        struct failure f = {0};
        enum attempt a = ATTEMPT_DONE;
        int code;

        handle_lock(c);
        for (int tries = 0; tries < 2; tries++) {
                code = handle_connect(c, d, &f);
                if (code != CACHED_OK)
                        break;
                a = attempt(c, call, d, &f, &r);
                code = r ? r->code : f.code;
                if (a == ATTEMPT_DONE || (a == ATTEMPT_UNKNOWN && !call->idempotent))
                        break;
        }
        if (r)
                call_learn(c, call, r);
        guard_unlock(&c->guard);
        if (!r && a == ATTEMPT_UNKNOWN && !call->idempotent && code == CACHED_ERR_DISCONNECTED)
                code = failure_set(
                        &f, code,
                        "the connection broke before the daemon's reply: whether the change "
                        "happened is unknown");
        return hand_out(code, r, &f, ret);
}

/* ----------------------------------------------------------------------------------- connecting */

int cached_connect(cached *c, cached_reply **ret)
{
        struct cached_reply *r = NULL;
        struct failure f = {0};
        int code;

        if (!c)
                return call_refuse("no handle", ret);
        handle_lock(c);
        if (c->conn && conn_is_stale(c->conn))
                handle_drop(c);
        code = handle_connect(c, deadline_in_ms(c->options.timeout_ms), &f);
        if (code == CACHED_OK && ret)
                code = reply_new_unpack(c->conn->hello, c->conn->n_hello, 0, &f, &r);
        guard_unlock(&c->guard);
        return hand_out(code, r, &f, ret);
}

bool call_cache_is_open(cached *c, const char *cache)
{
        bool is;

        handle_lock(c);
        is = c->conn && names_id(&c->conn->names, cache) != 0;
        guard_unlock(&c->guard);
        return is;
}
