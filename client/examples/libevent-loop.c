/* SPDX-License-Identifier: MIT */
/*
 * libevent-loop - a cache in a program that lives in a loop of libevent
 *
 * Usage: libevent-loop [COUNT]
 *
 * Wants the factors of COUNT numbers: looks them up, computes those that are missing and stores
 * them. One persistent event for reading is all that the pipeline needs, from its first request to
 * its last: no timer, no event for writing, nothing to be changed when a connection breaks.
 *
 *      cc libevent-loop.c $(pkg-config --cflags --libs cached libevent_core) -o libevent-loop
 */

#include <cached.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE "example-factors"
#define FIRST 1000000007ul

/* What a tag means: the number, and whether it was looked up or stored. */
#define TAG_STORED (1ull << 63)

struct program {
        struct event_base *base;
        cached_pipeline *pipeline;
        unsigned long todo; /* numbers without an answer */
        unsigned long n_found, n_computed, n_stored;
};

/* The slow function: the smallest factor. */
static unsigned long factor(unsigned long n)
{
        for (unsigned long i = 2; i * i <= n; i++)
                if (n % i == 0)
                        return i;
        return n;
}

/* With or without a cache there is an answer. */
static void compute(struct program *p, unsigned long n)
{
        char key[32], value[32];
        int n_key = snprintf(key, sizeof(key), "%lu", n);
        int n_value = snprintf(value, sizeof(value), "%lu", factor(n));

        p->n_computed++;
        p->todo--;
        (void)cached_pipeline_set(p->pipeline, CACHE, key, (size_t)n_key, value, (size_t)n_value,
                                  NULL, n | TAG_STORED);
}

static void on_reply(struct program *p, uint64_t tag, int code)
{
        if (tag & TAG_STORED) {
                p->n_stored += code == CACHED_OK;
        } else if (code == CACHED_OK) {
                p->n_found++;
                p->todo--;
        } else {
                /* A miss; or the daemon is away, which is no reason to fail. */
                compute(p, (unsigned long)tag);
        }
}

/* Called by the loop when the pipeline's descriptor is readable. */
static void on_readable(evutil_socket_t fd, short events, void *data)
{
        struct program *p = data;
        uint64_t tag;
        int code;

        (void)fd;
        (void)events;
        (void)cached_pipeline_dispatch(p->pipeline);
        while ((code = cached_pipeline_next(p->pipeline, &tag, NULL)) != CACHED_ERR_AGAIN)
                on_reply(p, tag, code);
        if (p->todo == 0 && cached_pipeline_in_flight(p->pipeline) == 0)
                event_base_loopbreak(p->base);
}

static void ask(struct program *p, unsigned long count)
{
        p->todo = count;
        for (unsigned long n = FIRST; n < FIRST + count; n++) {
                char key[32];
                int n_key = snprintf(key, sizeof(key), "%lu", n);

                /* Not accepted: no daemon, for example. */
                if (cached_pipeline_get(p->pipeline, CACHE, key, (size_t)n_key, n) != CACHED_OK)
                        compute(p, n);
        }
}

static int run(cached *c, unsigned long count)
{
        struct program p = {0};
        struct event *readable = NULL;
        int r = -1;

        p.base = event_base_new();
        if (p.base && cached_pipeline_new_nonblocking(c, &p.pipeline) == CACHED_OK)
                readable = event_new(p.base, cached_pipeline_fd(p.pipeline), EV_READ | EV_PERSIST,
                                     on_readable, &p);
        if (readable && event_add(readable, NULL) == 0) {
                ask(&p, count);
                if (cached_pipeline_in_flight(p.pipeline) > 0)
                        event_base_dispatch(p.base);
                printf("%lu found, %lu computed, %lu stored\n", p.n_found, p.n_computed,
                       p.n_stored);
                r = 0;
        }
        /* Out of the loop first, then closed. */
        if (readable)
                event_free(readable);
        cached_pipeline_free(p.pipeline);
        if (p.base)
                event_base_free(p.base);
        return r;
}

int main(int argc, char **argv)
{
        unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
        cached *c;
        int r;

        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        r = run(c, count);
        cached_free(c);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
