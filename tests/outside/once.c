/* SPDX-License-Identifier: MIT */
/*
 * A program whose memoized functions do as they are told, for the tests of what is computed once
 *
 *     once SOCKET [MAPPED]
 *
 * MAPPED is 0 where the daemon is to be asked each time: its clock may be another one than ours.
 *
 * Reads commands, one a line. Each run is a thread; what happens in it is told at once, one line
 * with the run's tag and fields between tabs.
 *
 *     option NAME VALUE    for the runs that begin later: wait, lease-wait, hold, refresh, waiting,
 *     ttl, keep (numbers) define KEY OP...     what the function does for this key, in order: gate
 * says "gate" and waits for "open" call:HANDLE:KEY   memoizes that one progress:N:TEXT   so many
 * per mille fork              a child that does nothing, and lives value:TEXT   large:MIB   decline
 * negative:MS:TEXT   reason:TEXT   fail:CODE run TAG HANDLE KEY   HANDLE is 0, 1, or 2: one that
 * was derived from 0 open TAG             lets the function of that run go on close HANDLE
 * cached_close()
 *
 * It says "TAG runs" when a function begins, "TAG forked PID", "TAG waits PID AGE PERMILLE TEXT",
 * "TAG kept SIZE RIGHT", and "TAG done CODE HIT STALE CACHE-CODE WAITED HOLDER VALUE ERROR".
 */

#include <cached.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_HANDLES 3
#define N_RUNS    1024
#define N_KEYS    64
#define N_TEXT    512
/* Of a large value so many bytes are passed over between two that are looked at: less than a page.
 */
#define STEP 1024

struct options {
        unsigned long wait, hold, refresh, waiting, ttl, keep;
        uint64_t lease_wait;
};

struct run {
        struct program *p;
        char tag[32], key[64];
        int handle;
        struct options o;
        pthread_t thread;
        bool is_open;
};

struct program {
        cached *c[N_HANDLES];
        struct options o;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        char keys[N_KEYS][64], ops[N_KEYS][N_TEXT];
        int n_keys;
        struct run *runs[N_RUNS];
        int n_runs;
};

/* Where a function is. */
struct call {
        struct run *run;
        const char *key;
};

static void tell(const struct run *r, const char *what)
{
        flockfile(stdout);
        printf("%s\t%s\n", r->tag, what);
        (void)fflush(stdout);
        funlockfile(stdout);
}

static char *ops_of(struct program *p, const char *key)
{
        char *ops = NULL;

        pthread_mutex_lock(&p->lock);
        for (int i = 0; i < p->n_keys; i++)
                if (!ops && !strcmp(p->keys[i], key))
                        ops = strdup(p->ops[i]);
        pthread_mutex_unlock(&p->lock);
        return ops ? ops : strdup("");
}

static void define(struct program *p, const char *key, const char *ops)
{
        int i = 0;

        pthread_mutex_lock(&p->lock);
        while (i < p->n_keys && strcmp(p->keys[i], key) != 0)
                i++;
        if (i < N_KEYS) {
                (void)snprintf(p->keys[i], sizeof(p->keys[i]), "%s", key);
                (void)snprintf(p->ops[i], sizeof(p->ops[i]), "%s", ops);
                p->n_keys += i == p->n_keys;
        }
        pthread_mutex_unlock(&p->lock);
}

static void gate(struct run *r)
{
        tell(r, "gate");
        pthread_mutex_lock(&r->p->lock);
        while (!r->is_open)
                pthread_cond_wait(&r->p->changed, &r->p->lock);
        r->is_open = false;
        pthread_mutex_unlock(&r->p->lock);
}

static void fork_one(const struct run *r)
{
        char text[64];
        pid_t pid = fork();

        if (pid == 0)
                for (;;)
                        (void)pause();
        (void)snprintf(text, sizeof(text), "forked\t%d", (int)pid);
        tell(r, text);
}

static int waiting(void *data, const cached_lease *l)
{
        char text[N_TEXT];

        (void)snprintf(text, sizeof(text), "waits\t%u\t%llu\t%u\t%s", cached_lease_holder_pid(l),
                       (unsigned long long)cached_lease_age_ms(l), cached_lease_permille(l),
                       cached_lease_text(l));
        tell(data, text);
        return 0;
}

static int memoize(struct run *r, int handle, const char *key, cached_result **ret);

/* So many MiB, each byte of which depends on where it is. */
static int large(const char *arg, cached_result *out)
{
        size_t n = strtoul(arg, NULL, 10) << 20;
        uint8_t *value = malloc(n);

        if (!value)
                return CACHED_ERR_NOMEM;
        for (size_t i = 0; i < n; i++)
                value[i] = (uint8_t)(i >> 12);
        return cached_result_take(out, value, n);
}

/* A large value is looked at and written to, and kept until the gate is open: then it is as it was
 * left. */
static void keep(struct run *r, uint8_t *value, size_t n)
{
        uint8_t own = (uint8_t)('A' + getpid() % 26);
        char text[64];
        size_t right = 0;

        for (size_t i = 0; i < n; i += STEP)
                right += value[i] == (uint8_t)(i >> 12);
        for (size_t i = 0; i < n; i += n / 4)
                value[i] = own;
        gate(r);
        for (size_t i = 0; i < n; i += STEP)
                right += value[i] == (i % (n / 4) ? (uint8_t)(i >> 12) : own);
        (void)snprintf(text, sizeof(text), "kept\t%zu\t%zu", n, right);
        tell(r, text);
}

static int call(struct run *r, const char *where)
{
        cached_result *result;
        int code = memoize(r, where[0] - '0', where + 2, &result);

        cached_result_free(result);
        return code;
}

/* One op. Not 0: it ends. */
static int one_op(struct run *r, char *op, cached_result *out)
{
        char *arg = strchr(op, ':');

        if (arg)
                *arg++ = '\0';
        if (!strcmp(op, "gate"))
                gate(r);
        else if (!strcmp(op, "fork"))
                fork_one(r);
        else if (!strcmp(op, "decline"))
                (void)cached_result_decline(out);
        else if (!strcmp(op, "call") && arg)
                return call(r, arg);
        else if (!strcmp(op, "value") && arg)
                return cached_result_set(out, arg, strlen(arg));
        else if (!strcmp(op, "large") && arg)
                return large(arg, out);
        else if (!strcmp(op, "reason") && arg)
                (void)cached_result_set_reason(out, arg);
        else if (!strcmp(op, "fail") && arg)
                return atoi(arg);
        else if (!strcmp(op, "progress") && arg)
                (void)cached_progress(strchr(arg, ':') + 1, (double)atoi(arg) / 1000);
        else if (!strcmp(op, "negative") && arg)
                (void)cached_result_set_negative(out, strchr(arg, ':') + 1, strtoul(arg, NULL, 10));
        return CACHED_OK;
}

static int compute(void *data, cached_result *out)
{
        struct call *c = data;
        char *ops = ops_of(c->run->p, c->key), *rest = ops, *op;
        int code = CACHED_OK;

        tell(c->run, "runs");
        while (code == CACHED_OK && (op = strtok_r(rest, " ", &rest)))
                code = one_op(c->run, op, out);
        free(ops);
        return code;
}

static int memoize(struct run *r, int handle, const char *key, cached_result **ret)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_key *k = cached_key_new();
        struct call c = {r, key};
        int code;

        (void)cached_memo_options_set_version(o, "1");
        (void)cached_memo_options_set_wait_ms(o, (uint32_t)r->o.wait);
        (void)cached_memo_options_set_lease_wait_ms(o, r->o.lease_wait);
        (void)cached_memo_options_set_hold_ms(o, (uint32_t)r->o.hold);
        (void)cached_memo_options_set_refresh(o, r->o.refresh != 0);
        if (r->o.waiting)
                (void)cached_memo_options_set_waiting(o, waiting, r, (uint32_t)r->o.waiting);
        if (r->o.ttl)
                (void)cached_memo_options_set_ttl_ms(o, r->o.ttl);
        cached_key_add_text(k, key, strlen(key));
        code = cached_memoize(r->p->c[handle], "once", k, compute, &c, o, ret);
        cached_key_free(k);
        cached_memo_options_free(o);
        return code;
}

static void *run(void *data)
{
        struct run *r = data;
        cached_result *result;
        char text[2 * N_TEXT];
        const char *value;
        size_t n = 0;
        int code = memoize(r, r->handle, r->key, &result);

        value = cached_result_value(result, &n);
        if (r->o.keep && value && n >= 4 && cached_result_is_hit(result))
                keep(r, cached_result_value(result, NULL), n);
        (void)snprintf(text, sizeof(text), "done\t%d\t%d\t%d\t%d\t%llu\t%u\t%.*s\t%s", code,
                       cached_result_is_hit(result), cached_result_is_stale(result),
                       cached_result_cache_code(result),
                       (unsigned long long)cached_result_waited_ms(result),
                       cached_result_holder_pid(result), (int)(n < 100 ? n : 100),
                       value ? value : "", cached_result_error(result));
        cached_result_free(result);
        tell(r, text);
        return NULL;
}

static void begin(struct program *p, char *line)
{
        struct run *r = calloc(1, sizeof(*r));

        if (!r || p->n_runs == N_RUNS ||
            sscanf(line, "%31s %d %63s", r->tag, &r->handle, r->key) != 3)
                exit(3);
        r->p = p;
        r->o = p->o;
        pthread_mutex_lock(&p->lock);
        p->runs[p->n_runs++] = r;
        pthread_mutex_unlock(&p->lock);
        if (pthread_create(&r->thread, NULL, run, r) != 0)
                exit(3);
}

static void open_gate(struct program *p, const char *tag)
{
        pthread_mutex_lock(&p->lock);
        for (int i = 0; i < p->n_runs; i++)
                if (!strcmp(p->runs[i]->tag, tag))
                        p->runs[i]->is_open = true;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
}

static void set_option(struct options *o, const char *name, const char *value)
{
        unsigned long n = strtoul(value, NULL, 10);

        if (!strcmp(name, "wait"))
                o->wait = n;
        else if (!strcmp(name, "lease-wait"))
                o->lease_wait = n;
        else if (!strcmp(name, "hold"))
                o->hold = n;
        else if (!strcmp(name, "refresh"))
                o->refresh = n;
        else if (!strcmp(name, "waiting"))
                o->waiting = n;
        else if (!strcmp(name, "ttl"))
                o->ttl = n;
        else if (!strcmp(name, "keep"))
                o->keep = n;
}

static void command(struct program *p, char *line)
{
        char *rest = line, *verb, *first;

        line[strcspn(line, "\n")] = '\0';
        verb = strtok_r(rest, " ", &rest);
        if (!verb)
                return;
        if (!strcmp(verb, "run")) {
                begin(p, rest);
                return;
        }
        first = strtok_r(rest, " ", &rest);
        if (!first)
                return;
        if (!strcmp(verb, "option"))
                set_option(&p->o, first, rest);
        else if (!strcmp(verb, "define"))
                define(p, first, rest);
        else if (!strcmp(verb, "open"))
                open_gate(p, first);
        else if (!strcmp(verb, "close"))
                cached_close(p->c[atoi(first)]);
}

int main(int argc, char **argv)
{
        static struct program p = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                   .changed = PTHREAD_COND_INITIALIZER,
                                   .o = {.wait = 20000, .lease_wait = CACHED_NEVER}};
        cached_options *o = cached_options_new();
        char line[1024];

        if (argc < 2 || !o)
                return 2;
        (void)cached_options_set_socket(o, argv[1]);
        (void)cached_options_set_mapped(o, argc < 3 || atoi(argv[2]));
        if (cached_new(o, &p.c[0]) != CACHED_OK || cached_new(o, &p.c[1]) != CACHED_OK ||
            cached_with_timeout(p.c[0], 3000, &p.c[2]) != CACHED_OK)
                return 2;
        cached_options_free(o);
        while (fgets(line, sizeof(line), stdin))
                command(&p, line);
        for (int i = 0; i < p.n_runs; i++) {
                pthread_join(p.runs[i]->thread, NULL);
                free(p.runs[i]);
        }
        cached_free(p.c[2]);
        cached_free(p.c[1]);
        cached_free(p.c[0]);
        return 0;
}
