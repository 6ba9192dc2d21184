/* SPDX-License-Identifier: MIT */
/*
 * What leases cost, and how soon those who wait have their reply; one line of JSON
 *
 *     bench-lease cost SOCKET SECONDS [CPU]
 *     bench-lease written SOCKET N ROUNDS [CPU]
 *     bench-lease killed SOCKET ROUNDS [CPU]
 *
 * `cost`: a miss and the store that follows it, one in flight, plain and with a lease, in turns of
 * 200 on one connection. Frames are packed with protobuf-c for both.
 *
 * `written`: N connections of this one process ask for a key that nobody has; one gets the lease,
 * stores, and from the moment before it sends that, all others are looked at, again and again
 * without sleeping, until each has its reply's bytes in its socket. So no wake-up of a reader is in
 * it. The result is the time until the last one has them, for each round.
 *
 * `killed`: a process that holds a lease is killed (SIGKILL) at a random moment, every second one
 * after it forked a child that keeps its socket; the time is that from the kill until somebody
 * else, who waits for it, has it.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"
#include "hist.h"
#include "proto/cached.pb-c.h"
#include "proto/frame.h"

#define CACHE       "bench"
#define N_VALUE     100
#define TURN        200
#define MAX_CONNS   1000
#define PATIENCE_NS UINT64_C(5000000000)

struct link {
        struct hello hello;
        uint64_t id; /* of the last request */
        uint8_t in[4096];
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
        fprintf(stderr, "bench-lease: %s\n", what);
        exit(1);
}

/* ---- requests */

static void send_request(struct link *l, Cached__V1__Request *q, size_t n_body)
{
        uint8_t frame[1024] = {0};
        size_t n = cached__v1__request__get_packed_size(q);
        if (n + n_body > sizeof(frame) - FRAME_HEADER_SIZE)
                fail("a request is too long");
        frame_header_write(frame, (uint32_t)n, n_body);
        cached__v1__request__pack(q, frame + FRAME_HEADER_SIZE);
        n += FRAME_HEADER_SIZE + n_body;
        if (send(l->hello.fd, frame, n, MSG_NOSIGNAL) != (ssize_t)n)
                fail("cannot send");
}

static void send_get(struct link *l, uint64_t key, bool lease)
{
        Cached__V1__Request q = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__LeaseAsk ask = CACHED__V1__LEASE_ASK__INIT;
        ask.owner = 1;
        get.cache_id = l->hello.cache_id;
        get.key.data = (uint8_t *)&key;
        get.key.len = sizeof(key);
        get.lease = lease ? &ask : NULL;
        q.id = ++l->id;
        q.op_case = CACHED__V1__REQUEST__OP_GET;
        q.get = &get;
        send_request(l, &q, 0);
}

static void send_set(struct link *l, uint64_t key, uint64_t lease_id)
{
        Cached__V1__Request q = CACHED__V1__REQUEST__INIT;
        Cached__V1__Set set = CACHED__V1__SET__INIT;
        set.cache_id = l->hello.cache_id;
        set.key.data = (uint8_t *)&key;
        set.key.len = sizeof(key);
        set.lease_id = lease_id;
        q.id = ++l->id;
        q.op_case = CACHED__V1__REQUEST__OP_SET;
        q.set = &set;
        send_request(l, &q, N_VALUE);
}

/* To be freed. */
static Cached__V1__Reply *receive(struct link *l)
{
        for (size_t have = 0;;) {
                if (have >= FRAME_HEADER_SIZE) {
                        struct frame_header h = frame_header_read(l->in);
                        if (have >= FRAME_HEADER_SIZE + h.n_message + h.n_body) {
                                Cached__V1__Reply *r =
                                        cached__v1__reply__unpack(NULL, h.n_message,
                                                                  l->in + FRAME_HEADER_SIZE);
                                if (!r)
                                        fail("a reply makes no sense");
                                return r;
                        }
                }
                ssize_t n = recv(l->hello.fd, l->in + have, sizeof(l->in) - have, 0);
                if (n <= 0)
                        fail("the connection broke");
                have += (size_t)n;
        }
}

/* The lease that came with a miss; 0 where none was asked for. */
static uint64_t receive_miss(struct link *l, bool lease)
{
        Cached__V1__Reply *r = receive(l);
        uint64_t id = r->lease ? r->lease->lease_id : 0;
        if (r->status != CACHED__V1__STATUS__NOT_FOUND || (id != 0) != lease)
                fail("a miss is not answered as one");
        cached__v1__reply__free_unpacked(r, NULL);
        return id;
}

static void receive_ok(struct link *l)
{
        Cached__V1__Reply *r = receive(l);
        if (r->status != CACHED__V1__STATUS__OK)
                fail(r->error);
        cached__v1__reply__free_unpacked(r, NULL);
}

/* ---- cost */

static uint64_t one_pair(struct link *l, uint64_t key, bool lease)
{
        uint64_t start = now_ns();
        send_get(l, key, lease);
        send_set(l, key, receive_miss(l, lease));
        receive_ok(l);
        return now_ns() - start;
}

static void measure_cost(const char *path, double seconds)
{
        static struct hist times[2];
        static struct link l;
        uint64_t key = now_ns() << 20, until = now_ns() + (uint64_t)(seconds * 1e9);
        if (hello_open(path, CACHE, false, &l.hello) < 0)
                fail("cannot connect");
        l.id = 2;
        while (now_ns() < until)
                for (unsigned way = 0; way < 2; way++)
                        for (unsigned i = 0; i < TURN; i++)
                                hist_add(&times[way], one_pair(&l, key++, way == 1));
        printf("{\"pairs\":%llu,\"plain_p50_us\":%.2f,\"lease_p50_us\":%.2f}\n",
               (unsigned long long)times[1].count, (double)hist_quantile(&times[0], 500) / 1e3,
               (double)hist_quantile(&times[1], 500) / 1e3);
        hello_done(&l.hello);
}

/* ---- written */

/* From before the store is sent until all others have something to read. */
static uint64_t watch(struct link *links, unsigned n, uint64_t key, uint64_t lease_id)
{
        uint64_t start = now_ns();
        send_set(&links[0], key, lease_id);
        for (unsigned i = 1; i < n; i++) {
                int bytes = 0;
                while (bytes == 0 && now_ns() - start < PATIENCE_NS)
                        if (ioctl(links[i].hello.fd, FIONREAD, &bytes) < 0)
                                fail("cannot look into a socket");
                if (bytes == 0)
                        fail("a waiter was not answered");
        }
        return now_ns() - start;
}

static void measure_written(const char *path, unsigned n, unsigned rounds)
{
        static struct link links[MAX_CONNS];
        uint64_t key = now_ns() << 20;
        if (n < 2 || n > MAX_CONNS)
                fail("not a possible number of connections");
        for (unsigned i = 0; i < n; i++) {
                if (hello_open(path, CACHE, false, &links[i].hello) < 0)
                        fail("cannot connect");
                links[i].id = 2;
        }
        printf("{\"last_us\":[");
        for (unsigned round = 0; round < rounds; round++, key++) {
                send_get(&links[0], key, true);
                uint64_t lease_id = receive_miss(&links[0], true);
                for (unsigned i = 1; i < n; i++)
                        send_get(&links[i], key, true);
                /* All of them wait: what is asked for behind them has been answered. */
                for (unsigned i = 1; i < n; i++) {
                        send_get(&links[i], ~key, false);
                        (void)receive_miss(&links[i], false);
                }
                printf("%s%.1f", round ? "," : "", (double)watch(links, n, key, lease_id) / 1e3);
                for (unsigned i = 0; i < n; i++)
                        receive_ok(&links[i]);
        }
        printf("]}\n");
        for (unsigned i = 0; i < n; i++)
                hello_done(&links[i].hello);
}

/* ---- killed */

struct holder {
        pid_t pid, child; /* the latter has a copy of the former's socket; 0: there is none */
};

/* Takes the lease, tells so through @out, and holds it. */
static void hold(const char *path, uint64_t key, bool forks, int out)
{
        static struct link l;
        pid_t child = 0;
        if (hello_open(path, CACHE, false, &l.hello) < 0)
                _exit(1);
        l.id = 2;
        send_get(&l, key, true);
        (void)receive_miss(&l, true);
        if (forks)
                child = fork();
        if (!(forks && child == 0) && write(out, &child, sizeof(child)) != sizeof(child))
                _exit(1);
        alarm(10);
        for (;;)
                pause();
}

static struct holder start_holder(const char *path, uint64_t key, bool forks)
{
        struct holder h = {0};
        int pipe_fds[2];
        if (pipe(pipe_fds) < 0)
                fail("no pipe");
        h.pid = fork();
        if (h.pid < 0)
                fail("cannot fork");
        if (h.pid == 0)
                hold(path, key, forks, pipe_fds[1]);
        close(pipe_fds[1]);
        if (read(pipe_fds[0], &h.child, sizeof(h.child)) != sizeof(h.child))
                fail("a holder has no lease");
        close(pipe_fds[0]);
        return h;
}

/* Asleep: who spins keeps a processor from the one that is to die. */
static void wait_for_bytes(struct link *l)
{
        struct pollfd p = {.fd = l->hello.fd, .events = POLLIN};
        if (poll(&p, 1, (int)(PATIENCE_NS / 1000000)) != 1)
                fail("who waits was not given the lease");
}

static uint64_t one_death(const char *path, struct link *l, uint64_t key, bool forks)
{
        struct holder h = start_holder(path, key, forks);
        send_get(l, key, true);
        nanosleep(&(struct timespec){.tv_nsec = (long)(now_ns() % 3000) * 1000}, NULL);
        uint64_t start = now_ns();
        kill(h.pid, SIGKILL);
        wait_for_bytes(l);
        uint64_t took = now_ns() - start;
        send_set(l, key, receive_miss(l, true));
        receive_ok(l);
        if (h.child > 0)
                kill(h.child, SIGKILL);
        waitpid(h.pid, NULL, 0);
        return took;
}

static void measure_killed(const char *path, unsigned rounds)
{
        static struct hist times;
        static struct link l;
        uint64_t key = now_ns() << 20;
        if (hello_open(path, CACHE, false, &l.hello) < 0)
                fail("cannot connect");
        l.id = 2;
        for (unsigned i = 0; i < rounds; i++)
                hist_add(&times, one_death(path, &l, key++, i % 2 == 1));
        printf("{\"deaths\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
               (unsigned long long)times.count, (double)hist_quantile(&times, 500) / 1e3,
               (double)hist_quantile(&times, 990) / 1e3, (double)times.max / 1e3);
        hello_done(&l.hello);
}

static void pin(const char *cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(atoi(cpu), &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
        if (argc >= 4 && argc <= 5 && !strcmp(argv[1], "cost")) {
                if (argc == 5)
                        pin(argv[4]);
                measure_cost(argv[2], strtod(argv[3], NULL));
                return 0;
        }
        if (argc >= 5 && argc <= 6 && !strcmp(argv[1], "written")) {
                if (argc == 6)
                        pin(argv[5]);
                measure_written(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
                return 0;
        }
        if (argc >= 4 && argc <= 5 && !strcmp(argv[1], "killed")) {
                if (argc == 5)
                        pin(argv[4]);
                measure_killed(argv[2], (unsigned)atoi(argv[3]));
                return 0;
        }
        fprintf(stderr,
                "usage: bench-lease cost SOCKET SECONDS [CPU] | written SOCKET N ROUNDS [CPU] | "
                "killed SOCKET ROUNDS [CPU]\n");
        return 2;
}
