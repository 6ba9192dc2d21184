/* SPDX-License-Identifier: MIT */
/*
 * Replay of a request trace: get, and on a miss set
 *
 * The hit count must be that of strict order, one request after the other, yet a round trip each
 * would take minutes. So each request of the trace is sent as a get with an add-only set of the
 * same key right behind it, without waiting: the daemon starts requests in their order, so after a
 * miss the set stores the value before the next get starts; after a hit it is answered EXISTS and
 * changes nothing (the key is the most recently used one already). That is "get, and on a miss set"
 * at any depth. Values above REPLAY_PIPELINED_BYTES are not sent in vain: there the get is waited
 * for, and the set follows only on a miss.
 *
 * With --mapped each get is a call of its own, which is answered from shared memory where that is
 * possible, and so is the set behind a miss: what the daemon knows of the gets before is what the
 * library noted for it.
 *
 * Keys are the first 16 bytes of XXH3-128 over the key's text, in canonical (big-endian) order. The
 * cache is a new one each time, limited by max_entries alone, and is cleared at the end. If a
 * budget of the daemon evicted something the hits would mean something else: that is an error.
 */
#include <cached.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xxhash.h>

#include "spawn.h"
#include "trace.h"

#define REPLAY_DEPTH           256   /* pairs of requests in flight */
#define REPLAY_PIPELINED_BYTES 4096  /* about what a round trip's time can copy */
#define REPLAY_READY_MS        30000 /* a sanitized daemon on a busy machine is slow to start */

enum { TAG_GET = 0, TAG_SET = 1 };

struct replay {
        cached *handle;
        cached_pipeline *pipeline;
        cached_set_options *add_only;
        char cache[64];
        uint8_t *value; /* of any bytes */
        uint64_t n_value;
        uint64_t requests, hits, limit;
        bool last_was_hit;
        bool mapped;
};

struct arguments {
        const char *trace, *socket_path;
        enum trace_format format;
        uint64_t max_entries, limit;
        bool mapped;
};

/* Says what went wrong; returns -1. */
static int fail(const char *what, int code, cached_reply *reply)
{
        const char *error = reply ? cached_reply_error(reply) : NULL;
        fprintf(stderr, "replay: %s: %s\n", what, error && *error ? error : cached_strerror(code));
        cached_reply_free(reply);
        return -1;
}

static int take(struct replay *r)
{
        uint64_t tag;
        cached_reply *reply = NULL;
        int code = cached_pipeline_next(r->pipeline, &tag, &reply);
        bool expected =
                code == CACHED_OK || code == (tag == TAG_GET ? CACHED_NOT_FOUND : CACHED_EXISTS);
        if (code >= 64 || !expected)
                return fail("request", code, reply);
        if (tag == TAG_GET) {
                r->last_was_hit = code == CACHED_OK;
                r->hits += r->last_was_hit;
        }
        cached_reply_free(reply);
        return 0;
}

static int take_until(struct replay *r, size_t in_flight)
{
        while (cached_pipeline_in_flight(r->pipeline) > in_flight)
                if (take(r) < 0)
                        return -1;
        return 0;
}

static int grow_value(struct replay *r, uint64_t n)
{
        if (n <= r->n_value)
                return 0;
        uint8_t *p = realloc(r->value, n);
        if (!p)
                return fail("memory", CACHED_ERR_NOMEM, NULL);
        for (uint64_t i = r->n_value; i < n; i++)
                p[i] = (uint8_t)(i * 131 >> 3);
        r->value = p;
        r->n_value = n;
        return 0;
}

/* One after the other, by calls. */
static int request_mapped(struct replay *r, const void *key, size_t n_key, size_t n_value)
{
        cached_reply *reply = NULL;
        int code = cached_get(r->handle, r->cache, key, n_key, &reply);
        if (code != CACHED_OK && code != CACHED_NOT_FOUND)
                return fail("get", code, reply);
        cached_reply_free(reply);
        r->hits += code == CACHED_OK;
        if (code == CACHED_OK)
                return 0;
        code = cached_set(r->handle, r->cache, key, n_key, r->value, n_value, r->add_only, &reply);
        if (code != CACHED_OK)
                return fail("set", code, reply);
        cached_reply_free(reply);
        return 0;
}

static int request(struct replay *r, const struct trace_request *q)
{
        XXH128_canonical_t key;
        XXH128_canonicalFromHash(&key, XXH3_128bits(q->key, q->n_key));
        if (grow_value(r, q->size) < 0)
                return -1;
        r->requests++;
        if (r->mapped)
                return request_mapped(r, &key, sizeof(key), q->size);
        int code = cached_pipeline_get(r->pipeline, r->cache, &key, sizeof(key), TAG_GET);
        if (code != CACHED_OK)
                return fail("get", code, NULL);
        if (q->size > REPLAY_PIPELINED_BYTES) {
                if (take_until(r, 0) < 0)
                        return -1;
                if (r->last_was_hit)
                        return 0;
        }
        code = cached_pipeline_set(r->pipeline, r->cache, &key, sizeof(key), r->value, q->size,
                                   r->add_only, TAG_SET);
        if (code != CACHED_OK)
                return fail("set", code, NULL);
        return take_until(r, 2 * REPLAY_DEPTH - 2);
}

static int replay_trace(struct replay *r, struct trace *t, const char *path)
{
        struct trace_request q;
        int e = TRACE_OK;
        while (r->requests < r->limit && (e = trace_next(t, &q)) == TRACE_OK)
                if (request(r, &q) < 0)
                        return -1;
        if (e < 0) {
                fprintf(stderr, "replay: %s: after %llu requests: %s\n", path,
                        (unsigned long long)trace_position(t), strerror(-e));
                return -1;
        }
        return take_until(r, 0);
}

/* Nothing but max_entries may have evicted. */
static int check_evictions(struct replay *r)
{
        static const char *const causes[] = {"max_bytes", "uid_share", "realm_budget",
                                             "global_budget", "index"};
        cached_reply *reply = NULL;
        int code = cached_stats(r->handle, r->cache, &reply);
        if (code != CACHED_OK)
                return fail("stats", code, reply);
        for (size_t i = 0; i < sizeof(causes) / sizeof(*causes); i++) {
                char path[64];
                uint64_t n = 0;
                snprintf(path, sizeof(path), "cache.evicted_%s", causes[i]);
                if (cached_reply_u64(reply, path, &n) == CACHED_OK && n > 0) {
                        fprintf(stderr,
                                "replay: %llu entries were evicted by %s, not by max_entries: "
                                "the hits (%llu of %llu) mean something else\n",
                                (unsigned long long)n, causes[i], (unsigned long long)r->hits,
                                (unsigned long long)r->requests);
                        cached_reply_free(reply);
                        return -1;
                }
        }
        cached_reply_free(reply);
        return 0;
}

static int connect_ready(struct replay *r, const struct arguments *a, bool own)
{
        cached_options *o = cached_options_new();
        int code = o ? cached_options_set_socket(o, a->socket_path) : CACHED_ERR_NOMEM;
        if (code == CACHED_OK)
                code = cached_options_set_client_name(o, "replay");
        if (code == CACHED_OK)
                code = cached_options_set_timeout_ms(o, 60000);
        if (code == CACHED_OK)
                code = cached_new(o, &r->handle);
        cached_options_free(o);
        if (code != CACHED_OK)
                return fail(a->socket_path, code, NULL);
        for (int waited_ms = 0;; waited_ms++) {
                cached_reply *reply = NULL;
                code = cached_ping(r->handle, &reply);
                if (code != CACHED_ERR_UNREACHABLE || !own || waited_ms >= REPLAY_READY_MS) {
                        if (code != CACHED_OK)
                                return fail(a->socket_path, code, reply);
                        cached_reply_free(reply);
                        return 0;
                }
                cached_reply_free(reply);
                nanosleep(&(struct timespec){0, 1000000}, NULL);
        }
}

static int replay_open(struct replay *r, const struct arguments *a, bool own)
{
        if (connect_ready(r, a, own) < 0)
                return -1;
        uint64_t nonce = 0;
        if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
                return fail("getrandom", CACHED_ERR_USAGE, NULL);
        snprintf(r->cache, sizeof(r->cache), "replay-%016llx", (unsigned long long)nonce);

        r->add_only = cached_set_options_new();
        r->pipeline = cached_pipeline_new(r->handle);
        cached_policy *p = cached_policy_new();
        if (!r->add_only || !r->pipeline || !p) {
                cached_policy_free(p);
                return fail("memory", CACHED_ERR_NOMEM, NULL);
        }
        cached_reply *reply = NULL;
        int code = cached_set_options_set_mode(r->add_only, CACHED_SET_ADD_ONLY);
        if (code == CACHED_OK)
                code = cached_policy_set_max_entries(p, a->max_entries);
        if (code == CACHED_OK)
                code = cached_open_cache(r->handle, r->cache, p, &reply);
        cached_policy_free(p);
        if (code != CACHED_OK)
                return fail("open the cache", code, reply);
        cached_reply_free(reply);
        return 0;
}

static void replay_done(struct replay *r)
{
        cached_pipeline_free(r->pipeline);
        if (r->handle && r->cache[0])
                cached_clear(r->handle, r->cache, NULL);
        cached_set_options_free(r->add_only);
        cached_free(r->handle);
        free(r->value);
}

static int run(const struct arguments *a, bool own)
{
        struct trace *t = NULL;
        int e = trace_open(a->trace, a->format, &t);
        if (e < 0) {
                fprintf(stderr, "replay: %s: %s\n", a->trace, strerror(-e));
                return 1;
        }
        struct replay r = {.limit = a->limit, .mapped = a->mapped};
        bool ok = replay_open(&r, a, own) == 0 && replay_trace(&r, t, a->trace) == 0 &&
                  check_evictions(&r) == 0;
        replay_done(&r);
        trace_close(t);
        if (ok)
                printf("hits %llu\nrequests %llu\n", (unsigned long long)r.hits,
                       (unsigned long long)r.requests);
        return ok ? 0 : 1;
}

static int run_with_own_daemon(const struct arguments *asked)
{
        char daemon[512];
        int e = spawn_find_daemon(daemon, sizeof(daemon));
        struct spawn s = {0};
        if (e == 0)
                e = spawn_start(&s, daemon, NULL, -1);
        if (e < 0) {
                fprintf(stderr, "replay: cannot start %s: %s\n", daemon, strerror(-e));
                spawn_done(&s);
                return 1;
        }
        struct arguments a = *asked;
        a.socket_path = s.socket_path;
        int r = run(&a, true);
        e = spawn_done(&s);
        if (e < 0) {
                fprintf(stderr, "replay: the daemon did not end well: %s\n", strerror(-e));
                r = 1;
        }
        return r;
}

static void usage(FILE *f)
{
        fputs("usage: replay TRACE --format int32be|int32le|text --max-entries N [--socket PATH] "
              "[--limit N] [--mapped]\n"
              "Replays a request trace (plain or xz): get, and on a miss set. Prints hits and "
              "requests.\n"
              "Without --socket and $CACHED_SOCKET it starts a daemon of its own and ends it.\n"
              "  --limit N   only the first N requests\n"
              "  --mapped    one call after the other, gets from shared memory\n",
              f);
}

static bool parse_count(const char *s, uint64_t *ret)
{
        char *end;
        errno = 0;
        unsigned long long v = strtoull(s, &end, 10);
        if (errno || end == s || *end || *s == '-' || v == 0)
                return false;
        *ret = v;
        return true;
}

static int parse(int argc, char **argv, struct arguments *ret)
{
        static const struct option options[] = {
                {"format", required_argument, NULL, 'f'},
                {"max-entries", required_argument, NULL, 'n'},
                {"socket", required_argument, NULL, 's'},
                {"limit", required_argument, NULL, 'l'},
                {"mapped", no_argument, NULL, 'm'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        bool has_format = false, ok = true;
        for (int opt; ok && (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h')
                        return usage(stdout), 1;
                if (opt == 'f')
                        ok = has_format = trace_format_parse(optarg, &ret->format) == 0;
                else if (opt == 'n')
                        ok = parse_count(optarg, &ret->max_entries);
                else if (opt == 's')
                        ret->socket_path = optarg;
                else if (opt == 'm')
                        ret->mapped = true;
                else if (opt == 'l')
                        ok = parse_count(optarg, &ret->limit);
                else
                        return -1;
                if (!ok)
                        fprintf(stderr, "replay: not a possible value: %s\n", optarg);
        }
        if (!ok || optind + 1 != argc || !has_format || ret->max_entries == 0)
                return usage(stderr), -1;
        ret->trace = argv[optind];
        return 0;
}

int main(int argc, char **argv)
{
        struct arguments a = {.limit = UINT64_MAX};
        int r = parse(argc, argv, &a);
        if (r != 0)
                return r < 0 ? 2 : 0;
        if (!a.socket_path)
                a.socket_path = getenv("CACHED_SOCKET");
        if (a.socket_path && *a.socket_path)
                return run(&a, false);
        return run_with_own_daemon(&a);
}
