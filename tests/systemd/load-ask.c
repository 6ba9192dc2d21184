/* SPDX-License-Identifier: MIT */
/*
 * A client that asks without pause: for how long it gets no answer
 *
 *     load ask SOCKET KEYS MAPPED    gets of keys below KEYS that `load write` has stored
 *
 *     mark    begins to count anew
 *     tell    what was counted: answers, misses, values that were wrong, other codes; the longest
 *             time from one hit to the next, and when that began and ended; how many such times
 *             were longer than a window, and all of them together
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define WINDOW_NS UINT64_C(10000000)

struct counts {
        unsigned long long hits, misses, wrong, failed, gaps;
        uint64_t longest_ns, began_ns, ended_ns, gaps_ns;
        int code; /* the last that failed */
};

struct asker {
        cached *c;
        uint64_t n_keys;
        pthread_mutex_t lock;
        struct counts counts;
        uint64_t last_ns;
};

static void count_hit(struct asker *a, uint64_t now)
{
        struct counts *n = &a->counts;
        uint64_t gap = now - a->last_ns;

        n->hits++;
        if (gap > n->longest_ns) {
                n->longest_ns = gap;
                n->began_ns = a->last_ns;
                n->ended_ns = now;
        }
        if (gap > WINDOW_NS) {
                n->gaps++;
                n->gaps_ns += gap;
        }
        a->last_ns = now;
}

static void ask_once(struct asker *a, uint64_t key)
{
        cached_reply *r = NULL;
        int code = cached_get(a->c, "load", &key, sizeof(key), &r);
        uint64_t now;
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);
        bool right = code == CACHED_OK && load_look(value, n, key) > 0;

        cached_reply_free(r);
        now = load_now_ns();
        pthread_mutex_lock(&a->lock);
        if (right) {
                count_hit(a, now);
        } else if (code == CACHED_OK) {
                a->counts.wrong++;
        } else if (code == CACHED_NOT_FOUND) {
                a->counts.misses++;
        } else {
                a->counts.failed++;
                a->counts.code = code;
        }
        pthread_mutex_unlock(&a->lock);
}

static void *run(void *arg)
{
        struct asker *a = arg;
        uint64_t state = 88172645463325252u;

        for (;;)
                ask_once(a, load_random(&state) % a->n_keys);
        return NULL;
}

static void tell(struct asker *a)
{
        struct counts n;

        pthread_mutex_lock(&a->lock);
        n = a->counts;
        pthread_mutex_unlock(&a->lock);
        printf("{\"hits\": %llu, \"misses\": %llu, \"wrong\": %llu, \"failed\": %llu, "
               "\"code\": %d, \"longest_ns\": %llu, \"began_ns\": %llu, \"ended_ns\": %llu, "
               "\"gaps\": %llu, \"gaps_ns\": %llu}",
               n.hits, n.misses, n.wrong, n.failed, n.code, (unsigned long long)n.longest_ns,
               (unsigned long long)n.began_ns, (unsigned long long)n.ended_ns, n.gaps,
               (unsigned long long)n.gaps_ns);
        load_answer();
}

int load_ask(int argc, char **argv)
{
        static struct asker a = {.lock = PTHREAD_MUTEX_INITIALIZER};
        char *words[LOAD_WORDS];
        pthread_t thread;

        if (argc != 5)
                load_die("ask SOCKET KEYS MAPPED");
        a.c = load_handle(argv[2], atoi(argv[4]) != 0);
        a.n_keys = strtoull(argv[3], NULL, 10);
        a.last_ns = load_now_ns();
        if (a.n_keys == 0 || pthread_create(&thread, NULL, run, &a) != 0)
                load_die("cannot begin");
        while (load_command(words)) {
                if (load_is(words, "mark")) {
                        pthread_mutex_lock(&a.lock);
                        a.counts = (struct counts){0};
                        pthread_mutex_unlock(&a.lock);
                        load_answer();
                } else if (load_is(words, "tell")) {
                        tell(&a);
                } else {
                        load_die("ask: no command %s", words[0]);
                }
        }
        _Exit(0); /* with its thread, wherever that is */
}
