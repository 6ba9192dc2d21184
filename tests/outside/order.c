/* SPDX-License-Identifier: MIT */
/*
 * Random histories of set, delete, clear and reads from several processes, and whether each has an
 * order in which it makes sense (order-check.h)
 *
 *     order SOCKET SEED HISTORIES LOSSES HANDOVERS [DAEMON ARGUMENT…]
 *
 * A history has keys of its own and four processes, which begin it together. Each does a few random
 * operations and notes when it began and ended them; between them it reads one key many times as
 * fast as it can, and of reads that say the same notes the first and the last. With DAEMON this
 * program starts it, and in LOSSES histories more kills it in the middle and starts it again, with
 * nothing in it: then no one may read an older value once anybody has been answered by the new one.
 * In HANDOVERS others a second daemon takes the place of the first, and nothing at all is lost.
 *
 * Prints one line of numbers; says "mapped=0" of a daemon or a library without mapped reads.
 * Status: 0 all fine; 1 a history without an order, printed on stderr, or an answer that was never
 * right; 2 something else.
 */

#include <cached.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "order-check.h"

#define CACHE        "order"
#define N_WORKERS    4u
#define N_KEYS       2u
#define N_NOTES      15u /* of a worker in a history: together with a loss they fit ORDER_OPS_MAX */
#define N_STUFF      100u /* more than a clear takes out one by one */
#define STUFF_PERIOD 4u   /* histories */
#define BATCH        64u  /* histories between two looks at them */
#define VALUE_MAX    (5u << 20)
#define BURST_NS     100000u

enum { WRONG_VALUE = 1, GAVE_UP = 2 };

/* What a worker did in one history. */
struct notes {
        struct order_op ops[N_NOTES];
        uint32_t n;
        uint32_t full; /* there was no room for more, and no more was done */
};

struct shared {
        pthread_barrier_t begin; /* of a history, among workers */
        pthread_barrier_t batch; /* among workers and the judge, before and after a batch */
        uint64_t first;          /* history of this batch */
        uint32_t n;              /* of them; 0: the end */
        bool is_changing;        /* the one history of this batch goes on until there is another
                                    daemon */
        _Atomic uint32_t n_done; /* operations so far in this batch, for choosing a moment */
        _Atomic uint32_t n_idle; /* workers that wait for it, or have no room left */
        _Atomic uint32_t is_changed;
        _Atomic uint64_t reads, failed;
        struct notes notes[BATCH][N_WORKERS];
};

struct worker {
        struct shared *sh;
        cached *c;
        uint64_t rng, history;
        unsigned self;
        struct notes *notes;
        uint8_t *value;
};

struct program {
        const char *socket;
        char **daemon;      /* argv; NULL: somebody else's */
        char *takeover[64]; /* likewise, of one that takes over */
        char handover[16];
        pid_t daemon_pid, workers[N_WORKERS];
        uint64_t seed, rng;
        struct shared *sh;
        cached *c;
        uint64_t n_ops, n_undecided, n_losses, n_handovers;
        uint64_t mapped_reads; /* of daemons that are gone */
};

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A moment before all that follows: on x86 the clock is read in the order of the loads before it,
 * not of those after it. */
static uint64_t before_ns(void)
{
        uint64_t t = now_ns();

#if defined(__x86_64__)
        __builtin_ia32_lfence();
#endif
        atomic_thread_fence(memory_order_seq_cst);
        return t;
}

static uint64_t after_ns(void)
{
        atomic_thread_fence(memory_order_seq_cst);
        return now_ns();
}

static _Noreturn void die(const char *what)
{
        fprintf(stderr, "order: %s\n", what);
        _exit(GAVE_UP);
}

static cached *handle_new(const char *path, uint64_t compress_from)
{
        cached_options *o = cached_options_new();
        cached *c;

        if (!o || cached_options_set_socket(o, path) != CACHED_OK ||
            cached_options_set_timeout_ms(o, 20000) != CACHED_OK ||
            cached_options_set_compression(o, compress_from) != CACHED_OK ||
            cached_new(o, &c) != CACHED_OK)
                die("no handle");
        cached_options_free(o);
        return c;
}

/* ---------------------------------------------------------------------------------------- values
 */

/* Begins every value: whose it is. What follows is one byte that depends on it, again and again. */
struct stamp {
        uint64_t history;
        uint32_t number, n_value;
};

static uint8_t filling(const struct stamp *s)
{
        return (uint8_t)(s->history * 31 + s->number * 7 + 1);
}

static uint32_t size_of_value(uint64_t r)
{
        uint32_t n = sizeof(struct stamp);

        if (r % 2048 == 0)
                return VALUE_MAX;
        if (r % 64 < 3)
                return n + (uint32_t)(r >> 16) % 100000;
        return r % 4 ? n + (uint32_t)(r >> 16) % 20 : n + (uint32_t)(r >> 16) % 8000;
}

/* The number of the set that stored it. It is of this history, and whole; else the test has failed
 * already. */
static uint32_t number_of(const struct worker *w, const void *value, size_t n)
{
        const uint8_t *v = value;
        struct stamp s;

        if (n >= sizeof(s))
                memcpy(&s, v, sizeof(s));
        if (n < sizeof(s) || s.history != w->history || s.n_value != n ||
            (n > sizeof(s) && (v[sizeof(s)] != filling(&s) ||
                               memcmp(v + sizeof(s), v + sizeof(s) + 1, n - sizeof(s) - 1) != 0))) {
                fprintf(stderr,
                        "order: history %llu read a value of %zu bytes that nobody stored\n",
                        (unsigned long long)w->history, n);
                _exit(WRONG_VALUE);
        }
        return s.number;
}

/* ------------------------------------------------------------------------------------ operations
 */

static size_t key_of(const struct worker *w, unsigned key, char ret_key[32])
{
        return (size_t)snprintf(ret_key, 32, "%llx/%u", (unsigned long long)w->history, key);
}

static unsigned room(const struct worker *w)
{
        return N_NOTES - w->notes->n;
}

static void note(struct worker *w, struct order_op o)
{
        o.who = (uint8_t)w->self;
        w->notes->ops[w->notes->n++] = o;
}

/* Whether it may have happened nevertheless; @o is adapted. */
static bool counts(struct order_op *o, int code)
{
        switch (code) {
        case CACHED_ERR_TIMEOUT:
                o->returned = ORDER_LATER;
                o->maybe = true;
                return true;
        case CACHED_OUTCOME_UNKNOWN:
        case CACHED_ERR_DISCONNECTED:
                o->maybe = true;
                return true;
        default:
                return code == CACHED_OK || code == CACHED_NOT_FOUND;
        }
}

static int do_set(struct worker *w, uint64_t r)
{
        struct order_op o = {.kind = ORDER_SET, .key = (uint8_t)(r >> 8) % N_KEYS};
        struct stamp s = {.history = w->history,
                          .number = w->self << 8 | (w->notes->n + 1),
                          .n_value = size_of_value(r >> 20)};
        char key[32];
        size_t n_key = key_of(w, o.key, key);
        int code;

        memset(w->value, filling(&s), s.n_value);
        memcpy(w->value, &s, sizeof(s));
        o.value = s.number;
        o.invoked = before_ns();
        code = cached_set(w->c, CACHE, key, n_key, w->value, s.n_value, NULL, NULL);
        o.returned = after_ns();
        if (counts(&o, code))
                note(w, o);
        return code;
}

static int do_delete(struct worker *w, uint64_t r)
{
        struct order_op o = {.kind = ORDER_DELETE, .key = (uint8_t)(r >> 8) % N_KEYS};
        char key[32];
        size_t n_key = key_of(w, o.key, key);
        int code;

        o.invoked = before_ns();
        code = cached_delete(w->c, CACHE, key, n_key, NULL);
        o.returned = after_ns();
        if (code == CACHED_NOT_FOUND)
                o.kind = ORDER_ABSENT;
        if (counts(&o, code))
                note(w, o);
        return code;
}

/* Each key at an instant of its own: that one clear takes all at the same instant is not promised.
 */
static int do_clear(struct worker *w)
{
        struct order_op o = {.kind = ORDER_CLEAR, .invoked = before_ns()};
        int code = cached_clear(w->c, CACHE, NULL);

        o.returned = after_ns();
        if (counts(&o, code))
                for (o.key = 0; o.key < N_KEYS; o.key++)
                        note(w, o);
        return code;
}

static int read_once(struct worker *w, unsigned key, bool peek, struct order_op *ret)
{
        struct order_op o = {.kind = ORDER_READ, .key = (uint8_t)key};
        size_t n_key, n = 0;
        cached_reply *reply;
        char text[32];
        int code;

        n_key = key_of(w, key, text);
        o.invoked = before_ns();
        code = (peek ? cached_peek : cached_get)(w->c, CACHE, text, n_key, &reply);
        o.returned = after_ns();
        if (code == CACHED_OK) {
                const void *v = cached_reply_value(reply, &n);

                o.value = number_of(w, v, v ? n : 0);
        }
        cached_reply_free(reply);
        *ret = o;
        return code;
}

/* Both keys in one request, as reads that overlap. */
static int read_both(struct worker *w)
{
        char text[N_KEYS][32];
        const void *keys[N_KEYS];
        size_t n_keys[N_KEYS];
        struct order_op o = {.kind = ORDER_READ};
        cached_reply *reply;
        int code;

        for (unsigned k = 0; k < N_KEYS; k++) {
                n_keys[k] = key_of(w, k, text[k]);
                keys[k] = text[k];
        }
        o.invoked = before_ns();
        code = cached_get_many(w->c, CACHE, N_KEYS, keys, n_keys, &reply);
        o.returned = after_ns();
        for (unsigned k = 0; code == CACHED_OK && k < N_KEYS; k++) {
                int item = cached_reply_item_code(reply, k);
                size_t n = 0;
                const void *v = cached_reply_item_value(reply, k, &n);

                o.key = (uint8_t)k;
                o.value = item == CACHED_OK ? number_of(w, v, v ? n : 0) : ORDER_NOTHING;
                if (item == CACHED_OK || item == CACHED_NOT_FOUND)
                        note(w, o);
        }
        cached_reply_free(reply);
        return code;
}

/* As many reads as the time allows; the first and the last of those that say the same are noted. */
static int read_burst(struct worker *w, uint64_t r)
{
        unsigned key = (unsigned)(r >> 8) % N_KEYS, n = 1 + (unsigned)(r >> 10) % 100;
        uint64_t end = now_ns() + BURST_NS;
        struct order_op last = {0}, o;
        bool pending = false; /* `last` is a repetition, and not noted yet */
        bool any = false;
        int code = CACHED_OK;

        while (n-- > 0 && room(w) > 1) {
                code = read_once(w, key, r >> 30 & 1, &o);
                if (code != CACHED_OK && code != CACHED_NOT_FOUND)
                        break;
                atomic_fetch_add_explicit(&w->sh->reads, 1, memory_order_relaxed);
                if (any && o.value == last.value) {
                        pending = true;
                } else {
                        if (pending)
                                note(w, last);
                        pending = false;
                        if (room(w) > 0)
                                note(w, o);
                }
                last = o;
                any = true;
                if (o.returned > end)
                        break;
        }
        if (pending && room(w) > 0)
                note(w, last);
        return code;
}

static int operate(struct worker *w)
{
        uint64_t r = rng_next(&w->rng);

        switch (r % 32) {
        case 0:
        case 1:
                return do_clear(w);
        case 2:
        case 3:
        case 4:
        case 5:
                return do_delete(w, r);
        case 6:
        case 7:
                return read_both(w);
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
        case 15:
                return do_set(w, r);
        default:
                return read_burst(w, r);
        }
}

/* --------------------------------------------------------------------------------------- workers
 */

static void spin(uint64_t ns)
{
        for (uint64_t end = now_ns() + ns; now_ns() < end;)
                ;
}

/* The daemon is away: tries again, and again; nothing of that is worth a note. */
static void wait_for_daemon(struct worker *w)
{
        struct timespec t = {.tv_nsec = 200000};

        atomic_fetch_add(&w->sh->failed, 1);
        if (cached_connect(w->c, NULL) != CACHED_OK)
                nanosleep(&t, NULL);
}

/* Reads on while the daemon is killed and replaced. */
static void wait_for_change(struct worker *w)
{
        struct timespec t = {.tv_nsec = 50000};

        atomic_fetch_add(&w->sh->n_idle, 1);
        while (!atomic_load(&w->sh->is_changed)) {
                if (room(w) > 8)
                        (void)read_burst(w, rng_next(&w->rng));
                nanosleep(&t, NULL);
        }
}

/* Entries that are nobody's business, so that a clear gives the cache another generation. */
static void stuff(struct worker *w)
{
        const void *keys[N_STUFF], *values[N_STUFF];
        size_t n_keys[N_STUFF], n_values[N_STUFF];
        char text[N_STUFF][16];

        for (unsigned i = 0; i < N_STUFF; i++) {
                n_keys[i] = (size_t)snprintf(text[i], sizeof(text[i]), "stuff/%u", i);
                keys[i] = values[i] = text[i];
                n_values[i] = n_keys[i];
        }
        (void)cached_set_many(w->c, CACHE, N_STUFF, keys, n_keys, values, n_values, NULL, NULL);
}

static void do_history(struct worker *w)
{
        unsigned n = 5 + (unsigned)rng_next(&w->rng) % 4;
        bool is_changing = w->sh->is_changing;

        if (w->self == 0 && w->history % STUFF_PERIOD == 0)
                stuff(w);
        pthread_barrier_wait(&w->sh->begin);
        while (room(w) >= N_KEYS && n > 0) {
                uint64_t r = rng_next(&w->rng);
                int code;

                /* There are operations after it, and there is room for them. */
                if (is_changing && (n == 1 || room(w) < 6)) {
                        wait_for_change(w);
                        is_changing = false;
                        n = 4;
                }
                code = operate(w);
                atomic_fetch_add(&w->sh->n_done, 1);
                if (code == CACHED_ERR_UNREACHABLE || code == CACHED_ERR_DISCONNECTED ||
                    code == CACHED_OUTCOME_UNKNOWN) {
                        wait_for_daemon(w);
                        continue;
                }
                if (code != CACHED_OK && code != CACHED_NOT_FOUND)
                        die(cached_strerror(code));
                n--;
                if (r & 1)
                        spin(r >> 8 & 0x7fff);
        }
        if (is_changing)
                atomic_fetch_add(&w->sh->n_idle, 1);
}

static void work(struct shared *sh, const char *socket, unsigned self, uint64_t seed)
{
        struct worker w = {.sh = sh, .self = self, .rng = seed, .value = malloc(VALUE_MAX)};

        if (!w.value)
                die("no memory");
        w.c = handle_new(socket, self % 2 ? 0 : 4096);
        for (;;) {
                pthread_barrier_wait(&sh->batch);
                if (sh->n == 0)
                        break;
                for (unsigned i = 0; i < sh->n; i++) {
                        w.history = sh->first + i;
                        w.notes = &sh->notes[i][self];
                        w.notes->n = 0;
                        do_history(&w);
                }
                pthread_barrier_wait(&sh->batch);
        }
        cached_free(w.c);
        free(w.value);
}

/* ------------------------------------------------------------------------------------- the judge
 */

static const char *const kind_names[] = {
        [ORDER_SET] = "set",     [ORDER_READ] = "read",   [ORDER_DELETE] = "delete",
        [ORDER_ABSENT] = "none", [ORDER_CLEAR] = "clear", [ORDER_LOSS] = "loss",
};

static int by_invocation(const void *a, const void *b)
{
        const struct order_op *x = a, *y = b;

        return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

static void print_history(uint64_t history, struct order_op *ops, unsigned n)
{
        uint64_t start;

        qsort(ops, n, sizeof(*ops), by_invocation);
        start = ops[0].invoked;
        fprintf(stderr, "order: history %llu has no order\n", (unsigned long long)history);
        for (unsigned i = 0; i < n; i++) {
                const struct order_op *o = &ops[i];

                fprintf(stderr, "  %8llu ns to ", (unsigned long long)(o->invoked - start));
                if (o->returned == ORDER_LATER)
                        fprintf(stderr, "   later");
                else
                        fprintf(stderr, "%8llu", (unsigned long long)(o->returned - start));
                fprintf(stderr, "  process %u: %s key %u, value %u%s\n", o->who,
                        kind_names[o->kind], o->key, o->value, o->maybe ? " (perhaps)" : "");
        }
}

/* @loss: NULL, or what happened in the midst of it. */
static void judge(struct program *p, unsigned i, const struct order_op *loss)
{
        struct order_op ops[ORDER_OPS_MAX];
        unsigned n = 0;

        for (unsigned w = 0; w < N_WORKERS; w++) {
                const struct notes *notes = &p->sh->notes[i][w];

                memcpy(ops + n, notes->ops, notes->n * sizeof(*ops));
                n += notes->n;
        }
        if (loss)
                ops[n++] = *loss;
        p->n_ops += n;
        switch (order_check(ops, n)) {
        case ORDER_FINE:
                break;
        case ORDER_UNDECIDED:
                p->n_undecided++;
                break;
        case ORDER_WRONG:
                print_history(p->sh->first + i, ops, n);
                exit(WRONG_VALUE);
        }
}

/* ------------------------------------------------------------------------------------ the daemon
 */

/* Reads that the daemon was only told of. */
static uint64_t mapped_reads(cached *c)
{
        uint64_t hits = 0, misses = 0;
        cached_reply *r;

        if (cached_stats(c, NULL, &r) == CACHED_OK) {
                (void)cached_reply_u64(r, "total.mapped_hits", &hits);
                (void)cached_reply_u64(r, "total.mapped_misses", &misses);
        }
        cached_reply_free(r);
        return hits + misses;
}

static void daemon_spawn(struct program *p, char **argv)
{
        p->daemon_pid = fork();
        if (p->daemon_pid < 0)
                die("no process");
        if (p->daemon_pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                execv(argv[0], argv);
                _exit(127);
        }
}

static void daemon_await(struct program *p)
{
        uint64_t end = now_ns() + UINT64_C(20000000000);
        struct timespec t = {.tv_nsec = 500000};

        while (cached_connect(p->c, NULL) != CACHED_OK) {
                if (now_ns() > end || waitpid(p->daemon_pid, NULL, WNOHANG) != 0)
                        die("the daemon does not answer");
                nanosleep(&t, NULL);
        }
}

static void daemon_stop(pid_t pid)
{
        int status;

        if (waitpid(pid, &status, 0) != pid || status != 0)
                die("the daemon did not end well");
}

static struct order_op lose(struct program *p)
{
        struct order_op o = {.kind = ORDER_LOSS, .who = N_WORKERS};

        p->mapped_reads += mapped_reads(p->c);
        o.invoked = before_ns();
        kill(p->daemon_pid, SIGKILL);
        (void)waitpid(p->daemon_pid, NULL, 0);
        daemon_spawn(p, p->daemon);
        daemon_await(p);
        o.returned = after_ns();
        p->n_losses++;
        return o;
}

static void hand_over(struct program *p)
{
        pid_t old = p->daemon_pid;

        daemon_spawn(p, p->takeover);
        daemon_stop(old);
        daemon_await(p);
        p->n_handovers++;
}

/* Once a random number of operations have been done. */
static void await_moment(struct program *p)
{
        uint32_t after = (uint32_t)rng_next(&p->rng) % (5 * N_WORKERS);

        while (atomic_load(&p->sh->n_done) < after && atomic_load(&p->sh->n_idle) < N_WORKERS)
                sched_yield();
        spin(rng_next(&p->rng) % 100000);
}

/* ------------------------------------------------------------------------------------ the program
 */

enum change { NO_CHANGE, LOSS, HANDOVER };

static void batch(struct program *p, unsigned n, enum change change)
{
        struct order_op loss;

        p->sh->n = n;
        p->sh->is_changing = change != NO_CHANGE;
        atomic_store(&p->sh->n_done, 0);
        atomic_store(&p->sh->n_idle, 0);
        atomic_store(&p->sh->is_changed, 0);
        pthread_barrier_wait(&p->sh->batch);
        if (change != NO_CHANGE)
                await_moment(p);
        if (change == LOSS)
                loss = lose(p);
        else if (change == HANDOVER)
                hand_over(p);
        atomic_store(&p->sh->is_changed, 1);
        pthread_barrier_wait(&p->sh->batch);
        for (unsigned i = 0; i < n; i++)
                judge(p, i, change == LOSS ? &loss : NULL);
        p->sh->first += n;
}

/* Whoever fails would leave the others waiting. A daemon is killed on purpose. */
static void on_child(int number, siginfo_t *i, void *context)
{
        (void)number;
        (void)context;
        if (i->si_code == CLD_EXITED && i->si_status != 0)
                _exit(i->si_status);
        if (i->si_code != CLD_EXITED && i->si_status != SIGKILL)
                _exit(GAVE_UP);
}

static void start_workers(struct program *p)
{
        pthread_barrierattr_t a;

        pthread_barrierattr_init(&a);
        pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        if (pthread_barrier_init(&p->sh->begin, &a, N_WORKERS) != 0 ||
            pthread_barrier_init(&p->sh->batch, &a, N_WORKERS + 1) != 0)
                die("no barrier");
        for (unsigned i = 0; i < N_WORKERS; i++) {
                uint64_t seed = rng_next(&p->rng) | 1;

                p->workers[i] = fork();
                if (p->workers[i] < 0)
                        die("no process");
                if (p->workers[i] == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        work(p->sh, p->socket, i, seed);
                        _exit(0);
                }
        }
}

static void run(struct program *p, uint64_t n, uint64_t n_losses, uint64_t n_handovers)
{
        uint64_t n_changes = n_losses + n_handovers, done = 0;
        uint64_t every = n_changes ? n / n_changes : UINT64_MAX, next = every / 2;

        while (done < n || n_changes > 0) {
                uint64_t some = n - done < BATCH ? n - done : BATCH;

                if (n_changes == 0 || (done < next && done < n)) {
                        batch(p, (unsigned)some, NO_CHANGE);
                        done += some;
                        continue;
                }
                if (rng_next(&p->rng) % n_changes-- < n_losses) {
                        batch(p, 1, LOSS);
                        n_losses--;
                } else {
                        batch(p, 1, HANDOVER);
                }
                next += every;
        }
}

static void daemon_init(struct program *p, int n, char **argv)
{
        int max = (int)(sizeof(p->takeover) / sizeof(p->takeover[0])) - 2;

        p->daemon = argv;
        for (int i = 0; i < n && i < max; i++)
                p->takeover[i] = argv[i];
        p->takeover[n < max ? n : max] = p->handover;
        daemon_spawn(p, p->daemon);
        daemon_await(p);
}

int main(int argc, char **argv)
{
        struct sigaction children = {.sa_sigaction = on_child,
                                     .sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP};
        struct program p = {.handover = "--handover"};
        uint64_t n, n_losses, n_handovers, start = now_ns();
        int failed = 0;

        if (argc < 6)
                return GAVE_UP;
        p.socket = argv[1];
        p.seed = strtoull(argv[2], NULL, 10);
        p.rng = p.seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
        n = strtoull(argv[3], NULL, 10);
        n_losses = strtoull(argv[4], NULL, 10);
        n_handovers = strtoull(argv[5], NULL, 10);
        if (n_losses + n_handovers > 0 && argc == 6)
                return GAVE_UP;
        p.sh = mmap(NULL, sizeof(*p.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p.sh == MAP_FAILED)
                die("no memory");
        p.c = handle_new(p.socket, 0);
        sigaction(SIGCHLD, &children, NULL);
        if (argc > 6)
                daemon_init(&p, argc - 6, argv + 6);
        start_workers(&p);
        run(&p, n, n_losses, n_handovers);
        p.sh->n = 0;
        pthread_barrier_wait(&p.sh->batch);
        for (unsigned i = 0; i < N_WORKERS; i++) {
                int status = 0;

                if (waitpid(p.workers[i], &status, 0) != p.workers[i] || status != 0)
                        failed = GAVE_UP;
        }
        p.mapped_reads += mapped_reads(p.c);
        cached_free(p.c);
        if (p.daemon) {
                kill(p.daemon_pid, SIGTERM);
                daemon_stop(p.daemon_pid);
        }
        printf("histories=%llu losses=%llu handovers=%llu operations=%llu reads=%llu mapped=%llu "
               "failed=%llu "
               "undecided=%llu seconds=%.1f\n",
               (unsigned long long)p.sh->first, (unsigned long long)p.n_losses,
               (unsigned long long)p.n_handovers, (unsigned long long)p.n_ops,
               (unsigned long long)atomic_load(&p.sh->reads), (unsigned long long)p.mapped_reads,
               (unsigned long long)atomic_load(&p.sh->failed), (unsigned long long)p.n_undecided,
               (double)(now_ns() - start) / 1e9);
        return failed;
}
