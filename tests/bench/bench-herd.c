/* SPDX-License-Identifier: MIT */
/*
 * A herd: many threads of many processes miss one key at the same time; one line of JSON
 *
 *     bench-herd --backend NAME --socket PATH [--processes N] [--threads N] [--rounds N]
 *                [--compute-ms N] [--cpu N]
 *
 * Each round has a key that nobody has stored. All callers are connected and let go together; the
 * function sleeps, so that it takes no processor from anybody, and notes when its value is there.
 * What counts is how long each of the others waits for it from then on, until it has it in its own
 * memory. "rounds" has for each round how often the function ran, and the mean, median, 99th
 * percentile and longest of these waits. Bounded in time by an alarm.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "herd.h"

#define MAX_CALLERS 4096
#define ALARM_S     120

struct plan {
        const struct herd_type *type;
        const char *socket_path;
        unsigned n_processes, n_threads, n_rounds, compute_ms;
        int cpu;
};

/* In memory that all processes share. */
struct field {
        pthread_barrier_t barrier;
        _Atomic uint64_t ready_ns; /* of this round: when the function ended */
        atomic_uint n_computed, n_failed;
        uint64_t received_ns[MAX_CALLERS];
        unsigned char computed[MAX_CALLERS];
};

struct thread {
        const struct plan *plan;
        struct field *field;
        struct herd_caller *caller;
        unsigned number;
        pthread_t id;
};

static uint64_t now_ns(void)
{
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- callers */

static uint64_t compute(void *data)
{
        struct thread *t = data;
        long ms = (long)t->plan->compute_ms;
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
        atomic_fetch_add(&t->field->n_computed, 1);
        t->field->computed[t->number] = 1;
        atomic_store(&t->field->ready_ns, now_ns());
        return t->number + 1;
}

static int call_rounds(struct thread *t)
{
        int failed = 0;
        for (unsigned round = 0; round < t->plan->n_rounds; round++) {
                char key[HERD_KEY_SIZE];
                uint64_t value = 0;
                snprintf(key, sizeof(key), "round-%ld-%u", (long)getppid(), round);
                pthread_barrier_wait(&t->field->barrier);
                if (t->plan->type->call(t->caller, key, compute, t, &value) < 0 || value == 0)
                        failed = 1;
                t->field->received_ns[t->number] = now_ns();
                pthread_barrier_wait(&t->field->barrier);
        }
        return failed;
}

static void *thread_main(void *data)
{
        struct thread *t = data;
        const struct herd_type *type = t->plan->type;
        int failed = t->caller == NULL && type->open(t->plan->socket_path, &t->caller) < 0;
        if (!failed)
                failed = type->warm(t->caller) < 0;
        if (failed) {
                fprintf(stderr, "bench-herd: a caller cannot connect\n");
                _exit(1); /* the barrier is never full: the alarm, or whoever looks, ends the rest
                           */
        }
        if (call_rounds(t))
                atomic_fetch_add(&t->field->n_failed, 1);
        if (type->one_per_thread)
                type->close(t->caller);
        return NULL;
}

static int process_main(const struct plan *p, struct field *field, unsigned number)
{
        struct thread *threads = calloc(p->n_threads, sizeof(*threads));
        struct herd_caller *shared = NULL;
        unsigned n = 0;
        alarm(ALARM_S);
        if (!threads || (!p->type->one_per_thread && p->type->open(p->socket_path, &shared) < 0))
                return 1;
        for (; n < p->n_threads; n++) {
                threads[n] = (struct thread){.plan = p,
                                             .field = field,
                                             .caller = shared,
                                             .number = number * p->n_threads + n};
                if (pthread_create(&threads[n].id, NULL, thread_main, &threads[n]) != 0)
                        return 1;
        }
        while (n > 0)
                pthread_join(threads[--n].id, NULL);
        if (shared)
                p->type->close(shared);
        free(threads);
        return 0;
}

/* ---- the field */

static int by_size(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return x < y ? -1 : x > y;
}

static void report_round(const struct plan *p, struct field *f, unsigned round)
{
        static uint64_t waits[MAX_CALLERS];
        uint64_t ready = atomic_load(&f->ready_ns), sum = 0;
        unsigned n = 0;
        for (unsigned i = 0; i < p->n_processes * p->n_threads; i++) {
                if (f->computed[i])
                        continue;
                waits[n] = f->received_ns[i] > ready ? f->received_ns[i] - ready : 0;
                sum += waits[n++];
        }
        qsort(waits, n, sizeof(waits[0]), by_size);
        printf("%s{\"computed\":%u,\"waited\":%u,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
               "\"max_us\":%.1f}",
               round ? "," : "", atomic_load(&f->n_computed), n, n ? (double)sum / n / 1e3 : 0,
               n ? (double)waits[n / 2] / 1e3 : 0, n ? (double)waits[n * 99 / 100] / 1e3 : 0,
               n ? (double)waits[n - 1] / 1e3 : 0);
}

static void run_rounds(const struct plan *p, struct field *f)
{
        printf("{\"rounds\":[");
        for (unsigned round = 0; round < p->n_rounds; round++) {
                atomic_store(&f->n_computed, 0);
                memset(f->computed, 0, sizeof(f->computed));
                pthread_barrier_wait(&f->barrier);
                pthread_barrier_wait(&f->barrier);
                report_round(p, f, round);
        }
        printf("]}\n");
}

static struct field *make_field(const struct plan *p)
{
        struct field *f =
                mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pthread_barrierattr_t a;
        if (f == MAP_FAILED || pthread_barrierattr_init(&a) != 0 ||
            pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED) != 0 ||
            pthread_barrier_init(&f->barrier, &a, p->n_processes * p->n_threads + 1) != 0)
                return NULL;
        pthread_barrierattr_destroy(&a);
        return f;
}

static int run(const struct plan *p)
{
        struct field *f = make_field(p);
        int bad = 0, status;
        if (!f)
                return 1;
        for (unsigned i = 0; i < p->n_processes; i++) {
                pid_t pid = fork();
                if (pid < 0)
                        return 1; /* those that there are end by their alarms */
                if (pid == 0)
                        _exit(process_main(p, f, i));
        }
        alarm(ALARM_S);
        run_rounds(p, f);
        for (unsigned i = 0; i < p->n_processes; i++)
                bad |= wait(&status) < 0 || status != 0;
        return bad || atomic_load(&f->n_failed) > 0;
}

/* ---- the command line */

static int usage(void)
{
        fprintf(stderr, "usage: bench-herd --backend cached|redis --socket PATH [--processes N] "
                        "[--threads N] [--rounds N] [--compute-ms N] [--cpu N]\n");
        return 2;
}

static void pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
}

static const struct herd_type *type_of(const char *name)
{
        static const struct herd_type *const types[] = {&herd_cached, &herd_redis};
        for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
                if (!strcmp(types[i]->name, name))
                        return types[i];
        return NULL;
}

static int read_options(int argc, char **argv, struct plan *p)
{
        static const struct option options[] = {
                {"backend", required_argument, NULL, 'b'},
                {"socket", required_argument, NULL, 's'},
                {"processes", required_argument, NULL, 'p'},
                {"threads", required_argument, NULL, 't'},
                {"rounds", required_argument, NULL, 'r'},
                {"compute-ms", required_argument, NULL, 'm'},
                {"cpu", required_argument, NULL, 'c'},
                {0},
        };
        for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                unsigned n = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;
                switch (o) {
                case 'b':
                        p->type = type_of(optarg);
                        break;
                case 's':
                        p->socket_path = optarg;
                        break;
                case 'p':
                        p->n_processes = n;
                        break;
                case 't':
                        p->n_threads = n;
                        break;
                case 'r':
                        p->n_rounds = n;
                        break;
                case 'm':
                        p->compute_ms = n;
                        break;
                case 'c':
                        p->cpu = (int)n;
                        break;
                default:
                        return -1;
                }
        }
        return p->type && p->socket_path && p->n_processes > 0 && p->n_threads > 0 &&
                               p->n_rounds > 0 && p->n_processes <= MAX_CALLERS &&
                               p->n_threads <= MAX_CALLERS / p->n_processes
                       ? 0
                       : -1;
}

int main(int argc, char **argv)
{
        struct plan p = {
                .n_processes = 50, .n_threads = 20, .n_rounds = 5, .compute_ms = 50, .cpu = -1};
        if (read_options(argc, argv, &p) < 0)
                return usage();
        if (p.cpu >= 0)
                pin(p.cpu);
        return run(&p);
}
