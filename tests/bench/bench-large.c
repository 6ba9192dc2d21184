/* SPDX-License-Identifier: MIT */
/*
 * The time that it takes to store or to read one large value; one line of JSON at the end
 *
 * One connection, one call at a time, always the same key: a store replaces what is there. The
 * value is stored once before, and a few calls go uncounted.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "keys.h"
#include "large.h"
#include "stamp.h"

#define CALLS_MAX 100000
#define WARM_UP   3
/* The kernel stops real-time processes that never sleep for 50 ms in each second. */
#define WORK_NS 150000000
#define REST_NS 15000000

struct plan {
        const struct large_type *type;
        const struct large_way *way;
        const char *socket_path, *way_name;
        size_t n_value;
        unsigned long long n_calls;
        double seconds;
        bool keep; /* what is stored */
        int cpu;
        uint64_t *ns; /* of each call */
        size_t n_ns;
};

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return x < y ? -1 : x > y;
}

static uint64_t quantile(const struct plan *p, unsigned permille)
{
        return p->ns[(p->n_ns - 1) * permille / 1000];
}

/* Whoever only looks has no value of his own, which would count as memory. */
static bool needs_value(const struct plan *p)
{
        return !p->keep ||
               (strncmp(p->way_name, "view", 4) != 0 && strcmp(p->way_name, "hold") != 0);
}

static uint8_t *value_new(size_t n, bool fill)
{
        uint8_t *value = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uint64_t state = 1;
        if (value == MAP_FAILED)
                return NULL;
        for (size_t at = 0; fill && at < n; at += 8) {
                uint64_t v = keys_random(&state);
                memcpy(value + at, &v, n - at < 8 ? n - at : 8);
        }
        return value;
}

static int run(struct plan *p, struct large_client *c)
{
        uint64_t ns, until = stamp_clock_ns() + (uint64_t)(p->seconds * 1e9);
        uint64_t rest = stamp_clock_ns() + WORK_NS;
        int e = 0;
        for (int i = 0; i < WARM_UP && p->n_calls > 1 && e == 0; i++)
                e = p->way->run(c, &ns);
        while (e == 0 && p->n_ns < p->n_calls && (p->n_ns < 5 || stamp_clock_ns() < until)) {
                e = p->way->run(c, &p->ns[p->n_ns]);
                p->n_ns += e == 0;
                if (stamp_clock_ns() < rest)
                        continue;
                (void)nanosleep(&(struct timespec){0, REST_NS}, NULL);
                rest = stamp_clock_ns() + WORK_NS;
        }
        return e;
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
        struct large_client *c = NULL;
        uint8_t *value = value_new(p->n_value, needs_value(p));
        p->ns = calloc(p->n_calls, sizeof(*p->ns));
        int e = value && p->ns ? 0 : -ENOMEM;
        if (e == 0 && p->cpu >= 0)
                e = pin(p->cpu);
        if (e == 0)
                e = p->type->open(p->socket_path, &c);
        if (e == 0) {
                c->type = p->type;
                c->value = value;
                c->n_value = p->n_value;
                e = p->keep ? 0 : p->type->fill(c);
        }
        if (e == 0)
                e = run(p, c);
        if (e == 0) {
                qsort(p->ns, p->n_ns, sizeof(*p->ns), compare);
                printf("{\"calls\":%zu,\"p50_ns\":%llu,\"min_ns\":%llu,\"p99_ns\":%llu,"
                       "\"max_ns\":%llu}\n",
                       p->n_ns, (unsigned long long)quantile(p, 500), (unsigned long long)p->ns[0],
                       (unsigned long long)quantile(p, 990),
                       (unsigned long long)p->ns[p->n_ns - 1]);
        } else {
                fprintf(stderr, "bench-large: %s of %zu bytes: %s\n", p->way_name, p->n_value,
                        strerror(-e));
        }
        if (c)
                p->type->close(c);
        if (value)
                munmap(value, p->n_value);
        free(p->ns);
        return e;
}

static const struct large_type *const types[LARGE_N_TYPES] = LARGE_TYPES;

static void usage(FILE *f)
{
        fprintf(f, "usage: bench-large --backend B --way W --size N --socket PATH [OPTION…]\n"
                   "  --seconds S    for so long, but five calls at least (1)\n"
                   "  --calls N      at most (100000)\n"
                   "  --keep         the value is stored already\n"
                   "  --cpu N        run on this CPU only\n");
        for (size_t i = 0; i < LARGE_N_TYPES; i++) {
                fprintf(f, "ways of %s, %s:\n", types[i]->name, types[i]->help);
                for (const struct large_way *w = types[i]->ways; w->name; w++)
                        fprintf(f, "  %-13s  %s\n", w->name, w->help);
        }
}

static bool find(struct plan *p)
{
        for (const struct large_way *w = p->type ? p->type->ways : NULL; w && w->name; w++)
                if (p->way_name && strcmp(w->name, p->way_name) == 0)
                        p->way = w;
        return p->way && p->socket_path && p->n_value > 0;
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        char *end = NULL;
        unsigned long long v = s ? strtoull(s, &end, 10) : 0;
        bool ok = s && end != s && !*end && *s != '-';
        if (opt == 'k')
                return p->keep = true;
        if (!s) /* all others have an argument */
                return false;
        switch (opt) {
        case 'b':
                for (size_t i = 0; i < LARGE_N_TYPES; i++)
                        if (strcmp(types[i]->name, s) == 0)
                                p->type = types[i];
                return p->type != NULL;
        case 'w':
                return p->way_name = s, true;
        case 's':
                return p->socket_path = s, true;
        case 'z':
                return p->n_value = v, ok && v > 0;
        case 'd':
                p->seconds = strtod(s, NULL);
                return p->seconds > 0 && p->seconds <= 60;
        case 'n':
                return p->n_calls = v, ok && v >= 1 && v <= CALLS_MAX;
        case 'c':
                return p->cpu = (int)v, ok && v < CPU_SETSIZE;
        default:
                return false;
        }
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"backend", required_argument, NULL, 'b'}, {"way", required_argument, NULL, 'w'},
                {"socket", required_argument, NULL, 's'},  {"size", required_argument, NULL, 'z'},
                {"seconds", required_argument, NULL, 'd'}, {"calls", required_argument, NULL, 'n'},
                {"keep", no_argument, NULL, 'k'},          {"cpu", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
        };
        struct plan p = {.seconds = 1, .n_calls = CALLS_MAX, .cpu = -1};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h') {
                        usage(stdout);
                        return 0;
                }
                if (opt == '?' || !parse_option(opt, optarg, &p)) {
                        if (opt != '?')
                                fprintf(stderr, "bench-large: not a possible value: %s\n", optarg);
                        return 2;
                }
        }
        if (optind != argc || !find(&p)) {
                usage(stderr);
                return 2;
        }
        return measure(&p) == 0 ? 0 : 1;
}
