/* SPDX-License-Identifier: MIT */
/*
 * Pipelines: many requests in flight, from one thread
 *
 * A pipeline has a connection of its own, with its handle's options, so that it needs no lock and
 * holds nobody up. Requests are packed into a buffer that leaves when it is large or when next()
 * finds nothing more to read; replies are taken from large receives. So a window of small requests
 * costs about one send and one receive.
 *
 * Every request that was accepted comes out of next() exactly once, with its tag: with its reply,
 * or, when the connection broke or the deadline passed, with that failure. Requests are numbered
 * on, also from one connection to the next, and `slots` is a ring over those numbers: base is the
 * oldest that next() or a reply has not closed yet.
 *
 * It never only writes: while the socket takes no more, replies are read and queued. Otherwise the
 * daemon, which stops reading from a client that does not read, would wait for us and we for it.
 *
 * What it does not do: send again. A request whose fate is unknown is the caller's to repeat.
 */

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "proto/frame.h"

/* Buffered requests leave at this many bytes. */
#define OUT_FLUSH (64u << 10)
/* A value from this size on is sent from where it lies, before the call returns. */
#define VALUE_COPY_MAX (16u << 10)
/* Slots double up to here, whatever the daemon would take. */
#define SLOTS_MIN 64
#define SLOTS_MAX 65536

enum slot_state {
        SLOT_CLOSED,   /* its reply was received */
        SLOT_OPEN,     /* on its way */
        SLOT_INTERNAL, /* on its way, and not the caller's */
        SLOT_LOST,     /* its connection is gone, and next() has not said so yet */
};

struct slot {
        uint64_t tag;
        char *cache; /* of an internal OpenCache: owned */
        uint8_t state;
        uint8_t op;
        uint8_t code; /* when lost */
};

struct cached_pipeline {
        cached *handle; /* borrowed */
        struct conn *conn;
        struct buffer out;

        struct slot *slots;
        size_t n_slots;     /* a power of two, or 0 */
        uint64_t base, end; /* ids: base <= open ones < end */
        size_t n_open;      /* SLOT_OPEN and SLOT_INTERNAL */
        size_t n_lost;
        size_t n_asked; /* what cached_pipeline_in_flight() tells */

        struct cached_reply *done, **done_tail;
        struct failure failure; /* of the last break */
};

static struct slot *slot_at(const cached_pipeline *p, uint64_t id)
{
        return &p->slots[id & (p->n_slots - 1)];
}

cached_pipeline *cached_pipeline_new(cached *c)
{
        cached_pipeline *p;

        if (!c)
                return NULL;
        p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->handle = c;
        /* 1 is Hello's. */
        p->base = p->end = 2;
        p->done_tail = &p->done;
        return p;
}

void cached_pipeline_free(cached_pipeline *p)
{
        struct cached_reply *r;

        if (!p)
                return;
        while ((r = p->done)) {
                p->done = r->next;
                cached_reply_free(r);
        }
        for (uint64_t id = p->base; id != p->end; id++)
                free(slot_at(p, id)->cache);
        (void)conn_free(p->conn);
        buffer_done(&p->out);
        free(p->slots);
        free(p);
}

size_t cached_pipeline_in_flight(const cached_pipeline *p)
{
        return p ? p->n_asked : 0;
}

/* ---------------------------------------------------------------------------------------- slots */

static void slots_advance(cached_pipeline *p)
{
        while (p->base != p->end && slot_at(p, p->base)->state == SLOT_CLOSED)
                p->base++;
}

static bool slots_grow(cached_pipeline *p)
{
        size_t n = p->n_slots ? p->n_slots * 2 : SLOTS_MIN;
        struct slot *slots = calloc(n, sizeof(*slots));

        if (!slots)
                return false;
        for (uint64_t id = p->base; id != p->end; id++)
                slots[id & (n - 1)] = *slot_at(p, id);
        free(p->slots);
        p->slots = slots;
        p->n_slots = n;
        return true;
}

static void slot_close(cached_pipeline *p, uint64_t id)
{
        struct slot *s = slot_at(p, id);

        free(s->cache);
        *s = (struct slot){.state = SLOT_CLOSED};
        slots_advance(p);
}

/* The connection is of no more use: everything on the way is lost, with the code of p->failure. */
static int pipeline_break(cached_pipeline *p)
{
        for (uint64_t id = p->base; id != p->end; id++) {
                struct slot *s = slot_at(p, id);

                if (s->state == SLOT_OPEN) {
                        s->state = SLOT_LOST;
                        s->code = (uint8_t)p->failure.code;
                        p->n_lost++;
                } else if (s->state == SLOT_INTERNAL) {
                        free(s->cache);
                        *s = (struct slot){.state = SLOT_CLOSED};
                }
        }
        slots_advance(p);
        p->n_open = 0;
        buffer_done(&p->out);
        p->conn = conn_free(p->conn);
        return p->failure.code;
}

/* ------------------------------------------------------------------------------------ receiving */

static void pipeline_queue(cached_pipeline *p, struct cached_reply *r)
{
        r->next = NULL;
        *p->done_tail = r;
        p->done_tail = &r->next;
}

static struct cached_reply *pipeline_unqueue(cached_pipeline *p)
{
        struct cached_reply *r = p->done;

        if (r) {
                p->done = r->next;
                r->next = NULL;
                if (!p->done)
                        p->done_tail = &p->done;
        }
        return r;
}

/* The caller's or our own, with its body. *ret: NULL for our own. */
static int pipeline_accept(cached_pipeline *p, struct cached_reply *r, uint64_t n_body,
                           struct deadline d, struct cached_reply **ret)
{
        uint64_t id = r->message->id;
        struct failure *f = &p->failure;
        struct slot *s = NULL;
        int code;

        if (id >= p->base && id < p->end)
                s = slot_at(p, id);
        if (!s || (s->state != SLOT_OPEN && s->state != SLOT_INTERNAL))
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered request %" PRIu64 ", which is not open",
                                   id);
        code = reply_check(r, (Cached__V1__Request__OpCase)s->op, n_body, f);
        if (code != CACHED_OK)
                return code;
        if (r->code == CACHED_OK && (n_body > 0 || s->op == CACHED__V1__REQUEST__OP_GET)) {
                code = conn_recv_body(p->conn, r, n_body, d, f);
                if (code != CACHED_OK)
                        return code;
        }
        p->n_open--;
        r->tag = s->tag;
        if (s->state == SLOT_INTERNAL) {
                if (r->code == CACHED_OK)
                        (void)names_put(&p->conn->names, s->cache, r->message->cache->cache_id);
                cached_reply_free(r);
                r = NULL;
        }
        slot_close(p, id);
        *ret = r;
        return CACHED_OK;
}

/* One frame. *ret: NULL if it was not for the caller. A failure breaks the pipeline. */
static int pipeline_receive(cached_pipeline *p, struct deadline d, struct cached_reply **ret)
{
        struct cached_reply *r;
        uint64_t n_body;
        int code = conn_recv_message(p->conn, d, false, &p->failure, &r, &n_body);

        if (code != CACHED_OK)
                return pipeline_break(p);
        switch (conn_classify(r, n_body, &p->failure)) {
        case CONN_ASKED:
                if (pipeline_accept(p, r, n_body, d, ret) == CACHED_OK)
                        return CACHED_OK;
                break;
        case CONN_EVENT:
                cached_reply_free(r);
                *ret = NULL;
                return CACHED_OK;
        case CONN_FAREWELL:
                break;
        }
        cached_reply_free(r);
        return pipeline_break(p);
}

static int pipeline_receive_to_queue(cached_pipeline *p, struct deadline d)
{
        struct cached_reply *r = NULL;
        int code = pipeline_receive(p, d, &r);

        if (code == CACHED_OK && r)
                pipeline_queue(p, r);
        return code;
}

/* -------------------------------------------------------------------------------------- sending */

/* In a child of the process that connected: the stream is the parent's. */
static bool is_foreign(const cached_pipeline *p)
{
        return p->conn->pid != getpid();
}

static int pipeline_break_foreign(cached_pipeline *p)
{
        (void)failure_set(&p->failure, CACHED_ERR_DISCONNECTED,
                          "a pipeline does not survive a fork");
        return pipeline_break(p);
}

/* The socket did not take what was to be sent: because the daemon said why and closed? */
static int pipeline_send_failed(cached_pipeline *p, struct deadline d)
{
        struct failure f = p->failure;

        while (p->conn && p->n_open > 0 && f.code == CACHED_ERR_DISCONNECTED)
                if (pipeline_receive_to_queue(p, d) != CACHED_OK)
                        return p->failure.code;
        p->failure = f;
        return p->conn ? pipeline_break(p) : f.code;
}

/* The socket is full. Whatever comes meanwhile is read. */
static int pipeline_wait(cached_pipeline *p, struct deadline d)
{
        short ready;

        if (conn_wait(p->conn, POLLIN | POLLOUT, d, &p->failure, &ready) != CACHED_OK)
                return pipeline_break(p);
        if (!(ready & POLLIN))
                return CACHED_OK;
        do {
                int code = pipeline_receive_to_queue(p, d);

                if (code != CACHED_OK)
                        return code;
        } while (conn_has_frame(p->conn));
        return CACHED_OK;
}

/* What is buffered, and the value behind it. */
static int pipeline_send(cached_pipeline *p, const void *value, size_t n_value)
{
        struct deadline d = deadline_in_ms(p->handle->options.timeout_ms);
        const uint8_t *rest = value;

        if (is_foreign(p))
                return pipeline_break_foreign(p);
        while (buffer_n(&p->out) > 0 || n_value > 0) {
                size_t n, n_out = buffer_n(&p->out);
                struct iovec iov[2] = {{p->out.data + p->out.start, n_out},
                                       {(void *)(uintptr_t)rest, n_value}};
                int code;

                if (conn_send_some(p->conn, n_out ? iov : iov + 1, n_out ? 2 : 1, &p->failure,
                                   &n) != CACHED_OK)
                        return pipeline_send_failed(p, d);
                if (n == 0) {
                        code = pipeline_wait(p, d);
                        if (code != CACHED_OK)
                                return code;
                        continue;
                }
                n_out = n < n_out ? n : n_out;
                buffer_take(&p->out, n_out);
                if (rest)
                        rest += n - n_out;
                n_value -= n - n_out;
        }
        return CACHED_OK;
}

int cached_pipeline_flush(cached_pipeline *p)
{
        if (!p)
                return CACHED_ERR_USAGE;
        if (!p->conn || buffer_n(&p->out) == 0)
                return CACHED_OK;
        return pipeline_send(p, NULL, 0);
}

/* ------------------------------------------------------------------------------------ enqueuing */

static int pipeline_connect(cached_pipeline *p)
{
        if (p->conn)
                return CACHED_OK;
        return handle_open_conn(p->handle, deadline_in_ms(p->handle->options.timeout_ms),
                                &p->failure, &p->conn);
}

/* A free slot for p->end. Where the daemon or the ring takes no more, replies are awaited first. */
static int pipeline_make_room(cached_pipeline *p)
{
        struct deadline d = {0};
        size_t most = p->conn->max_in_flight ? p->conn->max_in_flight : 1;

        while (p->n_open >= most || p->end - p->base >= p->n_slots) {
                int code;

                if (p->n_open < most && p->n_slots < SLOTS_MAX) {
                        if (!slots_grow(p))
                                return CACHED_ERR_NOMEM;
                        continue;
                }
                /* A ring that is full of losses: they are to be collected with next(). */
                if (p->n_open == 0)
                        return CACHED_LIMIT;
                code = cached_pipeline_flush(p);
                if (code != CACHED_OK)
                        return code;
                if (d.at_ns == 0)
                        d = deadline_in_ms(p->handle->options.timeout_ms);
                code = pipeline_receive_to_queue(p, d);
                if (code != CACHED_OK)
                        return code;
        }
        return CACHED_OK;
}

/* Appends the request, and of its body the first `n_copy` bytes: all or nothing. */
static int pipeline_push(cached_pipeline *p, Cached__V1__Request *request, uint64_t n_body,
                         const void *body, size_t n_copy, enum slot_state state, uint64_t tag)
{
        size_t n_before = buffer_n(&p->out);
        int code;

        request->id = p->end;
        code = call_pack(p->conn, request, n_body, &p->out, &p->failure);
        if (code != CACHED_OK)
                return code;
        if (!buffer_reserve(&p->out, n_copy)) {
                p->out.end = p->out.start + n_before;
                return CACHED_ERR_NOMEM;
        }
        if (n_copy > 0)
                memcpy(p->out.data + p->out.end, body, n_copy);
        p->out.end += n_copy;
        *slot_at(p, p->end++) =
                (struct slot){.tag = tag, .state = (uint8_t)state, .op = (uint8_t)request->op_case};
        p->n_open++;
        return CACHED_OK;
}

/*
 * A cache that the handle has opened is opened on this connection too, so that its requests can
 * carry a number instead of its name. Until the reply is here, and whenever anything fails, the
 * name does.
 */
static void pipeline_open_cache(cached_pipeline *p, const char *cache)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__OpenCache m = CACHED__V1__OPEN_CACHE__INIT;
        char *copy;

        if (!names_put(&p->conn->names, cache, 0) || !handle_has_opened(p->handle, cache))
                return;
        copy = strdup(cache);
        if (!copy)
                return;
        m.cache = (char *)(uintptr_t)cache;
        request.op_case = CACHED__V1__REQUEST__OP_OPEN_CACHE;
        request.open_cache = &m;
        if (pipeline_push(p, &request, 0, NULL, 0, SLOT_INTERNAL, 0) != CACHED_OK) {
                free(copy);
                return;
        }
        slot_at(p, p->end - 1)->cache = copy;
}

/* Connected, with room for a request; *ret_id: what stands for the cache, or 0. */
static int pipeline_prepare(cached_pipeline *p, const char *cache, uint32_t *ret_id)
{
        const struct name *name;
        int code = pipeline_connect(p);

        if (code != CACHED_OK)
                return code;
        code = pipeline_make_room(p);
        if (code != CACHED_OK)
                return code;
        name = names_find(&p->conn->names, cache);
        if (!name && p->conn->names.n < NAMES_MAX) {
                pipeline_open_cache(p, cache);
                code = pipeline_make_room(p);
                if (code != CACHED_OK)
                        return code;
                name = names_find(&p->conn->names, cache);
        }
        *ret_id = name ? name->id : 0;
        return CACHED_OK;
}

static int pipeline_asked(cached_pipeline *p)
{
        p->n_asked++;
        if (buffer_n(&p->out) >= OUT_FLUSH)
                (void)pipeline_send(p, NULL, 0); /* next() tells what became of it */
        return CACHED_OK;
}

int cached_pipeline_get(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        uint64_t tag)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get m = CACHED__V1__GET__INIT;
        int code;

        if (!p || !cache || (!key && n_key > 0))
                return CACHED_ERR_USAGE;
        code = pipeline_prepare(p, cache, &m.cache_id);
        if (code != CACHED_OK)
                return code;
        if (m.cache_id == 0)
                m.cache = (char *)(uintptr_t)cache;
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        request.op_case = CACHED__V1__REQUEST__OP_GET;
        request.get = &m;
        code = pipeline_push(p, &request, 0, NULL, 0, SLOT_OPEN, tag);
        return code == CACHED_OK ? pipeline_asked(p) : code;
}

int cached_pipeline_delete(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                           uint64_t tag)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Delete m = CACHED__V1__DELETE__INIT;
        int code;

        if (!p || !cache || (!key && n_key > 0))
                return CACHED_ERR_USAGE;
        code = pipeline_prepare(p, cache, &m.cache_id);
        if (code != CACHED_OK)
                return code;
        if (m.cache_id == 0)
                m.cache = (char *)(uintptr_t)cache;
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        request.op_case = CACHED__V1__REQUEST__OP_DELETE;
        request.delete_ = &m;
        code = pipeline_push(p, &request, 0, NULL, 0, SLOT_OPEN, tag);
        return code == CACHED_OK ? pipeline_asked(p) : code;
}

int cached_pipeline_set(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        const void *value, size_t n_value, const cached_set_options *o,
                        uint64_t tag)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Set m;
        size_t n_copy;
        int code;

        if (!p || !cache || (!key && n_key > 0) || (!value && n_value > 0))
                return CACHED_ERR_USAGE;
        set_options_to_message(o, &m);
        code = pipeline_prepare(p, cache, &m.cache_id);
        if (code != CACHED_OK)
                return code;
        if (m.cache_id == 0)
                m.cache = (char *)(uintptr_t)cache;
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        request.op_case = CACHED__V1__REQUEST__OP_SET;
        request.set = &m;
        n_copy = n_value <= VALUE_COPY_MAX ? n_value : 0;
        code = pipeline_push(p, &request, n_value, value, n_copy, SLOT_OPEN, tag);
        if (code != CACHED_OK || n_copy == n_value)
                return code == CACHED_OK ? pipeline_asked(p) : code;
        p->n_asked++;
        (void)pipeline_send(p, value, n_value); /* next() tells what became of it */
        return CACHED_OK;
}

/* -------------------------------------------------------------------------------------- results */

/* The oldest request that was lost. */
static struct cached_reply *pipeline_next_lost(cached_pipeline *p, uint64_t *ret_tag, int *ret_code)
{
        struct failure f = p->failure;
        struct cached_reply *r;
        uint64_t id = p->base;

        while (slot_at(p, id)->state != SLOT_LOST)
                id++;
        *ret_tag = slot_at(p, id)->tag;
        *ret_code = slot_at(p, id)->code;
        if (f.code != *ret_code) /* of an earlier break, whose words are gone */
                (void)failure_set(&f, *ret_code, "%s", cached_strerror(*ret_code));
        r = reply_new_failure(&f);
        slot_close(p, id);
        p->n_lost--;
        return r;
}

/*
 * Before it waits for the next reply: everything is sent. *ret: a reply that came meanwhile. The
 * deadline begins here, since whatever was received before needed none.
 */
static int pipeline_turn(cached_pipeline *p, struct deadline *d, struct cached_reply **ret)
{
        int code = cached_pipeline_flush(p);

        if (code != CACHED_OK)
                return code;
        *ret = pipeline_unqueue(p);
        if (*ret)
                return CACHED_OK;
        if (is_foreign(p))
                return pipeline_break_foreign(p);
        if (deadline_is_never(*d))
                *d = deadline_in_ms(p->handle->options.timeout_ms);
        return CACHED_OK;
}

/* Waits for the caller's next reply. NULL: the pipeline broke. */
static struct cached_reply *pipeline_await(cached_pipeline *p)
{
        struct deadline d = {UINT64_MAX};
        struct cached_reply *r = NULL;

        while (!r) {
                if (!conn_has_frame(p->conn) && (pipeline_turn(p, &d, &r) != CACHED_OK || r))
                        break;
                if (pipeline_receive(p, d, &r) != CACHED_OK)
                        return NULL;
        }
        return r;
}

int cached_pipeline_next(cached_pipeline *p, uint64_t *ret_tag, cached_reply **ret)
{
        struct cached_reply *r;
        uint64_t tag;
        int code;

        if (!p || p->n_asked == 0)
                return call_refuse("nothing is in flight", ret);
        r = pipeline_unqueue(p);
        if (!r && p->n_lost == 0)
                r = pipeline_await(p);
        if (!r)
                r = pipeline_unqueue(p); /* what came before the break */
        if (r) {
                tag = r->tag;
                code = r->code;
        } else {
                r = pipeline_next_lost(p, &tag, &code);
        }
        p->n_asked--;
        if (ret_tag)
                *ret_tag = tag;
        if (ret)
                *ret = r;
        else
                cached_reply_free(r);
        return r ? code : CACHED_ERR_NOMEM;
}
