/* SPDX-License-Identifier: MIT */
/*
 * Calls that wait: threads that get, each one batch after the other; one line of JSON at the end
 *
 * Each thread asks for random keys of those that bench-load stored, and every one must be there.
 * With two back ends (--backend A --backend B) and one thread they take turns of a thousand calls,
 * so that both meet the same machine: that is how the library's own cost is told from the round
 * trip's.
 *
 * Every run is bounded in time. It does not start servers and does not compare.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hist.h"
#include "keys.h"
#include "sync.h"

#define N_TYPES     7
#define MAX_THREADS 64
#define TURN        1000

struct plan {
        const struct sync_type *types[2];
        unsigned n_types, n_threads, batch;
        const char *socket_path;
        double seconds;
        uint64_t n_keys, seed;
        int cpu;
};

struct worker {
        const struct plan *plan;
        struct sync_client *clients[2];
        pthread_t thread;
        pthread_barrier_t *start;
        uint64_t random;
        struct hist times[2];
        uint64_t cpu_ns[2]; /* of this thread, the making of keys included */
        uint64_t start_ns, end_ns;
        int error;
};

static uint64_t clock_ns(clockid_t clock)
{
        struct timespec ts;
        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t now_ns(void)
{
        return clock_ns(CLOCK_MONOTONIC);
}

static int one_turn(struct worker *w, unsigned which, uint64_t until_ns)
{
        const struct plan *p = w->plan;
        struct sync_client *c = w->clients[which];
        char keys[SYNC_BATCH_MAX][SYNC_KEY_SIZE];
        for (unsigned i = 0; i < TURN && w->end_ns < until_ns; i++) {
                for (unsigned k = 0; k < p->batch; k++)
                        keys_make(keys_random(&w->random) % p->n_keys, keys[k], SYNC_KEY_SIZE);
                uint64_t start = now_ns();
                int found = p->types[which]->get(c, p->batch, keys);
                w->end_ns = now_ns();
                if (found < 0)
                        return found;
                if ((unsigned)found != p->batch)
                        return -ENOENT;
                hist_add(&w->times[which], w->end_ns - start);
        }
        return 0;
}

static void *run(void *data)
{
        struct worker *w = data;
        pthread_barrier_wait(w->start);
        w->start_ns = w->end_ns = now_ns();
        uint64_t until_ns = w->start_ns + (uint64_t)(w->plan->seconds * 1e9);
        for (unsigned turn = 0; w->end_ns < until_ns && w->error == 0; turn++) {
                unsigned which = turn % w->plan->n_types;
                uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
                w->error = one_turn(w, which, until_ns);
                w->cpu_ns[which] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
        }
        return NULL;
}

static int open_all(const struct plan *p, struct worker *workers)
{
        for (unsigned i = 0; i < p->n_threads; i++)
                for (unsigned t = 0; t < p->n_types; t++) {
                        struct sync_client *first = i > 0 ? workers[0].clients[t] : NULL;
                        int e = p->types[t]->open(p->socket_path, first, &workers[i].clients[t]);
                        if (e < 0)
                                return e;
                }
        return 0;
}

/* The first thread's last: others may share it. */
static void close_all(const struct plan *p, struct worker *workers)
{
        for (unsigned i = p->n_threads; i-- > 0;)
                for (unsigned t = 0; t < p->n_types; t++)
                        if (workers[i].clients[t])
                                p->types[t]->close(workers[i].clients[t]);
}

static int run_all(const struct plan *p, struct worker *workers)
{
        pthread_barrier_t start;
        unsigned n = 0;
        int e = 0;
        pthread_barrier_init(&start, NULL, p->n_threads);
        for (; n < p->n_threads && e == 0; n++) {
                workers[n].plan = p;
                workers[n].start = &start;
                workers[n].random = p->seed + n * 1000003;
                e = -pthread_create(&workers[n].thread, NULL, run, &workers[n]);
        }
        if (e < 0) /* the others wait for it at the barrier */
                return e;
        for (unsigned i = 0; i < n; i++) {
                pthread_join(workers[i].thread, NULL);
                e = e < 0 ? e : workers[i].error;
        }
        pthread_barrier_destroy(&start);
        return e;
}

static void print_result(const struct plan *p, const struct worker *workers)
{
        struct hist *times = calloc(p->n_types, sizeof(*times));
        double calls_per_s = 0, cpu_ns[2] = {0};
        for (unsigned i = 0; times && i < p->n_threads; i++) {
                const struct worker *w = &workers[i];
                uint64_t n = 0;
                for (unsigned t = 0; t < p->n_types; t++) {
                        for (unsigned b = 0; b < HIST_BUCKETS; b++)
                                times[t].buckets[b] += w->times[t].buckets[b];
                        times[t].count += w->times[t].count;
                        times[t].sum += w->times[t].sum;
                        if (w->times[t].max > times[t].max)
                                times[t].max = w->times[t].max;
                        cpu_ns[t] += (double)w->cpu_ns[t];
                        n += w->times[t].count;
                }
                calls_per_s += (double)n / ((double)(w->end_ns - w->start_ns) / 1e9);
        }
        printf("{\"threads\":%u,\"calls_per_s\":%.1f,\"keys_per_s\":%.1f,\"times\":{", p->n_threads,
               calls_per_s, calls_per_s * p->batch);
        for (unsigned t = 0; times && t < p->n_types; t++)
                printf("%s\"%s\":{\"count\":%llu,\"mean_ns\":%llu,\"p25_ns\":%llu,\"p50_ns\":%llu,"
                       "\"p99_ns\":%llu,\"cpu_ns\":%.0f}",
                       t ? "," : "", p->types[t]->name, (unsigned long long)times[t].count,
                       (unsigned long long)(times[t].count ? times[t].sum / times[t].count : 0),
                       (unsigned long long)hist_quantile(&times[t], 250),
                       (unsigned long long)hist_quantile(&times[t], 500),
                       (unsigned long long)hist_quantile(&times[t], 990),
                       times[t].count ? cpu_ns[t] / (double)times[t].count : 0.0);
        printf("}}\n");
        free(times);
}

static const struct sync_type *const types[N_TYPES] = {
        &sync_cached, &sync_cached_handles, &sync_cached_sleeps,  &sync_bare,
        &sync_redis,  &sync_memcached,      &sync_memcached_text,
};

static void usage(FILE *f)
{
        fprintf(f, "usage: bench-calls --backend B [--backend B] --socket PATH [OPTION…]\n"
                   "  --threads N    (1)\n"
                   "  --batch N      keys of a call (1)\n"
                   "  --seconds S    (2)\n"
                   "  --keys N       random ones of so many, which are stored (100000)\n"
                   "  --seed N       of the random order (1)\n"
                   "  --cpu N        run on this CPU only\n"
                   "backends:\n");
        for (size_t i = 0; i < N_TYPES; i++)
                fprintf(f, "  %-20s  %s\n", types[i]->name, types[i]->help);
}

static bool add_type(struct plan *p, const char *name)
{
        for (size_t i = 0; i < N_TYPES && p->n_types < 2; i++)
                if (strcmp(name, types[i]->name) == 0)
                        return p->types[p->n_types++] = types[i], true;
        return false;
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        char *end;
        unsigned long long v = strtoull(s, &end, 10);
        bool ok = end != s && !*end && *s != '-';
        switch (opt) {
        case 'b':
                return add_type(p, s);
        case 's':
                return p->socket_path = s, true;
        case 't':
                return p->n_threads = (unsigned)v, ok && v >= 1 && v <= MAX_THREADS;
        case 'n':
                return p->batch = (unsigned)v, ok && v >= 1 && v <= SYNC_BATCH_MAX;
        case 'd':
                p->seconds = strtod(s, NULL);
                return p->seconds > 0 && p->seconds <= 60;
        case 'k':
                return p->n_keys = v, ok && v >= 1;
        case 'r':
                return p->seed = v, ok;
        case 'c':
                return p->cpu = (int)v, ok && v < CPU_SETSIZE;
        default:
                return false;
        }
}

static int pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"backend", required_argument, NULL, 'b'}, {"socket", required_argument, NULL, 's'},
                {"threads", required_argument, NULL, 't'}, {"batch", required_argument, NULL, 'n'},
                {"seconds", required_argument, NULL, 'd'}, {"keys", required_argument, NULL, 'k'},
                {"seed", required_argument, NULL, 'r'},    {"cpu", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
        };
        struct plan p = {
                .n_threads = 1, .batch = 1, .seconds = 2, .n_keys = 100000, .seed = 1, .cpu = -1};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h')
                        return usage(stdout), 0;
                if (opt == '?')
                        return 2;
                if (!parse_option(opt, optarg, &p)) {
                        fprintf(stderr, "bench-calls: not a possible value: %s\n", optarg);
                        return 2;
                }
        }
        if (optind != argc || p.n_types == 0 || !p.socket_path)
                return usage(stderr), 2;
        struct worker *workers = calloc(p.n_threads, sizeof(*workers));
        int e = workers ? 0 : -ENOMEM;
        if (e == 0 && p.cpu >= 0)
                e = pin(p.cpu);
        if (e == 0)
                e = open_all(&p, workers);
        if (e == 0)
                e = run_all(&p, workers);
        if (e == 0)
                print_result(&p, workers);
        else
                fprintf(stderr, "bench-calls: %s: %s\n", p.types[0]->name, strerror(-e));
        if (workers)
                close_all(&p, workers);
        free(workers);
        return e == 0 ? 0 : 1;
}
