/* SPDX-License-Identifier: MIT */
/*
 * Load driver: one connection, a sliding window of requests in flight, one line of JSON at the end
 *
 * The same loop drives every server through its backend. A reply makes room for one request, which
 * is queued at once and sent together with the others when no further reply has arrived yet. The
 * time of a request runs from when it was queued to when its reply was read, so it includes waiting
 * for its batch.
 *
 * Every run is bounded in count (--count) and in time (--seconds). It does not start servers and
 * does not compare: tests/bench/run does.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "hist.h"
#include "keys.h"

#define N_BACKENDS     5
#define MAX_WINDOW     4096
#define MAX_VALUE      (64u << 20)
#define VALUE_VARIANTS 64 /* values start at different bytes of the same buffer */

enum order { ORDER_SEQUENTIAL, ORDER_RANDOM, ORDER_FRESH };

struct plan {
        const struct backend_type *type;
        const char *socket_path;
        enum order order;
        unsigned get_percent;
        uint64_t count;
        double seconds;
        unsigned window;
        uint64_t window_bytes;
        uint64_t n_keys;
        size_t n_key;
        uint64_t size_from, size_to; /* equal: fixed; else there and back over `seconds` */
        uint64_t ttl_ms;
        uint64_t seed;
        int cpu;
};

struct slot {
        uint64_t start_ns;
        uint32_t bytes;
        bool is_get;
};

struct load {
        const struct plan *plan;
        struct backend *backend;
        uint8_t *value;
        struct slot *slots;
        uint32_t *free_slots;
        unsigned n_free;
        uint64_t bytes_in_flight;
        uint64_t issued, answered, n_fresh, random;
        uint64_t hits, misses, refused;
        uint64_t start_ns, now_ns;
        struct hist times[2]; /* of sets, of gets */
        char first_refusal[96];
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Geometric way from size_from to size_to in the first half of the time and back in the second;
 * each value differs from it by up to a quarter. */
static uint64_t value_size(struct load *l)
{
        const struct plan *p = l->plan;
        if (p->size_from == p->size_to)
                return p->size_from;
        double t = (double)(l->now_ns - l->start_ns) / 1e9 / p->seconds * 2;
        double way = t < 1 ? t : (t < 2 ? 2 - t : 0);
        double centre = (double)p->size_from * pow((double)p->size_to / (double)p->size_from, way);
        double jitter = 0.75 + (double)(keys_random(&l->random) >> 40) / (double)(1 << 25);
        uint64_t size = (uint64_t)(centre * jitter);
        if (size < p->size_from)
                return p->size_from;
        return size > p->size_to ? p->size_to : size;
}

static uint64_t pick_key(struct load *l, bool is_get)
{
        uint64_t n = l->plan->n_keys;
        switch (l->plan->order) {
        case ORDER_SEQUENTIAL:
                return l->issued % n;
        case ORDER_RANDOM:
                return keys_random(&l->random) % n;
        case ORDER_FRESH:
        default:
                if (!is_get)
                        return l->n_fresh++;
                n = l->n_fresh < n ? l->n_fresh : n;
                return l->n_fresh - 1 - keys_random(&l->random) % n;
        }
}

static int issue(struct load *l)
{
        const struct plan *p = l->plan;
        bool is_get = p->get_percent == 100 ||
                      (p->get_percent > 0 && (p->order != ORDER_FRESH || l->n_fresh > 0) &&
                       keys_random(&l->random) % 100 < p->get_percent);
        char key[KEY_MAX];
        keys_make(pick_key(l, is_get), key, p->n_key);
        uint64_t size = value_size(l);
        uint32_t tag = l->free_slots[--l->n_free];
        l->slots[tag] = (struct slot){l->now_ns, (uint32_t)size, is_get};
        l->bytes_in_flight += size;
        l->issued++;
        if (is_get)
                return l->backend->type->get(l->backend, key, p->n_key, tag);
        return l->backend->type->set(l->backend, key, p->n_key,
                                     l->value + l->issued % VALUE_VARIANTS, size, p->ttl_ms, tag);
}

static bool may_issue(const struct load *l)
{
        const struct plan *p = l->plan;
        if (l->n_free == 0 || l->issued >= p->count)
                return false;
        if ((double)(l->now_ns - l->start_ns) >= p->seconds * 1e9)
                return false;
        return l->n_free == p->window || l->bytes_in_flight < p->window_bytes;
}

static int account(struct load *l, const struct reply *r)
{
        if (r->tag >= l->plan->window)
                return -EPROTO;
        struct slot *s = &l->slots[r->tag];
        hist_add(&l->times[s->is_get], l->now_ns - s->start_ns);
        l->bytes_in_flight -= s->bytes;
        l->free_slots[l->n_free++] = (uint32_t)r->tag;
        l->answered++;
        switch (r->outcome) {
        case OUTCOME_OK:
                l->hits += s->is_get;
                if (s->is_get && l->plan->size_from == l->plan->size_to &&
                    r->n_value != l->plan->size_from) {
                        fprintf(stderr,
                                "bench-load: a value of %zu bytes came back instead of %u\n",
                                r->n_value, s->bytes);
                        return -EBADMSG;
                }
                return 0;
        case OUTCOME_MISS:
                l->misses += s->is_get;
                return s->is_get ? 0 : -EBADMSG;
        case OUTCOME_REFUSED:
                if (l->refused++ == 0)
                        memcpy(l->first_refusal, r->error, sizeof(l->first_refusal));
                return 0;
        case OUTCOME_ERROR:
        default:
                fprintf(stderr, "bench-load: the server says: %s\n", r->error);
                return -EBADMSG;
        }
}

static int run(struct load *l)
{
        l->start_ns = l->now_ns = now_ns();
        for (;;) {
                while (may_issue(l)) {
                        int e = issue(l);
                        if (e < 0)
                                return e;
                }
                if (l->answered == l->issued)
                        return 0;
                struct reply r = {.error = ""};
                int e = l->backend->type->next(l->backend, &r);
                if (e < 0)
                        return e;
                l->now_ns = now_ns();
                e = account(l, &r);
                if (e < 0)
                        return e;
        }
}

static void print_times(const char *name, const struct hist *h)
{
        printf(",\"%s\":{\"count\":%llu,\"mean_ns\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,"
               "\"p999_ns\":%llu,\"max_ns\":%llu}",
               name, (unsigned long long)h->count,
               (unsigned long long)(h->count ? h->sum / h->count : 0),
               (unsigned long long)hist_quantile(h, 500), (unsigned long long)hist_quantile(h, 990),
               (unsigned long long)hist_quantile(h, 999), (unsigned long long)h->max);
}

static void print_result(const struct load *l)
{
        double s = (double)(l->now_ns - l->start_ns) / 1e9;
        struct hist all = l->times[0];
        for (unsigned i = 0; i < HIST_BUCKETS; i++)
                all.buckets[i] += l->times[1].buckets[i];
        all.count += l->times[1].count;
        all.sum += l->times[1].sum;
        all.max = all.max > l->times[1].max ? all.max : l->times[1].max;
        printf("{\"backend\":\"%s\",\"requests\":%llu,\"seconds\":%.6f,\"ops_per_s\":%.1f,\"hits\":"
               "%llu,"
               "\"misses\":%llu,\"refused\":%llu",
               l->plan->type->name, (unsigned long long)l->answered, s, (double)l->answered / s,
               (unsigned long long)l->hits, (unsigned long long)l->misses,
               (unsigned long long)l->refused);
        print_times("all", &all);
        print_times("get", &l->times[1]);
        print_times("set", &l->times[0]);
        printf("}\n");
        if (l->refused)
                fprintf(stderr, "bench-load: %llu refused, the first one: %s\n",
                        (unsigned long long)l->refused, l->first_refusal);
}

static int load_init(struct load *l, const struct plan *p)
{
        l->plan = p;
        l->random = p->seed;
        size_t n_value = (p->size_to > p->size_from ? p->size_to : p->size_from) + VALUE_VARIANTS;
        l->value = malloc(n_value);
        l->slots = calloc(p->window, sizeof(*l->slots));
        l->free_slots = calloc(p->window, sizeof(*l->free_slots));
        if (!l->value || !l->slots || !l->free_slots)
                return -ENOMEM;
        uint64_t fill = 1; /* incompressible, the same in every run */
        for (size_t i = 0; i < n_value; i++)
                l->value[i] = (uint8_t)keys_random(&fill);
        for (unsigned i = 0; i < p->window; i++)
                l->free_slots[i] = i;
        l->n_free = p->window;
        return p->type->open(p->socket_path, p->window, &l->backend);
}

static void load_done(struct load *l)
{
        if (l->backend)
                l->backend->type->close(l->backend);
        free(l->value);
        free(l->slots);
        free(l->free_slots);
}

static const struct backend_type *const backends[N_BACKENDS] = {&backend_cached, &backend_raw,
                                                                &backend_redis, &backend_memcached,
                                                                &backend_memcached_text};

static void usage(FILE *f)
{
        fprintf(f,
                "usage: bench-load --backend B --socket PATH [OPTION…]\n"
                "  --get-percent N       of the requests, the others are sets (100)\n"
                "  --count N             requests (1000000)\n"
                "  --seconds S           no new requests after that (30)\n"
                "  --window N            requests in flight (16)\n"
                "  --window-bytes N      stop adding requests above this many value bytes (256K)\n"
                "  --keys N              different keys (100000); fresh: gets ask for the last N\n"
                "  --order O             seq, random, or fresh: each set a new key (random)\n"
                "  --key-size N          16 to 64 (32)\n"
                "  --value-size N[:M]    bytes (100); N:M moves from N to M and back over "
                "--seconds\n"
                "  --ttl-ms N            0: none (0)\n"
                "  --seed N              of the random order (1)\n"
                "  --cpu N               run on this CPU only\n"
                "backends:\n");
        for (size_t i = 0; i < N_BACKENDS; i++)
                fprintf(f, "  %-20s  %s\n", backends[i]->name, backends[i]->help);
}

enum opt {
        OPT_BACKEND = 256,
        OPT_SOCKET,
        OPT_GET_PERCENT,
        OPT_COUNT,
        OPT_SECONDS,
        OPT_WINDOW,
        OPT_WINDOW_BYTES,
        OPT_KEYS,
        OPT_ORDER,
        OPT_KEY_SIZE,
        OPT_VALUE_SIZE,
        OPT_TTL_MS,
        OPT_SEED,
        OPT_CPU,
        OPT_HELP,
};

static const struct option options[] = {
        {"backend", required_argument, NULL, OPT_BACKEND},
        {"socket", required_argument, NULL, OPT_SOCKET},
        {"get-percent", required_argument, NULL, OPT_GET_PERCENT},
        {"count", required_argument, NULL, OPT_COUNT},
        {"seconds", required_argument, NULL, OPT_SECONDS},
        {"window", required_argument, NULL, OPT_WINDOW},
        {"window-bytes", required_argument, NULL, OPT_WINDOW_BYTES},
        {"keys", required_argument, NULL, OPT_KEYS},
        {"order", required_argument, NULL, OPT_ORDER},
        {"key-size", required_argument, NULL, OPT_KEY_SIZE},
        {"value-size", required_argument, NULL, OPT_VALUE_SIZE},
        {"ttl-ms", required_argument, NULL, OPT_TTL_MS},
        {"seed", required_argument, NULL, OPT_SEED},
        {"cpu", required_argument, NULL, OPT_CPU},
        {"help", no_argument, NULL, OPT_HELP},
        {NULL, 0, NULL, 0},
};

static bool parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
        char *end;
        errno = 0;
        unsigned long long v = strtoull(s, &end, 10);
        if (errno || end == s || *end || *s == '-' || v < min || v > max)
                return false;
        *ret = v;
        return true;
}

static bool parse_sizes(const char *s, struct plan *p)
{
        char first[32];
        const char *colon = strchr(s, ':');
        if (!colon)
                return parse_u64(s, 0, MAX_VALUE, &p->size_from) &&
                       (p->size_to = p->size_from, true);
        size_t n = (size_t)(colon - s);
        if (n >= sizeof(first))
                return false;
        memcpy(first, s, n);
        first[n] = '\0';
        return parse_u64(first, 1, MAX_VALUE, &p->size_from) &&
               parse_u64(colon + 1, p->size_from, MAX_VALUE, &p->size_to);
}

static bool parse_words(int opt, const char *s, struct plan *p)
{
        static const char *const orders[] = {"seq", "random", "fresh"};
        if (opt == OPT_ORDER) {
                for (unsigned i = 0; i < 3; i++)
                        if (strcmp(s, orders[i]) == 0)
                                return p->order = (enum order)i, true;
                return false;
        }
        for (size_t i = 0; i < N_BACKENDS; i++)
                if (strcmp(s, backends[i]->name) == 0)
                        return p->type = backends[i], true;
        return false;
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        uint64_t v = 0;
        bool ok;
        switch (opt) {
        case OPT_BACKEND:
        case OPT_ORDER:
                return parse_words(opt, s, p);
        case OPT_SOCKET:
                return p->socket_path = s, true;
        case OPT_VALUE_SIZE:
                return parse_sizes(s, p);
        case OPT_SECONDS:
                p->seconds = strtod(s, NULL);
                return p->seconds > 0 && p->seconds <= 3600;
        case OPT_GET_PERCENT:
                ok = parse_u64(s, 0, 100, &v);
                return p->get_percent = (unsigned)v, ok;
        case OPT_COUNT:
                return parse_u64(s, 1, UINT64_C(1) << 40, &p->count);
        case OPT_WINDOW:
                ok = parse_u64(s, 1, MAX_WINDOW, &v);
                return p->window = (unsigned)v, ok;
        case OPT_WINDOW_BYTES:
                return parse_u64(s, 1, UINT64_C(1) << 30, &p->window_bytes);
        case OPT_KEYS:
                return parse_u64(s, 1, UINT64_C(1) << 40, &p->n_keys);
        case OPT_KEY_SIZE:
                ok = parse_u64(s, 16, KEY_MAX, &v);
                return p->n_key = v, ok;
        case OPT_TTL_MS:
                return parse_u64(s, 0, UINT64_C(1) << 40, &p->ttl_ms);
        case OPT_SEED:
                return parse_u64(s, 0, UINT64_MAX, &p->seed);
        case OPT_CPU:
                ok = parse_u64(s, 0, CPU_SETSIZE - 1, &v);
                return p->cpu = (int)v, ok;
        default:
                return false;
        }
}

static int pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

int main(int argc, char **argv)
{
        struct plan p = {.order = ORDER_RANDOM,
                         .get_percent = 100,
                         .count = 1000000,
                         .seconds = 30,
                         .window = 16,
                         .window_bytes = UINT64_C(256) << 10,
                         .n_keys = 100000,
                         .n_key = 32,
                         .size_from = 100,
                         .size_to = 100,
                         .seed = 1,
                         .cpu = -1};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == OPT_HELP)
                        return usage(stdout), 0;
                if (opt == '?')
                        return 2;
                if (!parse_option(opt, optarg, &p)) {
                        fprintf(stderr, "bench-load: not a possible value: %s\n", optarg);
                        return 2;
                }
        }
        if (optind != argc || !p.type || !p.socket_path ||
            (p.order == ORDER_FRESH && p.get_percent == 100))
                return usage(stderr), 2;
        int e = p.cpu >= 0 ? pin(p.cpu) : 0;
        struct load *l = e == 0 ? calloc(1, sizeof(*l)) : NULL;
        if (e == 0)
                e = l ? load_init(l, &p) : -ENOMEM;
        if (e == 0)
                e = run(l);
        if (e == 0)
                print_result(l);
        else
                fprintf(stderr, "bench-load: %s: %s\n", p.type->name, strerror(-e));
        if (l)
                load_done(l);
        free(l);
        return e == 0 ? 0 : 1;
}
