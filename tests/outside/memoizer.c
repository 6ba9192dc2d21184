/* SPDX-License-Identifier: MIT */
/*
 * A program that memoizes as the header says, for the tests from outside
 *
 *     memoizer SOCKET OBJECT
 *
 * Reads commands, one a line, and answers each with one line of fields between tabs: the code, 1
 * for a hit, the cache's code, how often the function has run in this process, the size of the
 * value, its first bytes, the error text.
 *
 *     object PATH                              another object's function
 *     version V | cache C | ttl MS | wait MS   options; "version" alone: the build-id
 *     fail CODE                                the function fails with it; 0: no more
 *     big N                                    values are N bytes longer
 *     run [ARG]                                slow(ARG), memoized
 *     fib N                                    by memoizing itself, all the way down
 *     threads N                                in each of them slow(0) ... slow(19)
 *     fork ARG                                 run in a child; the code is the child's
 *     close                                    cached_close()
 */

#include "memoizer.h"

#include <cached.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX  64
#define THREADS_ARGS 20

struct program {
        cached *c;
        cached_memo_options *o;
        void *object;
        cached_compute slow;
        struct job job; /* what all runs share */
        atomic_uint calls;
        atomic_uint wrong;
};

/* In a fib. */
struct fib {
        struct program *p;
        unsigned n;
};

static int compute_fib(void *data, cached_result *out);

static int fib(struct program *p, unsigned n, cached_result **ret)
{
        struct fib f = {p, n};
        cached_key *k = cached_key_new();
        int code;

        cached_key_add_uint(k, n);
        code = cached_memoize(p->c, "fib", k, compute_fib, &f, p->o, ret);
        cached_key_free(k);
        return code;
}

static int compute_fib(void *data, cached_result *out)
{
        const struct fib *f = data;
        unsigned long long sum = 0;
        char text[32];

        atomic_fetch_add(&f->p->calls, 1);
        if (f->n < 2)
                sum = f->n;
        for (unsigned i = 1; f->n >= 2 && i <= 2; i++) {
                cached_result *r;
                int code = fib(f->p, f->n - i, &r);

                if (code == CACHED_OK)
                        sum += strtoull(cached_result_value(r, NULL), NULL, 10);
                cached_result_free(r);
                if (code != CACHED_OK)
                        return code;
        }
        /* With its zero. */
        return cached_result_set(out, text, (size_t)sprintf(text, "%llu", sum) + 1);
}

static int run(struct program *p, const char *arg, cached_result **ret)
{
        struct job job = p->job;
        cached_key *k = cached_key_new();
        int code;

        job.arg = arg;
        cached_key_add_text(k, arg, strlen(arg));
        cached_key_add_uint(k, job.n_big);
        code = cached_memoize(p->c, "slow", k, p->slow, &job, p->o, ret);
        cached_key_free(k);
        return code;
}

static void *thread(void *data)
{
        struct program *p = data;

        for (int i = 0; i < THREADS_ARGS; i++) {
                cached_result *r;
                char arg[16], *value;
                size_t n = 0, n_arg = (size_t)sprintf(arg, "%d", i);

                if (run(p, arg, &r) != CACHED_OK)
                        atomic_fetch_add(&p->wrong, 1);
                value = cached_result_value(r, &n);
                if (!value || n < n_arg || memcmp(value + n - n_arg, arg, n_arg) != 0)
                        atomic_fetch_add(&p->wrong, 1);
                else
                        memset(value, '!', n); /* it is ours */
                cached_result_free(r);
        }
        return NULL;
}

static int threads(struct program *p, int n)
{
        pthread_t t[THREADS_MAX];
        int made = 0;

        atomic_store(&p->wrong, 0);
        while (made < n && made < THREADS_MAX && pthread_create(&t[made], NULL, thread, p) == 0)
                made++;
        for (int i = 0; i < made; i++)
                pthread_join(t[i], NULL);
        return (int)atomic_load(&p->wrong);
}

/* 0: a hit; 1: computed; else a failure. */
static int in_child(struct program *p, const char *arg)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                cached_result *r;
                int code = run(p, arg, &r);
                bool is_hit = cached_result_is_hit(r);

                cached_result_free(r);
                cached_memo_options_free(p->o);
                cached_free(p->c);
                _exit(code != CACHED_OK ? 2 : !is_hit);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                return -1;
        return WEXITSTATUS(status);
}

static int load(struct program *p, const char *path)
{
        if (p->object)
                (void)dlclose(p->object);
        p->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!p->object)
                return -1;
        *(void **)&p->slow = dlsym(p->object, "slow");
        return p->slow ? 0 : -1;
}

static int command(struct program *p, const char *verb, const char *arg, cached_result **ret)
{
        unsigned long n = strtoul(arg, NULL, 10);

        if (!strcmp(verb, "object"))
                return load(p, arg);
        if (!strcmp(verb, "version"))
                return cached_memo_options_set_version(p->o, arg);
        if (!strcmp(verb, "cache"))
                return cached_memo_options_set_cache(p->o, arg);
        if (!strcmp(verb, "ttl"))
                return cached_memo_options_set_ttl_ms(p->o, n);
        if (!strcmp(verb, "wait"))
                return cached_memo_options_set_wait_ms(p->o, (uint32_t)n);
        if (!strcmp(verb, "fail"))
                return p->job.fail = atoi(arg), 0;
        if (!strcmp(verb, "big"))
                return p->job.n_big = n, 0;
        if (!strcmp(verb, "run"))
                return run(p, arg, ret);
        if (!strcmp(verb, "fib"))
                return fib(p, (unsigned)n, ret);
        if (!strcmp(verb, "threads"))
                return threads(p, (int)n);
        if (!strcmp(verb, "fork"))
                return in_child(p, arg);
        if (!strcmp(verb, "close"))
                return cached_close(p->c), 0;
        return -1;
}

static void answer(struct program *p, char *line)
{
        cached_result *r = NULL;
        char *arg;
        size_t n = 0;
        const char *value;
        int code;

        line[strcspn(line, "\n")] = '\0';
        arg = strchr(line, ' ');
        if (arg)
                *arg++ = '\0';
        code = command(p, line, arg ? arg : "", &r);
        value = cached_result_value(r, &n);
        printf("%d\t%d\t%d\t%u\t%zu\t%.*s\t%s\n", code, cached_result_is_hit(r),
               cached_result_cache_code(r), atomic_load(&p->calls), n, (int)(n < 100 ? n : 100),
               value ? value : "", r ? cached_result_error(r) : "");
        fflush(stdout);
        cached_result_free(r);
}

int main(int argc, char **argv)
{
        struct program p = {.o = cached_memo_options_new()};
        cached_options *o = cached_options_new();
        char line[4096];

        p.job.calls = &p.calls;
        if (argc != 3 || !o || !p.o || load(&p, argv[2]) < 0)
                return 2;
        (void)cached_options_set_socket(o, argv[1]);
        /* A busy machine is not a daemon that is away. */
        (void)cached_memo_options_set_wait_ms(p.o, 20000);
        if (cached_new(o, &p.c) != CACHED_OK)
                return 2;
        cached_options_free(o);
        while (fgets(line, sizeof(line), stdin))
                answer(&p, line);
        cached_free(p.c);
        cached_memo_options_free(p.o);
        (void)dlclose(p.object);
        return 0;
}
