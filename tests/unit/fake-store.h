/* SPDX-License-Identifier: MIT */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

/*
 * A fake daemon that keeps what it is given, as it is given, and counts. What a test changes under
 * `lock` it finds in the next request.
 */

#include "client-harness.h"

#define STORE_MAX 64

struct stored {
        uint8_t key[64];
        size_t n_key;
        uint8_t *value;
        size_t n;
        Cached__V1__Encoding encoding;
        uint64_t raw_size, ttl_ms, cost_us;
};

struct store {
        struct parallel parallel; /* first */
        pthread_mutex_t lock;
        struct stored at[STORE_MAX];
        size_t n;
        atomic_uint n_gets, n_sets, n_connections;
        /* Settings. */
        uint64_t refuse_raw_over; /* packed values of more are TOO_LARGE; 0: no limit */
        atomic_int get_status;    /* instead of the entry; 0: the entry */
        atomic_int set_status;
        atomic_bool mute_gets, mute_sets; /* they are not answered */
        atomic_bool mute;                 /* not even Hello is */
};

static inline struct stored *store_find(struct store *s, const ProtobufCBinaryData *key)
{
        for (size_t i = 0; i < s->n; i++)
                if (s->at[i].n_key == key->len && !memcmp(s->at[i].key, key->data, key->len))
                        return &s->at[i];
        return NULL;
}

static inline int store_put(struct store *s, const Cached__V1__Set *m, const uint8_t *value,
                            size_t n)
{
        struct stored *e = store_find(s, &m->key);

        if (m->encoding != CACHED__V1__ENCODING__ENCODING_RAW && s->refuse_raw_over > 0 &&
            m->raw_size > s->refuse_raw_over)
                return CACHED_TOO_LARGE;
        if (!e) {
                assert(s->n < STORE_MAX);
                e = &s->at[s->n++];
        }
        free(e->value);
        memcpy(e->key, m->key.data, m->key.len);
        e->n_key = m->key.len;
        e->value = malloc(n + 1);
        assert(e->value);
        if (n > 0)
                memcpy(e->value, value, n);
        e->n = n;
        e->encoding = m->encoding;
        e->raw_size = m->raw_size;
        e->ttl_ms = m->ttl_ms;
        e->cost_us = m->cost_us;
        return CACHED_OK;
}

static inline void entry_info(const struct stored *e, Cached__V1__EntryInfo *ret)
{
        cached__v1__entry_info__init(ret);
        ret->version = 1;
        ret->size = e->n;
        ret->encoding = e->encoding;
        ret->raw_size = e->raw_size ? e->raw_size : e->n;
        ret->cost_us = e->cost_us;
}

static inline bool store_get(struct fake *d, int fd, uint64_t id, const Cached__V1__Get *m)
{
        struct store *s = d->data;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry;
        struct stored *e;
        uint8_t *frame;
        size_t n;
        bool ok;

        atomic_fetch_add(&s->n_gets, 1);
        if (atomic_load(&s->mute_gets))
                return true;
        if (atomic_load(&s->get_status))
                return fake_reply_status(d, fd, id, atomic_load(&s->get_status), "as told");
        pthread_mutex_lock(&s->lock);
        e = store_find(s, &m->key);
        if (!e) {
                pthread_mutex_unlock(&s->lock);
                return fake_reply_status(d, fd, id, CACHED_NOT_FOUND, "");
        }
        entry_info(e, &entry);
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &entry;
        frame = fake_frame(&reply, e->value, e->n, &n);
        pthread_mutex_unlock(&s->lock);
        ok = fake_write(d, fd, frame, n);
        free(frame);
        return ok;
}

static inline bool store_get_many(struct fake *d, int fd, uint64_t id, const Cached__V1__GetMany *m)
{
        struct store *s = d->data;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem item[STORE_MAX], *items[STORE_MAX];
        Cached__V1__EntryInfo entry[STORE_MAX];
        uint8_t *body = NULL;
        size_t n_body = 0;
        bool ok;

        assert(m->n_keys <= STORE_MAX);
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < m->n_keys; i++) {
                const struct stored *e = store_find(s, &m->keys[i]);

                items[i] = &item[i];
                cached__v1__get_many_item__init(&item[i]);
                if (!e) {
                        item[i].status = CACHED__V1__STATUS__NOT_FOUND;
                        continue;
                }
                entry_info(e, &entry[i]);
                item[i].entry = &entry[i];
                body = realloc(body, n_body + e->n + 1);
                assert(body);
                memcpy(body + n_body, e->value, e->n);
                n_body += e->n;
        }
        pthread_mutex_unlock(&s->lock);
        result.n_items = m->n_keys;
        result.items = items;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        reply.get_many = &result;
        ok = fake_reply(d, fd, &reply, body, n_body);
        free(body);
        return ok;
}

/* Under the lock: what a Set is to be answered with; -1: nothing. */
static inline int store_take(struct store *s, const struct fake_request *r)
{
        int code = atomic_load(&s->set_status);

        atomic_fetch_add(&s->n_sets, 1);
        if (atomic_load(&s->mute_sets))
                return -1;
        return code == CACHED_OK ? store_put(s, r->m->set, r->body, r->n_body) : code;
}

static inline bool store_set_reply(struct fake *d, int fd, uint64_t id, int code)
{
        if (code == CACHED_OK)
                return fake_reply_entry(d, fd, id, 2, NULL, 0);
        return code < 0 || fake_reply_status(d, fd, id, code, "as told");
}

static inline bool store_set(struct fake *d, int fd, const struct fake_request *r)
{
        struct store *s = d->data;
        int code;

        pthread_mutex_lock(&s->lock);
        code = store_take(s, r);
        pthread_mutex_unlock(&s->lock);
        return store_set_reply(d, fd, r->m->id, code);
}

static inline bool store_set_many(struct fake *d, int fd, const struct fake_request *r)
{
        const Cached__V1__SetMany *m = r->m->set_many;
        struct store *s = d->data;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__SetManyResult result = CACHED__V1__SET_MANY_RESULT__INIT;
        Cached__V1__SetManyItem item[STORE_MAX], *items[STORE_MAX];
        const uint8_t *p = r->body;

        assert(m->n_sets == m->n_sizes && m->n_sets <= STORE_MAX);
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < m->n_sets; i++) {
                items[i] = &item[i];
                cached__v1__set_many_item__init(&item[i]);
                item[i].status = (Cached__V1__Status)store_put(s, m->sets[i], p, m->sizes[i]);
                p += m->sizes[i];
        }
        pthread_mutex_unlock(&s->lock);
        assert(p == r->body + r->n_body);
        result.n_items = m->n_sets;
        result.items = items;
        reply.id = r->m->id;
        reply.result_case = CACHED__V1__REPLY__RESULT_SET_MANY;
        reply.set_many = &result;
        return fake_reply(d, fd, &reply, NULL, 0);
}

static inline bool store_answer(struct fake *d, int fd, const struct fake_request *r)
{
        uint64_t id = r->m->id;

        switch (r->m->op_case) {
        case CACHED__V1__REQUEST__OP_GET:
                return store_get(d, fd, id, r->m->get);
        case CACHED__V1__REQUEST__OP_GET_MANY:
                return store_get_many(d, fd, id, r->m->get_many);
        case CACHED__V1__REQUEST__OP_SET:
                return store_set(d, fd, r);
        case CACHED__V1__REQUEST__OP_SET_MANY:
                return store_set_many(d, fd, r);
        case CACHED__V1__REQUEST__OP_PING:
                return fake_reply_ping(d, fd, id);
        default:
                return fake_reply_status(d, fd, id, CACHED_UNSUPPORTED, "not here");
        }
}

static inline void serve_store(struct fake *d, int fd, int nth)
{
        struct store *s = d->data;
        struct fake_request r;
        bool ok;

        atomic_fetch_add(&s->n_connections, 1);
        ok = !atomic_load(&s->mute) && fake_hello(d, fd);
        while ((ok || atomic_load(&s->mute)) && fake_read_request(d, fd, &r)) {
                ok = ok && store_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

/* `s` is zeroed but for settings. */
static inline void store_start(struct fake *d, struct store *s)
{
        assert(pthread_mutex_init(&s->lock, NULL) == 0);
        parallel_start(d, &s->parallel, serve_store);
}

/* For the test: what is kept, and how much. */
static inline struct stored store_at(struct store *s, size_t i)
{
        struct stored e;

        pthread_mutex_lock(&s->lock);
        assert(i < s->n);
        e = s->at[i];
        pthread_mutex_unlock(&s->lock);
        return e;
}

static inline size_t store_n(struct store *s)
{
        size_t n;

        pthread_mutex_lock(&s->lock);
        n = s->n;
        pthread_mutex_unlock(&s->lock);
        return n;
}

static inline void store_stop(struct fake *d, struct store *s)
{
        parallel_stop(d, &s->parallel);
        for (size_t i = 0; i < s->n; i++)
                free(s->at[i].value);
        pthread_mutex_destroy(&s->lock);
}

#endif
