/* SPDX-License-Identifier: MIT */

/*
 * Measuring: repetitions, samples, the echo, and the end on a signal
 *
 * SIGINT, SIGTERM and SIGHUP are blocked while it runs and looked for between requests, so that
 * what was stored can be removed before the program ends. Nothing asynchronous happens.
 *
 * The echo is a child process on the other end of a socket pair: what one round trip costs on this
 * machine with nothing but the kernel between. It ends when our end is closed.
 */

#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* More repetitions of one case say nothing new. */
#define MAX_SAMPLES (1u << 20)

/* So often signals are looked for: no call of its own for each request. */
#define SIGNALS_EVERY_NS 1000000

/* Kept this long if we are killed and cannot remove them. */
#define TTL_MS 120000

static void signals(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGHUP);
}

uint64_t bench_now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void look_for_signals(struct bench *b, uint64_t now)
{
        const struct timespec at_once = {0};
        sigset_t set;
        int number;

        if (b->signal || now - b->checked_ns < SIGNALS_EVERY_NS)
                return;
        b->checked_ns = now;
        signals(&set);
        number = sigtimedwait(&set, NULL, &at_once);
        if (number > 0)
                b->signal = number;
}

bool bench_goes_on(struct bench *b, uint64_t start_ns, uint64_t now_ns)
{
        look_for_signals(b, now_ns);
        return !b->signal && now_ns - start_ns < b->slice_ns && b->n_samples < MAX_SAMPLES;
}

void bench_sample(struct bench *b, uint64_t ns)
{
        if (b->n_samples < MAX_SAMPLES)
                b->samples[b->n_samples++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

_Noreturn static void echo(int fd)
{
        char buf[4096];

        for (;;) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);

                if (n <= 0 || send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
                        _exit(0);
        }
}

static int echo_start(struct bench *b)
{
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        b->echo_pid = fork();
        if (b->echo_pid == 0) {
                close(pair[0]);
                echo(pair[1]);
        }
        close(pair[1]);
        b->echo_fd = pair[0];
        return b->echo_pid < 0 ? -EAGAIN : 0;
}

/* Nothing that compresses: every byte is to travel. */
static void fill_value(struct bench *b)
{
        uint64_t x = b->id | 1;

        for (size_t i = 0; i < BENCH_LARGEST; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                b->value[i] = (uint8_t)x;
        }
}

int bench_init(struct bench *b, struct ctl *ctl, uint64_t seconds)
{
        sigset_t set;

        *b = (struct bench){.ctl = ctl, .echo_fd = -1, .echo_pid = -1};
        signals(&set);
        sigprocmask(SIG_BLOCK, &set, NULL);
        b->slice_ns = seconds * 1000000000 / BENCH_CASES;
        b->samples = malloc(MAX_SAMPLES * sizeof(*b->samples));
        b->value = malloc(BENCH_LARGEST);
        b->set_options = cached_set_options_new();
        if (!b->samples || !b->value || !b->set_options)
                return -ENOMEM;
        (void)cached_set_options_set_ttl_ms(b->set_options, TTL_MS);
        if (getrandom(&b->id, sizeof(b->id), 0) != sizeof(b->id))
                return -errno;
        fill_value(b);
        return echo_start(b);
}

void bench_done(struct bench *b)
{
        if (b->echo_fd >= 0)
                close(b->echo_fd);
        while (b->echo_pid > 0 && waitpid(b->echo_pid, NULL, 0) < 0 && errno == EINTR)
                ;
        cached_pipeline_free(b->pipeline);
        cached_set_options_free(b->set_options);
        free(b->value);
        free(b->samples);
        b->echo_fd = -1;
        b->echo_pid = -1;
        b->pipeline = NULL;
        b->set_options = NULL;
        b->value = NULL;
        b->samples = NULL;
}

static int by_size(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

int bench_run(struct bench *b, const struct bench_case *c, struct bench_result *ret_result,
              cached_reply **ret)
{
        struct bench_result result = {.skipped = c->value > b->max_value || c->keys > b->max_keys};
        uint64_t start = bench_now();
        int r;

        if (result.skipped) {
                *ret_result = result;
                return CACHED_OK;
        }
        b->n_samples = 0;
        r = c->run(b, c, ret);
        if (r != CACHED_OK)
                return r;
        result.elapsed_ns = bench_now() - start;
        result.n = b->n_samples;
        if (result.n > 0) {
                qsort(b->samples, b->n_samples, sizeof(*b->samples), by_size);
                result.p50_ns = b->samples[b->n_samples / 2];
                result.p99_ns = b->samples[b->n_samples - 1 - b->n_samples / 100];
        }
        *ret_result = result;
        return CACHED_OK;
}
