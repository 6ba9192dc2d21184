/* SPDX-License-Identifier: MIT */
/*
 * Sessions of cached, without its library: what the daemon can do
 *
 * Encodes requests field by field and scans replies for what bench-session asks. It knows the
 * numbers of cached.proto by heart, and checks only what it needs.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "fields.h"
#include "proto/frame.h"
#include "session-load.h"
#include "stream.h"
#include "text.h"

/* Protobuf tags: field number << 3 | wire type. */
enum {
        TAG_REQUEST_ID = 1 << 3,
        TAG_REQUEST_HELLO = 10 << 3 | 2,
        TAG_REQUEST_OPEN = 38 << 3 | 2,
        TAG_REQUEST_CLOSE = 40 << 3 | 2,
        TAG_REQUEST_GET = 41 << 3 | 2,
        TAG_REQUEST_SET = 42 << 3 | 2,
        TAG_HELLO_MIN = 1 << 3,
        TAG_HELLO_MAX = 2 << 3,
        TAG_HELLO_CLIENT = 3 << 3 | 2,
        TAG_OPEN_IDLE_MS = 2 << 3,
        TAG_OPEN_NEVER = 3 << 3,
        TAG_TOKEN = 1 << 3 | 2, /* of each request about a session, and of SessionInfo */
        TAG_KEY = 2 << 3 | 2,   /* of SessionGet; an item of SessionSet */
        TAG_ITEM_KEY = 1 << 3 | 2,
        TAG_ITEM_SIZE = 2 << 3,
        TAG_REPLY_ID = 1 << 3,
        TAG_REPLY_STATUS = 2 << 3,
        TAG_REPLY_ERROR = 3 << 3 | 2,
        TAG_REPLY_SESSION = 38 << 3 | 2,
};

#define N_TOKEN  16
#define ITEM_MAX 32 /* of one item of SessionSet, with its tag */

struct raw {
        struct session_client base;
        struct stream s;
        uint64_t next_id, next_reply;
        uint64_t n_opened; /* tokens that have come, in the order in which sessions were opened */
        uint64_t *order;   /* of the sessions in which they were opened */
        uint64_t n_order;
        uint8_t (*tokens)[N_TOKEN]; /* by session */
};

struct answer {
        uint64_t id, status;
        const uint8_t *error, *token;
        size_t n_error;
        uint64_t n_body;
};

static bool scan_info(const uint8_t *p, const uint8_t *end, struct answer *ret)
{
        uint64_t tag, v;
        const uint8_t *at = NULL;
        while (p < end) {
                if (!take_field(&p, end, &tag, &v, &at))
                        return false;
                if (tag == TAG_TOKEN && v == N_TOKEN)
                        ret->token = at;
        }
        return true;
}

static bool scan_reply(const uint8_t *p, const uint8_t *end, struct answer *ret)
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
                } else if (tag == TAG_REPLY_SESSION && !scan_info(at, at + v, ret)) {
                        return false;
                }
        }
        return true;
}

/* Takes a whole frame; what *ret borrows is good until the next one. */
static int take_reply(struct raw *r, struct answer *ret)
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
        *ret = (struct answer){.n_body = h.n_body};
        const uint8_t *message = stream_peek(&r->s) + FRAME_HEADER_SIZE;
        stream_skip(&r->s, n);
        return scan_reply(message, message + h.n_message, ret) ? 0 : -EPROTO;
}

/* Room for a request whose sub-message is of @n_sub bytes, and @n_body bytes of body. The message
 * goes where *ret_p points. */
static uint8_t *begin(struct raw *r, unsigned tag, size_t n_sub, size_t n_body, uint8_t **ret_p)
{
        uint8_t *start = stream_reserve(&r->s, FRAME_HEADER_SIZE + 32 + n_sub + n_body);
        if (!start)
                return NULL;
        uint8_t *p = put_number(start + FRAME_HEADER_SIZE, TAG_REQUEST_ID, r->next_id++);
        *ret_p = put_varint(put_varint(p, tag), n_sub);
        return start;
}

static int finish(struct raw *r, uint8_t *start, const uint8_t *p, size_t n_body)
{
        size_t n_message = (size_t)(p - start) - FRAME_HEADER_SIZE;
        frame_header_write(start, (uint32_t)n_message, n_body);
        stream_commit(&r->s, FRAME_HEADER_SIZE + n_message + n_body);
        return 0;
}

/* One whose sub-message is here. */
static int send_sub(struct raw *r, unsigned tag, const uint8_t *sub, size_t n)
{
        uint8_t *p, *start = begin(r, tag, n, 0, &p);
        return start ? finish(r, start, text_put(p, sub, n), 0) : -ENOMEM;
}

static void raw_disconnect(struct session_client *c)
{
        struct raw *r = (struct raw *)c;
        stream_done(&r->s);
        free(r->tokens);
        free(r->order);
        free(r);
}

static int raw_next(struct session_client *c, size_t *ret)
{
        struct raw *r = (struct raw *)c;
        struct answer a;
        int e = take_reply(r, &a);
        if (e < 0)
                return e;
        if (a.status != 0) {
                fprintf(stderr, "bench-session: the daemon answers status %u: %.*s\n",
                        (unsigned)a.status, (int)a.n_error, a.error ? (const char *)a.error : "");
                return -EBADMSG;
        }
        if (a.id != r->next_reply++)
                return -EPROTO;
        if (a.token && r->n_opened < r->n_order)
                memcpy(r->tokens[r->order[r->n_opened++]], a.token, N_TOKEN);
        *ret = a.n_body;
        return 0;
}

static int raw_connect(const char *path, uint64_t n, struct session_client **ret)
{
        struct raw *r = calloc(1, sizeof(*r));
        uint8_t sub[64], *p = put_number(sub, TAG_HELLO_MIN, 1);
        size_t ignored;
        if (!r)
                return -ENOMEM;
        r->base.type = &session_raw;
        r->next_id = r->next_reply = 1;
        r->tokens = calloc(n, sizeof(*r->tokens));
        r->order = calloc(n, sizeof(*r->order));
        int e = stream_init(&r->s, path);
        if (e == 0 && (!r->tokens || !r->order))
                e = -ENOMEM;
        p = put_bytes(put_number(p, TAG_HELLO_MAX, 1), TAG_HELLO_CLIENT, "bench-session", 13);
        if (e == 0)
                e = send_sub(r, TAG_REQUEST_HELLO, sub, (size_t)(p - sub));
        if (e == 0)
                e = raw_next(&r->base, &ignored);
        if (e < 0) {
                raw_disconnect(&r->base);
                return e;
        }
        *ret = &r->base;
        return 0;
}

static int raw_open(struct session_client *c, uint64_t session, uint64_t idle_ms)
{
        struct raw *r = (struct raw *)c;
        uint8_t sub[16];
        uint8_t *p = idle_ms ? put_number(sub, TAG_OPEN_IDLE_MS, idle_ms)
                             : put_number(sub, TAG_OPEN_NEVER, 1);
        r->order[r->n_order++] = session;
        return send_sub(r, TAG_REQUEST_OPEN, sub, (size_t)(p - sub));
}

static uint8_t *put_item(uint8_t *p, const char key[SESSION_KEY], size_t n_value)
{
        uint8_t item[ITEM_MAX], *q = put_bytes(item, TAG_ITEM_KEY, key, SESSION_KEY);
        q = put_number(q, TAG_ITEM_SIZE, n_value);
        return put_bytes(p, TAG_KEY, item, (size_t)(q - item));
}

static int raw_fill(struct session_client *c, uint64_t session, unsigned n_keys, const void *value,
                    size_t n_value)
{
        struct raw *r = (struct raw *)c;
        uint8_t *sub = malloc(32 + (size_t)n_keys * ITEM_MAX);
        if (!sub)
                return -ENOMEM;
        uint8_t *p = put_bytes(sub, TAG_TOKEN, r->tokens[session], N_TOKEN);
        for (unsigned i = 0; i < n_keys; i++) {
                char key[SESSION_KEY];
                session_key(i, key);
                p = put_item(p, key, n_value);
        }
        size_t n_sub = (size_t)(p - sub), n_body = n_keys * n_value;
        uint8_t *start = begin(r, TAG_REQUEST_SET, n_sub, n_body, &p);
        if (start) {
                uint8_t *end = p = text_put(p, sub, n_sub);
                for (unsigned i = 0; i < n_keys; i++)
                        p = text_put(p, value, n_value);
                finish(r, start, end, n_body);
        }
        free(sub);
        return start ? 0 : -ENOMEM;
}

static int raw_set(struct session_client *c, uint64_t session, const char key[SESSION_KEY],
                   const void *value, size_t n_value)
{
        struct raw *r = (struct raw *)c;
        uint8_t sub[64], *p = put_bytes(sub, TAG_TOKEN, r->tokens[session], N_TOKEN);
        p = put_item(p, key, n_value);
        size_t n_sub = (size_t)(p - sub);
        uint8_t *start = begin(r, TAG_REQUEST_SET, n_sub, n_value, &p);
        if (!start)
                return -ENOMEM;
        p = text_put(p, sub, n_sub);
        text_put(p, value, n_value);
        return finish(r, start, p, n_value);
}

static int raw_get(struct session_client *c, uint64_t session, const char key[SESSION_KEY])
{
        struct raw *r = (struct raw *)c;
        uint8_t sub[64], *p = put_bytes(sub, TAG_TOKEN, r->tokens[session], N_TOKEN);
        p = put_bytes(p, TAG_KEY, key, SESSION_KEY);
        return send_sub(r, TAG_REQUEST_GET, sub, (size_t)(p - sub));
}

static int about(struct raw *r, unsigned tag, uint64_t session)
{
        uint8_t sub[32], *p = put_bytes(sub, TAG_TOKEN, r->tokens[session], N_TOKEN);
        return send_sub(r, tag, sub, (size_t)(p - sub));
}

static int raw_all(struct session_client *c, uint64_t session)
{
        return about((struct raw *)c, TAG_REQUEST_GET, session);
}

static int raw_end(struct session_client *c, uint64_t session)
{
        return about((struct raw *)c, TAG_REQUEST_CLOSE, session);
}

const struct session_type session_raw = {
        .name = "raw",
        .max_window = 4096,
        .connect = raw_connect,
        .disconnect = raw_disconnect,
        .open = raw_open,
        .fill = raw_fill,
        .get = raw_get,
        .set = raw_set,
        .all = raw_all,
        .end = raw_end,
        .next = raw_next,
};
