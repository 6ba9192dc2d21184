/* SPDX-License-Identifier: MIT */
/*
 * Two processes that look keys up, or one beside a writer, in slots of time; one line of JSON
 *
 *     --mode readers   each alone, then both at once
 *     --mode stores    the reader alone, then while stores come in at an even rate, in batches
 *
 * What is compared is some ten milliseconds apart and takes turns many times, since a machine is
 * not the same for seconds. Both processes go by the clock: a slot has a number, and its number
 * says who does what in it, first with the mapped hits of libcached, then with the bare loop. The
 * first part of a slot is not counted: whoever was asleep wakes up in it, and the daemon takes over
 * what the slot before left.
 *
 * Each reader is pinned to a CPU of its own; the writer and the daemon share the other one.
 */
#include <cached.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hits.h"
#include "keys.h"
#include "stamp.h"

#define SLOT_NS    UINT64_C(50000000)
#define SETTLE_NS  UINT64_C(10000000)
#define SLOTS_MAX  2400
#define TURN       250
#define N_TYPES    2 /* the mapped hits, the bare loop */
#define BATCH_NS   1000000
#define BATCH_MAX  4096
#define VALUE_SIZE 100

struct slot {
        uint64_t calls, ns; /* of look-ups; stores have calls only */
};

/* Written by both children, read by the parent at the end. */
struct shared {
        _Atomic unsigned n_ready;
        _Atomic bool go;
        uint64_t start_ns; /* before go */
        int errors[2];
        struct slot slots[2][SLOTS_MAX];
};

struct plan {
        const char *socket_path;
        bool is_stores;
        double seconds;
        uint64_t n_keys, rate, seed;
        int cpus[2];
};

/*
 * Who takes part in a slot: bit 0 the first process, bit 1 the second. Nobody is busy in all slots:
 * the kernel stops real-time processes that never sleep for a while in each second.
 */
struct part {
        unsigned type, who;
};

static const struct part parts_readers[] = {{0, 1}, {1, 1}, {0, 2}, {1, 2}, {0, 3}, {1, 3}};
static const struct part parts_stores[] = {{0, 1}, {1, 1}, {0, 3}, {1, 3}, {0, 0}};

static unsigned n_parts(const struct plan *p)
{
        return p->is_stores ? 5 : 6;
}

static struct part part_of(const struct plan *p, unsigned slot)
{
        return (p->is_stores ? parts_stores : parts_readers)[slot % n_parts(p)];
}

static unsigned n_slots(const struct plan *p)
{
        unsigned n = (unsigned)(p->seconds * 1e9 / (double)SLOT_NS);
        n = n < SLOTS_MAX ? n : SLOTS_MAX;
        return n - n % n_parts(p);
}

static void sleep_until(uint64_t ns)
{
        struct timespec ts = {(time_t)(ns / UINT64_C(1000000000)),
                              (long)(ns % UINT64_C(1000000000))};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
                ;
}

/* ---------------------------------------------------------------------------------------- reader
 */

struct reader {
        const struct plan *plan;
        struct hits *ways[N_TYPES];
        uint64_t random;
        uint64_t keys_ns; /* what making the keys of a turn takes, undisturbed */
        char keys[TURN][HITS_KEY];
};

static const struct hits_type *const types[N_TYPES] = {&hits_cached, &hits_bare};

static void make_keys(struct reader *r)
{
        for (unsigned k = 0; k < TURN; k++)
                keys_make(keys_random(&r->random) % r->plan->n_keys, r->keys[k], HITS_KEY);
}

static uint64_t time_of_keys(struct reader *r)
{
        uint64_t best = UINT64_MAX;
        for (unsigned i = 0; i < 200; i++) {
                uint64_t start = stamp_clock_ns();
                make_keys(r);
                uint64_t ns = stamp_clock_ns() - start;
                best = ns < best ? ns : best;
        }
        return best;
}

static int reader_open(struct reader *r)
{
        int e = 0;
        for (unsigned i = 0; i < N_TYPES && e == 0; i++)
                e = types[i]->open(r->plan->socket_path, &r->ways[i]);
        /* Pages are mapped before the clock starts. */
        for (unsigned i = 0; i < N_TYPES && e == 0; i++)
                for (uint64_t at = 0; at + TURN <= r->plan->n_keys && e >= 0; at += TURN) {
                        for (unsigned k = 0; k < TURN; k++)
                                keys_make(at + k, r->keys[k], HITS_KEY);
                        e = types[i]->run(r->ways[i], TURN, r->keys, NULL) == TURN ? 0 : -ENOENT;
                }
        r->keys_ns = time_of_keys(r);
        return e;
}

/*
 * All time counts but what making the keys takes when nobody disturbs it: whatever else this
 * processor does meanwhile, also between two turns, is the look-ups' loss. While stores are under
 * way a bare look-up may miss.
 */
static int reader_slot(struct reader *r, struct part part, uint64_t until_ns, struct slot *s)
{
        uint64_t counted_ns = until_ns - SLOT_NS + SETTLE_NS, start = 0;
        for (uint64_t now = stamp_clock_ns(); now < until_ns;) {
                make_keys(r);
                int found = types[part.type]->run(r->ways[part.type], TURN, r->keys, NULL);
                now = stamp_clock_ns();
                if (found < 0 || (found < TURN && part.type == 0))
                        return found < 0 ? found : -ENOENT;
                if (start != 0) {
                        s->calls += TURN;
                        s->ns = now - start;
                } else if (now >= counted_ns) {
                        start = now;
                }
        }
        uint64_t keys_ns = s->calls / TURN * r->keys_ns;
        s->ns = s->ns > keys_ns ? s->ns - keys_ns : 0;
        return 0;
}

static void reader_close(struct reader *r)
{
        for (unsigned i = 0; i < N_TYPES; i++)
                if (r->ways[i])
                        types[i]->close(r->ways[i]);
}

/* ---------------------------------------------------------------------------------------- writer
 */

struct writer {
        const struct plan *plan;
        cached *handle;
        cached_set_options *options;
        uint64_t random;
        unsigned batch;
        char keys[BATCH_MAX][HITS_KEY];
        const void *key[BATCH_MAX], *value[BATCH_MAX];
        size_t n_key[BATCH_MAX], n_value[BATCH_MAX];
        uint8_t bytes[VALUE_SIZE];
};

static int writer_open(struct writer *w)
{
        cached_options *o = cached_options_new();
        w->options = cached_set_options_new();
        w->batch = (unsigned)(w->plan->rate / (UINT64_C(1000000000) / BATCH_NS));
        if (!o || !w->options || w->batch == 0 || w->batch > BATCH_MAX) {
                cached_options_free(o);
                return -EINVAL;
        }
        int code = cached_options_set_socket(o, w->plan->socket_path);
        if (code == CACHED_OK)
                code = cached_options_set_mapped(o, 0);
        if (code == CACHED_OK)
                code = cached_new(o, &w->handle);
        if (code == CACHED_OK)
                code = cached_set_options_set_ttl_ms(w->options, 3600000);
        cached_options_free(o);
        for (unsigned i = 0; i < w->batch; i++) {
                w->key[i] = w->keys[i];
                w->n_key[i] = HITS_KEY;
                w->value[i] = w->bytes;
                w->n_value[i] = VALUE_SIZE;
        }
        return code == CACHED_OK ? 0 : -ECONNREFUSED;
}

static int store_batch(struct writer *w)
{
        for (unsigned i = 0; i < w->batch; i++)
                keys_make(keys_random(&w->random) % w->plan->n_keys, w->keys[i], HITS_KEY);
        int code = cached_set_many(w->handle, HITS_CACHE, w->batch, w->key, w->n_key, w->value,
                                   w->n_value, w->options, NULL);
        return code == CACHED_OK ? 0 : -EPROTO;
}

static int writer_slot(struct writer *w, uint64_t until_ns, struct slot *s)
{
        uint64_t next = until_ns - SLOT_NS, counted_ns = next + SETTLE_NS;
        for (; next < until_ns; next += BATCH_NS) {
                sleep_until(next);
                int e = store_batch(w);
                if (e < 0)
                        return e;
                uint64_t now = stamp_clock_ns();
                if (now >= until_ns) /* late: the rest of the slot's stores are not made */
                        return 0;
                if (next >= counted_ns)
                        s->calls += w->batch;
        }
        return 0;
}

static void writer_close(struct writer *w)
{
        cached_set_options_free(w->options);
        if (w->handle)
                cached_free(w->handle);
}

/* -------------------------------------------------------------------------------------- children
 */

static int wait_for_start(struct shared *sh)
{
        atomic_fetch_add(&sh->n_ready, 1);
        while (!atomic_load(&sh->go)) {
                if (atomic_load(&sh->n_ready) > 2) /* the parent has given up */
                        return -ECANCELED;
                sleep_until(stamp_clock_ns() + 1000000);
        }
        return 0;
}

static int take_part(const struct plan *p, struct shared *sh, unsigned me, struct reader *r,
                     struct writer *w)
{
        int e = wait_for_start(sh);
        for (unsigned i = 0; i < n_slots(p) && e == 0; i++) {
                struct part part = part_of(p, i);
                uint64_t begin = sh->start_ns + i * SLOT_NS;
                if (!(part.who & (1u << me)))
                        continue;
                sleep_until(begin);
                if (r)
                        e = reader_slot(r, part, begin + SLOT_NS, &sh->slots[me][i]);
                else
                        e = writer_slot(w, begin + SLOT_NS, &sh->slots[me][i]);
        }
        return e;
}

/*
 * A process of ordinary priority that the daemon shares a CPU with makes room for it when it wakes
 * up; one of the same real-time priority would not.
 */
static void let_the_daemon_go_first(void)
{
        struct sched_param param;
        if (sched_getscheduler(0) == SCHED_RR && sched_getparam(0, &param) == 0 &&
            param.sched_priority-- > 1)
                (void)sched_setscheduler(0, SCHED_RR, &param);
}

static int go_to(int cpu)
{
        cpu_set_t set;
        if (cpu < 0)
                return 0;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

static int child(const struct plan *p, struct shared *sh, unsigned me)
{
        bool is_writer = p->is_stores && me == 1;
        struct reader *r = is_writer ? NULL : calloc(1, sizeof(*r));
        struct writer *w = is_writer ? calloc(1, sizeof(*w)) : NULL;
        int e = r || w ? go_to(p->cpus[me]) : -ENOMEM;
        prctl(PR_SET_TIMERSLACK, 1);
        if (!is_writer)
                let_the_daemon_go_first();
        if (r) {
                r->plan = p;
                r->random = p->seed + me * UINT64_C(1000003);
                e = e == 0 ? reader_open(r) : e;
        } else if (w) {
                w->plan = p;
                w->random = p->seed + UINT64_C(1000003);
                e = e == 0 ? writer_open(w) : e;
        }
        sh->errors[me] = e;
        if (e == 0)
                e = take_part(p, sh, me, r, w);
        else
                atomic_fetch_add(&sh->n_ready, 3);
        if (e < 0)
                sh->errors[me] = e;
        if (r)
                reader_close(r);
        if (w)
                writer_close(w);
        free(r);
        free(w);
        return e;
}

static int run(const struct plan *p, struct shared *sh)
{
        pid_t pids[2];
        int n = 0, e = 0;
        for (; n < 2; n++) {
                pids[n] = fork();
                if (pids[n] < 0) {
                        e = -errno;
                        atomic_fetch_add(&sh->n_ready, 3);
                        break;
                }
                if (pids[n] == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        _exit(child(p, sh, (unsigned)n) == 0 ? 0 : 1);
                }
        }
        while (e == 0 && atomic_load(&sh->n_ready) < 2)
                sleep_until(stamp_clock_ns() + 1000000);
        sh->start_ns = stamp_clock_ns() + 20000000;
        atomic_store(&sh->go, true);
        for (int i = 0; i < n; i++) {
                int status;
                if (waitpid(pids[i], &status, 0) < 0 || status != 0)
                        e = e < 0 ? e : -ECHILD;
        }
        for (int i = 0; i < 2; i++)
                e = sh->errors[i] < 0 && sh->errors[i] != -ECANCELED ? sh->errors[i] : e;
        return e;
}

/* --------------------------------------------------------------------------------------- results
 */

/* Look-ups a second of one process in one slot. */
static double rate_of(const struct slot *s)
{
        return s->ns ? (double)s->calls * 1e9 / (double)s->ns : 0;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
        if (n == 0)
                return 0;
        qsort(v, n, sizeof(*v), by_value);
        return v[n / 2];
}

struct columns {
        double one[N_TYPES][SLOTS_MAX], two[N_TYPES][SLOTS_MAX], gain[N_TYPES][SLOTS_MAX];
        double ratio[SLOTS_MAX];
        unsigned n;
};

/* How much more two do than one: 2 is all there is. One: the mean of what each does alone. */
static void add_readers(const struct shared *sh, unsigned first, struct columns *c)
{
        for (unsigned t = 0; t < N_TYPES; t++) {
                double a = rate_of(&sh->slots[0][first + t]),
                       b = rate_of(&sh->slots[1][first + 2 + t]);
                c->one[t][c->n] = (a + b) / 2;
                c->two[t][c->n] = rate_of(&sh->slots[0][first + 4 + t]) +
                                  rate_of(&sh->slots[1][first + 4 + t]);
                c->gain[t][c->n] = c->one[t][c->n] > 0 ? c->two[t][c->n] / c->one[t][c->n] : 0;
        }
}

/* How much slower one is beside stores. */
static void add_stores(const struct shared *sh, unsigned first, struct columns *c)
{
        for (unsigned t = 0; t < N_TYPES; t++) {
                c->one[t][c->n] = rate_of(&sh->slots[0][first + t]);
                c->two[t][c->n] = rate_of(&sh->slots[0][first + 2 + t]);
                c->gain[t][c->n] = c->two[t][c->n] > 0 ? c->one[t][c->n] / c->two[t][c->n] : 0;
        }
}

static double stores_a_second(const struct plan *p, const struct shared *sh)
{
        uint64_t sum = 0, n = 0;
        for (unsigned i = 0; i < n_slots(p); i++)
                if (part_of(p, i).who & 2) {
                        sum += sh->slots[1][i].calls;
                        n++;
                }
        return n ? (double)sum / ((double)n * (double)(SLOT_NS - SETTLE_NS) / 1e9) : 0;
}

static void print_result(const struct plan *p, const struct shared *sh, struct columns *c)
{
        for (unsigned first = 0; first < n_slots(p); first += n_parts(p)) {
                if (p->is_stores)
                        add_stores(sh, first, c);
                else
                        add_readers(sh, first, c);
                c->ratio[c->n] = c->gain[1][c->n] > 0 ? c->gain[0][c->n] / c->gain[1][c->n] : 0;
                c->n++;
        }
        printf("{\"turns\":%u,\"ratio\":%.4f", c->n, median(c->ratio, c->n));
        if (p->is_stores)
                printf(",\"stores_per_s\":%.0f", stores_a_second(p, sh));
        for (unsigned t = 0; t < N_TYPES; t++)
                printf(",\"%s\":{\"one_per_s\":%.0f,\"two_per_s\":%.0f,\"gain\":%.4f}",
                       types[t]->name, median(c->one[t], c->n), median(c->two[t], c->n),
                       median(c->gain[t], c->n));
        printf("}\n");
}

static void usage(FILE *f)
{
        fprintf(f, "usage: bench-pair --mode readers|stores --socket PATH [OPTION…]\n"
                   "  --seconds S    (6)\n"
                   "  --keys N       random ones of so many, which are stored (10000)\n"
                   "  --rate N       stores a second (100000)\n"
                   "  --seed N       of the random order (1)\n"
                   "  --cpu N        of the reader, and of the second process: once for each\n");
}

static bool parse_option(int opt, const char *s, struct plan *p)
{
        char *end;
        unsigned long long v = strtoull(s, &end, 10);
        bool ok = end != s && !*end && *s != '-';
        switch (opt) {
        case 'm':
                p->is_stores = strcmp(s, "stores") == 0;
                return p->is_stores || strcmp(s, "readers") == 0;
        case 's':
                return p->socket_path = s, true;
        case 'd':
                p->seconds = strtod(s, NULL);
                return p->seconds >= 1 && p->seconds <= 60;
        case 'k':
                return p->n_keys = v, ok && v >= TURN;
        case 'n':
                return p->rate = v, ok;
        case 'r':
                return p->seed = v, ok;
        case 'c':
                p->cpus[p->cpus[0] >= 0] = (int)v;
                return ok && v < CPU_SETSIZE;
        default:
                return false;
        }
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                {"mode", required_argument, NULL, 'm'},
                {"socket", required_argument, NULL, 's'},
                {"seconds", required_argument, NULL, 'd'},
                {"keys", required_argument, NULL, 'k'},
                {"rate", required_argument, NULL, 'n'},
                {"seed", required_argument, NULL, 'r'},
                {"cpu", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        struct plan p = {
                .seconds = 6, .n_keys = 10000, .rate = 100000, .seed = 1, .cpus = {-1, -1}};
        for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (opt == 'h')
                        return usage(stdout), 0;
                if (opt == '?')
                        return 2;
                if (!parse_option(opt, optarg, &p)) {
                        fprintf(stderr, "bench-pair: not a possible value: %s\n", optarg);
                        return 2;
                }
        }
        if (optind != argc || !p.socket_path)
                return usage(stderr), 2;
        struct shared *sh =
                mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct columns *c = calloc(1, sizeof(*c));
        int e = sh == MAP_FAILED || !c ? -ENOMEM : run(&p, sh);
        if (e == 0)
                print_result(&p, sh, c);
        else
                fprintf(stderr, "bench-pair: %s\n", strerror(-e));
        free(c);
        return e == 0 ? 0 : 1;
}
