/* SPDX-License-Identifier: MIT */
/*
 * Memcached client of the bench
 *
 * Two dialects over struct stream: the meta commands (mg, ms: short requests and replies) and the
 * classic ones (get, set). Both are measured and the faster one stands for memcached. Memcached's
 * times are whole seconds: a TTL is rounded up.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend.h"
#include "fifo.h"
#include "stream.h"
#include "text.h"

struct memcached {
        struct backend base;
        struct stream s;
        struct fifo sent;
};

static void mc_close(struct backend *b)
{
        struct memcached *m = (struct memcached *)b;
        stream_done(&m->s);
        fifo_done(&m->sent);
        free(m);
}

static int mc_open(const struct backend_type *type, const char *path, unsigned window,
                   struct backend **ret)
{
        struct memcached *m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->base.type = type;
        int e = stream_init(&m->s, path);
        if (e == 0)
                e = fifo_init(&m->sent, window);
        if (e < 0) {
                mc_close(&m->base);
                return e;
        }
        *ret = &m->base;
        return 0;
}

static int meta_open(const char *path, unsigned window, struct backend **ret)
{
        return mc_open(&backend_memcached, path, window, ret);
}

static int text_open(const char *path, unsigned window, struct backend **ret)
{
        return mc_open(&backend_memcached_text, path, window, ret);
}

static int meta_get(struct backend *b, const char *key, size_t n_key, uint64_t tag)
{
        struct memcached *m = (struct memcached *)b;
        uint8_t *start = stream_reserve(&m->s, n_key + 16);
        if (!start)
                return -ENOMEM;
        uint8_t *p = TEXT_LIT(start, "mg ");
        p = text_put(p, key, n_key);
        p = TEXT_LIT(p, " v\r\n");
        stream_commit(&m->s, (size_t)(p - start));
        return fifo_push(&m->sent, tag, true);
}

static int text_get(struct backend *b, const char *key, size_t n_key, uint64_t tag)
{
        struct memcached *m = (struct memcached *)b;
        uint8_t *start = stream_reserve(&m->s, n_key + 16);
        if (!start)
                return -ENOMEM;
        uint8_t *p = TEXT_LIT(start, "get ");
        p = text_put(p, key, n_key);
        p = TEXT_LIT(p, "\r\n");
        stream_commit(&m->s, (size_t)(p - start));
        return fifo_push(&m->sent, tag, true);
}

static int meta_set(struct backend *b, const char *key, size_t n_key, const void *value,
                    size_t n_value, uint64_t ttl_ms, uint64_t tag)
{
        struct memcached *m = (struct memcached *)b;
        uint8_t *start = stream_reserve(&m->s, n_key + n_value + 80);
        if (!start)
                return -ENOMEM;
        uint8_t *p = TEXT_LIT(start, "ms ");
        p = text_put(p, key, n_key);
        *p++ = ' ';
        p = text_put_u64(p, n_value);
        if (ttl_ms) {
                p = TEXT_LIT(p, " T");
                p = text_put_u64(p, (ttl_ms + 999) / 1000);
        }
        p = TEXT_LIT(p, "\r\n");
        p = text_put(p, value, n_value);
        p = TEXT_LIT(p, "\r\n");
        stream_commit(&m->s, (size_t)(p - start));
        return fifo_push(&m->sent, tag, false);
}

static int text_set(struct backend *b, const char *key, size_t n_key, const void *value,
                    size_t n_value, uint64_t ttl_ms, uint64_t tag)
{
        struct memcached *m = (struct memcached *)b;
        uint8_t *start = stream_reserve(&m->s, n_key + n_value + 80);
        if (!start)
                return -ENOMEM;
        uint8_t *p = TEXT_LIT(start, "set ");
        p = text_put(p, key, n_key);
        p = TEXT_LIT(p, " 0 ");
        p = text_put_u64(p, (ttl_ms + 999) / 1000);
        *p++ = ' ';
        p = text_put_u64(p, n_value);
        p = TEXT_LIT(p, "\r\n");
        p = text_put(p, value, n_value);
        p = TEXT_LIT(p, "\r\n");
        stream_commit(&m->s, (size_t)(p - start));
        return fifo_push(&m->sent, tag, false);
}

/* Takes the value behind a VA or VALUE line; @end: what follows it. */
static int take_value(struct memcached *m, size_t n, size_t n_end, struct reply *ret)
{
        int e = stream_need(&m->s, n + n_end);
        if (e < 0)
                return e;
        stream_skip(&m->s, n + n_end);
        ret->n_value = n;
        ret->outcome = OUTCOME_OK;
        return 0;
}

static int starts(const uint8_t *line, size_t n, const char *word)
{
        size_t k = strlen(word);
        return n >= k && memcmp(line, word, k) == 0;
}

static int mc_next(struct backend *b, struct reply *ret)
{
        struct memcached *m = (struct memcached *)b;
        const uint8_t *line;
        size_t n;
        int e = stream_line(&m->s, &line, &n);
        if (e < 0)
                return e;
        struct fifo_item item;
        if (fifo_pop(&m->sent, &item) < 0)
                return -EPROTO;
        ret->tag = item.tag;
        ret->n_value = 0;
        if (starts(line, n, "HD") || starts(line, n, "STORED")) {
                ret->outcome = OUTCOME_OK;
        } else if (starts(line, n, "EN")) { /* EN and END */
                ret->outcome = OUTCOME_MISS;
        } else if (starts(line, n, "VALUE ")) { /* VALUE key flags size */
                const uint8_t *size = memrchr(line, ' ', n);
                return take_value(m, text_u64(size + 1, (size_t)(line + n - size) - 1),
                                  sizeof("\r\nEND\r\n") - 1, ret);
        } else if (starts(line, n, "VA ")) {
                return take_value(m, text_u64(line + 3, n - 3), 2, ret);
        } else {
                ret->outcome = starts(line, n, "SERVER_ERROR out of memory") ? OUTCOME_REFUSED
                                                                             : OUTCOME_ERROR;
                text_copy(ret->error, sizeof(ret->error), line, n);
        }
        return 0;
}

const struct backend_type backend_memcached = {
        .name = "memcached",
        .help = "memcached: meta commands",
        .open = meta_open,
        .close = mc_close,
        .get = meta_get,
        .set = meta_set,
        .next = mc_next,
};

const struct backend_type backend_memcached_text = {
        .name = "memcached-text",
        .help = "memcached: classic commands",
        .open = text_open,
        .close = mc_close,
        .get = text_get,
        .set = text_set,
        .next = mc_next,
};
