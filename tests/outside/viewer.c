/* SPDX-License-Identifier: MIT */
/*
 * libcached's views and buffers, driven by a test
 *
 *     viewer SOCKET TIMEOUT_MS
 *
 * Reads commands from stdin and answers each with a line "CODE TEXT":
 *
 *     view KEY read|private     its number, size and sum; it stays
 *     sum N                     size and sum of view N
 *     scribble N                writes all over it
 *     release N
 *     buffer SIZE SEED          its number; filled
 *     store KEY N               the buffer, in full
 *     free N
 *     prepare SIZE COUNT
 *     get KEY                   size and sum of cached_get()
 *     set KEY SIZE SEED         by cached_set()
 *     ping
 *     close                     frees the handle; views and buffers stay
 *
 * It frees nothing else at its end, as a process that is killed. Status 0, or 2 for a command that
 * it does not know.
 */

#include <cached.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE "views"
#define N_MAX 64

struct viewer {
        cached *c;
        cached_view *views[N_MAX];
        cached_buffer *buffers[N_MAX];
        unsigned n_views, n_buffers;
};

static uint64_t sum(const void *data, uint64_t n)
{
        const uint8_t *p = data;
        uint64_t s = 14695981039346656037u;

        for (uint64_t i = 0; i < n; i++)
                s = (s ^ p[i]) * 1099511628211u;
        return s;
}

/* What a value of that seed holds. */
static void fill(uint8_t *p, uint64_t n, uint64_t seed)
{
        uint64_t x = seed * 2654435761u + 88172645463325252u;

        for (uint64_t i = 0; i < n; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                p[i] = (uint8_t)x;
        }
}

static void answer(int code, const char *text)
{
        printf("%d %s\n", code, text);
        (void)fflush(stdout);
}

static void answer_bytes(int code, unsigned number, const void *data, uint64_t n)
{
        char text[100] = "";

        if (code == CACHED_OK)
                (void)snprintf(text, sizeof(text), "%u %" PRIu64 " %" PRIx64, number, n,
                               sum(data, n));
        answer(code, text);
}

static void view(struct viewer *v, const char *key, const char *mode)
{
        cached_view *got = NULL;
        int code = cached_get_view(v->c, CACHE, key, strlen(key),
                                   strcmp(mode, "private") == 0 ? CACHED_VIEW_PRIVATE
                                                                : CACHED_VIEW_READ,
                                   &got, NULL);

        if (code == CACHED_OK)
                v->views[v->n_views++ % N_MAX] = got;
        answer_bytes(code, v->n_views - 1, cached_view_data(got), cached_view_size(got));
}

static void buffer(struct viewer *v, uint64_t n, uint64_t seed)
{
        cached_buffer *b = NULL;
        int code = cached_buffer_new(v->c, n, &b);

        if (code == CACHED_OK) {
                fill(cached_buffer_data(b), n, seed);
                v->buffers[v->n_buffers++ % N_MAX] = b;
        }
        answer_bytes(code, v->n_buffers - 1, cached_buffer_data(b), cached_buffer_size(b));
}

static void store(struct viewer *v, const char *key, const cached_buffer *b)
{
        cached_reply *r = NULL;
        int code = cached_set_buffer(v->c, CACHE, key, strlen(key), (cached_buffer *)(uintptr_t)b,
                                     cached_buffer_size(b), NULL, &r);

        answer(code, cached_reply_error(r));
        cached_reply_free(r);
}

static void set(struct viewer *v, const char *key, uint64_t n, uint64_t seed)
{
        uint8_t *value = malloc(n + 1);
        cached_reply *r = NULL;
        int code = CACHED_ERR_NOMEM;

        if (value) {
                fill(value, n, seed);
                code = cached_set(v->c, CACHE, key, strlen(key), value, n, NULL, &r);
        }
        free(value);
        answer(code, cached_reply_error(r));
        cached_reply_free(r);
}

static void get(struct viewer *v, const char *key)
{
        cached_reply *r = NULL;
        int code = cached_get(v->c, CACHE, key, strlen(key), &r);
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);

        answer_bytes(code, 0, value, n);
        cached_reply_free(r);
}

static void on_view(struct viewer *v, const char *word, unsigned i)
{
        cached_view *view = v->views[i % N_MAX];
        uint64_t n = cached_view_size(view);

        if (!strcmp(word, "sum")) {
                answer_bytes(CACHED_OK, i, cached_view_data(view), n);
                return;
        }
        if (!strcmp(word, "scribble")) {
                memset(cached_view_data(view), 0x55, n);
        } else {
                cached_view_release(view);
                v->views[i % N_MAX] = NULL;
        }
        answer(CACHED_OK, "");
}

static int command(struct viewer *v, char *const *w)
{
        uint64_t a = strtoull(w[1], NULL, 10), b = strtoull(w[2], NULL, 10);

        if (!strcmp(w[0], "view")) {
                view(v, w[1], w[2]);
        } else if (!strcmp(w[0], "sum") || !strcmp(w[0], "scribble") || !strcmp(w[0], "release")) {
                on_view(v, w[0], (unsigned)a);
        } else if (!strcmp(w[0], "buffer")) {
                buffer(v, a, b);
        } else if (!strcmp(w[0], "store")) {
                store(v, w[1], v->buffers[b % N_MAX]);
        } else if (!strcmp(w[0], "free")) {
                cached_buffer_free(v->buffers[a % N_MAX]);
                v->buffers[a % N_MAX] = NULL;
                answer(CACHED_OK, "");
        } else if (!strcmp(w[0], "prepare")) {
                answer(cached_buffers_prepare(v->c, a, (uint32_t)b), "");
        } else if (!strcmp(w[0], "set")) {
                set(v, w[1], b, strtoull(w[3], NULL, 10));
        } else if (!strcmp(w[0], "get")) {
                get(v, w[1]);
        } else if (!strcmp(w[0], "ping")) {
                answer(cached_ping(v->c, NULL), "");
        } else if (!strcmp(w[0], "close")) {
                cached_free(v->c);
                v->c = NULL;
                answer(CACHED_OK, "");
        } else {
                return 2;
        }
        return 0;
}

int main(int argc, char **argv)
{
        cached_options *o = cached_options_new();
        struct viewer v = {NULL};
        char line[256];
        int status = argc == 3 ? 0 : 2;

        if (status == 0 &&
            (cached_options_set_socket(o, argv[1]) != CACHED_OK ||
             cached_options_set_timeout_ms(o, (uint32_t)atoi(argv[2])) != CACHED_OK ||
             cached_new(o, &v.c) != CACHED_OK))
                status = 2;
        cached_options_free(o);
        while (status == 0 && fgets(line, sizeof(line), stdin)) {
                char none[] = "", *words[4] = {none, none, none, none}, *save = NULL, *at = line;

                for (int i = 0; i < 4; i++, at = NULL) {
                        char *word = strtok_r(at, " \n", &save);

                        if (!word)
                                break;
                        words[i] = word;
                }
                status = command(&v, words);
        }
        cached_free(v.c);
        return status;
}
