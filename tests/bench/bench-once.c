/* SPDX-License-Identifier: MIT */
/*
 * One caller of many for a key that nobody has stored: whoever computes, or waits
 *
 *     bench-once SOCKET CACHE KEY
 *
 * Who gets the lease prints "computes" and waits for a line of input; then it stores, and prints
 * when it began to. Who does not prints when it had the value. Both are CLOCK_MONOTONIC, in
 * nanoseconds.
 */
#include <cached.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static int compute(cached_lease *l)
{
        uint64_t at;
        puts("computes");
        fflush(stdout);
        if (getchar() == EOF)
                return 1;
        at = now_ns();
        if (cached_lease_set(l, "value", 5, NULL, NULL) != CACHED_OK)
                return 1;
        printf("%llu\n", (unsigned long long)at);
        return 0;
}

static int ask(cached *c, const char *cache, const char *key)
{
        cached_lease *l = NULL;
        cached_reply *r = NULL;
        int code = cached_get_or_lease(c, cache, key, strlen(key), NULL, &r, &l);
        uint64_t at = now_ns();
        int failed = 1;
        if (code == CACHED_OK) {
                failed = printf("%llu\n", (unsigned long long)at) < 0 || fflush(stdout) != 0;
                (void)getchar(); /* who ends keeps the processors from those who still wait */
        }
        if (code != CACHED_OK && cached_lease_state(l) == CACHED_LEASE_GRANTED)
                failed = compute(l);
        else if (code != CACHED_OK)
                fprintf(stderr, "bench-once: %s\n", cached_reply_error(r));
        cached_lease_free(l);
        cached_reply_free(r);
        return failed;
}

int main(int argc, char **argv)
{
        cached_options *o = cached_options_new();
        cached *c = NULL;
        int failed = 1;
        if (argc != 4) {
                fprintf(stderr, "usage: bench-once SOCKET CACHE KEY\n");
                return 2;
        }
        if (o && cached_options_set_socket(o, argv[1]) == CACHED_OK &&
            cached_new(o, &c) == CACHED_OK)
                failed = ask(c, argv[2], argv[3]);
        cached_free(c);
        cached_options_free(o);
        return failed;
}
