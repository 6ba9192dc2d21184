/* SPDX-License-Identifier: MIT */
/*
 * Hand-written client of cached: what the daemon can do when its client costs next to nothing
 *
 * Encodes the two requests of the bench field by field and scans replies for what the driver asks,
 * with neither protobuf-c nor libcached. Not a pattern for clients: it knows the numbers of
 * cached.proto by heart and checks only what it needs. The tag is the request id's place in a ring,
 * since ids must grow and replies may overtake each other.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "backend.h"
#include "fields.h"
#include "proto/frame.h"
#include "stream.h"
#include "text.h"

#define RAW_CACHE "bench"

/* Protobuf tags: field number << 3 | wire type. */
enum {
        TAG_REQUEST_ID = 1 << 3,
        TAG_REQUEST_HELLO = 10 << 3 | 2,
        TAG_REQUEST_OPEN_CACHE = 12 << 3 | 2,
        TAG_REQUEST_GET = 14 << 3 | 2,
        TAG_REQUEST_SET = 16 << 3 | 2,
        TAG_HELLO_MIN = 1 << 3,
        TAG_HELLO_MAX = 2 << 3,
        TAG_HELLO_CLIENT = 3 << 3 | 2,
        TAG_OPEN_CACHE_NAME = 1 << 3 | 2,
        TAG_CACHE_ID = 1 << 3, /* of Get and Set */
        TAG_KEY = 3 << 3 | 2,  /* of Get and Set */
        TAG_SET_TTL_MS = 4 << 3,
        TAG_REPLY_ID = 1 << 3,
        TAG_REPLY_STATUS = 2 << 3,
        TAG_REPLY_ERROR = 3 << 3 | 2,
        TAG_REPLY_CACHE = 12 << 3 | 2,
        TAG_CACHE_INFO_ID = 2 << 3,
};

enum {
        STATUS_OK = 0,
        STATUS_NOT_FOUND = 1,
        STATUS_TOO_LARGE = 5,
        STATUS_NO_SPACE = 6,
        STATUS_NO_MEMORY = 11
};

struct raw {
        struct backend base;
        struct stream s;
        uint64_t next_id, cache_id;
        uint64_t *tags; /* by id modulo n_tags */
        uint64_t n_tags;
};

struct raw_reply {
        uint64_t id, status, cache_id;
        const uint8_t *error;
        size_t n_error;
        uint64_t n_body;
};

static bool scan_reply(const uint8_t *p, const uint8_t *end, struct raw_reply *ret)
{
        uint64_t tag, v;
        const uint8_t *at = NULL;
        while (p < end) {
                if (!take_field(&p, end, &tag, &v, &at))
                        return false;
                if (tag == TAG_REPLY_ID) {
                        ret->id = v;
                } else if (tag == TAG_REPLY_STATUS) {
                        ret->status = v;
                } else if (tag == TAG_REPLY_ERROR) {
                        ret->error = at;
                        ret->n_error = v;
                } else if (tag == TAG_REPLY_CACHE) {
                        const uint8_t *q = at, *q_end = at + v;
                        while (q < q_end) {
                                if (!take_field(&q, q_end, &tag, &v, &at))
                                        return false;
                                if (tag == TAG_CACHE_INFO_ID)
                                        ret->cache_id = v;
                        }
                }
        }
        return true;
}

/* Takes a whole frame; what *ret borrows is good until the next one. */
static int take_reply(struct raw *r, struct raw_reply *ret)
{
        int e = stream_need(&r->s, FRAME_HEADER_SIZE);
        if (e < 0)
                return e;
        struct frame_header h = frame_header_read(stream_peek(&r->s));
        if (frame_header_check(h, 1 << 20, UINT64_C(1) << 30))
                return -EPROTO;
        size_t n = FRAME_HEADER_SIZE + h.n_message + h.n_body;
        e = stream_need(&r->s, n);
        if (e < 0)
                return e;
        *ret = (struct raw_reply){.n_body = h.n_body};
        const uint8_t *message = stream_peek(&r->s) + FRAME_HEADER_SIZE;
        stream_skip(&r->s, n);
        return scan_reply(message, message + h.n_message, ret) ? 0 : -EPROTO;
}

/* A frame whose message is the id and one sub-message of the given bytes. */
static int put_request(struct raw *r, unsigned tag, const uint8_t *sub, size_t n_sub,
                       const void *body, size_t n_body)
{
        uint8_t *start = stream_reserve(&r->s, FRAME_HEADER_SIZE + 32 + n_sub + n_body);
        if (!start)
                return -ENOMEM;
        uint8_t *message = start + FRAME_HEADER_SIZE;
        uint8_t *p = put_number(message, TAG_REQUEST_ID, r->next_id++);
        p = put_bytes(p, tag, sub, n_sub);
        frame_header_write(start, (uint32_t)(p - message), n_body);
        if (n_body)
                p = text_put(p, body, n_body);
        stream_commit(&r->s, (size_t)(p - start));
        return 0;
}

static int raw_hello(struct raw *r)
{
        uint8_t sub[64];
        uint8_t *p = put_number(sub, TAG_HELLO_MIN, 1);
        p = put_number(p, TAG_HELLO_MAX, 1);
        p = put_bytes(p, TAG_HELLO_CLIENT, "bench-raw", 9);
        int e = put_request(r, TAG_REQUEST_HELLO, sub, (size_t)(p - sub), NULL, 0);
        if (e < 0)
                return e;
        p = put_bytes(sub, TAG_OPEN_CACHE_NAME, RAW_CACHE, sizeof(RAW_CACHE) - 1);
        e = put_request(r, TAG_REQUEST_OPEN_CACHE, sub, (size_t)(p - sub), NULL, 0);
        if (e < 0)
                return e;
        struct raw_reply reply;
        for (int i = 0; i < 2; i++) {
                e = take_reply(r, &reply);
                if (e < 0)
                        return e;
                if (reply.status != STATUS_OK)
                        return -ECONNREFUSED;
        }
        r->cache_id = reply.cache_id;
        return reply.cache_id ? 0 : -EPROTO;
}

static void raw_close(struct backend *b)
{
        struct raw *r = (struct raw *)b;
        stream_done(&r->s);
        free(r->tags);
        free(r);
}

static int raw_open(const char *path, unsigned window, struct backend **ret)
{
        struct raw *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->base.type = &backend_raw;
        r->next_id = 1;
        /* An overtaken request may be older than the newest one by more than the window. */
        for (r->n_tags = 64; r->n_tags < window * UINT64_C(16);)
                r->n_tags *= 2;
        int e = stream_init(&r->s, path);
        if (e == 0) {
                r->tags = calloc(r->n_tags, sizeof(*r->tags));
                e = r->tags ? raw_hello(r) : -ENOMEM;
        }
        if (e < 0) {
                raw_close(&r->base);
                return e;
        }
        *ret = &r->base;
        return 0;
}

static int raw_get(struct backend *b, const char *key, size_t n_key, uint64_t tag)
{
        struct raw *r = (struct raw *)b;
        uint8_t sub[128];
        uint8_t *p = put_number(sub, TAG_CACHE_ID, r->cache_id);
        p = put_bytes(p, TAG_KEY, key, n_key);
        r->tags[r->next_id & (r->n_tags - 1)] = tag;
        return put_request(r, TAG_REQUEST_GET, sub, (size_t)(p - sub), NULL, 0);
}

static int raw_set(struct backend *b, const char *key, size_t n_key, const void *value,
                   size_t n_value, uint64_t ttl_ms, uint64_t tag)
{
        struct raw *r = (struct raw *)b;
        uint8_t sub[128];
        uint8_t *p = put_number(sub, TAG_CACHE_ID, r->cache_id);
        p = put_bytes(p, TAG_KEY, key, n_key);
        if (ttl_ms)
                p = put_number(p, TAG_SET_TTL_MS, ttl_ms);
        r->tags[r->next_id & (r->n_tags - 1)] = tag;
        return put_request(r, TAG_REQUEST_SET, sub, (size_t)(p - sub), value, n_value);
}

static int raw_next(struct backend *b, struct reply *ret)
{
        struct raw *r = (struct raw *)b;
        struct raw_reply reply;
        int e = take_reply(r, &reply);
        if (e < 0)
                return e;
        ret->tag = r->tags[reply.id & (r->n_tags - 1)];
        ret->n_value = reply.n_body;
        if (reply.status == STATUS_OK)
                ret->outcome = OUTCOME_OK;
        else if (reply.status == STATUS_NOT_FOUND)
                ret->outcome = OUTCOME_MISS;
        else if (reply.status == STATUS_NO_SPACE || reply.status == STATUS_TOO_LARGE ||
                 reply.status == STATUS_NO_MEMORY)
                ret->outcome = OUTCOME_REFUSED;
        else
                ret->outcome = OUTCOME_ERROR;
        text_copy(ret->error, sizeof(ret->error), reply.error ? reply.error : (const uint8_t *)"",
                  reply.n_error);
        return 0;
}

const struct backend_type backend_raw = {
        .name = "raw",
        .help = "cached: frames written by hand, no library",
        .open = raw_open,
        .close = raw_close,
        .get = raw_get,
        .set = raw_set,
        .next = raw_next,
};
