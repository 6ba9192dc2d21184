/* SPDX-License-Identifier: MIT */
/*
 * The well-known recipe for redis: who can set a lock that was not set (SET … NX PX) computes,
 * stores and removes it; the others ask for the value every ten milliseconds.
 *
 * As it is usually written: the lock has a random word in it and a time to live, the value is asked
 * for before the lock is. Removing it only where it still is one's own takes a script in redis;
 * here nobody else can have got it meanwhile, so a DEL does. Each thread has a connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "herd.h"
#include "stream.h"
#include "text.h"

#define POLL_NS 10000000 /* the recipe's */
#define LOCK_MS "60000"

struct redis {
        struct herd_caller base;
        struct stream s;
        uint64_t word;
};

static void redis_close(struct herd_caller *c)
{
        struct redis *r = (struct redis *)c;
        stream_done(&r->s);
        free(r);
}

static int redis_open(const char *path, struct herd_caller **ret)
{
        struct redis *r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->word = (uint64_t)(uintptr_t)r ^ (uint64_t)clock();
        int e = stream_init(&r->s, path);
        if (e < 0) {
                redis_close(&r->base);
                return e;
        }
        *ret = &r->base;
        return 0;
}

/* One command of words; the first line of its reply is in *line. */
static int command(struct redis *r, const char *const *words, unsigned n, const uint8_t **line,
                   size_t *n_line)
{
        uint8_t *start = stream_reserve(&r->s, 32 + (size_t)n * 160);
        if (!start)
                return -ENOMEM;
        uint8_t *at = text_put_u64(TEXT_LIT(start, "*"), n);
        for (unsigned i = 0; i < n; i++) {
                size_t k = strnlen(words[i], 128);
                at = text_put_u64(TEXT_LIT(at, "\r\n$"), k);
                at = text_put(TEXT_LIT(at, "\r\n"), words[i], k);
        }
        at = TEXT_LIT(at, "\r\n");
        stream_commit(&r->s, (size_t)(at - start));
        int e = stream_line(&r->s, line, n_line);
        return e == 0 && (*n_line == 0 || **line == '-') ? -EPROTO : e;
}

/* 1: it is there; 0: not; or -errno. */
static int get(struct redis *r, const char *key, uint64_t *ret)
{
        const char *const words[] = {"GET", key};
        const uint8_t *line;
        size_t n;
        int e = command(r, words, 2, &line, &n);
        if (e < 0 || line[1] == '-')
                return e;
        n = (size_t)text_u64(line + 1, n - 1);
        e = stream_need(&r->s, n + 2);
        if (e < 0)
                return e;
        *ret = text_u64(stream_peek(&r->s), n);
        stream_skip(&r->s, n + 2);
        return 1;
}

/* 1: the lock is ours. */
static int lock(struct redis *r, const char *name)
{
        char word[24];
        snprintf(word, sizeof(word), "%llu", (unsigned long long)r->word++);
        const char *const words[] = {"SET", name, word, "NX", "PX", LOCK_MS};
        const uint8_t *line;
        size_t n;
        int e = command(r, words, 6, &line, &n);
        return e < 0 ? e : line[0] == '+';
}

static int unlock(struct redis *r, const char *name)
{
        const char *const del[] = {"DEL", name};
        const uint8_t *line;
        size_t n;
        return command(r, del, 2, &line, &n);
}

static int store(struct redis *r, const char *key, const char *name, uint64_t value)
{
        char text[24];
        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        const char *const set[] = {"SET", key, text};
        const uint8_t *line;
        size_t n;
        int e = command(r, set, 3, &line, &n);
        return e < 0 ? e : unlock(r, name);
}

static int redis_call(struct herd_caller *c, const char *key, uint64_t (*compute)(void *data),
                      void *data, uint64_t *ret)
{
        struct redis *r = (struct redis *)c;
        char name[HERD_KEY_SIZE + 8];
        snprintf(name, sizeof(name), "lock:%s", key);
        for (;;) {
                int e = get(r, key, ret);
                if (e != 0)
                        return e < 0 ? e : 0;
                e = lock(r, name);
                if (e < 0)
                        return e;
                if (e == 1 &&
                    get(r, key, ret) == 1) /* stored between the first look and the lock */
                        return unlock(r, name);
                if (e == 1) {
                        *ret = compute(data);
                        return store(r, key, name, *ret);
                }
                nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
        }
}

static int redis_warm(struct herd_caller *c)
{
        uint64_t value;
        int e = get((struct redis *)c, "warm", &value);
        return e < 0 ? e : 0;
}

const struct herd_type herd_redis = {
        .name = "redis",
        .open = redis_open,
        .warm = redis_warm,
        .call = redis_call,
        .close = redis_close,
        .one_per_thread = 1,
};
