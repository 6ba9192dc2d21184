/* SPDX-License-Identifier: MIT */

/*
 * What `cachectl bench` measures
 *
 * Two floors without the daemon (a process that does nothing, a bare round trip over a socket),
 * then requests: one at a time, several in flight, many keys at once. All of it through the public
 * interface of the library, as programs use it.
 *
 * Keys are our own: the name of the case's size, a random number of this run, a counter. Whatever
 * else is in the cache stays as it is.
 */

#include "bench.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {100, 1024, BENCH_LARGEST};

#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Large values are few, so that all of it stays far below BENCH_NEEDS. */
static unsigned n_keys(size_t value)
{
        return value == BENCH_LARGEST ? 8 : BENCH_BATCH;
}

static void make_keys(struct bench *b)
{
        for (size_t s = 0; s < N_SIZES; s++)
                for (unsigned i = 0; i < BENCH_BATCH; i++)
                        snprintf(b->keys[s][i], BENCH_KEY_SIZE, "%zu-%016llx-%02u", sizes[s],
                                 (unsigned long long)b->id, i);
}

static const char *key_of(const struct bench *b, size_t value, uint64_t i)
{
        size_t s = value == sizes[0] ? 0 : value == sizes[1] ? 1 : 2;

        return b->keys[s][i % n_keys(value)];
}

/* --------------------------------------------------------------------------------------- floors */

static int run_process(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        char *argv[] = {(char *)"true", NULL};
        uint64_t start = bench_now(), now = start;

        while (bench_goes_on(b, start, now)) {
                uint64_t before = now;
                pid_t pid;
                int status;

                if (posix_spawnp(&pid, "true", NULL, NULL, argv, environ) != 0 ||
                    waitpid(pid, &status, 0) != pid) {
                        b->failed = "the program `true` does not start";
                        return CACHED_ERR_USAGE;
                }
                now = bench_now();
                bench_sample(b, now - before);
        }
        return CACHED_OK;
}

static int run_socket(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        uint64_t start = bench_now(), now = start;
        uint8_t buf[4096];

        while (bench_goes_on(b, start, now)) {
                uint64_t before = now;

                if (send(b->echo_fd, b->value, c->value, MSG_NOSIGNAL) != (ssize_t)c->value ||
                    recv(b->echo_fd, buf, c->value, MSG_WAITALL) != (ssize_t)c->value) {
                        b->failed = "the echo on the socket pair broke";
                        return CACHED_ERR_USAGE;
                }
                now = bench_now();
                bench_sample(b, now - before);
        }
        return CACHED_OK;
}

/* ------------------------------------------------------------------------------- one at a time */

static int get_one(struct bench *b, const struct bench_case *c, uint64_t i, cached_reply **ret)
{
        const char *key = key_of(b, c->value, i);

        return cached_get(b->ctl->client, BENCH_CACHE, key, strlen(key), ret);
}

static int set_one(struct bench *b, const struct bench_case *c, uint64_t i, cached_reply **ret)
{
        const char *key = key_of(b, c->value, i);

        return cached_set(b->ctl->client, BENCH_CACHE, key, strlen(key), b->value, c->value,
                          b->set_options, ret);
}

static int ping_one(struct bench *b, const struct bench_case *c, uint64_t i, cached_reply **ret)
{
        return cached_ping(b->ctl->client, ret);
}

static int get_batch(struct bench *b, const struct bench_case *c, uint64_t i, cached_reply **ret)
{
        const void *keys[BENCH_BATCH];
        size_t lengths[BENCH_BATCH];

        for (unsigned k = 0; k < c->keys; k++) {
                keys[k] = key_of(b, c->value, k);
                lengths[k] = strlen(keys[k]);
        }
        return cached_get_many(b->ctl->client, BENCH_CACHE, c->keys, keys, lengths, ret);
}

static int run_one_by_one(struct bench *b, const struct bench_case *c, cached_reply **ret,
                          int (*one)(struct bench *, const struct bench_case *, uint64_t,
                                     cached_reply **))
{
        uint64_t start = bench_now(), now = start;

        for (uint64_t i = 0; bench_goes_on(b, start, now); i++) {
                uint64_t before = now;
                cached_reply *reply = NULL;
                int r = one(b, c, i, &reply);

                now = bench_now();
                if (r != CACHED_OK) {
                        *ret = reply;
                        return r;
                }
                cached_reply_free(reply);
                bench_sample(b, now - before);
        }
        return CACHED_OK;
}

static int run_ping(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_one_by_one(b, c, ret, ping_one);
}

static int run_get(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_one_by_one(b, c, ret, get_one);
}

static int run_set(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_one_by_one(b, c, ret, set_one);
}

static int run_get_batch(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_one_by_one(b, c, ret, get_batch);
}

/* ----------------------------------------------------------------------------------- in flight */

static int send_get(struct bench *b, size_t value, uint64_t i, uint64_t tag)
{
        const char *key = key_of(b, value, i);

        return cached_pipeline_get(b->pipeline, BENCH_CACHE, key, strlen(key), tag);
}

static int send_set(struct bench *b, size_t value, uint64_t i, uint64_t tag)
{
        const char *key = key_of(b, value, i);

        return cached_pipeline_set(b->pipeline, BENCH_CACHE, key, strlen(key), b->value, value,
                                   b->set_options, tag);
}

/* The tag is when the request was handed over. */
static int run_in_flight(struct bench *b, const struct bench_case *c, cached_reply **ret,
                         int (*send_one)(struct bench *, size_t, uint64_t, uint64_t))
{
        uint64_t start = bench_now(), now = start, i = 0;

        for (;;) {
                cached_reply *reply = NULL;
                uint64_t sent_ns;
                int r = CACHED_OK;

                while (r == CACHED_OK && cached_pipeline_in_flight(b->pipeline) < c->in_flight &&
                       bench_goes_on(b, start, now))
                        r = send_one(b, c->value, i++, bench_now());
                if (r != CACHED_OK)
                        return r;
                if (cached_pipeline_in_flight(b->pipeline) == 0)
                        return CACHED_OK;
                r = cached_pipeline_next(b->pipeline, &sent_ns, &reply);
                now = bench_now();
                if (r != CACHED_OK) {
                        *ret = reply;
                        return r;
                }
                cached_reply_free(reply);
                bench_sample(b, now - sent_ns);
        }
}

static int run_get_in_flight(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_in_flight(b, c, ret, send_get);
}

static int run_set_in_flight(struct bench *b, const struct bench_case *c, cached_reply **ret)
{
        return run_in_flight(b, c, ret, send_set);
}

/* The reads come first: writes that follow one another make room for themselves. */
const struct bench_case bench_cases[] = {
        {"process", 0, 1, 1, run_process},
        {"socket", 100, 1, 1, run_socket},
        {"ping", 0, 1, 1, run_ping},
        {"get", 100, 1, 1, run_get},
        {"get", 1024, 1, 1, run_get},
        {"get", BENCH_LARGEST, 1, 1, run_get},
        {"get", 100, BENCH_IN_FLIGHT, 1, run_get_in_flight},
        {"get many", 100, 1, BENCH_BATCH, run_get_batch},
        {"set", 100, 1, 1, run_set},
        {"set", 1024, 1, 1, run_set},
        {"set", BENCH_LARGEST, 1, 1, run_set},
        {"set", 100, BENCH_IN_FLIGHT, 1, run_set_in_flight},
        {NULL},
};

_Static_assert(sizeof(bench_cases) / sizeof(bench_cases[0]) == BENCH_CASES + 1, "BENCH_CASES");

/* ------------------------------------------------------------------------ before and afterwards */

int bench_fill(struct bench *b, cached_reply **ret)
{
        make_keys(b);
        for (size_t s = 0; s < N_SIZES; s++) {
                struct bench_case c = {.value = sizes[s]};

                for (unsigned i = 0; i < n_keys(c.value) && c.value <= b->max_value; i++) {
                        cached_reply *reply = NULL;
                        int r = set_one(b, &c, i, &reply);

                        if (r != CACHED_OK) {
                                *ret = reply;
                                return r;
                        }
                        cached_reply_free(reply);
                }
        }
        return CACHED_OK;
}

/* What it cannot remove expires by itself. */
void bench_clean(struct bench *b)
{
        for (size_t s = 0; s < N_SIZES; s++)
                for (unsigned i = 0; i < n_keys(sizes[s]) && sizes[s] <= b->max_value; i++) {
                        const char *key = key_of(b, sizes[s], i);
                        int r = cached_delete(b->ctl->client, BENCH_CACHE, key, strlen(key), NULL);

                        if (r != CACHED_OK && r != CACHED_NOT_FOUND)
                                return;
                }
}
