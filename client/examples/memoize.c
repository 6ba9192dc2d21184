/* SPDX-License-Identifier: MIT */
/*
 * memoize - a slow function that runs once for each argument, however many processes ask
 *
 * Usage: memoize [LIMIT]
 *
 * The five lines are those of primes_below(). Run it twice: the second time it has nothing to do.
 * Change count_primes(), and it runs again, since the program's build-id is part of the key.
 *
 *      cc -O2 memoize.c $(pkg-config --cflags --libs cached) -o memoize
 */

#include <cached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Slow: by trial division. */
static uint64_t count_primes(uint64_t limit)
{
        uint64_t n = limit > 2;

        for (uint64_t candidate = 3; candidate < limit; candidate += 2) {
                uint64_t divisor = 3;

                while (divisor * divisor <= candidate && candidate % divisor != 0)
                        divisor += 2;
                n += divisor * divisor > candidate;
        }
        return n;
}

/* The same as the library wants it. */
static int compute(void *data, cached_result *out)
{
        uint64_t n = count_primes(*(uint64_t *)data);

        return cached_result_set(out, &n, sizeof(n));
}

static int primes_below(cached *c, uint64_t limit, uint64_t *ret_n, int *ret_is_hit)
{
        cached_result *r;
        cached_key *k = cached_key_new();
        int code;

        cached_key_add_uint(k, limit);
        code = cached_memoize(c, "count_primes", k, compute, &limit, NULL, &r);
        if (code == CACHED_OK)
                memcpy(ret_n, cached_result_value(r, NULL), sizeof(*ret_n));
        *ret_is_hit = cached_result_is_hit(r);
        if (*cached_result_error(r))
                fprintf(stderr, "memoize: %s\n", cached_result_error(r));
        cached_result_free(r);
        cached_key_free(k);
        return code;
}

static double now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
        uint64_t limit = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000000, n;
        double start = now_ms();
        int is_hit, code;
        cached *c;

        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        code = primes_below(c, limit, &n, &is_hit);
        cached_free(c);
        if (code != CACHED_OK)
                return EXIT_FAILURE;
        printf("%llu primes below %llu, %s in %.1f ms\n", (unsigned long long)n,
               (unsigned long long)limit, is_hit ? "from the cache" : "computed", now_ms() - start);
        return EXIT_SUCCESS;
}
