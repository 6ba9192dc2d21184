/* SPDX-License-Identifier: MIT */
/*
 * How fast keys are made: large buffers on one and on two threads, and the key of a small call
 *
 * Talks to no daemon. The buffer is memory that has been written to; it is hashed in turns with
 * each number of threads. Prints a line of JSON: GB/s (10^9 bytes) of every run by wall time, and
 * the CPU time of the process per run, which a busy machine disturbs less; nanoseconds for a small
 * key.
 */
#include <cached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE_DEFAULT 100000000
#define RUNS_DEFAULT 9
#define RUNS_MAX     1000
#define SMALL_KEYS   100000

struct rates {
        double wall[RUNS_MAX], cpu[RUNS_MAX];
};

static double now_s(clockid_t clock)
{
        struct timespec ts;
        clock_gettime(clock, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int hash(cached_key *k, const uint8_t *bytes, size_t n, unsigned threads, double *ret_wall,
                double *ret_cpu)
{
        uint8_t digest[CACHED_KEY_SIZE];
        double wall = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
        cached_key_reset(k);
        cached_key_set_threads(k, threads);
        cached_key_add_bytes(k, bytes, n);
        int code = cached_key_finish(k, digest);
        *ret_wall = (double)n / 1e9 / (now_s(CLOCK_MONOTONIC) - wall);
        *ret_cpu = (double)n / 1e9 / (now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        return code;
}

/* A function's name, the digest of its code, two arguments and an option. CPU time, ns. */
static double small_key(cached_key *k)
{
        uint8_t digest[CACHED_KEY_SIZE] = {0};
        double before = now_s(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < SMALL_KEYS; i++) {
                cached_key_reset(k);
                cached_key_add_text(k, "app.reports.monthly", 19);
                cached_key_add_bytes(k, digest, 20);
                cached_key_begin_tuple(k);
                cached_key_add_int(k, i);
                cached_key_add_text(k, "EUR", 3);
                cached_key_end(k);
                cached_key_begin_map(k);
                cached_key_add_text(k, "with_tax", 8);
                cached_key_add_bool(k, 1);
                cached_key_end(k);
                cached_key_finish(k, digest);
        }
        return (now_s(CLOCK_PROCESS_CPUTIME_ID) - before) * 1e9 / SMALL_KEYS;
}

static void print_rates(const char *name, const double *rates, long runs)
{
        printf("\"%s\":[", name);
        for (long i = 0; i < runs; i++)
                printf("%s%.4f", i ? "," : "", rates[i]);
        printf("],");
}

int main(int argc, char **argv)
{
        long size = argc > 1 ? strtol(argv[1], NULL, 10) : SIZE_DEFAULT;
        long runs = argc > 2 ? strtol(argv[2], NULL, 10) : RUNS_DEFAULT;
        if (argc > 3 || size < 1 || runs < 1 || runs > RUNS_MAX) {
                fprintf(stderr, "usage: bench-hash [BYTES [RUNS]]\n");
                return 2;
        }
        struct rates *rates = calloc(2, sizeof(*rates));
        uint8_t *bytes = malloc((size_t)size);
        cached_key *k = cached_key_new();
        int failed = !rates || !bytes || !k;
        for (long i = 0; !failed && i < size; i++)
                bytes[i] = (uint8_t)(i % 251);
        for (long i = 0; !failed && i < 2 * runs; i++)
                failed = hash(k, bytes, (size_t)size, 1 + i % 2, &rates[i % 2].wall[i / 2],
                              &rates[i % 2].cpu[i / 2]) != CACHED_OK;
        if (!failed) {
                printf("{");
                print_rates("one", rates[0].wall, runs);
                print_rates("one_cpu", rates[0].cpu, runs);
                print_rates("two", rates[1].wall, runs);
                print_rates("two_cpu", rates[1].cpu, runs);
                printf("\"small_ns\":%.0f}\n", small_key(k));
        }
        cached_key_free(k);
        free(bytes);
        free(rates);
        return failed;
}
