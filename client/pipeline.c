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
 * One that waits for nothing (pipeline-loop.c) shares everything here: where this file would wait,
 * it copies, accepts and returns, and deadlines are DEADLINE_NOW.
 *
 * What it does not do: send again. A request whose fate is unknown is the caller's to repeat.
 */

#include "client/pipeline.h"
#include "client/map-touch.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Buffered requests leave at this many bytes. */
#define OUT_FLUSH (64u << 10)
/* What waits to be sent by a pipeline that waits for nothing: more than this is refused. */
#define OUT_MAX (64u << 20)
/* A value from this size on is sent from where it lies, before the call returns. */
#define VALUE_COPY_MAX (16u << 10)
/* Slots double up to here, whatever the daemon would take. */
#define SLOTS_MIN 64
#define SLOTS_MAX 65536

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
        p->loop.watch = WATCH_NONE;
        return p;
}

int cached_pipeline_new_nonblocking(cached *c, cached_pipeline **ret)
{
        cached_pipeline *p;

        if (!c || !ret)
                return CACHED_ERR_USAGE;
        p = cached_pipeline_new(c);
        if (!p || watch_init(&p->loop.watch, &c->pool->self) < 0) {
                cached_pipeline_free(p);
                return CACHED_ERR_NOMEM;
        }
        p->nonblocking = true;
        p->loop.deadline = DEADLINE_NEVER;
        *ret = p;
        return CACHED_OK;
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
        watch_done(&p->loop.watch);
        cached_reply_free(p->partial);
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

static void slot_lose(cached_pipeline *p, struct slot *s)
{
        if (s->state == SLOT_OPEN) {
                s->state = SLOT_LOST;
                s->code = (uint8_t)p->failure.code;
                p->n_lost++;
                p->n_open--;
        } else if (s->state == SLOT_INTERNAL) {
                free(s->cache);
                *s = (struct slot){.state = SLOT_CLOSED};
                p->n_open--;
        }
}

void pipeline_lose(cached_pipeline *p, uint64_t id)
{
        slot_lose(p, slot_at(p, id));
        slots_advance(p);
}

int pipeline_break(cached_pipeline *p)
{
        for (uint64_t id = p->base; id != p->end; id++)
                slot_lose(p, slot_at(p, id));
        slots_advance(p);
        cached_reply_free(p->partial);
        p->partial = NULL;
        buffer_done(&p->out);
        if (p->nonblocking) {
                p->loop.n_released = p->loop.n_held = 0;
                p->loop.news = true;
                (void)watch_socket(&p->loop.watch, p->conn->fd, 0);
        }
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

/* Whose is it, is it an answer to that, and where does its body go? */
static int pipeline_accept(cached_pipeline *p, struct cached_reply *r, uint64_t n_body)
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
        code = reply_check(r, (Cached__V1__Request__OpCase)s->op, false, n_body, f);
        if (code == CACHED_OK && r->code == CACHED_OK &&
            (n_body > 0 || s->op == CACHED__V1__REQUEST__OP_GET))
                code = conn_body_begin(p->conn, r, n_body, f);
        return code;
}

/* It is whole. NULL: it was our own. */
static struct cached_reply *pipeline_finish(cached_pipeline *p, struct cached_reply *r)
{
        uint64_t id = r->message->id;
        struct slot *s = slot_at(p, id);

        p->n_open--;
        r->tag = s->tag;
        if (s->state == SLOT_INTERNAL) {
                if (r->code == CACHED_OK)
                        (void)names_put(&p->conn->names, s->cache, r->message->cache->cache_id);
                cached_reply_free(r);
                r = NULL;
        }
        slot_close(p, id);
        return r;
}

/*
 * The head of a frame, and p->partial is the reply that it begins; NULL: it was an event. `block`:
 * the socket's own timeout is all that is left of the deadline.
 */
static int pipeline_receive_message(cached_pipeline *p, struct deadline d, bool block)
{
        struct cached_reply *r;
        uint64_t n_body;
        int code = conn_recv_message(p->conn, d, block, &p->failure, &r, &n_body);

        if (code != CACHED_OK)
                return code;
        switch (conn_classify(r, n_body, &p->failure)) {
        case CONN_ASKED:
                code = pipeline_accept(p, r, n_body);
                if (code != CACHED_OK)
                        break;
                p->partial = r;
                return CACHED_OK;
        case CONN_EVENT:
                break;
        case CONN_FAREWELL:
                code = p->failure.code;
                break;
        }
        cached_reply_free(r);
        return code;
}

/* One frame. *ret: NULL if it was not for the caller. A failure breaks the pipeline. */
static int pipeline_receive(cached_pipeline *p, struct deadline d, bool block,
                            struct cached_reply **ret)
{
        struct cached_reply *r;
        int code = CACHED_OK;

        if (!p->partial)
                code = pipeline_receive_message(p, d, block);
        if (code == CACHED_OK && p->partial && p->conn->n_body_left > 0)
                code = conn_body_rest(p->conn, d, &p->failure);
        if (code == CONN_AGAIN)
                return code;
        if (code != CACHED_OK)
                return pipeline_break(p);
        r = p->partial;
        p->partial = NULL;
        *ret = r ? pipeline_finish(p, r) : NULL;
        return CACHED_OK;
}

int pipeline_receive_to_queue(cached_pipeline *p, struct deadline d)
{
        struct cached_reply *r = NULL;
        int code = pipeline_receive(p, d, false, &r);

        if (code == CACHED_OK && r)
                pipeline_queue(p, r);
        return code;
}

/* -------------------------------------------------------------------------------------- sending */

bool pipeline_is_foreign(const cached_pipeline *p)
{
        return (uint32_t)p->conn->pid != guard_pid(&p->handle->pool->self);
}

int pipeline_break_foreign(cached_pipeline *p)
{
        (void)failure_set(&p->failure, CACHED_ERR_DISCONNECTED,
                          "a pipeline does not survive a fork");
        return pipeline_break(p);
}

int pipeline_send_failed(cached_pipeline *p, struct deadline d)
{
        struct failure f = p->failure;

        while (p->conn && p->n_open > 0 && f.code == CACHED_ERR_DISCONNECTED) {
                int code = pipeline_receive_to_queue(p, d);

                if (code == CONN_AGAIN)
                        break;
                if (code != CACHED_OK)
                        return code;
        }
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

        if (pipeline_is_foreign(p))
                return pipeline_break_foreign(p);
        map_before_request(&p->handle->pool->map);
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
        if (p->nonblocking) {
                int code = pipeline_loop_send(p);

                pipeline_loop_update(p);
                return code;
        }
        return pipeline_send(p, NULL, 0);
}

/* ------------------------------------------------------------------------------------ enqueuing */

static int pipeline_connect(cached_pipeline *p)
{
        if (p->conn)
                return CACHED_OK;
        if (p->nonblocking)
                return pipeline_loop_connect(p);
        return handle_open_conn(p->handle, deadline_in_ms(p->handle->options.timeout_ms),
                                &p->failure, &p->conn);
}

/* A free slot for p->end. Where the daemon or the ring takes no more, replies are awaited first. */
static int pipeline_make_room(cached_pipeline *p)
{
        struct deadline d = DEADLINE_NEVER;
        size_t most = p->conn->max_in_flight ? p->conn->max_in_flight : 1;

        /* Requests are held back instead. */
        if (p->nonblocking)
                most = SIZE_MAX;
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
                if (p->nonblocking)
                        return CACHED_ERR_AGAIN;
                code = cached_pipeline_flush(p);
                if (code != CACHED_OK)
                        return code;
                if (deadline_is_never(d))
                        d = deadline_in_ms(p->handle->options.timeout_ms);
                code = pipeline_receive_to_queue(p, d);
                if (code != CACHED_OK)
                        return code;
        }
        return CACHED_OK;
}

/* A value that is not sent from where it lies. */
static bool is_copied(const cached_pipeline *p, const struct iovec *value)
{
        return p->nonblocking || value->iov_len <= VALUE_COPY_MAX;
}

/* Room for the values that are copied. False: out of memory. */
static bool pipeline_reserve_values(cached_pipeline *p, const struct call *call)
{
        size_t n = 0;

        for (size_t i = 0; i < call->n_body_iov; i++)
                if (is_copied(p, &call->body[i]) &&
                    __builtin_add_overflow(n, call->body[i].iov_len, &n))
                        return false;
        return buffer_reserve(&p->out, n);
}

/* Appends the request without its values, for which there is room then: all or nothing. */
static int pipeline_push(cached_pipeline *p, struct call *call, enum slot_state state, uint64_t tag)
{
        size_t n_before = buffer_n(&p->out);
        int code;

        call->request.id = p->end;
        code = call_check_features(p->conn, call->needs_leases, &p->failure);
        if (code == CACHED_OK)
                code = call_pack(p->conn, &call->request, call->n_body, &p->out, &p->failure);
        if (code != CACHED_OK)
                return code;
        if (call->n_body > 0 && !pipeline_reserve_values(p, call)) {
                p->out.end = p->out.start + n_before;
                return CACHED_ERR_NOMEM;
        }
        *slot_at(p, p->end++) = (struct slot){.tag = tag,
                                              .state = (uint8_t)state,
                                              .op = (uint8_t)call->request.op_case,
                                              .needs_leases = call->needs_leases};
        p->n_open++;
        if (p->nonblocking)
                p->loop.n_held++;
        return CACHED_OK;
}

/* The values behind a request that was pushed. What fails here, next() tells. */
static void pipeline_push_values(cached_pipeline *p, const struct call *call)
{
        for (size_t i = 0; i < call->n_body_iov; i++) {
                const struct iovec *value = &call->body[i];
                int code = CACHED_OK;

                if (is_copied(p, value)) {
                        memcpy(p->out.data + p->out.end, value->iov_base, value->iov_len);
                        p->out.end += value->iov_len;
                } else {
                        code = pipeline_send(p, value->iov_base, value->iov_len);
                }
                if (code != CACHED_OK)
                        return;
        }
}

/*
 * A cache that the handle has opened is opened on this connection too, so that its requests can
 * carry a number instead of its name. Until the reply is here, and whenever anything fails, the
 * name does.
 */
static void pipeline_open_cache(cached_pipeline *p, const char *cache)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_OPEN_CACHE);
        Cached__V1__OpenCache m = CACHED__V1__OPEN_CACHE__INIT;
        char *copy;

        if (!names_put(&p->conn->names, cache, 0) || !handle_has_opened(p->handle, cache))
                return;
        copy = strdup(cache);
        if (!copy)
                return;
        m.cache = (char *)(uintptr_t)cache;
        call.request.open_cache = &m;
        if (pipeline_push(p, &call, SLOT_INTERNAL, 0) != CACHED_OK) {
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

/* Would more wait here than may? A request that is larger than that goes alone. */
static bool is_full(const cached_pipeline *p, const struct call *call)
{
        size_t n = buffer_n(&p->out);

        return n > 0 && (n >= OUT_MAX || call->n_body > OUT_MAX - n);
}

int pipeline_submit(cached_pipeline *p, struct call *call, uint64_t tag)
{
        uint32_t id = 0;
        int code;

        if (p->nonblocking && is_full(p, call))
                return CACHED_ERR_AGAIN;
        code = pipeline_prepare(p, call->cache, &id);
        if (code != CACHED_OK)
                return code;
        *call->cache_id = id;
        *call->cache_name = id ? (char *)protobuf_c_empty_string : (char *)(uintptr_t)call->cache;
        code = pipeline_push(p, call, SLOT_OPEN, tag);
        if (code != CACHED_OK)
                return code;
        p->n_asked++;
        if (call->n_body > 0)
                pipeline_push_values(p, call);
        if (p->nonblocking)
                pipeline_loop_asked(p);
        else if (buffer_n(&p->out) >= OUT_FLUSH)
                (void)pipeline_send(p, NULL, 0); /* next() tells what became of it */
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
        if (pipeline_is_foreign(p))
                return pipeline_break_foreign(p);
        if (deadline_is_never(*d))
                *d = deadline_in_ms(p->handle->options.timeout_ms);
        return CACHED_OK;
}

/* Waits for the caller's next reply. NULL: the pipeline broke. */
static struct cached_reply *pipeline_await(cached_pipeline *p)
{
        struct deadline d = DEADLINE_NEVER;
        struct cached_reply *r = NULL;
        bool block = true; /* while the deadline is as fresh as the socket's timeout */

        while (!r) {
                if (!conn_has_frame(p->conn) && (pipeline_turn(p, &d, &r) != CACHED_OK || r))
                        break;
                if (pipeline_receive(p, d, block, &r) != CACHED_OK)
                        return NULL;
                block = false;
        }
        return r;
}

/* The code of a reply when its values are plain. */
static int pipeline_decode(const cached_pipeline *p, struct cached_reply **r)
{
        struct failure f;

        if (p->handle->options.keep_encoded || reply_decode(*r, &f) == CACHED_OK)
                return (*r)->code;
        cached_reply_free(*r);
        *r = reply_new_failure(&f);
        return f.code;
}

int cached_pipeline_next(cached_pipeline *p, uint64_t *ret_tag, cached_reply **ret)
{
        struct cached_reply *r;
        uint64_t tag;
        int code;

        if (!p || (p->n_asked == 0 && !p->nonblocking))
                return call_refuse("nothing is in flight", ret);
        r = pipeline_unqueue(p);
        if (!r && p->n_lost == 0 && p->nonblocking) {
                if (ret)
                        *ret = NULL;
                return CACHED_ERR_AGAIN;
        }
        if (!r && p->n_lost == 0)
                r = pipeline_await(p);
        if (!r)
                r = pipeline_unqueue(p); /* what came before the break */
        if (r) {
                tag = r->tag;
                code = pipeline_decode(p, &r);
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
