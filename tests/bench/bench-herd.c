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
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

/*
 * In memory that all processes share. No barrier: a thousand threads at one word would keep the
 * processors from those who still wait for their value. Each process's threads sleep on a word of
 * their own, and who has finished only counts.
 */
struct field {
        atomic_uint go[MAX_CALLERS]; /* by process: the number of the round that has begun */
        atomic_uint n_ready;         /* callers in all that are back from their round */
        unsigned n_callers;
        long parent;               /* part of the keys */
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

/* ---- taking turns */

static void sleep_while(atomic_uint *word, unsigned value)
{
        while (atomic_load(word) == value)
                (void)syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

/* One more; the last of all wakes who waits for that. */
static void count_up(atomic_uint *word, unsigned n_callers)
{
        if (atomic_fetch_add(word, 1) + 1 == n_callers)
                (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Until all have counted; then it begins again. */
static void wait_for_all(struct field *f, atomic_uint *word)
{
        for (unsigned n; (n = atomic_load(word)) < f->n_callers;)
                sleep_while(word, n);
        atomic_store(word, 0);
}

static void begin_round(struct field *f, unsigned n_processes)
{
        for (unsigned i = 0; i < n_processes; i++)
                atomic_fetch_add(&f->go[i], 1);
        for (unsigned i = 0; i < n_processes; i++)
                (void)syscall(SYS_futex, &f->go[i], FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
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
        atomic_uint *go = &t->field->go[t->number / t->plan->n_threads];
        int failed = 0;
        for (unsigned round = 0;; round++) {
                char key[HERD_KEY_SIZE];
                uint64_t value = 0;
                /* What is done between its stamp and its sleep others wait for: as little as can
                 * be. Nobody ends while others still measure. */
                count_up(&t->field->n_ready, t->field->n_callers);
                sleep_while(go, round);
                if (round == t->plan->n_rounds)
                        return failed;
                snprintf(key, sizeof(key), "round-%ld-%u", t->field->parent, round);
                if (t->plan->type->call(t->caller, key, compute, t, &value) < 0 || value == 0)
                        failed = 1;
                t->field->received_ns[t->number] = now_ns();
        }
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
                _exit(1); /* not all will be ready: the alarm, or whoever looks, ends the rest */
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

static double us_of(const uint64_t *waits, unsigned k)
{
        return (double)waits[k] / 1e3;
}

static void report_round(struct field *f, unsigned round)
{
        static uint64_t waits[MAX_CALLERS];
        uint64_t ready = atomic_load(&f->ready_ns), sum = 0;
        unsigned n = 0;
        for (unsigned i = 0; i < f->n_callers; i++) {
                if (f->computed[i])
                        continue;
                waits[n] = f->received_ns[i] > ready ? f->received_ns[i] - ready : 0;
                sum += waits[n++];
        }
        qsort(waits, n, sizeof(waits[0]), by_size);
        printf("%s{\"computed\":%u,\"waited\":%u", round ? "," : "", atomic_load(&f->n_computed),
               n);
        if (n > 0)
                printf(",\"mean_us\":%.1f,\"first_us\":%.1f,\"p10_us\":%.1f,\"p50_us\":%.1f,"
                       "\"p99_us\":%.1f,\"max_us\":%.1f",
                       (double)sum / n / 1e3, us_of(waits, 0), us_of(waits, n / 10),
                       us_of(waits, n / 2), us_of(waits, (n - 1) * 99 / 100), us_of(waits, n - 1));
        printf("}");
}

static void run_rounds(const struct plan *p, struct field *f)
{
        printf("{\"rounds\":[");
        wait_for_all(f, &f->n_ready);
        for (unsigned round = 0; round < p->n_rounds; round++) {
                atomic_store(&f->n_computed, 0);
                memset(f->computed, 0, sizeof(f->computed));
                begin_round(f, p->n_processes);
                wait_for_all(f, &f->n_ready);
                report_round(f, round);
        }
        begin_round(f, p->n_processes);
        printf("]}\n");
}

static struct field *make_field(const struct plan *p)
{
        struct field *f =
                mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (f == MAP_FAILED)
                return NULL;
        f->n_callers = p->n_processes * p->n_threads;
        f->parent = (long)getpid();
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
                        p->type = optarg ? type_of(optarg) : NULL;
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
