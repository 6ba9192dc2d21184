/* SPDX-License-Identifier: MIT */
/*
 * What memoizing adds to a function: the time of cached_memoize() without that of the function
 *
 *     bench-memoize SOCKET SECONDS [CPU]
 *
 * The function does nothing. One call is made first; then "ready" is printed, and a line is waited
 * for, so that whoever runs this can stop the daemon meanwhile. The next call finds that out, if
 * so; it is told apart. Then calls are made for so many seconds, each with an argument that was not
 * seen before. At the end a line of JSON.
 */
#include <cached.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hist.h"

struct bench {
        cached *c;
        cached_key *k;
        uint64_t n;
        uint64_t computed_ns; /* in the function, of the last call */
        uint64_t codes_ok;    /* calls whose value was stored */
        struct hist added;
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static int compute(void *data, cached_result *out)
{
        struct bench *b = data;
        uint64_t start = now_ns();
        int code = cached_result_set(out, &b->n, sizeof(b->n));
        b->computed_ns = now_ns() - start;
        return code;
}

/* The time added, or UINT64_MAX. */
static uint64_t one_call(struct bench *b)
{
        cached_result *r;
        uint64_t start = now_ns();
        b->computed_ns = 0;
        cached_key_reset(b->k);
        cached_key_add_uint(b->k, b->n++);
        int code = cached_memoize(b->c, "bench-memoize", b->k, compute, b, NULL, &r);
        b->codes_ok += cached_result_cache_code(r) == CACHED_OK;
        cached_result_free(r);
        return code == CACHED_OK ? now_ns() - start - b->computed_ns : UINT64_MAX;
}

static void pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
}

static int run(struct bench *b, double seconds)
{
        uint64_t first, until;
        if (one_call(b) == UINT64_MAX)
                return -1;
        puts("ready");
        fflush(stdout);
        if (getchar() == EOF)
                return -1;
        b->codes_ok = 0;
        first = one_call(b);
        until = now_ns() + (uint64_t)(seconds * 1e9);
        while (now_ns() < until)
                hist_add(&b->added, one_call(b));
        printf("{\"calls\":%llu,\"stored\":%llu,\"first_us\":%.1f,\"p50_us\":%.2f,\"p99_us\":%.2f,"
               "\"p999_us\":%.2f,\"max_us\":%.1f}\n",
               (unsigned long long)b->added.count, (unsigned long long)b->codes_ok,
               (double)first / 1e3, (double)hist_quantile(&b->added, 500) / 1e3,
               (double)hist_quantile(&b->added, 990) / 1e3,
               (double)hist_quantile(&b->added, 999) / 1e3, (double)b->added.max / 1e3);
        return 0;
}

int main(int argc, char **argv)
{
        static struct bench b;
        cached_options *o = cached_options_new();
        int r;
        if (argc < 3 || argc > 4 || !o) {
                fprintf(stderr, "usage: bench-memoize SOCKET SECONDS [CPU]\n");
                return 2;
        }
        if (argc == 4)
                pin(atoi(argv[3]));
        /* Hits that lie in shared memory need no daemon: it is the daemon that this is about. */
        if (cached_options_set_socket(o, argv[1]) != CACHED_OK ||
            cached_options_set_mapped(o, 0) != CACHED_OK || cached_new(o, &b.c) != CACHED_OK)
                return 2;
        b.k = cached_key_new();
        r = run(&b, strtod(argv[2], NULL));
        cached_key_free(b.k);
        cached_free(b.c);
        cached_options_free(o);
        return r < 0 ? 1 : 0;
}
