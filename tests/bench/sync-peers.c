/* SPDX-License-Identifier: MIT */
/*
 * The peers, asked and waited for: redis (GET, MGET) and memcached (get of many keys; mg, with the
 * noop that ends a batch)
 *
 * Written by hand over struct stream, so that the client costs less than a library would. Each
 * client has a connection of its own.
 */
#include <errno.h>
#include <stdlib.h>

#include "stream.h"
#include "sync.h"
#include "text.h"

struct peer {
        struct sync_client base;
        struct stream s;
};

static void peer_close(struct sync_client *c)
{
        struct peer *p = (struct peer *)c;
        stream_done(&p->s);
        free(p);
}

static int peer_open(const char *path, struct sync_client *first, struct sync_client **ret)
{
        (void)first;
        struct peer *p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        int e = stream_init(&p->s, path);
        if (e < 0) {
                peer_close(&p->base);
                return e;
        }
        *ret = &p->base;
        return 0;
}

/* Behind a line that announced a value of `n` bytes. */
static int skip_value(struct peer *p, size_t n)
{
        int e = stream_need(&p->s, n + 2);
        if (e == 0)
                stream_skip(&p->s, n + 2);
        return e;
}

static int starts(const uint8_t *line, size_t n, const char *word)
{
        size_t k = strlen(word);
        return n >= k && memcmp(line, word, k) == 0;
}

/* ---------------------------------------------------------------------------------------- redis */

static int redis_get(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        struct peer *p = (struct peer *)c;
        uint8_t *start = stream_reserve(&p->s, 64 + (size_t)n * (SYNC_KEY_SIZE + 8));
        if (!start)
                return -ENOMEM;
        uint8_t *at = TEXT_LIT(start, "*");
        at = text_put_u64(at, n + 1);
        at = n == 1 ? TEXT_LIT(at, "\r\n$3\r\nGET\r\n") : TEXT_LIT(at, "\r\n$4\r\nMGET\r\n");
        for (unsigned i = 0; i < n; i++) {
                at = TEXT_LIT(at, "$32\r\n");
                at = text_put(at, keys[i], SYNC_KEY_SIZE);
                at = TEXT_LIT(at, "\r\n");
        }
        stream_commit(&p->s, (size_t)(at - start));
        int found = 0;
        for (unsigned left = n == 1 ? 1 : n + 1; left > 0; left--) {
                const uint8_t *line;
                size_t n_line;
                int e = stream_line(&p->s, &line, &n_line);
                if (e == 0 && n_line > 1 && line[0] == '$' && line[1] != '-') {
                        e = skip_value(p, text_u64(line + 1, n_line - 1));
                        found++;
                } else if (e == 0 && (n_line == 0 || line[0] == '-')) {
                        e = -EPROTO;
                }
                if (e < 0)
                        return e;
        }
        return found;
}

const struct sync_type sync_redis = {
        .name = "redis",
        .help = "redis-server: GET, MGET; a connection a thread",
        .open = peer_open,
        .close = peer_close,
        .get = redis_get,
};

/* ------------------------------------------------------------------------------------ memcached */

static int text_get(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        struct peer *p = (struct peer *)c;
        uint8_t *start = stream_reserve(&p->s, 16 + (size_t)n * (SYNC_KEY_SIZE + 1));
        if (!start)
                return -ENOMEM;
        uint8_t *at = TEXT_LIT(start, "get");
        for (unsigned i = 0; i < n; i++) {
                *at++ = ' ';
                at = text_put(at, keys[i], SYNC_KEY_SIZE);
        }
        at = TEXT_LIT(at, "\r\n");
        stream_commit(&p->s, (size_t)(at - start));
        for (int found = 0;; found++) {
                const uint8_t *line;
                size_t n_line;
                int e = stream_line(&p->s, &line, &n_line);
                if (e < 0)
                        return e;
                if (starts(line, n_line, "END"))
                        return found;
                if (!starts(line, n_line, "VALUE "))
                        return -EPROTO;
                const uint8_t *size = memrchr(line, ' ', n_line);
                e = skip_value(p, text_u64(size + 1, (size_t)(line + n_line - size) - 1));
                if (e < 0)
                        return e;
        }
}

static int meta_get(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE])
{
        struct peer *p = (struct peer *)c;
        uint8_t *start = stream_reserve(&p->s, 16 + (size_t)n * (SYNC_KEY_SIZE + 12));
        if (!start)
                return -ENOMEM;
        uint8_t *at = start;
        for (unsigned i = 0; i < n; i++) {
                at = TEXT_LIT(at, "mg ");
                at = text_put(at, keys[i], SYNC_KEY_SIZE);
                at = n == 1 ? TEXT_LIT(at, " v\r\n") : TEXT_LIT(at, " v q\r\n");
        }
        if (n > 1)
                at = TEXT_LIT(at, "mn\r\n");
        stream_commit(&p->s, (size_t)(at - start));
        for (int found = 0;; found++) {
                const uint8_t *line;
                size_t n_line;
                int e = stream_line(&p->s, &line, &n_line);
                if (e < 0)
                        return e;
                if (starts(line, n_line, "MN") || starts(line, n_line, "EN"))
                        return found;
                if (!starts(line, n_line, "VA "))
                        return -EPROTO;
                e = skip_value(p, text_u64(line + 3, n_line - 3));
                if (e < 0 || n == 1)
                        return e < 0 ? e : 1;
        }
}

const struct sync_type sync_memcached = {
        .name = "memcached",
        .help = "memcached: meta commands; a connection a thread",
        .open = peer_open,
        .close = peer_close,
        .get = meta_get,
};

const struct sync_type sync_memcached_text = {
        .name = "memcached-text",
        .help = "memcached: get; a connection a thread",
        .open = peer_open,
        .close = peer_close,
        .get = text_get,
};
