/* SPDX-License-Identifier: MIT */
/*
 * Redis client of the bench
 *
 * RESP2 written by hand over struct stream: it costs less client time per request than a general
 * library, so the server is what is measured. GET, SET and SET … PX only.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend.h"
#include "fifo.h"
#include "stream.h"
#include "text.h"

struct redis {
        struct backend base;
        struct stream s;
        struct fifo sent;
};

static void redis_close(struct backend *b)
{
        struct redis *r = (struct redis *)b;
        stream_done(&r->s);
        fifo_done(&r->sent);
        free(r);
}

static int redis_open(const char *path, unsigned window, struct backend **ret)
{
        struct redis *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->base.type = &backend_redis;
        int e = stream_init(&r->s, path);
        if (e == 0)
                e = fifo_init(&r->sent, window);
        if (e < 0) {
                redis_close(&r->base);
                return e;
        }
        *ret = &r->base;
        return 0;
}

static uint8_t *put_bulk(uint8_t *p, const void *s, size_t n)
{
        *p++ = '$';
        p = text_put_u64(p, n);
        p = TEXT_LIT(p, "\r\n");
        p = text_put(p, s, n);
        return TEXT_LIT(p, "\r\n");
}

static int redis_get(struct backend *b, const char *key, size_t n_key, uint64_t tag)
{
        struct redis *r = (struct redis *)b;
        uint8_t *start = stream_reserve(&r->s, n_key + 64);
        if (!start)
                return -ENOMEM;
        uint8_t *p = TEXT_LIT(start, "*2\r\n$3\r\nGET\r\n");
        p = put_bulk(p, key, n_key);
        stream_commit(&r->s, (size_t)(p - start));
        return fifo_push(&r->sent, tag, true);
}

static int redis_set(struct backend *b, const char *key, size_t n_key, const void *value,
                     size_t n_value, uint64_t ttl_ms, uint64_t tag)
{
        struct redis *r = (struct redis *)b;
        uint8_t *start = stream_reserve(&r->s, n_key + n_value + 160);
        if (!start)
                return -ENOMEM;
        uint8_t *p = ttl_ms ? TEXT_LIT(start, "*5\r\n$3\r\nSET\r\n")
                            : TEXT_LIT(start, "*3\r\n$3\r\nSET\r\n");
        p = put_bulk(p, key, n_key);
        p = put_bulk(p, value, n_value);
        if (ttl_ms) {
                uint8_t digits[TEXT_U64_MAX];
                size_t n = (size_t)(text_put_u64(digits, ttl_ms) - digits);
                p = TEXT_LIT(p, "$2\r\nPX\r\n");
                p = put_bulk(p, digits, n);
        }
        stream_commit(&r->s, (size_t)(p - start));
        return fifo_push(&r->sent, tag, false);
}

static int redis_next(struct backend *b, struct reply *ret)
{
        struct redis *r = (struct redis *)b;
        const uint8_t *line;
        size_t n;
        int e = stream_line(&r->s, &line, &n);
        if (e < 0)
                return e;
        struct fifo_item item;
        e = fifo_pop(&r->sent, &item);
        if (e < 0 || n == 0)
                return -EPROTO;
        ret->tag = item.tag;
        ret->n_value = 0;
        if (line[0] == '+' && !item.is_get) {
                ret->outcome = OUTCOME_OK;
        } else if (line[0] == '$' && item.is_get) {
                ret->outcome = n >= 2 && line[1] == '-' ? OUTCOME_MISS : OUTCOME_OK;
                if (ret->outcome == OUTCOME_MISS)
                        return 0;
                ret->n_value = text_u64(line + 1, n - 1);
                e = stream_need(&r->s, ret->n_value + 2);
                if (e < 0)
                        return e;
                stream_skip(&r->s, ret->n_value + 2);
        } else {
                ret->outcome =
                        n > 4 && memcmp(line, "-OOM", 4) == 0 ? OUTCOME_REFUSED : OUTCOME_ERROR;
                text_copy(ret->error, sizeof(ret->error), line, n);
        }
        return 0;
}

const struct backend_type backend_redis = {
        .name = "redis",
        .help = "redis-server: RESP2",
        .open = redis_open,
        .close = redis_close,
        .get = redis_get,
        .set = redis_set,
        .next = redis_next,
};
