/* SPDX-License-Identifier: MIT */
/*
 * One call: a request and its reply, over a connection of the handle's pool
 *
 * A call takes a connection for itself, so one request is on the way on it at a time; the reply is
 * matched by its id all the same.
 *
 * When the connection breaks, it is dropped, and the call makes another, in the same slot and so
 * with the same client_id: the daemon ends the old connection first, if it still has it. Then a
 * request is sent again, if that cannot do harm: it changes nothing; or its frame never left
 * completely, and the daemon acts on whole frames only; or it is a change that this same daemon can
 * tell whether it was carried out (PROTOCOL.md, "Repeating"). What is left comes back as
 * CACHED_OUTCOME_UNKNOWN or CACHED_ERR_DISCONNECTED. All of it within the call's deadline, and no
 * more than TRIES_MAX times: perhaps it is this request that the daemon dies of.
 *
 * A call that ran into its deadline drops the connection as well: its reply may still come, and
 * nobody waits for it. When the connection breaks because another thread closed the handle, that is
 * what the call says, unless its reply had come before.
 */

#include "client/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/codec.h"
#include "client/map-touch.h"
#include "client/pool-views.h"
#include "client/value.h"
#include "client/view.h"
#include "proto/frame.h"

/* How often one call sends its request, at most. */
#define TRIES_MAX 3

/* -------------------------------------------------------------------------------------- replies */

int call_hand_out(int code, struct cached_reply *r, const struct failure *f, cached_reply **ret)
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
        return call_hand_out(code, NULL, f, ret);
}

int call_refuse(const char *text, cached_reply **ret)
{
        struct failure f;
        int code = failure_set(&f, CACHED_ERR_USAGE, "%s", text);

        return call_hand_out(code, NULL, &f, ret);
}

int call_refuse_reply(const char *text, cached_reply **ret)
{
        struct failure f;

        (void)failure_set(&f, CACHED_ERR_BAD_REPLY, "%s", text);
        return call_fail(f.code, &f, ret);
}

int call_refuse_scoped(const char *what, cached_reply **ret)
{
        struct failure f;

        (void)failure_set(&f, CACHED_UNSUPPORTED,
                          "a session's own caches have no %s: use the handle of the session", what);
        return call_fail(f.code, &f, ret);
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

/* Which may be those of a session. Stats without a cache are the realm's. */
static bool is_about_caches(const Cached__V1__Request *r)
{
        switch (r->op_case) {
#define SCOPED(CASE) case CACHED__V1__REQUEST__OP_##CASE:
#include "proto/scoped.def"
#undef SCOPED
                return r->op_case != CACHED__V1__REQUEST__OP_STATS || *r->stats->cache != '\0';
        default:
                return false;
        }
}

static int pack(struct conn *c, const Cached__V1__Request *request, uint64_t n_body,
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

int call_pack(struct conn *c, const Cached__V1__Request *request, uint64_t n_body,
              struct buffer *out, struct failure *f)
{
        Cached__V1__Request scoped;

        if (!c->has_session || !is_about_caches(request))
                return pack(c, request, n_body, out, f);
        scoped = *request;
        scoped.session = (ProtobufCBinaryData){sizeof(c->session), c->session};
        return pack(c, &scoped, n_body, out, f);
}

int call_check_features(const struct conn *c, bool needs_leases, struct failure *f)
{
        if (needs_leases && c->hello_state == CONN_HELLO_DONE &&
            !(c->features & CACHED__V1__FEATURE__FEATURE_LEASES))
                return failure_set(f, CACHED_UNSUPPORTED,
                                   "the daemon is too old for tags, messages, negative entries and "
                                   "leases: update it");
        return CACHED_OK;
}

int call_check_sessions(const struct conn *c, struct failure *f)
{
        if (c->hello_state == CONN_HELLO_DONE &&
            !(c->features & CACHED__V1__FEATURE__FEATURE_SESSIONS))
                return failure_set(f, CACHED_UNSUPPORTED,
                                   "the daemon is too old for sessions: update it");
        return CACHED_OK;
}

int call_check_resources(const struct conn *c, struct failure *f)
{
        if (c->hello_state == CONN_HELLO_DONE &&
            !(c->features & CACHED__V1__FEATURE__FEATURE_RESOURCES))
                return failure_set(f, CACHED_UNSUPPORTED,
                                   "the daemon is too old for resources: update it");
        return CACHED_OK;
}

struct call call_init(Cached__V1__Request__OpCase op)
{
        struct call call = {.request = CACHED__V1__REQUEST__INIT, .file = -1};

        call.request.op_case = op;
        return call;
}

/* What one attempt came to. */
enum attempt {
        ATTEMPT_DONE,    /* a reply, or a failure that another attempt would not change */
        ATTEMPT_UNSENT,  /* the connection broke before the daemon had the request */
        ATTEMPT_UNKNOWN, /* it broke afterwards */
};

/* A frame without a body, and the memory file with its first byte; what waits to be sent goes
 * before. */
static int call_send_file(struct conn *conn, const struct call *call, struct deadline d,
                          struct failure *f, enum conn_sent *ret_sent)
{
        struct iovec before = {conn->out.data + conn->out.start, buffer_n(&conn->out)};
        int code = CACHED_OK;

        if (before.iov_len > 0)
                code = conn_send(conn, &before, 1, d, f, ret_sent);
        if (code != CACHED_OK)
                return code;
        buffer_take(&conn->out, before.iov_len);
        *ret_sent = CONN_SENT_NOTHING;
        code = call_pack(conn, &call->request, 0, &conn->out, f);
        if (code != CACHED_OK)
                return code;
        return conn_send_file(conn, conn->out.data + conn->out.start, buffer_n(&conn->out),
                              call->file, d, f, ret_sent);
}

static int call_send(struct conn *conn, struct call *call, struct deadline d, struct failure *f,
                     enum conn_sent *ret_sent)
{
        struct iovec one[2], *iov = one;
        int code;

        *ret_sent = CONN_SENT_NOTHING;
        if (call->file >= 0 && (conn->has_files || call->needs_resources))
                return call_send_file(conn, call, d, f, ret_sent);
        code = call_pack(conn, &call->request, call->n_body, &conn->out, f);
        if (code != CACHED_OK)
                return code;
        if (call->n_body_iov > 1) {
                iov = calloc(1 + call->n_body_iov, sizeof(*iov));
                if (!iov)
                        return failure_nomem(f);
        }
        iov[0] = (struct iovec){conn->out.data + conn->out.start, buffer_n(&conn->out)};
        if (call->n_body_iov > 0)
                memcpy(iov + 1, call->body, call->n_body_iov * sizeof(*iov));
        code = conn_send(conn, iov, 1 + call->n_body_iov, d, f, ret_sent);
        if (iov != one)
                free(iov);
        return code;
}

/* ------------------------------------------------------------------------------------- patience */

/* For a byte of a value, on top of what a call may take: 100 MB/s. */
#define PATIENCE_NS_PER_BYTE 10u

static uint32_t call_timeout_ms(const cached *c, const struct call *call)
{
        return call->patience_ms ? call->patience_ms : c->options.timeout_ms;
}

/* A value may be too large to travel within a wait that is meant for the daemon's answer. */
static struct deadline call_extend(const struct call *call, struct deadline d, uint64_t n_bytes)
{
        uint64_t more;

        if (!call->patience_ms || deadline_is_never(d) ||
            __builtin_mul_overflow(n_bytes, PATIENCE_NS_PER_BYTE, &more) ||
            __builtin_add_overflow(d.at_ns, more, &d.at_ns))
                return call->patience_ms ? DEADLINE_NEVER : d;
        return d;
}

/* ----------------------------------------------------------------------------------- attempts */

static bool is_with_messages(const struct call *call)
{
        return call->request.op_case == CACHED__V1__REQUEST__OP_GET &&
               call->request.get->with_messages;
}

static int call_receive_body(struct conn *conn, const struct call *call, struct cached_reply *r,
                             uint64_t n_body, struct deadline d, struct failure *f)
{
        int code = conn_recv_body(conn, r, n_body, call_extend(call, d, n_body), f);

        if (code == CACHED_OK && is_with_messages(call) && !reply_split_messages(r))
                code = failure_nomem(f);
        return code;
}

/* The reply to this request, events passed over. */
static int call_receive(struct conn *conn, const struct call *call, struct deadline d, bool block,
                        struct failure *f, struct cached_reply **ret)
{
        bool with_messages = is_with_messages(call), is_lost = false;
        struct cached_reply *r;
        uint64_t n_body;
        int code;

        for (;;) {
                enum conn_unasked unasked;

                code = conn_recv_message(conn, d, block, f, &r, &n_body);
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
        if (call->takes_file || call->takes_resource)
                r->fd = conn_take_file(conn, &is_lost);
        r->has_lost_fd = is_lost;
        if (r->message->id != call->request.id)
                code = failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered request %" PRIu64 " when asked %" PRIu64,
                                   r->message->id, call->request.id);
        else if (call->takes_file && reply_is_without_body(r))
                code = reply_check_file(r, n_body, is_lost, f);
        else
                code = reply_check(r, call->request.op_case, with_messages, n_body, f);
        if (code == CACHED_OK && !reply_is_without_body(r) &&
            (n_body > 0 || call->request.op_case == CACHED__V1__REQUEST__OP_GET ||
             reply_has_session_values(r)) &&
            (r->code == CACHED_OK || reply_has_session_values(r)))
                code = call_receive_body(conn, call, r, n_body, d, f);
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

/* Whether the socket's own receive timeout is what is left of the deadline. */
static bool may_block(const struct conn *conn, struct deadline d)
{
        uint64_t slack_ns = 10000000u;

        if (conn->timeout_ms == 0)
                return deadline_is_never(d);
        return deadline_is_never(d) ||
               deadline_left_ns(d) + slack_ns >= (uint64_t)conn->timeout_ms * 1000000u;
}

/* ----------------------------------------------------------------------------------- uploads */

/* The daemon is told of a new upload area. CACHED_OK: it answered, and *ret_taken says what. */
static int offer_send(struct conn *conn, size_t size, int file, struct deadline d,
                      struct failure *f, bool *ret_taken)
{
        Cached__V1__OfferUpload m = CACHED__V1__OFFER_UPLOAD__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_OFFER_UPLOAD);
        struct cached_reply *r = NULL;
        enum conn_sent sent;
        int code;

        m.size = size;
        call.request.offer_upload = &m;
        call.request.id = conn->next_id++;
        buffer_take(&conn->out, buffer_n(&conn->out));
        code = call_pack(conn, &call.request, 0, &conn->out, f);
        if (code == CACHED_OK)
                code = conn_send_file(conn, conn->out.data, buffer_n(&conn->out), file, d, f,
                                      &sent);
        if (code == CACHED_OK)
                code = call_receive(conn, &call, d, false, f, &r);
        *ret_taken = r && r->code == CACHED_OK;
        cached_reply_free(r);
        return code;
}

/*
 * The connection's upload area has room for `n` bytes from then on, if that can be had. What the
 * daemon or the kernel refuses is not asked for again on this connection. A failure is one of the
 * connection.
 */
static int call_offer(struct conn *conn, size_t n, struct deadline d, struct failure *f)
{
        struct upload fresh = {0};
        bool is_taken = false;
        int file = -1, code;

        if (conn->upload.is_refused || conn->upload.size >= n)
                return CACHED_OK;
        if (upload_make(n, conn->max_upload, &fresh, &file) < 0) {
                conn->upload.is_refused = !conn->upload.map;
                return CACHED_OK;
        }
        code = offer_send(conn, fresh.size, file, d, f, &is_taken);
        (void)close(file);
        if (is_taken) {
                upload_done(&conn->upload, true);
                conn->upload = fresh;
                return code;
        }
        upload_done(&fresh, true);
        /* The one before, if there was any, is still the daemon's. */
        if (code == CACHED_OK)
                conn->upload.is_refused = true;
        return code;
}

/* Where the value of this attempt goes. */
static int call_place(struct call *call, struct conn *conn, struct deadline d, struct failure *f)
{
        struct set_value *v = call->value;
        size_t n = v->plain.iov_len + v->behind.iov_len;
        struct upload *u = NULL;

        /* A request that is repeated has no area on its new connection. */
        if (n >= UPLOAD_MIN && n <= conn->max_upload && !call->request.repeated) {
                int code = call_offer(conn, n, d, f);

                if (code != CACHED_OK)
                        return code;
                if (conn->upload.size >= n)
                        u = &conn->upload;
        }
        set_value_place(v, u, call->request.set, &call->slice);
        if (u)
                spin_expect_copy(&conn->spin, call->slice.size);
        call->body = v->body;
        call->n_body_iov = v->n_body_iov;
        call->n_body = 0;
        for (size_t i = 0; i < v->n_body_iov; i++)
                call->n_body += v->body[i].iov_len;
        return CACHED_OK;
}

/* A slot sends one request at a time, under ids that grow over all its connections: a lane. */
static void call_begin_operation(struct call *call, const struct conn *conn)
{
        uint64_t half[2] = {(uint64_t)(uintptr_t)conn, (uint64_t)getpid() << 32};

        static_assert(sizeof(half) == sizeof(conn->client_id), "two halves");
        if (conn->has_client_id)
                memcpy(half, conn->client_id, sizeof(half));
        call->operation->lane = half[0] ^ half[1];
        call->operation->number = call->request.id;
}

/* An id of this connection, unless the request goes on under that of an earlier one. */
static void call_address(const cached *c, struct call *call, struct conn *conn)
{
        if (!call->request.repeated || call->operation)
                call->request.id = conn->next_id++;
        if (call->operation && !call->request.repeated)
                call_begin_operation(call, conn);
        call->request.deadline_ms = call_timeout_ms(c, call);
        if (call->cache_name) {
                uint32_t id = call->cache_id ? names_id(&conn->names, call->cache) : 0;

                if (call->cache_id)
                        *call->cache_id = id;
                *call->cache_name = id ? (char *)protobuf_c_empty_string : (char *)call->cache;
        }
        if (call->request.op_case == CACHED__V1__REQUEST__OP_SET && call->file >= 0) {
                Cached__V1__Set *m = call->request.set;

                m->source_case = conn->has_files ? CACHED__V1__SET__SOURCE_FILE_SIZE
                                                 : CACHED__V1__SET__SOURCE__NOT_SET;
                m->file_size = call->n_body;
        }
        if (call->takes_file) {
                Cached__V1__Get *m = call->request.get;

                m->as_file = conn->has_files;
                m->have_case = CACHED__V1__GET__HAVE__NOT_SET;
                if (conn->has_files && call->have_version && call->have_instance == conn->instance)
                        m->have_case = CACHED__V1__GET__HAVE_HAVE_VERSION;
                m->have_version = call->have_version;
        }
}

/* What the daemon is to be told of released views goes before the request, if it goes forth. */
static int call_send_all(cached *c, struct call *call, struct conn *conn, struct deadline d,
                         struct failure *f, enum conn_sent *ret_sent)
{
        struct release told = {0};
        int code = call_check_features(conn, call->needs_leases, f);

        if (code == CACHED_OK && call->needs_sessions)
                code = call_check_sessions(conn, f);
        if (code == CACHED_OK && call->needs_resources)
                code = call_check_resources(conn, f);
        if (code != CACHED_OK)
                return code;
        buffer_take(&conn->out, buffer_n(&conn->out));
        if (!call->request.repeated) {
                pool_take_released(c->pool, &told);
                release_pack(&told, conn, &conn->out);
                pool_give_released(c->pool, &told);
        }
        call_address(c, call, conn);
        conn_expect_file(conn, (call->takes_file && conn->has_files) || call->takes_resource);
        return call_send(conn, call, d, f, ret_sent);
}

/* Sends and receives once. *ret: NULL unless a whole reply came. */
static enum attempt attempt(cached *c, struct call *call, struct pool_slot *s, struct deadline d,
                            struct failure *f, struct cached_reply **ret)
{
        enum conn_sent sent = CONN_SENT_NOTHING;
        int code;

        code = conn_set_timeout(s->conn, call_timeout_ms(c, call), f);
        if (code == CACHED_OK && call->value) {
                code = call_place(call, s->conn, d, f);
                if (code != CACHED_OK)
                        sent = CONN_SENT_PART; /* of the offer: the stream is not in step */
        }
        if (code == CACHED_OK)
                code = call_send_all(c, call, s->conn, d, f, &sent);
        if (code != CACHED_OK && sent == CONN_SENT_NOTHING && !is_break(code) &&
            code != CACHED_ERR_TIMEOUT)
                return ATTEMPT_DONE; /* nothing left: the stream is whole */
        if (code == CACHED_OK || is_break(code)) {
                struct failure why;

                /* Perhaps the daemon said why it closed, while we were sending. */
                code = call_receive(s->conn, call, d, may_block(s->conn, d), &why, ret);
                if (call->takes_file || call->takes_resource)
                        conn_expect_file(s->conn, false);
                if (code == CACHED_OK && *ret) {
                        (*ret)->instance = s->conn->instance;
                        if (sent != CONN_SENT_ALL)
                                pool_drop_conn(c->pool, s);
                        return ATTEMPT_DONE;
                }
                if (sent == CONN_SENT_ALL || code != CACHED_ERR_DISCONNECTED)
                        *f = why;
        }
        pool_drop_conn(c->pool, s);
        if (!is_break(f->code))
                return ATTEMPT_DONE;
        pool_drop_stale(c->pool);
        return sent == CONN_SENT_ALL ? ATTEMPT_UNKNOWN : ATTEMPT_UNSENT;
}

static int call_unknown(const struct failure *broke, struct failure *f)
{
        if (broke->code != CACHED_ERR_DISCONNECTED) {
                *f = *broke;
                return f->code;
        }
        return failure_set(f, broke->code,
                           "%.400s before its reply came: whether the change happened is unknown",
                           broke->text);
}

/*
 * A change was sent, and the connection broke before its reply. There is a new one: can this daemon
 * tell what became of it? If so the request goes on under its old id.
 */
static int call_ask_again(struct call *call, const struct conn *conn, uint64_t instance,
                          struct failure *f)
{
        if (call->operation) {
                call->request.repeated = 1; /* the session knows, under whichever daemon */
                return CACHED_OK;
        }
        if (!conn->can_repeat || conn->instance != instance)
                return failure_set(f, CACHED_OUTCOME_UNKNOWN,
                                   "the daemon was restarted before its reply came: whether the "
                                   "change happened is unknown");
        call->request.repeated = 1;
        return CACHED_OK;
}

/* Between two looks for a daemon that may come again. */
#define RETURN_PAUSE_NS 5000000

/*
 * A session knows what became of a change, and comes back with the daemon: one that was killed is
 * waited for, as long as the call may take.
 */
static int call_reconnect(cached *c, const struct call *call, struct pool_slot *s,
                          struct deadline d, struct failure *f)
{
        int code = handle_connect(c, s, d, f);

        while (call->operation && (code == CACHED_ERR_UNREACHABLE || is_break(code)) &&
               deadline_left_ns(d) > RETURN_PAUSE_NS) {
                struct timespec pause = {.tv_nsec = RETURN_PAUSE_NS};

                (void)nanosleep(&pause, NULL);
                code = handle_connect(c, s, d, f);
        }
        return code;
}

/* *ret: NULL unless a whole reply came; then *f says why. */
static int call_tries(cached *c, struct call *call, struct pool_slot *s, struct deadline d,
                      struct failure *f, struct cached_reply **ret)
{
        struct failure broke; /* set when there is a second try */
        uint64_t instance = 0;
        bool is_unknown = false, can_repeat = false;

        for (int tries = 1;; tries++) {
                int code =
                        tries > 1 ? call_reconnect(c, call, s, d, f) : handle_connect(c, s, d, f);
                enum attempt a;

                if (code != CACHED_OK && is_unknown && code != CACHED_ERR_TIMEOUT)
                        return call_unknown(&broke, f);
                if (code == CACHED_OK && is_unknown)
                        code = call_ask_again(call, s->conn, instance, f);
                if (code != CACHED_OK)
                        return code;
                instance = s->conn->instance;
                can_repeat = s->conn->can_repeat || call->operation;
                a = attempt(c, call, s, d, f, ret);
                if (a == ATTEMPT_DONE)
                        return *ret ? (*ret)->code : f->code;
                /* A request that was asked for again and did not leave is as unknown as before. */
                is_unknown |= a == ATTEMPT_UNKNOWN && !call->idempotent;
                broke = *f;
                if (is_unknown && (!can_repeat || tries == TRIES_MAX))
                        return call_unknown(&broke, f);
                if (tries == TRIES_MAX)
                        return f->code;
        }
}

static void call_learn(cached *c, const struct call *call, struct pool_slot *s,
                       const struct cached_reply *r)
{
        if (!call->opens || r->code != CACHED_OK)
                return;
        pool_note_open(c->pool, call->cache);
        /* A repeated request is answered with the number that the cache had on the old connection.
         */
        if (s->conn && !call->request.repeated)
                (void)names_put(&s->conn->names, call->cache, r->message->cache->cache_id);
}

/* The reply's code when its values are plain. Without memory for them there is no reply. */
static int call_decode(struct cached_reply **r, struct failure *f)
{
        if (reply_decode(*r, f) == CACHED_OK)
                return (*r)->code;
        cached_reply_free(*r);
        *r = NULL;
        return f->code;
}

int call_run(cached *c, struct call *call, cached_reply **ret)
{
        uint64_t start_ns = deadline_now_ns();
        struct deadline d = deadline_after_ms(start_ns, call_timeout_ms(c, call));
        bool keep_encoded = c->options.keep_encoded;
        struct cached_reply *r = NULL;
        struct pool_slot *s;
        struct failure f;
        int code;

        d = call_extend(call, d, call->value ? call->value->plain.iov_len : call->n_body);
        view_tend(c);
        map_before_request(&c->pool->map);
        code = pool_take(c->pool, &c->user, d, &f, &s);
        if (code != CACHED_OK)
                return call_hand_out(code, NULL, &f, ret);
        code = call_tries(c, call, s, d, &f, &r);
        while (code == CACHED_LIMIT && !r && !s->conn &&
               pool_exchange(c->pool, &c->user, d, &f, &s)) {
                if (!s)
                        return call_hand_out(f.code, NULL, &f, ret);
                code = call_tries(c, call, s, d, &f, &r);
        }
        if (r)
                call_learn(c, call, s, r);
        else if (atomic_load(&c->pool->closed))
                code = failure_set(&f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        else if (code == CACHED_ERR_TIMEOUT)
                pool_timed_out(c->pool, start_ns, &f);
        if (pool_rest_uploads(c->pool, start_ns))
                line_rest(c->pool, start_ns);
        pool_give(c->pool, &c->user, s, r ? start_ns : 0);
        /* From here on the handle may be gone. */
        if (r && !keep_encoded)
                code = call_decode(&r, &f);
        return call_hand_out(code, r, &f, ret);
}
