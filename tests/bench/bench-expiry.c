/* SPDX-License-Identifier: MIT */
/*
 * How late the bytes of expired entries come back
 *
 * Stores entries whose deadlines lie evenly apart (100,000 of them a second), then asks again and
 * again how much is still charged. All entries are charged alike and leave in the order of their
 * deadlines, so the charge tells which deadline was served last, and the clock how long ago that
 * is: the lag. Beside the charge, which is what the daemon says, the memory that the kernel has
 * given to it is watched: its anonymous pages and the blocks of its memory files.
 *
 * A deadline is exact to about a millisecond here: TTLs are whole milliseconds, counted from when
 * the daemon handles the request.
 */
#include <cached.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keys.h"

#define CACHE       "expiry"
#define N_KEY       16
#define N_VALUE     100
#define ENTRY_BYTES (20 + N_KEY + N_VALUE)               /* PROTOCOL.md: n */
#define CHARGE      (ENTRY_BYTES + ENTRY_BYTES / 8 + 56) /* PROTOCOL.md: the charge of one entry */
#define IN_FLIGHT   256
#define LEAD_MS     5000 /* from the first store to the first deadline */
#define AFTER_MS    2000 /* how long to watch after the last one */
#define PAUSE_NS    2000000

struct run {
        cached *handle;
        uint64_t count, rate, pid, start_ns;
        double lag_max_ms;
        double lag_sum_ms;
        uint64_t samples;
        uint64_t memory_before, memory_full, memory_after;
        double memory_back_ms; /* after the last deadline; negative: not seen */
        uint64_t charged_before, charged_after;
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static double since_start_ms(const struct run *r)
{
        return (double)(now_ns() - r->start_ns) / 1e6;
}

static double deadline_ms(const struct run *r, uint64_t i)
{
        return LEAD_MS + (double)i * 1000 / (double)r->rate;
}

static uint64_t rss_anon(uint64_t pid)
{
        char path[64], line[256];
        snprintf(path, sizeof(path), "/proc/%llu/status", (unsigned long long)pid);
        FILE *f = fopen(path, "re");
        uint64_t kib = 0;
        while (f && kib == 0 && fgets(line, sizeof(line), f))
                if (strncmp(line, "RssAnon:", 8) == 0)
                        kib = strtoull(line + 8, NULL, 10);
        if (f)
                fclose(f);
        return kib * 1024;
}

/* Anonymous pages, and the blocks of every memory file that is open. */
static uint64_t memory_of(uint64_t pid)
{
        char path[64];
        snprintf(path, sizeof(path), "/proc/%llu/fd", (unsigned long long)pid);
        uint64_t n = rss_anon(pid);
        DIR *d = opendir(path);
        for (struct dirent *e; d && (e = readdir(d));) {
                char target[256];
                struct stat st;
                ssize_t k = readlinkat(dirfd(d), e->d_name, target, sizeof(target));
                if (k > 7 && memcmp(target, "/memfd:", 7) == 0 &&
                    fstatat(dirfd(d), e->d_name, &st, 0) == 0)
                        n += (uint64_t)st.st_blocks * 512;
        }
        if (d)
                closedir(d);
        return n;
}

static int failed(const char *what, int code)
{
        fprintf(stderr, "bench-expiry: %s: %s\n", what, cached_strerror(code));
        return -1;
}

static int charged(const struct run *r, uint64_t *ret)
{
        cached_reply *reply = NULL;
        int code = cached_stats(r->handle, NULL, &reply);
        if (code == CACHED_OK)
                code = cached_reply_u64(reply, "realm.bytes_charged", ret);
        cached_reply_free(reply);
        return code == CACHED_OK ? 0 : failed("stats", code);
}

static int take(cached_pipeline *p, size_t in_flight)
{
        while (cached_pipeline_in_flight(p) > in_flight) {
                uint64_t tag;
                int code = cached_pipeline_next(p, &tag, NULL);
                if (code != CACHED_OK)
                        return failed("set", code);
        }
        return 0;
}

static int store_one(const struct run *r, cached_pipeline *p, cached_set_options *o, uint64_t i)
{
        static const char value[N_VALUE] = "value";
        char key[N_KEY];
        keys_make(i, key, sizeof(key));
        double left = deadline_ms(r, i) - since_start_ms(r);
        if (left < 1) {
                fprintf(stderr,
                        "bench-expiry: stores are slower than %llu a second: deadlines passed\n",
                        (unsigned long long)r->rate);
                return -1;
        }
        int code = cached_set_options_set_ttl_ms(o, (uint64_t)left);
        if (code == CACHED_OK)
                code = cached_pipeline_set(p, CACHE, key, sizeof(key), value, sizeof(value), o, i);
        if (code != CACHED_OK)
                return failed("set", code);
        return take(p, IN_FLIGHT - 1);
}

static int store_all(struct run *r)
{
        cached_pipeline *p = cached_pipeline_new(r->handle);
        cached_set_options *o = cached_set_options_new();
        int e = p && o ? 0 : failed("memory", CACHED_ERR_NOMEM);
        r->start_ns = now_ns();
        for (uint64_t i = 0; e == 0 && i < r->count; i++)
                e = store_one(r, p, o, i);
        if (e == 0)
                e = take(p, 0);
        cached_set_options_free(o);
        cached_pipeline_free(p);
        return e;
}

static int sample_lag(struct run *r)
{
        double at = since_start_ms(r);
        uint64_t now_charged;
        if (charged(r, &now_charged) < 0)
                return -1;
        r->charged_after = now_charged;
        uint64_t more = now_charged > r->charged_before ? now_charged - r->charged_before : 0;
        uint64_t left = (more + CHARGE - 1) / CHARGE;
        if (left > r->count) {
                fprintf(stderr, "bench-expiry: more is charged than was stored\n");
                return -1;
        }
        double lag = left ? at - deadline_ms(r, r->count - left) : 0;
        r->samples++;
        if (lag > 0) {
                r->lag_sum_ms += lag;
                if (lag > r->lag_max_ms)
                        r->lag_max_ms = lag;
        }
        return 0;
}

static int watch(struct run *r)
{
        r->memory_full = memory_of(r->pid);
        r->memory_back_ms = -1;
        double last = deadline_ms(r, r->count - 1);
        uint64_t back = r->memory_before + (r->memory_full - r->memory_before) / 10;
        for (double at; (at = since_start_ms(r)) < last + AFTER_MS;) {
                if (sample_lag(r) < 0)
                        return -1;
                r->memory_after = memory_of(r->pid);
                if (at > last && r->memory_back_ms < 0 && r->memory_after <= back)
                        r->memory_back_ms = at - last;
                nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
        }
        return 0;
}

static int measure(struct run *r)
{
        r->memory_before = memory_of(r->pid);
        if (charged(r, &r->charged_before) < 0 || store_all(r) < 0 || watch(r) < 0)
                return -1;
        printf("{\"count\":%llu,\"rate\":%llu,\"samples\":%llu,\"lag_max_ms\":%.3f,\"lag_mean_ms\":"
               "%.3f,"
               "\"charged_left\":%llu,\"memory_before\":%llu,\"memory_full\":%llu,\"memory_after\":"
               "%llu,"
               "\"memory_back_ms\":%.1f}\n",
               (unsigned long long)r->count, (unsigned long long)r->rate,
               (unsigned long long)r->samples, r->lag_max_ms,
               r->lag_sum_ms / (double)(r->samples ? r->samples : 1),
               (unsigned long long)(r->charged_after - r->charged_before),
               (unsigned long long)r->memory_before, (unsigned long long)r->memory_full,
               (unsigned long long)r->memory_after, r->memory_back_ms);
        return 0;
}

static int parse(int argc, char **argv, struct run *r, cached_options *o)
{
        static const struct option options[] = {
                {"socket", required_argument, NULL, 's'}, {"pid", required_argument, NULL, 'p'},
                {"count", required_argument, NULL, 'n'},  {"rate", required_argument, NULL, 'r'},
                {"cpu", required_argument, NULL, 'c'},    {NULL, 0, NULL, 0},
        };
        bool has_socket = false;
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                uint64_t v = optarg ? strtoull(optarg, NULL, 10) : 0;
                cpu_set_t set;
                CPU_ZERO(&set);
                switch (opt) {
                case 's':
                        has_socket = cached_options_set_socket(o, optarg) == CACHED_OK;
                        break;
                case 'p':
                        r->pid = v;
                        break;
                case 'n':
                        r->count = v;
                        break;
                case 'r':
                        r->rate = v;
                        break;
                case 'c':
                        CPU_SET(v % CPU_SETSIZE, &set);
                        sched_setaffinity(0, sizeof(set), &set);
                        break;
                default:
                        return -1;
                }
        }
        return has_socket && r->pid && r->count && r->rate && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
        struct run r = {.count = 1000000, .rate = 100000};
        cached_options *o = cached_options_new();
        int status = 1;
        if (!o || parse(argc, argv, &r, o) < 0) {
                fprintf(stderr, "usage: bench-expiry --socket PATH --pid PID [--count N] [--rate "
                                "N] [--cpu N]\n");
                status = 2;
        } else if (cached_new(o, &r.handle) != CACHED_OK) {
                failed("memory", CACHED_ERR_NOMEM);
        } else if (measure(&r) == 0) {
                status = 0;
        }
        cached_free(r.handle);
        cached_options_free(o);
        return status;
}
