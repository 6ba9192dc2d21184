/* SPDX-License-Identifier: MIT */
/*
 * Sessions as people keep them in redis: a hash each, with an expiry
 *
 * RESP2 written by hand over struct stream. A hash's name is as long as a session's token in
 * cached. It expires as a whole, and uses do not put that off: that would be a command more for
 * each.
 */
#include <errno.h>
#include <stdlib.h>

#include "keys.h"
#include "session-load.h"
#include "stream.h"
#include "text.h"

#define N_NAME 16

struct redis {
        struct session_client base;
        struct stream s;
};

static void redis_disconnect(struct session_client *c)
{
        struct redis *r = (struct redis *)c;
        stream_done(&r->s);
        free(r);
}

static int redis_connect(const char *path, uint64_t n, struct session_client **ret)
{
        struct redis *r = calloc(1, sizeof(*r));
        (void)n;
        if (!r)
                return -ENOMEM;
        r->base.type = &session_redis;
        int e = stream_init(&r->s, path);
        if (e < 0) {
                redis_disconnect(&r->base);
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

/* The beginning of a command of so many words, of which the first two are written. NULL: no memory.
 * There is room for @more bytes behind them. */
static uint8_t *begin(struct redis *r, unsigned words, const char *command, uint64_t session,
                      size_t more, uint8_t **ret_start)
{
        char name[N_NAME];
        uint8_t *p = *ret_start = stream_reserve(&r->s, more + 128);
        if (!p)
                return NULL;
        keys_make(session, name, sizeof(name));
        *p++ = '*';
        p = text_put_u64(p, words);
        p = TEXT_LIT(p, "\r\n");
        p = put_bulk(p, command, strlen(command));
        return put_bulk(p, name, sizeof(name));
}

static int finish(struct redis *r, const uint8_t *start, const uint8_t *p)
{
        stream_commit(&r->s, (size_t)(p - start));
        return 0;
}

static int redis_expire(struct session_client *c, uint64_t session, uint64_t ms)
{
        struct redis *r = (struct redis *)c;
        uint8_t digits[TEXT_U64_MAX];
        uint8_t *start, *p = begin(r, 3, "PEXPIRE", session, 64, &start);
        if (!p)
                return -ENOMEM;
        return finish(r, start, put_bulk(p, digits, (size_t)(text_put_u64(digits, ms) - digits)));
}

static int redis_fill(struct session_client *c, uint64_t session, unsigned n_keys,
                      const void *value, size_t n_value)
{
        struct redis *r = (struct redis *)c;
        uint8_t *start,
                *p = begin(r, 2 + 2 * n_keys, "HSET", session, n_keys * (n_value + 64), &start);
        if (!p)
                return -ENOMEM;
        for (unsigned i = 0; i < n_keys; i++) {
                char key[SESSION_KEY];
                session_key(i, key);
                p = put_bulk(p, key, sizeof(key));
                p = put_bulk(p, value, n_value);
        }
        return finish(r, start, p);
}

static int redis_get(struct session_client *c, uint64_t session, const char key[SESSION_KEY])
{
        struct redis *r = (struct redis *)c;
        uint8_t *start, *p = begin(r, 3, "HGET", session, 64, &start);
        return p ? finish(r, start, put_bulk(p, key, SESSION_KEY)) : -ENOMEM;
}

static int redis_set(struct session_client *c, uint64_t session, const char key[SESSION_KEY],
                     const void *value, size_t n_value)
{
        struct redis *r = (struct redis *)c;
        uint8_t *start, *p = begin(r, 4, "HSET", session, n_value + 128, &start);
        if (!p)
                return -ENOMEM;
        p = put_bulk(p, key, SESSION_KEY);
        return finish(r, start, put_bulk(p, value, n_value));
}

static int redis_all(struct session_client *c, uint64_t session)
{
        struct redis *r = (struct redis *)c;
        uint8_t *start, *p = begin(r, 2, "HGETALL", session, 0, &start);
        return p ? finish(r, start, p) : -ENOMEM;
}

static int redis_end(struct session_client *c, uint64_t session)
{
        struct redis *r = (struct redis *)c;
        uint8_t *start, *p = begin(r, 2, "DEL", session, 0, &start);
        return p ? finish(r, start, p) : -ENOMEM;
}

/* A bulk string whose first line was read. */
static int take_bulk(struct redis *r, const uint8_t *line, size_t n, size_t *ret)
{
        if (n < 2 || line[0] != '$' || line[1] == '-')
                return -EBADMSG;
        *ret = text_u64(line + 1, n - 1);
        int e = stream_need(&r->s, *ret + 2);
        if (e == 0)
                stream_skip(&r->s, *ret + 2);
        return e;
}

static int redis_next(struct session_client *c, size_t *ret)
{
        struct redis *r = (struct redis *)c;
        const uint8_t *line;
        size_t n, n_bulk;
        int e = stream_line(&r->s, &line, &n);
        *ret = 0;
        if (e < 0 || n == 0 || line[0] == '-')
                return e < 0 ? e : -EBADMSG;
        if (line[0] == '$')
                return take_bulk(r, line, n, ret);
        if (line[0] != '*')
                return 0;
        /* Of HGETALL: keys and values in turns. */
        for (uint64_t left = text_u64(line + 1, n - 1); left > 0 && e == 0; left--) {
                e = stream_line(&r->s, &line, &n);
                if (e == 0)
                        e = take_bulk(r, line, n, &n_bulk);
                if (e == 0 && left % 2 == 1)
                        *ret += n_bulk;
        }
        return e;
}

const struct session_type session_redis = {
        .name = "redis",
        .max_window = 4096,
        .connect = redis_connect,
        .disconnect = redis_disconnect,
        .fill = redis_fill,
        .expire = redis_expire,
        .get = redis_get,
        .set = redis_set,
        .all = redis_all,
        .end = redis_end,
        .next = redis_next,
};
