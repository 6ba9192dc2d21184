/* SPDX-License-Identifier: MIT */
/*
 * How long taking a store over takes
 *
 * bench-adopt [N [BYTES]]: fills a store with N entries (16-byte keys, values of so many bytes,
 * half of them with a TTL, used in random order), leaves it, has it taken over five times, and
 * prints the median as JSON. Each time it is another process that takes over, as after a restart:
 * the files have to be mapped anew, and nothing of them is in its page table yet.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/recover.h"

#define ROUNDS    5u
#define VALUE_MAX 65536u

/* What the process that takes over finds: both files, and a pipe for what it measured. */
enum { FD_ARENA = 10, FD_TABLE, FD_REPORT };

static uint64_t next_random(uint64_t *x)
{
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x;
}

static void fill(struct store *s, uint64_t n, uint32_t n_value)
{
        static const uint8_t value[VALUE_MAX];
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
                                      .n_value = n_value,
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
        uint64_t ns, cpu_ns, n;
};

static struct store_params params(void)
{
        return (struct store_params){.arena_size = UINT64_C(16) << 30,
                                     .budget = UINT64_C(16) << 30,
                                     .uid_share = STORE_UNLIMITED,
                                     .large_threshold = 1 << 20,
                                     .max_caches = 64,
                                     .max_entries = UINT64_C(1) << 32,
                                     .seed = {1, 2}};
}

/* The process that takes over, and leaves the store in its turn. */
static int take_over(void)
{
        const struct store_params p = params();
        struct store_files f = {.arena = FD_ARENA, .table = FD_TABLE};
        uint64_t from = clock_monotonic_ns(), cpu_from = clock_cpu_ns();
        struct store_adopted report;
        struct store *s;
        struct took took;

        if (store_adopt(&p, &f, 1000, &s, &report) != 0)
                return 1;
        took = (struct took){clock_monotonic_ns() - from, clock_cpu_ns() - cpu_from,
                             store_entries(s)};
        store_leave(s);
        return write(FD_REPORT, &took, sizeof(took)) == (ssize_t)sizeof(took) ? 0 : 1;
}

static void exec_successor(const struct store_files *f, int report)
{
        char self[] = "bench-adopt", how[] = "--take-over";
        char *argv[] = {self, how, NULL};

        if (dup2(f->arena, FD_ARENA) >= 0 && dup2(f->table, FD_TABLE) >= 0 &&
            dup2(report, FD_REPORT) >= 0)
                execv("/proc/self/exe", argv);
        _exit(1);
}

static struct took hand_over(const struct store_files *f)
{
        struct took took;
        int report[2];
        pid_t pid;

        if (pipe2(report, O_CLOEXEC) < 0)
                abort();
        pid = fork();
        if (pid == 0)
                exec_successor(f, report[1]);
        close(report[1]);
        if (pid < 0 || read(report[0], &took, sizeof(took)) != (ssize_t)sizeof(took))
                abort();
        close(report[0]);
        if (waitpid(pid, NULL, 0) != pid)
                abort();
        return took;
}

/* A descriptor above those that the successor gets. */
static int keep_file(int fd)
{
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, FD_REPORT + 1);

        if (copy < 0)
                abort();
        return copy;
}

static int by_time(const void *a, const void *b)
{
        const struct took *x = a, *y = b;

        return x->ns < y->ns ? -1 : x->ns > y->ns;
}

int main(int argc, char **argv)
{
        const struct store_params p = params();
        struct took took[ROUNDS];
        const struct took *median = &took[ROUNDS / 2];
        struct store_files f;
        uint64_t n, n_value;
        struct store *s;

        if (argc == 2 && strcmp(argv[1], "--take-over") == 0)
                return take_over();
        n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
        n_value = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
        if (n_value > VALUE_MAX || store_new(&p, &s) != 0)
                return 1;
        fill(s, n, (uint32_t)n_value);
        f = (struct store_files){.arena = keep_file(store_arena_fd(s)),
                                 .table = keep_file(store_table_fd(s))};
        store_leave(s);
        for (unsigned i = 0; i < ROUNDS; i++) {
                took[i] = hand_over(&f);
                if (took[i].n != n)
                        return 1;
        }
        qsort(took, ROUNDS, sizeof(took[0]), by_time);
        printf("{\"entries\": %llu, \"value_bytes\": %llu, \"adopt_ms\": %.1f, \"cpu_ms\": %.1f, "
               "\"least_ms\": %.1f}\n",
               (unsigned long long)n, (unsigned long long)n_value, (double)median->ns / 1e6,
               (double)median->cpu_ns / 1e6, (double)took[0].ns / 1e6);
        return 0;
}
