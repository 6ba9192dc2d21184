/* SPDX-License-Identifier: MIT */
/*
 * How long it takes until every subscriber has an event
 *
 * Subscribers are connections of their own, in a few processes that wait for them with epoll. One
 * value at a time is stored; its time runs from calling cached_set() to the moment at which the
 * last subscriber has the whole frame of its event. Prints a line of JSON.
 */
#include <cached.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"
#include "proto/frame.h"

#define SUBSCRIBERS_MAX 1000
#define PROCESSES_MAX   16
#define EVENTS_MAX      100000
#define PAUSE_NS        1000000 /* between two events: each finds everybody asleep */
#define PATIENCE_S      30

struct subscriber {
        struct hello hello;
        uint8_t bytes[512];
        size_t n;
};

struct setup {
        const char *socket_path;
        long subscribers, processes, events, cpu;
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- a process of subscribers */

/* 1: the whole event is there. 0: not yet. Negative: -errno. */
static int take(struct subscriber *s)
{
        ssize_t n = recv(s->hello.fd, s->bytes + s->n, sizeof(s->bytes) - s->n, MSG_DONTWAIT);
        if (n <= 0)
                return n < 0 && errno == EAGAIN ? 0 : n < 0 ? -errno : -EPIPE;
        s->n += (size_t)n;
        if (s->n < FRAME_HEADER_SIZE ||
            s->n < FRAME_HEADER_SIZE + frame_header_read(s->bytes).n_message)
                return 0;
        if (s->n > FRAME_HEADER_SIZE + frame_header_read(s->bytes).n_message)
                return -EPROTO; /* only one is on its way at a time */
        s->n = 0;
        return 1;
}

/* Waits until each of @n has an event. 0 or -errno. */
static int take_all(int epoll_fd, long n)
{
        struct epoll_event ready[64];
        for (long left = n; left > 0;) {
                int k = epoll_wait(epoll_fd, ready, 64, PATIENCE_S * 1000);
                if (k <= 0)
                        return k < 0 ? -errno : -ETIMEDOUT;
                for (int i = 0; i < k; i++) {
                        int r = take(ready[i].data.ptr);
                        if (r < 0)
                                return r;
                        left -= r;
                }
        }
        return 0;
}

static int open_all(const struct setup *p, struct subscriber *subscribers, long n, int epoll_fd)
{
        for (long i = 0; i < n; i++) {
                int r = hello_open_events(p->socket_path, &subscribers[i].hello);
                if (r < 0)
                        return r;
                struct epoll_event e = {.events = EPOLLIN, .data.ptr = &subscribers[i]};
                if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, subscribers[i].hello.fd, &e) < 0)
                        return -errno;
        }
        return 0;
}

/* Tells on @out when all have subscribed, and when all have each event: a moment each time. */
static int subscribe_and_tell(const struct setup *p, long n, int out)
{
        struct subscriber *subscribers = calloc((size_t)n, sizeof(*subscribers));
        int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        int r = subscribers && epoll_fd >= 0 ? 0 : -ENOMEM;
        if (r == 0)
                r = open_all(p, subscribers, n, epoll_fd);
        for (long i = 0; i <= p->events && r == 0; i++) {
                if (i > 0)
                        r = take_all(epoll_fd, n);
                uint64_t now = now_ns();
                if (r == 0 && write(out, &now, sizeof(now)) != sizeof(now))
                        r = -EPIPE;
        }
        if (r < 0)
                fprintf(stderr, "bench-events: a subscriber: %s\n", strerror(-r));
        free(subscribers);
        return r < 0;
}

/* ---- who stores */

/* The last moment that the processes told. 0: one of them has failed. */
static uint64_t last_told(const int *pipes, long n)
{
        uint64_t last = 0;
        for (long i = 0; i < n; i++) {
                uint64_t at;
                if (read(pipes[i], &at, sizeof(at)) != sizeof(at))
                        return 0;
                if (at > last)
                        last = at;
        }
        return last;
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;
        return (*x > *y) - (*x < *y);
}

static int store_all(const struct setup *p, cached *c, const int *pipes, uint64_t *took)
{
        char key[32], value[100] = "";
        for (long i = 0; i < p->events; i++) {
                nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
                int n = snprintf(key, sizeof(key), "%ld", i);
                uint64_t start = now_ns();
                int code =
                        cached_set(c, "events", key, (size_t)n, value, sizeof(value), NULL, NULL);
                if (code != CACHED_OK)
                        return fprintf(stderr, "bench-events: %s\n", cached_strerror(code)), 1;
                uint64_t last = last_told(pipes, p->processes);
                if (last == 0)
                        return 1;
                took[i] = last > start ? last - start : 0;
        }
        return 0;
}

static int measure(const struct setup *p, const int *pipes)
{
        uint64_t *took = calloc((size_t)p->events, sizeof(*took));
        cached_options *o = cached_options_new();
        cached *c = NULL;
        int r = !took || !o || cached_options_set_socket(o, p->socket_path) != CACHED_OK ||
                cached_new(o, &c) != CACHED_OK;
        if (r == 0)
                r = last_told(pipes, p->processes) == 0 || store_all(p, c, pipes, took);
        if (r == 0) {
                size_t n = (size_t)p->events, half = n / 2, last = n - 1, p99 = last - n / 100;
                qsort(took, n, sizeof(*took), compare);
                printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
                       (double)took[half] / 1e3, (double)took[p99] / 1e3, (double)took[last] / 1e3);
        }
        cached_free(c);
        cached_options_free(o);
        free(took);
        return r;
}

/* The reading end of what a process of @n subscribers tells; negative: there is none. */
static int start(const struct setup *p, long n)
{
        int ends[2];
        if (pipe(ends) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid == 0) {
                close(ends[0]);
                _exit(subscribe_and_tell(p, n, ends[1]));
        }
        close(ends[1]);
        if (pid > 0)
                return ends[0];
        close(ends[0]);
        return -EAGAIN;
}

static bool parse(int argc, char **argv, struct setup *p)
{
        static const struct option options[] = {
                {"socket", required_argument, NULL, 's'},
                {"subscribers", required_argument, NULL, 'n'},
                {"processes", required_argument, NULL, 'p'},
                {"events", required_argument, NULL, 'e'},
                {"cpu", required_argument, NULL, 'c'},
                {NULL, 0, NULL, 0},
        };
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                long n = optarg ? strtol(optarg, NULL, 10) : 0;
                switch (opt) {
                case 's':
                        p->socket_path = optarg;
                        break;
                case 'n':
                        p->subscribers = n;
                        break;
                case 'p':
                        p->processes = n;
                        break;
                case 'e':
                        p->events = n;
                        break;
                case 'c':
                        p->cpu = n;
                        break;
                default:
                        return false;
                }
        }
        return p->socket_path && optind == argc && p->processes >= 1 &&
               p->processes <= PROCESSES_MAX && p->subscribers >= p->processes &&
               p->subscribers <= SUBSCRIBERS_MAX && p->events >= 1 && p->events <= EVENTS_MAX;
}

int main(int argc, char **argv)
{
        struct setup p = {.subscribers = 100, .processes = 4, .events = 500, .cpu = -1};
        int pipes[PROCESSES_MAX], failed = 0;
        if (!parse(argc, argv, &p)) {
                fprintf(stderr, "usage: bench-events --socket PATH [--subscribers N] "
                                "[--processes N] [--events N] [--cpu N]\n");
                return 2;
        }
        if (p.cpu >= 0) {
                cpu_set_t set;
                CPU_ZERO(&set);
                CPU_SET((size_t)p.cpu, &set);
                (void)sched_setaffinity(0, sizeof(set), &set);
        }
        for (long i = 0; i < p.processes; i++) {
                long n = p.subscribers / p.processes + (i < p.subscribers % p.processes);
                pipes[i] = start(&p, n);
                if (pipes[i] < 0) {
                        fprintf(stderr, "bench-events: %s\n", strerror(-pipes[i]));
                        p.processes = i;
                        failed = 1;
                }
        }
        if (!failed)
                failed = measure(&p, pipes);
        for (long i = 0; i < p.processes; i++)
                close(pipes[i]); /* who still tells something ends */
        for (int status; wait(&status) > 0;)
                failed |= status != 0;
        return failed;
}
