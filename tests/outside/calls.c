/* SPDX-License-Identifier: MIT */
/*
 * A program that uses libcached as it is told, for the tests from outside
 *
 *     calls SOCKET TIMEOUT_MS [unmapped]
 *
 * Reads commands, one a line, and answers each with one line: the code, the microseconds that it
 * took, and the error text or the value.
 *
 *     ping | connect | close
 *     get KEY | set KEY VALUE [TTL_MS] | add KEY VALUE      (add: the key must not be there)
 *     look KEY                                     its value, behind "fresh" or "stale"
 *     hits KEY N                                   so many gets; the first code that is no hit
 *     fork                                         ping in a child
 *     storm N                                      N threads set and get until calm or close
 *     calm                                         ends them; tells how often each code came
 */

#include <cached.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CACHE     "calls"
#define STORM_MAX 64
#define N_CODES   80
/* For a storm: a value that is another key's. */
#define NOT_A_VALUE 79

struct program {
        cached *c;
        pthread_t threads[STORM_MAX];
        int n_threads;
        atomic_bool calm;
        atomic_uint codes[N_CODES];
};

static uint64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* A value is its key, so that a wrong one is seen. */
static int storm_get(cached *c, const char *key, size_t n_key)
{
        cached_reply *r;
        int code = cached_get(c, CACHE, key, n_key, &r);
        size_t n = 0;
        const void *v = cached_reply_value(r, &n);

        if (code == CACHED_OK && (!v || n != n_key || memcmp(v, key, n) != 0))
                code = NOT_A_VALUE;
        cached_reply_free(r);
        return code;
}

static void *storm(void *data)
{
        struct program *p = data;
        bool is_calm = false;

        /* Once more when it is calm: a handle that was closed before has said so to every thread.
         */
        for (unsigned i = 0; !is_calm; i++) {
                char key[32];
                size_t n = (size_t)snprintf(key, sizeof(key), "storm-%u", i % 50);
                int code;

                is_calm = atomic_load(&p->calm);
                code = i % 3 == 0 ? cached_set(p->c, CACHE, key, n, key, n, NULL, NULL)
                                  : storm_get(p->c, key, n);

                atomic_fetch_add(&p->codes[code < N_CODES ? code : N_CODES - 1], 1);
                if (code == CACHED_ERR_CLOSED)
                        break;
        }
        return NULL;
}

static int storm_begin(struct program *p, int n)
{
        atomic_store(&p->calm, false);
        for (int i = 0; i < N_CODES; i++)
                atomic_store(&p->codes[i], 0);
        for (p->n_threads = 0; p->n_threads < n && p->n_threads < STORM_MAX; p->n_threads++)
                if (pthread_create(&p->threads[p->n_threads], NULL, storm, p) != 0)
                        return CACHED_ERR_NOMEM;
        return CACHED_OK;
}

static void storm_end(struct program *p, char *text, size_t n_text)
{
        size_t n = 0;

        atomic_store(&p->calm, true);
        for (int i = 0; i < p->n_threads; i++)
                pthread_join(p->threads[i], NULL);
        p->n_threads = 0;
        text[0] = '\0';
        for (int i = 0; i < N_CODES && n < n_text; i++)
                if (atomic_load(&p->codes[i]) > 0)
                        n += (size_t)snprintf(text + n, n_text - n, "%d:%u ", i,
                                              atomic_load(&p->codes[i]));
}

static int in_child(struct program *p)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                int code = cached_ping(p->c, NULL);

                cached_free(p->c);
                _exit(code);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                return -1;
        return WEXITSTATUS(status);
}

static int hits(struct program *p, const char *key, long n)
{
        int code = CACHED_OK;

        while (n-- > 0 && code == CACHED_OK) {
                cached_reply *r;

                code = cached_get(p->c, CACHE, key, strlen(key), &r);
                cached_reply_free(r);
        }
        return code;
}

static int store(struct program *p, const char *key, const char *value, const char *ttl, int mode,
                 cached_reply **ret)
{
        cached_set_options *o = cached_set_options_new();
        int code;

        if (ttl)
                (void)cached_set_options_set_ttl_ms(o, strtoull(ttl, NULL, 10));
        (void)cached_set_options_set_mode(o, mode);
        code = cached_set(p->c, CACHE, key, strlen(key), value, strlen(value), o, ret);
        cached_set_options_free(o);
        return code;
}

/* A value and whether it is stale. */
static int look(struct program *p, const char *key, char *text, size_t n_text)
{
        cached_reply *r = NULL;
        int code = cached_get(p->c, CACHE, key, strlen(key), &r);
        size_t n = 0;
        const char *v = cached_reply_value(r, &n);

        snprintf(text, n_text, "%s %.*s", cached_reply_is_stale(r) ? "stale" : "fresh", (int)n,
                 v ? v : "");
        cached_reply_free(r);
        return code;
}

static int command(struct program *p, char *line, cached_reply **r, char *text, size_t n_text)
{
        char *save = NULL, *verb = strtok_r(line, " \n", &save);
        const char *a = strtok_r(NULL, " \n", &save), *b = strtok_r(NULL, " \n", &save);

        if (!verb)
                return CACHED_ERR_USAGE;
        if (!strcmp(verb, "ping"))
                return cached_ping(p->c, r);
        if (!strcmp(verb, "connect"))
                return cached_connect(p->c, r);
        if (!strcmp(verb, "close"))
                return cached_close(p->c), CACHED_OK;
        if (!strcmp(verb, "get") && a)
                return cached_get(p->c, CACHE, a, strlen(a), r);
        if (!strcmp(verb, "look") && a)
                return look(p, a, text, n_text);
        if (!strcmp(verb, "set") && a && b)
                return store(p, a, b, strtok_r(NULL, " \n", &save), CACHED_SET_ANY, r);
        if (!strcmp(verb, "add") && a && b)
                return store(p, a, b, NULL, CACHED_SET_ADD_ONLY, r);
        if (!strcmp(verb, "hits") && a && b)
                return hits(p, a, atol(b));
        if (!strcmp(verb, "fork"))
                return in_child(p);
        if (!strcmp(verb, "storm") && a)
                return storm_begin(p, atoi(a));
        if (!strcmp(verb, "calm"))
                return storm_end(p, text, n_text), CACHED_OK;
        return CACHED_ERR_USAGE;
}

static void answer(struct program *p, char *line)
{
        char text[1024] = "";
        uint64_t start = now_us();
        cached_reply *r = NULL;
        int code = command(p, line, &r, text, sizeof(text));
        uint64_t took = now_us() - start;
        size_t n = 0;
        const char *v = cached_reply_value(r, &n);

        if (v)
                printf("%d %llu %.*s\n", code, (unsigned long long)took, (int)n, v);
        else
                printf("%d %llu %s%s\n", code, (unsigned long long)took, text,
                       r ? cached_reply_error(r) : "");
        fflush(stdout);
        cached_reply_free(r);
}

int main(int argc, char **argv)
{
        struct program p = {0};
        cached_options *o = cached_options_new();
        char line[4096];

        if (argc < 3 || !o)
                return 2;
        (void)cached_options_set_socket(o, argv[1]);
        (void)cached_options_set_timeout_ms(o, (uint32_t)atoi(argv[2]));
        if (argc > 3)
                (void)cached_options_set_mapped(o, 0);
        if (cached_new(o, &p.c) != CACHED_OK)
                return 2;
        cached_options_free(o);
        while (fgets(line, sizeof(line), stdin))
                answer(&p, line);
        if (p.n_threads > 0)
                storm_end(&p, line, sizeof(line));
        cached_free(p.c);
        return 0;
}
