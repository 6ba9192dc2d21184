/* SPDX-License-Identifier: MIT */
/*
 * How long a daemon takes from exec to its first answered Ping
 *
 * Starts one in a fresh directory, asks until it answers, ends it; several times over. Prints a
 * line of JSON with every run's milliseconds. A new handle for each attempt, so that no back-off of
 * the library is in the figure.
 */
#include <cached.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "spawn.h"

#define MAX_RUNS 1000
#define PATIENCE UINT64_C(10000000000) /* ns */
#define PAUSE    50000                 /* ns between two attempts: the error of the figure */

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static int ping_once(const cached_options *o)
{
        cached *c = NULL;
        int code = cached_new(o, &c);
        if (code == CACHED_OK)
                code = cached_ping(c, NULL);
        cached_free(c);
        return code;
}

/* Nanoseconds from exec to the answer, or -errno. */
static int64_t measure(const char *daemon, int cpu)
{
        struct spawn s;
        int e = spawn_start(&s, daemon, "", cpu);
        if (e < 0)
                return e;
        cached_options *o = cached_options_new();
        int64_t took = -ETIMEDOUT;
        if (!o || cached_options_set_socket(o, s.socket_path) != CACHED_OK)
                took = -ENOMEM;
        while (took == -ETIMEDOUT && now_ns() - s.exec_ns < PATIENCE) {
                if (ping_once(o) == CACHED_OK)
                        took = (int64_t)(now_ns() - s.exec_ns);
                else
                        nanosleep(&(struct timespec){0, PAUSE}, NULL);
        }
        cached_options_free(o);
        e = spawn_done(&s);
        return took >= 0 && e < 0 ? e : took;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"daemon", required_argument, NULL, 'd'},
                {"runs", required_argument, NULL, 'r'},
                {"cpu", required_argument, NULL, 'c'},
                {NULL, 0, NULL, 0},
        };
        char daemon[512] = "";
        long runs = 20, cpu = -1;
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'd')
                        snprintf(daemon, sizeof(daemon), "%s", optarg);
                else if (opt == 'r')
                        runs = strtol(optarg, NULL, 10);
                else if (opt == 'c')
                        cpu = strtol(optarg, NULL, 10);
                else
                        return 2;
        }
        if (runs < 1 || runs > MAX_RUNS || optind != argc) {
                fprintf(stderr, "usage: bench-start [--daemon PATH] [--runs N] [--cpu N]\n");
                return 2;
        }
        int e = daemon[0] ? 0 : spawn_find_daemon(daemon, sizeof(daemon));
        if (e < 0)
                return fprintf(stderr, "bench-start: %s: %s\n", daemon, strerror(-e)), 1;
        printf("{\"ms\":[");
        for (long i = 0; i < runs; i++) {
                int64_t ns = measure(daemon, (int)cpu);
                if (ns < 0)
                        return fprintf(stderr, "bench-start: %s\n", strerror((int)-ns)), 1;
                printf("%s%.3f", i ? "," : "", (double)ns / 1e6);
        }
        printf("]}\n");
        return 0;
}
