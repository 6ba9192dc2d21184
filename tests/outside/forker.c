/* SPDX-License-Identifier: MIT */
/*
 * Forks between any two calls of a mapped client
 *
 *     forker SOCKET THREADS
 *
 * A script of calls, each with the answer that it must have, on a cache of the process's own. For
 * each place in it a process does the calls before it, forks, and parent and child both do the
 * rest, at the same time; the child forks once more at the same place of a second run. All of them
 * read what the first process stored before, too. With THREADS others read through the same handle
 * all the time, also while it forks.
 *
 * Prints how many reads of the program were hits and misses: the daemon must have counted as many.
 * Status: 0, or 1 with a word on stderr.
 */

#include <cached.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMON      "common"
#define THREADS_MAX 8u

struct counts {
        atomic_ullong hits, misses;
};

struct process {
        cached *c;
        struct counts *counts;
        char cache[64];
        atomic_bool *stop;
};

static _Noreturn void die(const char *what, int code)
{
        fprintf(stderr, "forker: %s: %s\n", what, cached_strerror(code));
        _exit(1);
}

static void expect(const char *what, int code, int expected)
{
        if (code != expected)
                die(what, code);
}

/* ---- calls */

static void get(const struct process *p, const char *cache, const char *key, const char *value)
{
        cached_reply *r;
        int code = cached_get(p->c, cache, key, strlen(key), &r);
        size_t n = 0;
        const void *v = cached_reply_value(r, &n);

        expect("get", code, value ? CACHED_OK : CACHED_NOT_FOUND);
        if (value && (!v || n != strlen(value) || memcmp(v, value, n) != 0)) {
                fprintf(stderr, "forker: process %d, %s: '%.*s' instead of '%s'\n", (int)getpid(),
                        cache, (int)n, v ? (const char *)v : "", value);
                _exit(1);
        }
        cached_reply_free(r);
        atomic_fetch_add(value ? &p->counts->hits : &p->counts->misses, 1);
}

static void set(const struct process *p, const char *cache, const char *key, const char *value)
{
        expect("set", cached_set(p->c, cache, key, strlen(key), value, strlen(value), NULL, NULL),
               CACHED_OK);
}

static void get_many(const struct process *p)
{
        const void *keys[] = {"k", "none"};
        size_t n_keys[] = {1, 4};
        cached_reply *r;

        expect("get_many", cached_get_many(p->c, p->cache, 2, keys, n_keys, &r), CACHED_OK);
        expect("get_many", cached_reply_item_code(r, 0), CACHED_OK);
        expect("get_many", cached_reply_item_code(r, 1), CACHED_NOT_FOUND);
        cached_reply_free(r);
        atomic_fetch_add(&p->counts->hits, 1);
        atomic_fetch_add(&p->counts->misses, 1);
}

static void a_set(const struct process *p)
{
        set(p, p->cache, "k", "one");
}

static void b_get(const struct process *p)
{
        get(p, p->cache, "k", "one");
}

static void c_replace(const struct process *p)
{
        set(p, p->cache, "k", "two");
}

static void d_get(const struct process *p)
{
        get(p, p->cache, "k", "two");
}

static void e_miss(const struct process *p)
{
        get(p, p->cache, "none", NULL);
}

static void f_peek(const struct process *p)
{
        expect("peek", cached_peek(p->c, p->cache, "k", 1, NULL), CACHED_OK);
}

static void g_touch(const struct process *p)
{
        expect("touch", cached_touch(p->c, p->cache, "k", 1, 3600000, 0, NULL), CACHED_OK);
}

static void h_delete(const struct process *p)
{
        expect("delete", cached_delete(p->c, p->cache, "k", 1, NULL), CACHED_OK);
        get(p, p->cache, "k", NULL);
}

static void i_clear(const struct process *p)
{
        set(p, p->cache, "k", "three");
        expect("clear", cached_clear(p->c, p->cache, NULL), CACHED_OK);
        get(p, p->cache, "k", NULL);
}

static void j_connect(const struct process *p)
{
        expect("connect", cached_connect(p->c, NULL), CACHED_OK);
}

/* The value and every use of it at the end of the script is the same again: nothing is left over.
 */
static void (*const script[])(const struct process *p) = {
        a_set,    b_get,  b_get, c_replace, d_get,   get_many, f_peek, g_touch,   d_get,
        h_delete, e_miss, a_set, b_get,     i_clear, a_set,    b_get,  j_connect, b_get,
};
#define N_CALLS (sizeof(script) / sizeof(script[0]))

static void do_calls(const struct process *p, unsigned from, unsigned to)
{
        for (unsigned i = from; i < to; i++) {
                script[i](p);
                get(p, COMMON, "witness", "unchanged");
        }
}

/* ---- processes */

/* The parent goes on where it was. The child has a cache of its own, so it begins anew; and forks
 * again at that place. */
static void rest_in_child(struct process *p, unsigned at, unsigned depth)
{
        pid_t pid = fork();
        int status = 0;

        if (pid < 0)
                die("fork", CACHED_ERR_NOMEM);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                alarm(100);
                get(p, COMMON, "witness", "unchanged");
                (void)snprintf(p->cache, sizeof(p->cache), "child %d", (int)getpid());
                do_calls(p, 0, at);
                if (depth > 1)
                        rest_in_child(p, at, depth - 1);
                else
                        do_calls(p, at, N_CALLS);
                if (at % 3 == 0)
                        cached_close(p->c);
                if (at % 2 == 0)
                        cached_free(p->c);
                _exit(0);
        }
        do_calls(p, at, N_CALLS);
        if (waitpid(pid, &status, 0) != pid || status != 0)
                die("a child", CACHED_ERR_CLOSED);
}

static void *read_on(void *data)
{
        const struct process *p = data;

        while (!atomic_load(p->stop))
                get(p, COMMON, "witness", "unchanged");
        return NULL;
}

int main(int argc, char **argv)
{
        unsigned n_threads = argc == 3 ? (unsigned)atoi(argv[2]) : THREADS_MAX + 1;
        cached_options *o = cached_options_new();
        pthread_t threads[THREADS_MAX];
        atomic_bool stop = false;
        struct process p = {.stop = &stop};

        p.counts = mmap(NULL, sizeof(*p.counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                        -1, 0);
        if (n_threads > THREADS_MAX || !o || p.counts == MAP_FAILED ||
            cached_options_set_socket(o, argv[1]) != CACHED_OK ||
            cached_options_set_timeout_ms(o, 60000) != CACHED_OK ||
            cached_new(o, &p.c) != CACHED_OK)
                return 2;
        cached_options_free(o);
        set(&p, COMMON, "witness", "unchanged");
        for (unsigned i = 0; i < n_threads; i++)
                if (pthread_create(&threads[i], NULL, read_on, &p) != 0)
                        die("thread", CACHED_ERR_NOMEM);
        for (unsigned at = 0; at <= N_CALLS; at++) {
                (void)snprintf(p.cache, sizeof(p.cache), "parent %u", at);
                do_calls(&p, 0, at);
                rest_in_child(&p, at, 2);
        }
        atomic_store(&stop, true);
        for (unsigned i = 0; i < n_threads; i++)
                pthread_join(threads[i], NULL);
        cached_free(p.c);
        printf("hits=%llu misses=%llu\n", atomic_load(&p.counts->hits),
               atomic_load(&p.counts->misses));
        return 0;
}
