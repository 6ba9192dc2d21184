/* SPDX-License-Identifier: MIT */
/*
 * Loads on a service that is restarted and killed meanwhile
 *
 *     load first SOCKET                    ms from connect() to the first answer
 *     load ask SOCKET KEYS MAPPED          asks without pause; how long it got no answer
 *     load write SOCKET WRITERS KEYS SIZE  stores, and knows what has to be there
 *     load mix SOCKET CLIENTS KEYS PAUSE   everything that clients do
 *     load keep SOCKET LARGE SESSIONS      large values and sessions
 *
 * Driven by a test (restarts.py): a command a line on the standard input, a line of JSON for each
 * on the standard output; the commands stand with each load. The end of the input ends it. What is
 * wrong is told on the standard error, too, the first few times.
 */

#include "load.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

uint64_t load_now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void load_sleep_us(uint64_t us)
{
        (void)nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000u),
                                           .tv_nsec = (long)(us % 1000000u) * 1000},
                        NULL);
}

uint64_t load_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

_Noreturn void load_die(const char *format, ...)
{
        va_list args;

        va_start(args, format);
        fputs("load: ", stderr);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
        _exit(1);
}

cached *load_handle(const char *socket, bool mapped)
{
        cached_options *o = cached_options_new();
        cached *c = NULL;

        if (!o || cached_options_set_socket(o, socket) != CACHED_OK ||
            cached_options_set_timeout_ms(o, LOAD_TIMEOUT_MS) != CACHED_OK ||
            cached_options_set_mapped(o, mapped) != CACHED_OK || cached_new(o, &c) != CACHED_OK)
                load_die("no handle");
        cached_options_free(o);
        return c;
}

/* ---- values */

struct head {
        uint64_t key, seq, n, sum;
};

static uint64_t sum_of(const struct head *h, const uint8_t *rest)
{
        return XXH3_64bits_withSeed(rest, h->n - sizeof(*h), h->key * 31 + h->seq);
}

void load_make(uint8_t *value, uint64_t key, uint64_t seq, size_t n)
{
        struct head h = {.key = key, .seq = seq, .n = n};
        uint64_t state = (key + 1) * UINT64_C(0x9e3779b97f4a7c15) + seq;

        for (size_t i = sizeof(h); i < n; i += 8) {
                uint64_t word = load_random(&state);

                memcpy(value + i, &word, n - i < 8 ? n - i : 8);
        }
        h.sum = sum_of(&h, value + sizeof(h));
        memcpy(value, &h, sizeof(h));
}

uint64_t load_look(const void *value, size_t n, uint64_t key)
{
        struct head h;

        if (!value || n < sizeof(h))
                return 0;
        memcpy(&h, value, sizeof(h));
        if (h.key != key || h.n != n || h.sum != sum_of(&h, (const uint8_t *)value + sizeof(h)))
                return 0;
        return h.seq;
}

/* ---- processes */

void *load_shared(size_t n)
{
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                load_die("no memory");
        return p;
}

int load_fork(void)
{
        int pid;

        (void)fflush(stdout);
        pid = fork();
        if (pid < 0)
                load_die("no process");
        if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() == 1))
                _exit(1);
        return pid;
}

/* ---- counts */

void load_count(struct load_tally *t, int code)
{
        unsigned at = code >= 0 && (unsigned)code < LOAD_CODES ? (unsigned)code : LOAD_CODES - 1;

        atomic_fetch_add(&t->codes[at], 1);
}

void load_print_tally(const char *name, struct load_tally *t)
{
        printf("\"%s\": {\"wrong\": %llu", name, atomic_load(&t->wrong));
        for (unsigned i = 0; i < LOAD_CODES; i++)
                if (atomic_load(&t->codes[i]) > 0)
                        printf(", \"%u\": %llu", i, atomic_load(&t->codes[i]));
        printf("}");
}

void load_keep_larger(atomic_ullong *at, uint64_t value)
{
        unsigned long long old = atomic_load(at);

        while (value > old && !atomic_compare_exchange_weak(at, &old, value))
                continue;
}

/* ---- commands */

bool load_command(char *words[LOAD_WORDS])
{
        static char line[256], empty[] = "";
        char *save = NULL;

        if (!fgets(line, sizeof(line), stdin))
                return false;
        for (unsigned i = 0; i < LOAD_WORDS; i++) {
                words[i] = strtok_r(i == 0 ? line : NULL, " \n", &save);
                if (!words[i])
                        words[i] = empty;
        }
        return true;
}

bool load_is(char *const words[LOAD_WORDS], const char *name)
{
        return strcmp(words[0], name) == 0;
}

void load_answer(void)
{
        printf("\n");
        (void)fflush(stdout);
}

/* ---- the first answer of a service that is not there yet */

int load_first(int argc, char **argv)
{
        cached *c = load_handle(argc > 2 ? argv[2] : NULL, false);
        uint64_t began = load_now_ns();
        int code = cached_ping(c, NULL);
        uint64_t took = load_now_ns() - began;

        if (code != CACHED_OK)
                load_die("ping: %s", cached_strerror(code));
        printf("%.3f", (double)took / 1e6);
        load_answer();
        cached_free(c);
        return 0;
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                int (*run)(int argc, char **argv);
        } loads[] = {
                {"first", load_first}, {"ask", load_ask},   {"write", load_write},
                {"mix", load_mix},     {"keep", load_keep},
        };

        for (size_t i = 0; argc > 2 && i < sizeof(loads) / sizeof(loads[0]); i++)
                if (strcmp(argv[1], loads[i].name) == 0)
                        return loads[i].run(argc, argv);
        fprintf(stderr, "usage: load LOAD SOCKET ...\n");
        return 2;
}
