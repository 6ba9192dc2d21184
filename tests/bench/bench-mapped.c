/* SPDX-License-Identifier: MIT */
/*
 * The time of a look-up that the daemon is not asked for; one line of JSON at the end
 *
 * One thread looks up random keys of those that bench-load stored, in turns of a few hundred. All
 * ways that are compared (--backend, several) take turns in this one process, so that they meet the
 * same machine; "miss:NAME" looks up keys that are not stored. Keys are made before a turn's clock
 * starts.
 *
 * Every second turn of a way has a stamp after each look-up: a look-up's time is the difference of
 * two stamps, less what a stamp costs. They give the quantiles. The turns between have none: their
 * mean, of which the median over all turns is told, is what a look-up costs in a loop.
 *
 * Before the clock starts each way looks up every key once: pages are mapped then.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hist.h"
#include "hits.h"
#include "keys.h"
#include "stamp.h"

#define WAYS_MAX 6
#define TURN     500
/* The kernel stops real-time processes that never sleep for 50 ms in each second. */
#define WORK_NS 150000000
#define REST_NS 15000000

struct way {
        const struct hits_type *type;
        struct hits *h;
        bool is_miss;
        const char *name;   /* as it was asked for */
        uint64_t calls;     /* all, those before the clock included */
        struct hist single; /* stamp units, of one look-up, a stamp included */
        struct hist mean;   /* 1/16 of a stamp unit, of a look-up in a turn without stamps */
};

struct plan {
        struct way ways[WAYS_MAX];
        unsigned n_ways;
        const char *socket_path;
        double seconds;
        uint64_t n_calls; /* of each way; 0: as many as fit */
        uint64_t n_keys, seed;
        int cpu;
};

struct turn {
        char keys[TURN][HITS_KEY];
        uint64_t stamps[TURN];
        uint64_t random;
};

static int check(const struct way *w, int found, unsigned n)
{
        if (found < 0)
                return found;
        return (unsigned)found == (w->is_miss ? 0 : n) ? 0 : -ENOENT;
}

/* Keys that are not stored are numbered on from those that are. */
static uint64_t number_of(const struct plan *p, const struct way *w, uint64_t n)
{
        return n % p->n_keys + (w->is_miss ? p->n_keys : 0);
}

static int look_at_all(const struct plan *p, struct way *w, struct turn *t)
{
        for (uint64_t at = 0; at < p->n_keys;) {
                unsigned n = 0;
                for (; n < TURN && at < p->n_keys; n++, at++)
                        keys_make(number_of(p, w, at), t->keys[n], HITS_KEY);
                int e = check(w, w->type->run(w->h, n, t->keys, NULL), n);
                if (e < 0)
                        return e;
                w->calls += n;
        }
        return 0;
}

static void note_turn(struct way *w, uint64_t start, uint64_t end, unsigned n,
                      const uint64_t *stamps)
{
        if (!stamps) {
                hist_add(&w->mean, (end - start) * 16 / n);
                return;
        }
        for (unsigned i = 0; i < n; i++)
                hist_add(&w->single, stamps[i] - (i > 0 ? stamps[i - 1] : start));
}

static int one_turn(const struct plan *p, struct way *w, struct turn *t, bool with_stamps)
{
        unsigned n = TURN;
        if (p->n_calls > 0 && p->n_calls - w->calls < n)
                n = (unsigned)(p->n_calls - w->calls);
        for (unsigned i = 0; i < n; i++)
                keys_make(number_of(p, w, keys_random(&t->random)), t->keys[i], HITS_KEY);
        uint64_t *stamps = with_stamps ? t->stamps : NULL;
        uint64_t start = stamp_now();
        int e = check(w, w->type->run(w->h, n, t->keys, stamps), n);
        uint64_t end = stamp_now();
        if (e == 0 && n > 0)
                note_turn(w, start, end, n, stamps);
        w->calls += n;
        return e;
}

static bool is_over(const struct plan *p, uint64_t until_ns)
{
        if (p->n_calls == 0)
                return stamp_clock_ns() >= until_ns;
        for (unsigned i = 0; i < p->n_ways; i++)
                if (p->ways[i].calls < p->n_calls)
                        return false;
        return true;
}

static int run(struct plan *p, struct turn *t, double *ret_unit_ns)
{
        int e = 0;
        for (unsigned i = 0; i < p->n_ways && p->n_calls == 0 && e == 0; i++)
                e = look_at_all(p, &p->ways[i], t);
        struct stamp_pair start = stamp_pair_now();
        uint64_t until_ns = start.ns + (uint64_t)(p->seconds * 1e9);
        uint64_t rest_ns = start.ns + WORK_NS;
        for (unsigned turn = 0; e == 0 && !is_over(p, until_ns); turn++) {
                for (unsigned i = 0; i < p->n_ways && e == 0; i++)
                        e = one_turn(p, &p->ways[i], t, turn % 2 == 1);
                if (p->n_calls == 0 && stamp_clock_ns() >= rest_ns) {
                        (void)nanosleep(&(struct timespec){0, REST_NS}, NULL);
                        rest_ns = stamp_clock_ns() + WORK_NS;
                }
        }
        *ret_unit_ns = stamp_unit_ns(start, stamp_pair_now());
        return e;
}

/* A quantile of single look-ups, in ns, without the stamp. */
static double single_ns(const struct way *w, unsigned permille, double unit_ns, uint64_t cost)
{
        uint64_t v = hist_quantile(&w->single, permille);
        return v > cost ? (double)(v - cost) * unit_ns : 0;
}

static void print_result(const struct plan *p, double unit_ns, uint64_t cost)
{
        printf("{\"stamp_cost_ns\":%.2f,\"stamp_unit_ns\":%.5f,\"ways\":{", (double)cost * unit_ns,
               unit_ns);
        for (unsigned i = 0; i < p->n_ways; i++) {
                const struct way *w = &p->ways[i];
                double mean = (double)hist_quantile(&w->mean, 500) / 16 * unit_ns;
                double all = w->mean.count
                                     ? (double)w->mean.sum / (double)w->mean.count / 16 * unit_ns
                                     : 0;
                printf("%s\"%s\":{\"calls\":%llu,\"loop_ns\":%.2f,\"loop_mean_ns\":%.2f,"
                       "\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"p999_ns\":%.1f,\"max_ns\":%.0f}",
                       i ? "," : "", w->name, (unsigned long long)w->calls, mean, all,
                       single_ns(w, 500, unit_ns, cost), single_ns(w, 990, unit_ns, cost),
                       single_ns(w, 999, unit_ns, cost), (double)w->single.max * unit_ns);
        }
        printf("}}\n");
}

static void usage(FILE *f)
{
        static const struct hits_type *const types[HITS_N_TYPES] = HITS_TYPES;
        fprintf(f, "usage: bench-mapped --backend [miss:]B [--backend …] --socket PATH [OPTION…]\n"
                   "  --seconds S    for all of them together (2)\n"
                   "  --calls N      of each, instead, and none before: to be watched, not timed\n"
                   "  --keys N       random ones of so many, which are stored (10000)\n"
                   "  --seed N       of the random order (1)\n"
                   "  --cpu N        run on this CPU only\n"
                   "backends:\n");
        for (size_t i = 0; i < HITS_N_TYPES; i++)
                fprintf(f, "  %-8s  %s\n", types[i]->name, types[i]->help);
}

static bool add_way(struct plan *p, const char *name)
{
        struct way *w = &p->ways[p->n_ways];
        if (p->n_ways == WAYS_MAX)
                return false;
        w->name = name;
        w->is_miss = strncmp(name, "miss:", 5) == 0;
        w->type = hits_find(w->is_miss ? name + 5 : name);
        p->n_ways++;
        return w->type != NULL;
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        char *end;
        unsigned long long v = strtoull(s, &end, 10);
        bool ok = end != s && !*end && *s != '-';
        switch (opt) {
        case 'b':
                return add_way(p, s);
        case 's':
                return p->socket_path = s, true;
        case 'd':
                p->seconds = strtod(s, NULL);
                return p->seconds > 0 && p->seconds <= 60;
        case 'n':
                return p->n_calls = v, ok && v >= 1;
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

static int measure(struct plan *p)
{
        struct turn *t = calloc(1, sizeof(*t));
        int e = t ? 0 : -ENOMEM;
        double unit_ns = 1;
        uint64_t cost = stamp_cost();
        if (e == 0 && p->cpu >= 0)
                e = pin(p->cpu);
        for (unsigned i = 0; i < p->n_ways && e == 0; i++)
                e = p->ways[i].type->open(p->socket_path, &p->ways[i].h);
        if (e == 0) {
                t->random = p->seed;
                e = run(p, t, &unit_ns);
        }
        if (e == 0)
                print_result(p, unit_ns, cost);
        else
                fprintf(stderr, "bench-mapped: %s\n", strerror(-e));
        for (unsigned i = 0; i < p->n_ways; i++)
                if (p->ways[i].h)
                        p->ways[i].type->close(p->ways[i].h);
        free(t);
        return e;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"backend", required_argument, NULL, 'b'},
                {"socket", required_argument, NULL, 's'},
                {"seconds", required_argument, NULL, 'd'},
                {"calls", required_argument, NULL, 'n'},
                {"keys", required_argument, NULL, 'k'},
                {"seed", required_argument, NULL, 'r'},
                {"cpu", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        struct plan *p = calloc(1, sizeof(*p));
        int status = 2;
        if (!p)
                return 1;
        *p = (struct plan){.seconds = 2, .n_keys = 10000, .seed = 1, .cpu = -1};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h') {
                        usage(stdout);
                        free(p);
                        return 0;
                }
                if (opt == '?' || !parse_option(opt, optarg, p)) {
                        if (opt != '?')
                                fprintf(stderr, "bench-mapped: not a possible value: %s\n", optarg);
                        free(p);
                        return 2;
                }
        }
        if (optind != argc || p->n_ways == 0 || !p->socket_path)
                usage(stderr);
        else
                status = measure(p) == 0 ? 0 : 1;
        free(p);
        return status;
}
