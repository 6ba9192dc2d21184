/* SPDX-License-Identifier: MIT */
/*
 * What a resource costs a process that uses it; one line of JSON
 *
 *     bench-resource acquire SOCKET KIND SIZE SECONDS PAUSE_US [CPU]
 *     bench-resource lock SOCKET KIND SECONDS [CPU]
 *     bench-resource hold SOCKET SIZE fill|read|write
 *
 * KIND is segment, socket (an end of a Unix socket pair) or file. All calls are libcached's, over
 * one handle, one at a time.
 *
 * `acquire`: getting an instance that is there, in turns: of which the process has nothing, so that
 * its descriptor comes along and is mapped, and of which it has one use already. A round trip, a
 * get over the socket, goes before each, of which the time is taken. Before both, with a pause,
 * neither side has had anything to do for so long, and both sleep; without one there is another
 * get, so that the daemon has nothing else to do meanwhile. A segment is full of bytes. Giving it
 * back is timed apart.
 *
 * `lock`: locking and unlocking what nobody else wants. Of segments in turns: 256 of them are
 * locked one after the other and then unlocked, and one of them is locked and unlocked as often. Of
 * a descriptor with a get before each lock.
 *
 * `hold`: makes a segment and fills it, or reads every page of one that is there, or also writes
 * every sixteenth of them; prints a line, and keeps it until its input ends.
 */
#include <cached.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hist.h"
#include "stamp.h"

#define CACHE    "bench"
#define TRIP     "round trip"
#define TURN     50
#define PAGE     4096
#define SEGMENTS 256

enum kind { SEGMENT, SOCKET, A_FILE, N_KINDS };

static const char *const kinds[N_KINDS] = {"segment", "socket", "file"};

struct wanted {
        cached *c;
        enum kind kind;
        size_t size;
        char key[100];
};

static void fail(const char *what, cached_reply *r)
{
        fprintf(stderr, "bench-resource: %s%s%s\n", what, r ? ": " : "",
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

/* ---- the object */

static int open_socket(void)
{
        int ends[2];
        /* The other end stays open as long as the process does. */
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? -1 : ends[0];
}

static int open_file(void)
{
        FILE *f = tmpfile();
        return f ? dup(fileno(f)) : -1;
}

static int create(cached_resource *r, void *data)
{
        const struct wanted *w = data;
        switch (w->kind) {
        case SEGMENT:
                memset(cached_resource_data(r), 'x', cached_resource_size(r));
                return 0;
        case SOCKET:
                return cached_resource_give_fd(r, open_socket());
        default:
                return cached_resource_give_fd(r, open_file());
        }
}

static cached_resource *get(struct wanted *w, const cached_resource_options *o)
{
        cached_resource *r = NULL;
        cached_reply *reply = NULL;
        int code = w->kind == SEGMENT
                           ? cached_resource_acquire_segment(w->c, CACHE, w->key, strlen(w->key),
                                                             w->size, o, &r, &reply)
                           : cached_resource_acquire_descriptor(w->c, CACHE, w->key, strlen(w->key),
                                                                o, &r, &reply);
        if (code != CACHED_OK)
                fail("not acquired", reply);
        cached_reply_free(reply);
        return r;
}

static cached_resource *make(struct wanted *w)
{
        cached_resource_options *o = cached_resource_options_new();
        if (!o || cached_resource_options_set_create(o, create, w) != CACHED_OK)
                fail("no memory", NULL);
        cached_resource *r = get(w, o);
        cached_resource_options_free(o);
        return r;
}

static struct wanted wanted(const char *path, const char *kind, const char *size)
{
        struct wanted w = {.size = strtoull(size, NULL, 10)};
        while (w.kind < N_KINDS && strcmp(kinds[w.kind], kind) != 0)
                w.kind++;
        if (w.kind == N_KINDS)
                fail("no such kind", NULL);
        w.c = connect_to(path);
        if (cached_set(w.c, CACHE, TRIP, strlen(TRIP), w.key, 100, NULL, NULL) != CACHED_OK)
                fail("nothing can be stored", NULL);
        (void)snprintf(w.key, sizeof(w.key), "%s of %zu", kind, w.size);
        return w;
}

/* ---- acquire */

/* A round trip: a look-up of 100 bytes that asks the daemon. */
static uint64_t time_get(cached *c)
{
        uint64_t start = stamp_clock_ns();
        cached_reply *reply = NULL;
        if (cached_get(c, CACHE, TRIP, strlen(TRIP), &reply) != CACHED_OK)
                fail("no answer", reply);
        (void)cached_reply_value(reply, NULL);
        cached_reply_free(reply);
        return stamp_clock_ns() - start;
}

struct times {
        struct hist trip, acquire, release;
};

static void be_quiet(struct wanted *w, unsigned us)
{
        if (us > 0)
                nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
        else
                (void)time_get(w->c);
}

static void one_use(struct wanted *w, struct times *t, unsigned pause_us)
{
        be_quiet(w, pause_us);
        hist_add(&t->trip, time_get(w->c));
        be_quiet(w, pause_us);
        uint64_t start = stamp_clock_ns();
        cached_resource *r = get(w, NULL);
        uint64_t got = stamp_clock_ns();
        cached_resource_release(r);
        hist_add(&t->release, stamp_clock_ns() - got);
        hist_add(&t->acquire, got - start);
}

static double p50_us(const struct hist *h)
{
        return (double)hist_quantile(h, 500) / 1e3;
}

static void print_times(const char *name, const struct times *t)
{
        printf("\"%s\":{\"uses\":%llu,\"trip_us\":%.3f,\"acquire_us\":%.3f,\"release_us\":%.3f}",
               name, (unsigned long long)t->acquire.count, p50_us(&t->trip), p50_us(&t->acquire),
               p50_us(&t->release));
}

static void measure_acquire(const char *path, const char *kind, const char *size, double seconds,
                            unsigned pause_us)
{
        static struct times fresh, again;
        struct wanted w = wanted(path, kind, size);
        uint64_t until;
        cached_resource_release(make(&w));
        until = stamp_clock_ns() + (uint64_t)(seconds * 1e9);
        while (stamp_clock_ns() < until) {
                for (unsigned i = 0; i < TURN; i++)
                        one_use(&w, &fresh, pause_us);
                cached_resource *r = get(&w, NULL);
                for (unsigned i = 0; i < TURN; i++)
                        one_use(&w, &again, pause_us);
                cached_resource_release(r);
        }
        printf("{");
        print_times("fresh", &fresh);
        printf(",");
        print_times("again", &again);
        printf("}\n");
        cached_free(w.c);
}

/* ---- lock */

static void lock(cached_resource *r)
{
        if (cached_resource_lock(r, UINT32_MAX, NULL) != CACHED_OK)
                fail("not locked", NULL);
}

static void unlock(cached_resource *r)
{
        if (cached_resource_unlock(r) != CACHED_OK)
                fail("not unlocked", NULL);
}

/* Each of them once, so that a clock between two calls need not be in the figure. */
static void lock_segments(cached_resource **all, double seconds)
{
        static struct hist locked, unlocked, pairs;
        uint64_t until = stamp_clock_ns() + (uint64_t)(seconds * 1e9);
        while (stamp_clock_ns() < until) {
                uint64_t start = stamp_clock_ns();
                for (unsigned i = 0; i < SEGMENTS; i++)
                        lock(all[i]);
                uint64_t between = stamp_clock_ns();
                for (unsigned i = 0; i < SEGMENTS; i++)
                        unlock(all[i]);
                uint64_t end = stamp_clock_ns();
                hist_add(&locked, between - start);
                hist_add(&unlocked, end - between);
                start = stamp_clock_ns();
                for (unsigned i = 0; i < SEGMENTS; i++) {
                        lock(all[0]);
                        unlock(all[0]);
                }
                hist_add(&pairs, stamp_clock_ns() - start);
        }
        printf("{\"turns\":%llu,\"lock_ns\":%.1f,\"unlock_ns\":%.1f,\"pair_ns\":%.1f}\n",
               (unsigned long long)pairs.count, (double)hist_quantile(&locked, 500) / SEGMENTS,
               (double)hist_quantile(&unlocked, 500) / SEGMENTS,
               (double)hist_quantile(&pairs, 500) / SEGMENTS);
}

static void lock_descriptor(cached *c, cached_resource *r, double seconds)
{
        static struct hist trip, locked, unlocked;
        uint64_t until = stamp_clock_ns() + (uint64_t)(seconds * 1e9);
        while (stamp_clock_ns() < until) {
                hist_add(&trip, time_get(c));
                uint64_t start = stamp_clock_ns();
                lock(r);
                uint64_t got = stamp_clock_ns();
                unlock(r);
                hist_add(&unlocked, stamp_clock_ns() - got);
                hist_add(&locked, got - start);
        }
        printf("{\"pairs\":%llu,\"trip_us\":%.3f,\"lock_us\":%.3f,\"unlock_us\":%.3f}\n",
               (unsigned long long)locked.count, p50_us(&trip), p50_us(&locked), p50_us(&unlocked));
}

static void measure_lock(const char *path, const char *kind, double seconds)
{
        cached_resource *all[SEGMENTS] = {0};
        struct wanted w = wanted(path, kind, "4096");
        unsigned n = w.kind == SEGMENT ? SEGMENTS : 1;
        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(w.key, sizeof(w.key), "%s to be locked, %u", kind, i);
                all[i] = make(&w);
        }
        if (w.kind == SEGMENT)
                lock_segments(all, seconds);
        else
                lock_descriptor(w.c, all[0], seconds);
        for (unsigned i = 0; i < n; i++)
                cached_resource_release(all[i]);
        cached_free(w.c);
}

/* ---- hold */

static void hold(const char *path, const char *size, const char *what)
{
        struct wanted w = wanted(path, "segment", size);
        cached_resource *r = strcmp(what, "fill") == 0 ? make(&w) : get(&w, NULL);
        volatile char *data = cached_resource_data(r);
        size_t n = cached_resource_size(r);
        bool writes = strcmp(what, "write") == 0;
        for (size_t at = 0; at < n; at += PAGE) {
                if (writes && at / PAGE % 16 == 0)
                        data[at] = 'x';
                else if (data[at] != 'x')
                        fail("a page is not what was written", NULL);
        }
        puts("");
        (void)fflush(stdout);
        while (getchar() != EOF)
                ;
        cached_resource_release(r);
        cached_free(w.c);
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
        if (argc >= 7 && argc <= 8 && !strcmp(argv[1], "acquire")) {
                if (argc == 8)
                        pin(argv[7]);
                measure_acquire(argv[2], argv[3], argv[4], strtod(argv[5], NULL),
                                (unsigned)atoi(argv[6]));
                return 0;
        }
        if (argc >= 5 && argc <= 6 && !strcmp(argv[1], "lock")) {
                if (argc == 6)
                        pin(argv[5]);
                measure_lock(argv[2], argv[3], strtod(argv[4], NULL));
                return 0;
        }
        if (argc == 5 && !strcmp(argv[1], "hold")) {
                hold(argv[2], argv[3], argv[4]);
                return 0;
        }
        fprintf(stderr, "usage: bench-resource acquire SOCKET KIND SIZE SECONDS PAUSE_US [CPU] | "
                        "lock SOCKET "
                        "KIND SECONDS [CPU] | hold SOCKET SIZE fill|read|write\n");
        return 2;
}
