/* SPDX-License-Identifier: MIT */
/*
 * Sessions: one connection, a sliding window of requests in flight, one line of JSON at the end
 *
 * It first opens --sessions and gives each --session-keys values, in batches: their tokens must
 * have come before values can be set. Then it does what --what says, with the clock running, on
 * random keys of random sessions. At the end it closes the sessions, unless --keep. Replies come in
 * the order of the requests; a request's time runs from queueing to its reply's being read.
 *
 * Every run is bounded in count. It does not start servers and does not compare: tests/bench/run
 * does.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hist.h"
#include "keys.h"
#include "session-load.h"

#define BATCH     64
#define MAX_VALUE 4096

enum what { WHAT_NOTHING, WHAT_GET, WHAT_SET, WHAT_ALL, WHAT_OPEN, N_WHATS };

static const char *const whats[N_WHATS] = {"nothing", "get", "set", "all", "open"};

struct plan {
        const struct session_type *type;
        const char *socket_path;
        enum what what;
        uint64_t sessions, keys, count, window, n_value, idle_ms, until_ms, seed;
        int cpu; /* -1: any */
        bool keep;
};

struct run {
        const struct plan *plan;
        struct session_client *client;
        uint8_t *value;
        uint64_t *started; /* when the requests in flight were queued, by their number */
        uint64_t random, start_ns, fill_ns, timed_ns;
        struct hist times;
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* What is left until all shall end, or the same for each. */
static uint64_t idle_ms(const struct run *r)
{
        uint64_t gone = (now_ns() - r->start_ns) / 1000000;
        if (!r->plan->until_ms)
                return r->plan->idle_ms;
        return gone < r->plan->until_ms ? r->plan->until_ms - gone : 1;
}

static int take(struct run *r, uint64_t n)
{
        size_t ignored;
        int e = 0;
        for (; n > 0 && e == 0; n--)
                e = r->client->type->next(r->client, &ignored);
        return e;
}

/* Sessions @from to @to, all of them empty. */
static int open_batch(struct run *r, uint64_t from, uint64_t to)
{
        const struct session_type *t = r->client->type;
        int e = 0;
        for (uint64_t i = from; t->open && i < to && e == 0; i++)
                e = t->open(r->client, i, idle_ms(r));
        return e == 0 && t->open ? take(r, to - from) : e;
}

static int fill_batch(struct run *r, uint64_t from, uint64_t to)
{
        const struct session_type *t = r->client->type;
        const struct plan *p = r->plan;
        int e = open_batch(r, from, to);
        for (uint64_t i = from; p->keys && i < to && e == 0; i++)
                e = t->fill(r->client, i, (unsigned)p->keys, r->value, p->n_value);
        if (e == 0 && p->keys)
                e = take(r, to - from);
        bool expire = t->expire && (p->idle_ms || p->until_ms);
        for (uint64_t i = from; expire && i < to && e == 0; i++)
                e = t->expire(r->client, i, idle_ms(r));
        return e == 0 && expire ? take(r, to - from) : e;
}

static int in_batches(struct run *r, int (*batch)(struct run *, uint64_t, uint64_t), uint64_t n)
{
        uint64_t step = r->plan->type->max_window < BATCH ? r->plan->type->max_window : BATCH;
        int e = 0;
        for (uint64_t i = 0; i < n && e == 0; i += step)
                e = batch(r, i, i + step < n ? i + step : n);
        return e;
}

static int close_batch(struct run *r, uint64_t from, uint64_t to)
{
        int e = 0;
        for (uint64_t i = from; i < to && e == 0; i++)
                e = r->client->type->end(r->client, i);
        return e == 0 ? take(r, to - from) : e;
}

static int issue(struct run *r, uint64_t i)
{
        const struct session_type *t = r->client->type;
        const struct plan *p = r->plan;
        uint64_t session = keys_random(&r->random) % p->sessions;
        char key[SESSION_KEY];
        if (p->keys)
                session_key((unsigned)(keys_random(&r->random) % p->keys), key);
        r->started[i % p->window] = now_ns();
        switch (p->what) {
        case WHAT_GET:
                return t->get(r->client, session, key);
        case WHAT_SET:
                return t->set(r->client, session, key, r->value, p->n_value);
        case WHAT_OPEN:
                return t->open(r->client, p->sessions + i, p->idle_ms);
        case WHAT_ALL:
        default:
                return t->all(r->client, session);
        }
}

/* What a reply to that must bring. */
static size_t expected(const struct plan *p)
{
        if (p->what == WHAT_ALL)
                return p->keys * p->n_value;
        return p->what == WHAT_GET ? p->n_value : 0;
}

static int timed(struct run *r)
{
        const struct plan *p = r->plan;
        uint64_t issued = 0, answered = 0, begun = now_ns();
        if (p->window == 0)
                return -EINVAL;
        while (answered < p->count) {
                size_t n = 0;
                int e = 0;
                while (issued < p->count && issued - answered < p->window && e == 0)
                        e = issue(r, issued++);
                if (e == 0)
                        e = r->client->type->next(r->client, &n);
                if (e < 0)
                        return e;
                if (n != expected(p)) {
                        fprintf(stderr, "bench-session: %zu bytes came instead of %zu\n", n,
                                expected(p));
                        return -EBADMSG;
                }
                hist_add(&r->times, now_ns() - r->started[answered++ % p->window]);
        }
        r->timed_ns = now_ns() - begun;
        return 0;
}

static int run(struct run *r)
{
        const struct plan *p = r->plan;
        uint64_t more = p->what == WHAT_OPEN ? p->count : 0;
        int e = p->type->connect(p->socket_path, p->sessions + more, &r->client);
        r->start_ns = now_ns();
        if (e == 0)
                e = in_batches(r, fill_batch, p->sessions);
        r->fill_ns = now_ns() - r->start_ns;
        if (e == 0 && p->what != WHAT_NOTHING)
                e = timed(r);
        if (e == 0 && !p->keep)
                e = in_batches(r, close_batch, p->sessions + more);
        if (r->client)
                p->type->disconnect(r->client);
        return e;
}

static void print_result(const struct run *r)
{
        double s = (double)r->timed_ns / 1e9;
        printf("{\"backend\":\"%s\",\"requests\":%llu,\"ops_per_s\":%.1f,\"p50_us\":%.3f,"
               "\"p99_us\":%.3f,\"max_us\":%.3f,\"fill_ms\":%.3f}\n",
               r->plan->type->name, (unsigned long long)r->times.count,
               s > 0 ? (double)r->times.count / s : 0, (double)hist_quantile(&r->times, 500) / 1000,
               (double)hist_quantile(&r->times, 990) / 1000, (double)r->times.max / 1000,
               (double)r->fill_ns / 1e6);
}

static const struct session_type *const types[] = {&session_cached, &session_raw, &session_redis};

static void usage(FILE *f)
{
        fprintf(f, "usage: bench-session --backend cached|raw|redis --socket PATH [OPTION…]\n"
                   "  --what W              nothing, get, set, all or open (nothing)\n"
                   "  --sessions N          that are there (1000)\n"
                   "  --session-keys N      of each (20)\n"
                   "  --value-size N        bytes (100)\n"
                   "  --count N             requests (100000)\n"
                   "  --window N            requests in flight (1)\n"
                   "  --idle-ms N           0: they never end by that (0)\n"
                   "  --until-ms N          instead: all end so long after the first was opened\n"
                   "  --keep                leave them there\n"
                   "  --seed N              of the random order (1)\n"
                   "  --cpu N               run on this CPU only\n");
}

static const struct option options[] = {
        {"backend", required_argument, NULL, 'b'},
        {"socket", required_argument, NULL, 's'},
        {"what", required_argument, NULL, 'w'},
        {"sessions", required_argument, NULL, 'n'},
        {"session-keys", required_argument, NULL, 'k'},
        {"value-size", required_argument, NULL, 'v'},
        {"count", required_argument, NULL, 'c'},
        {"window", required_argument, NULL, 'i'},
        {"idle-ms", required_argument, NULL, 'd'},
        {"until-ms", required_argument, NULL, 'u'},
        {"seed", required_argument, NULL, 'r'},
        {"cpu", required_argument, NULL, 'p'},
        {"keep", no_argument, NULL, 'K'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
};

static bool parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
        char *end;
        errno = 0;
        unsigned long long v = strtoull(s, &end, 10);
        if (errno || end == s || *end || *s == '-' || v < min || v > max)
                return false;
        *ret = v;
        return true;
}

static bool parse_word(int opt, const char *s, struct plan *p)
{
        for (unsigned i = 0; opt == 'w' && i < N_WHATS; i++)
                if (strcmp(s, whats[i]) == 0)
                        return p->what = (enum what)i, true;
        for (size_t i = 0; opt == 'b' && i < sizeof(types) / sizeof(types[0]); i++)
                if (strcmp(s, types[i]->name) == 0)
                        return p->type = types[i], true;
        return false;
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        uint64_t cpu;
        switch (opt) {
        case 's':
                return p->socket_path = s, true;
        case 'K':
                return p->keep = true;
        case 'n':
                return parse_u64(s, 1, 10000000, &p->sessions);
        case 'k':
                return parse_u64(s, 0, 1000, &p->keys);
        case 'v':
                return parse_u64(s, 0, MAX_VALUE, &p->n_value);
        case 'c':
                return parse_u64(s, 1, 100000000, &p->count);
        case 'i':
                return parse_u64(s, 1, 4096, &p->window);
        case 'd':
                return parse_u64(s, 0, 1000000000, &p->idle_ms);
        case 'u':
                return parse_u64(s, 0, 1000000000, &p->until_ms);
        case 'r':
                return parse_u64(s, 0, UINT64_MAX, &p->seed);
        case 'p':
                return parse_u64(s, 0, CPU_SETSIZE - 1, &cpu) && (p->cpu = (int)cpu, true);
        default:
                return parse_word(opt, s, p);
        }
}

static int pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* Whether that backend can do that. */
static bool possible(const struct plan *p)
{
        if (!p->type || !p->socket_path || p->window > p->type->max_window)
                return false;
        return p->what == WHAT_OPEN ? p->type->open != NULL : p->what == WHAT_NOTHING || p->keys;
}

static int measure(const struct plan *p)
{
        struct run r = {.plan = p, .random = p->seed};
        uint64_t fill = 1; /* incompressible, the same in every run */
        int e = p->cpu >= 0 ? pin(p->cpu) : 0;
        r.value = malloc(MAX_VALUE);
        r.started = calloc(p->window, sizeof(*r.started));
        if (e == 0)
                e = r.value && r.started ? 0 : -ENOMEM;
        for (size_t i = 0; e == 0 && i < MAX_VALUE; i++)
                r.value[i] = (uint8_t)keys_random(&fill);
        if (e == 0)
                e = run(&r);
        if (e == 0)
                print_result(&r);
        else
                fprintf(stderr, "bench-session: %s: %s\n", p->type->name, strerror(-e));
        free(r.value);
        free(r.started);
        return e == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
        struct plan p = {.sessions = 1000,
                         .keys = 20,
                         .n_value = 100,
                         .count = 100000,
                         .window = 1,
                         .seed = 1,
                         .cpu = -1};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h')
                        return usage(stdout), 0;
                if (opt == '?')
                        return 2;
                if (!parse_option(opt, optarg, &p)) {
                        fprintf(stderr, "bench-session: not a possible value: %s\n", optarg);
                        return 2;
                }
        }
        if (optind != argc || !possible(&p))
                return usage(stderr), 2;
        return measure(&p);
}
