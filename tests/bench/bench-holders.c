/* SPDX-License-Identifier: MIT */
/*
 * Several processes that hold one resource; one line of JSON
 *
 *     bench-holders contend SOCKET lock|flock PROCESSES SECONDS
 *     bench-holders told SOCKET HOLDERS PROCESSES ROUNDS [CPU]
 *
 * `contend`: processes count in shared memory, each time under a lock that all of them want: that
 * of a segment, or flock(2) of a file that each has opened. A hand-over is a lock that another
 * process had before. A wait runs from asking for the lock to having it.
 *
 * `told`: each holder is a handle of its own, with a connection and a thread, in one of a few
 * processes, and has a local object that it does not use at the moment. The resource is dropped;
 * its time runs from calling cached_resource_drop() until the last holder's function for that has
 * been called.
 */
#include <cached.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"
#include "stamp.h"

#define CACHE         "bench"
#define KEY           "shared"
#define PROCESSES_MAX 16u
#define HOLDERS_MAX   1000u
#define ROUNDS_MAX    10000u
#define PAUSE_NS      1000000 /* between two rounds: each finds everybody asleep */

static void fail(const char *what, cached_reply *r)
{
        fprintf(stderr, "bench-holders: %s%s%s\n", what, r ? ": " : "",
                r ? cached_reply_error(r) : "");
        exit(1);
}

static cached *connect_to(const char *path)
{
        cached_options *o = cached_options_new();
        cached *c = NULL;
        if (!o || cached_options_set_socket(o, path) != CACHED_OK ||
            cached_options_set_mapped(o, 0) != CACHED_OK || cached_new(o, &c) != CACHED_OK)
                fail("there is no handle", NULL);
        cached_options_free(o);
        return c;
}

static void wait_for_all(void)
{
        bool is_well = true;
        for (int status; wait(&status) > 0;)
                is_well &= status == 0;
        if (!is_well)
                exit(1);
}

/* ---- contend */

/* What is counted, in memory that all see: not atomic, since the lock is to protect it. */
struct counter {
        uint64_t count, handovers, last;
};

struct result {
        uint64_t locks;
        struct hist waits;
};

/* Between the processes. */
struct race {
        atomic_uint n_ready;
        atomic_bool goes, ends;
        struct counter counter; /* of who has no segment */
        struct result results[PROCESSES_MAX];
};

/* A way to lock. */
struct contender {
        struct counter *counter;
        cached_resource *r;
        int fd; /* of a file; -1: a segment's lock */
};

static int create(cached_resource *r, void *data)
{
        (void)r, (void)data;
        return 0;
}

static struct contender contender(struct race *race, const char *path, bool is_file)
{
        struct contender x = {.fd = -1, .counter = &race->counter};
        cached_resource_options *o = cached_resource_options_new();
        cached_reply *reply = NULL;
        char lock_path[200];
        (void)snprintf(lock_path, sizeof(lock_path), "%s.bench", path);
        if (is_file) {
                x.fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                if (x.fd < 0)
                        fail("no file to lock", NULL);
                return x;
        }
        if (!o || cached_resource_options_set_create(o, create, NULL) != CACHED_OK ||
            cached_resource_acquire_segment(connect_to(path), CACHE, KEY, strlen(KEY),
                                            sizeof(*x.counter), o, &x.r, &reply) != CACHED_OK)
                fail("not acquired", reply);
        cached_reply_free(reply);
        cached_resource_options_free(o);
        x.counter = cached_resource_data(x.r);
        return x;
}

static void lock(const struct contender *x)
{
        if (x->fd >= 0 ? flock(x->fd, LOCK_EX) != 0
                       : cached_resource_lock(x->r, UINT32_MAX, NULL) != CACHED_OK)
                fail("not locked", NULL);
}

static void unlock(const struct contender *x)
{
        if (x->fd >= 0 ? flock(x->fd, LOCK_UN) != 0 : cached_resource_unlock(x->r) != CACHED_OK)
                fail("not unlocked", NULL);
}

static void count(struct race *race, unsigned me, const char *path, bool is_file)
{
        struct contender x = contender(race, path, is_file);
        struct result *result = &race->results[me];
        volatile struct counter *counter = x.counter;
        atomic_fetch_add(&race->n_ready, 1);
        while (!atomic_load(&race->goes))
                nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        while (!atomic_load(&race->ends)) {
                uint64_t start = stamp_clock_ns();
                lock(&x);
                hist_add(&result->waits, stamp_clock_ns() - start);
                if (counter->last != me + 1) {
                        counter->handovers = counter->handovers + 1;
                        counter->last = me + 1;
                }
                counter->count = counter->count + 1;
                result->locks++;
                unlock(&x);
        }
}

static void print_race(const struct race *race, const struct counter *c, unsigned n, double seconds)
{
        static struct hist all;
        uint64_t locks = 0;
        for (unsigned i = 0; i < n; i++) {
                const struct hist *h = &race->results[i].waits;
                locks += race->results[i].locks;
                all.count += h->count;
                all.max = h->max > all.max ? h->max : all.max;
                for (unsigned b = 0; b < HIST_BUCKETS; b++)
                        all.buckets[b] += h->buckets[b];
        }
        if (c->count != locks)
                fail("two had the lock at a time", NULL);
        printf("{\"locks\":%llu,\"locks_per_s\":%.1f,\"handovers_per_s\":%.1f,\"p50_us\":%.2f,"
               "\"p99_us\":%.2f,\"max_us\":%.1f}\n",
               (unsigned long long)locks, (double)locks / seconds, (double)c->handovers / seconds,
               (double)hist_quantile(&all, 500) / 1e3, (double)hist_quantile(&all, 990) / 1e3,
               (double)all.max / 1e3);
}

static void contend(const char *path, bool is_file, unsigned n, double seconds)
{
        struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (race == MAP_FAILED || n < 1 || n > PROCESSES_MAX)
                fail("not a possible number of processes", NULL);
        for (unsigned i = 0; i < n; i++)
                if (fork() == 0) {
                        alarm(60);
                        count(race, i, path, is_file);
                        _exit(0);
                }
        while (atomic_load(&race->n_ready) < n)
                nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        struct contender x = contender(race, path, is_file);
        memset(x.counter, 0, sizeof(*x.counter));
        uint64_t start = stamp_clock_ns();
        atomic_store(&race->goes, true);
        nanosleep(&(struct timespec){(time_t)seconds, (long)(1e9 * (seconds - (int)seconds))},
                  NULL);
        atomic_store(&race->ends, true);
        wait_for_all();
        print_race(race, x.counter, n, (double)(stamp_clock_ns() - start) / 1e9);
}

/* ---- told */

/* The holders of one process. */
struct holders {
        const char *path;
        unsigned n;
        int out; /* where it is told that all have it, and when the last one has heard */
        atomic_uint n_heard;
};

static void tell(const struct holders *h)
{
        uint64_t now = stamp_clock_ns();
        if (write(h->out, &now, sizeof(now)) != sizeof(now))
                _exit(1);
}

static int hear(cached_resource *r, void *data)
{
        struct holders *h = data;
        (void)r;
        if (atomic_fetch_add(&h->n_heard, 1) + 1 == h->n)
                tell(h);
        return 0;
}

static void hold(cached *c, const cached_resource_options *o)
{
        cached_resource *r = NULL;
        cached_reply *reply = NULL;
        if (cached_resource_acquire_local(c, CACHE, KEY, strlen(KEY), o, &r, &reply) != CACHED_OK)
                fail("not acquired", reply);
        cached_reply_free(reply);
        cached_resource_release(r);
}

/* Begins a round for each byte of @in; at its end all is thrown away as if it were killed. */
static void run_holders(struct holders *h, int in)
{
        cached_resource_options *o = cached_resource_options_new();
        cached **all = calloc(h->n, sizeof(*all));
        if (!o || !all || cached_resource_options_set_create(o, create, NULL) != CACHED_OK ||
            cached_resource_options_set_on_release(o, hear, h) != CACHED_OK)
                fail("no memory", NULL);
        for (unsigned i = 0; i < h->n; i++)
                all[i] = connect_to(h->path);
        for (char begin; read(in, &begin, 1) == 1;) {
                atomic_store(&h->n_heard, 0);
                for (unsigned i = 0; i < h->n; i++)
                        hold(all[i], o);
                tell(h);
        }
        _exit(0);
}

struct link {
        int in, out;
};

static struct link start(const char *path, unsigned n)
{
        int to[2], from[2];
        if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
                fail("no pipe", NULL);
        pid_t pid = fork();
        if (pid < 0)
                fail("cannot fork", NULL);
        if (pid == 0) {
                struct holders h = {.path = path, .n = n, .out = from[1]};
                close(to[1]);
                alarm(120);
                run_holders(&h, to[0]);
        }
        close(to[0]);
        close(from[1]);
        return (struct link){.in = from[0], .out = to[1]};
}

/* The last moment that the processes tell. */
static uint64_t last_told(const struct link *links, unsigned n)
{
        uint64_t last = 0;
        for (unsigned i = 0; i < n; i++) {
                uint64_t at;
                if (read(links[i].in, &at, sizeof(at)) != sizeof(at))
                        fail("a process of holders has failed", NULL);
                last = at > last ? at : last;
        }
        return last;
}

static uint64_t one_round(cached *c, const struct link *links, unsigned n, unsigned holders)
{
        cached_reply *reply = NULL;
        uint64_t told = 0;
        for (unsigned i = 0; i < n; i++)
                if (write(links[i].out, "x", 1) != 1)
                        fail("a process of holders is gone", NULL);
        (void)last_told(links, n);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        uint64_t start = stamp_clock_ns();
        if (cached_resource_drop(c, CACHE, KEY, strlen(KEY), &reply) != CACHED_OK)
                fail("not dropped", reply);
        uint64_t last = last_told(links, n);
        if (cached_reply_u64(reply, "holders", &told) != CACHED_OK || told != holders)
                fail("not all of them held it", NULL);
        cached_reply_free(reply);
        return last - start;
}

static void measure_told(const char *path, unsigned holders, unsigned n, unsigned rounds)
{
        static struct hist times;
        struct link links[PROCESSES_MAX];
        if (n < 1 || n > PROCESSES_MAX || holders < n || holders > HOLDERS_MAX ||
            rounds > ROUNDS_MAX)
                fail("not a possible number of holders, processes or rounds", NULL);
        for (unsigned i = 0; i < n; i++)
                links[i] = start(path, holders / n + (i < holders % n));
        cached *c = connect_to(path);
        for (unsigned i = 0; i < rounds; i++)
                hist_add(&times, one_round(c, links, n, holders));
        printf("{\"rounds\":%u,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n", rounds,
               (double)hist_quantile(&times, 500) / 1e3, (double)hist_quantile(&times, 990) / 1e3,
               (double)times.max / 1e3);
        for (unsigned i = 0; i < n; i++)
                close(links[i].out);
        wait_for_all();
        cached_free(c);
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
        if (argc == 6 && !strcmp(argv[1], "contend")) {
                contend(argv[2], !strcmp(argv[3], "flock"), (unsigned)atoi(argv[4]),
                        strtod(argv[5], NULL));
                return 0;
        }
        if (argc >= 6 && argc <= 7 && !strcmp(argv[1], "told")) {
                if (argc == 7)
                        pin(argv[6]);
                measure_told(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]),
                             (unsigned)atoi(argv[5]));
                return 0;
        }
        fprintf(stderr, "usage: bench-holders contend SOCKET lock|flock PROCESSES SECONDS | "
                        "told SOCKET HOLDERS PROCESSES ROUNDS [CPU]\n");
        return 2;
}
