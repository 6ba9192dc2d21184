/* SPDX-License-Identifier: MIT */
#ifndef DISPATCH_WORLD_H
#define DISPATCH_WORLD_H

/*
 * A server with one client, in process, and requests to it in short: for the tests of dispatch.
 *
 * What the harness itself needs is taken with WORLD_MALLOC and WORLD_CALLOC, so that a test which
 * lets allocations fail can leave the harness alone.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-conn.h"
#include "proto/status.h"
#include "realm/access.h"

#ifndef WORLD_MALLOC
#define WORLD_MALLOC malloc
#define WORLD_CALLOC calloc
#endif

/* ---- a world with one server */

#define UID        1000
#define INLINE_MAX 4096 /* of the fake transport: longer bodies go through a sink */

#define CONFIG                                                                                     \
        "[memory]\nrealm_budget = 8M\nglobal_budget = 16M\nlarge_threshold = 100K\n"               \
        "[limits]\nvalue_bytes = 2M\nkeys_per_request = 300\ncaches_per_realm = 6\n"               \
        "output_bytes = 64K\nmessage_bytes = 64K\nupload_bytes_per_uid = 3M\nrealms = 3\n"         \
        "page_entries = 10\n"                                                                      \
        "[realm shared]\nreaders = 2000\nwriters = 2001\nadmins = 2002\n"

struct world {
        struct server server;
        struct conn *c; /* of UID, in its own realm */
        uint64_t id;
};

struct reply {
        Cached__V1__Reply *m;
        const uint8_t *body;
        uint64_t n_body;
        uint8_t *bytes;
};

static inline void reply_done(struct reply *r)
{
        if (r->m)
                cached__v1__reply__free_unpacked(r->m, NULL);
        free(r->bytes);
        *r = (struct reply){0};
}

/* Takes the first frame of the output; m is NULL if there is none. */
static inline struct reply maybe_reply(struct conn *c)
{
        struct reply r = {0};
        if (c->n_out == 0)
                return r;
        assert_true(c->n_out > FRAME_HEADER_SIZE);
        struct frame_header h = frame_header_read(c->out);
        assert_true(FRAME_HEADER_SIZE + h.n_message + h.n_body <= c->n_out);
        size_t n = (size_t)(FRAME_HEADER_SIZE + h.n_message + h.n_body);
        r.bytes = WORLD_MALLOC(n);
        assert_non_null(r.bytes);
        memcpy(r.bytes, c->out, n);
        r.m = cached__v1__reply__unpack(NULL, h.n_message, r.bytes + FRAME_HEADER_SIZE);
        assert_non_null(r.m);
        r.body = r.bytes + FRAME_HEADER_SIZE + h.n_message;
        r.n_body = h.n_body;
        c->n_out -= n;
        memmove(c->out, c->out + n, c->n_out);
        return r;
}

/* There must be one. */
static inline struct reply take_reply(struct conn *c)
{
        struct reply r = maybe_reply(c);

        assert_non_null(r.m);
        if (!r.m)
                abort(); /* never: the assertion has ended the test, which static analysis cannot
                            see */
        return r;
}

static inline void send_request(struct conn *c, const Cached__V1__Request *m, const void *body,
                                uint64_t n_body)
{
        size_t n = cached__v1__request__get_packed_size(m);
        uint8_t *msg = WORLD_MALLOC(n + 1);
        assert_non_null(msg);
        cached__v1__request__pack(m, msg);
        fake_conn_frame(c, msg, n, body ? body : (const void *)"", n_body, INLINE_MAX);
        free(msg);
}

static inline bool status_is(const Cached__V1__Reply *m, enum status status)
{
        return m && (int)m->status == (int)status;
}

/* Sends and takes the only reply. */
static inline struct reply call(struct world *w, struct conn *c, Cached__V1__Request *m,
                                const void *body, uint64_t n_body)
{
        if (m->id == 0)
                m->id = ++w->id;
        send_request(c, m, body, n_body);
        struct reply r = take_reply(c);
        assert_int_equal(c->n_out, 0);
        return r;
}

#define REQUEST(CASE, field, message)                                                              \
        ((Cached__V1__Request){                                                                    \
                .base = PROTOBUF_C_MESSAGE_INIT(&cached__v1__request__descriptor),                 \
                .op_case = CACHED__V1__REQUEST__OP_##CASE,                                         \
                .field = (message),                                                                \
        })

static inline struct reply say_hello(struct world *w, struct conn *c, const char *realm,
                                     uint64_t features)
{
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        hello.protocol_min = hello.protocol_max = 1;
        hello.client = (char *)"test";
        hello.realm = (char *)realm;
        hello.features = features;
        Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
        return call(w, c, &m, NULL, 0);
}

static inline struct conn *connect_as(struct world *w, uid_t uid, const char *realm,
                                      uint64_t features)
{
        struct conn *c = fake_conn_new(&w->server, uid);
        struct reply r = say_hello(w, c, realm, features);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        return c;
}

static inline int world_up(void **state)
{
        struct world *w = WORLD_CALLOC(1, sizeof(*w));
        assert_non_null(w);
        w->server.cfg = fake_config(CONFIG);
        w->server.now_ns = UINT64_C(1000000000000);
        assert_int_equal(dispatcher_new(&w->server, w->server.cfg, &w->server.dispatcher), 0);
        w->c = connect_as(w, UID, "", 0);
        *state = w;
        return 0;
}

static inline int world_down(void **state)
{
        struct world *w = *state;
        fake_conn_free(w->c);
        dispatcher_free(w->server.dispatcher);
        config_free(w->server.cfg);
        free(w);
        return 0;
}

/* ---- requests in short */

static inline ProtobufCBinaryData key_of(const char *text)
{
        return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
}

static inline Cached__V1__Set set_of(const char *cache, const char *key)
{
        Cached__V1__Set m = CACHED__V1__SET__INIT;
        if (cache)
                m.cache = (char *)cache;
        if (key)
                m.key = key_of(key);
        return m;
}

static inline struct reply send_set(struct world *w, struct conn *c, Cached__V1__Set *set,
                                    const void *body, uint64_t n_body)
{
        Cached__V1__Request m = REQUEST(SET, set, set);
        return call(w, c, &m, body, n_body);
}

static inline enum status set_text(struct world *w, struct conn *c, const char *cache,
                                   const char *key, const char *value)
{
        Cached__V1__Set set = set_of(cache, key);
        struct reply r = send_set(w, c, &set, value, strlen(value));
        enum status status = r.m ? (enum status)r.m->status : STATUS_INTERNAL;
        reply_done(&r);
        return status;
}

static inline struct reply send_get(struct world *w, struct conn *c, const char *cache,
                                    const char *key)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)cache;
        get.key = key_of(key);
        Cached__V1__Request m = REQUEST(GET, get, &get);
        return call(w, c, &m, NULL, 0);
}

/* The value is @expected; NULL: there is none. */
static inline void assert_value(struct world *w, const char *cache, const char *key,
                                const char *expected)
{
        struct reply r = send_get(w, w->c, cache, key);
        if (expected) {
                assert_int_equal(r.m->status, STATUS_OK);
                assert_int_equal(r.n_body, strlen(expected));
                assert_memory_equal(r.body, expected, r.n_body);
        } else {
                assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        }
        reply_done(&r);
}

/* A failure with this status, whose text contains @words. */
static inline void assert_failure(struct reply r, enum status status, const char *words)
{
        assert_non_null(r.m);
        if ((enum status)r.m->status != status || !strstr(r.m->error, words))
                fail_msg("status %d, error: %s", (int)r.m->status, r.m->error);
        assert_int_equal(r.m->result_case, CACHED__V1__REPLY__RESULT__NOT_SET);
        assert_int_equal(r.n_body, 0);
        reply_done(&r);
}

struct many {
        Cached__V1__Set sets[4];
        Cached__V1__Set *ptrs[4];
        uint64_t sizes[4];
        Cached__V1__SetMany msg;
};

static inline void many_init(struct many *many, const char *const keys[4], const uint64_t sizes[4])
{
        many->msg = (Cached__V1__SetMany)CACHED__V1__SET_MANY__INIT;
        many->msg.cache = (char *)"c";
        for (size_t i = 0; i < 4; i++) {
                many->sets[i] = set_of(NULL, keys[i]);
                many->ptrs[i] = &many->sets[i];
                many->sizes[i] = sizes[i];
        }
        many->msg.sets = many->ptrs;
        many->msg.n_sets = 4;
        many->msg.sizes = many->sizes;
        many->msg.n_sizes = 4;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)

#endif
