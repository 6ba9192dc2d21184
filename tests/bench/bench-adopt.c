/* SPDX-License-Identifier: MIT */
/*
 * How long taking a store over takes
 *
 * bench-adopt N: fills a store with N entries (16-byte keys, 100-byte values, half of them with a
 * TTL, used in random order), leaves it, takes it over five times, and prints the median as JSON.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/recover.h"

#define ROUNDS 5u

static uint64_t next_random(uint64_t *x)
{
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x;
}

static void fill(struct store *s, uint64_t n)
{
        static const uint8_t value[100];
        uint64_t random = 88172645463325252u, key[2];
        struct store_refusal why;
        struct store_entry e;
        uint32_t cache;

        if (store_cache_create(s, "adopt", 5, &cache) != 0)
                abort();
        for (uint64_t i = 0; i < n; i++) {
                struct store_put p = {.cache = cache,
                                      .key = key,
                                      .n_key = sizeof(key),
                                      .value = value,
                                      .n_value = sizeof(value),
                                      .ttl_ms = i % 2 ? STORE_NEVER : 3600000 + i / 100,
                                      .uid = 1000};

                key[0] = i;
                key[1] = ~i;
                if (store_put(s, &p, 1000, &e, &why) != 0)
                        abort();
                (void)store_maintain(s, 1000, 4);
        }
        for (uint64_t i = 0; i < n; i++) {
                key[0] = next_random(&random) % n;
                key[1] = ~key[0];
                if (store_get(s, cache, key, sizeof(key), 1000, true, &e) != 0)
                        abort();
        }
}

struct took {
        uint64_t ns, cpu_ns;
};

static struct store *hand_over(struct store *s, const struct store_params *p, struct took *ret)
{
        struct store_files f = {.arena = dup(store_arena_fd(s)), .table = dup(store_table_fd(s))};
        struct store_adopted report;
        uint64_t from, cpu_from;

        store_leave(s);
        s = NULL;
        from = clock_monotonic_ns();
        cpu_from = clock_cpu_ns();
        if (store_adopt(p, &f, 1000, &s, &report) != 0)
                abort();
        *ret = (struct took){clock_monotonic_ns() - from, clock_cpu_ns() - cpu_from};
        return s;
}

static int by_size(const void *a, const void *b)
{
        const struct took *x = a, *y = b;

        return x->ns < y->ns ? -1 : x->ns > y->ns;
}

int main(int argc, char **argv)
{
        uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
        struct took took[ROUNDS];
        const struct took *median;
        const struct store_params p = {.arena_size = UINT64_C(16) << 30,
                                       .budget = UINT64_C(16) << 30,
                                       .uid_share = STORE_UNLIMITED,
                                       .large_threshold = 1 << 20,
                                       .max_caches = 64,
                                       .max_entries = UINT64_C(1) << 32,
                                       .seed = {1, 2}};
        struct store *s;

        if (store_new(&p, &s) != 0)
                return 1;
        fill(s, n);
        for (unsigned i = 0; i < ROUNDS; i++)
                s = hand_over(s, &p, &took[i]);
        if (store_entries(s) != n)
                return 1;
        qsort(took, ROUNDS, sizeof(took[0]), by_size);
        median = &took[ROUNDS / 2];
        printf("{\"entries\": %llu, \"adopt_ms\": %.1f, \"cpu_ms\": %.1f, \"least_ms\": %.1f}\n",
               (unsigned long long)n, (double)median->ns / 1e6, (double)median->cpu_ns / 1e6,
               (double)took[0].ns / 1e6);
        store_free(s);
        return 0;
}
