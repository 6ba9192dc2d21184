/* SPDX-License-Identifier: MIT */
/*
 * Writers that know, of each key, what was answered last: so what a restart has lost shows
 *
 *     load write SOCKET WRITERS KEYS SIZE
 *
 * Each writer is a process and has its own part of the keys. A value has its key's number of the
 * store in it; of each key stands here the last number that was answered, and the last that was
 * sent. What is found must be one of those between: an older one is a store that was lost after it
 * was answered, a newer one was never sent. Under load one in sixteen is deleted, and most are
 * stored sixteen at a time; sizes are within an eighth of SIZE.
 *
 *     fill        stores each key once
 *     run         the writers begin, until
 *     quiet       they rest, each after the call that it is in
 *     kill PID    kills the service under them, and quiet
 *     verify      looks every key up at the daemon; what is lost is forgotten afterwards
 *     tell        how calls ended
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define MANY        16u
#define FILL_MANY   64u
#define WRITERS_MAX 16u
#define TOLD_MAX    5u

struct key {
        uint32_t answered, sent;
        bool deleted;    /* by what was answered last */
        bool may_be_not; /* something sent since then would have deleted it */
};

struct shared {
        atomic_int running;
        atomic_uint n_busy;
        atomic_ullong stores;
        struct load_tally sets, many, deletes;
        struct key keys[];
};

struct writer {
        cached *c;
        struct shared *s;
        uint64_t first, n; /* its keys */
        size_t size;
        uint64_t random;
        uint8_t (*values)[LOAD_VALUE_MAX]; /* MANY */
};

static size_t some_size(struct writer *w)
{
        size_t spread = w->size / 8;
        size_t n = w->size - spread + (spread ? load_random(&w->random) % (2 * spread) : 0);

        return n < LOAD_VALUE_MIN ? LOAD_VALUE_MIN : n;
}

static void note_answer(struct key *k, uint32_t seq, bool deleted, int code)
{
        bool is_done = code == CACHED_OK || (deleted && code == CACHED_NOT_FOUND);

        if (is_done) {
                k->answered = seq;
                k->deleted = deleted;
                k->may_be_not = false;
        } else if (deleted) {
                k->may_be_not = true;
        }
}

static void set_one(struct writer *w)
{
        uint64_t key = w->first + load_random(&w->random) % w->n;
        struct key *k = &w->s->keys[key];
        size_t n = some_size(w);
        int code;

        load_make(w->values[0], key, ++k->sent, n);
        code = cached_set(w->c, "load", &key, sizeof(key), w->values[0], n, NULL, NULL);
        note_answer(k, k->sent, false, code);
        load_count(&w->s->sets, code);
        atomic_fetch_add(&w->s->stores, code == CACHED_OK);
}

static void delete_one(struct writer *w)
{
        uint64_t key = w->first + load_random(&w->random) % w->n;
        struct key *k = &w->s->keys[key];
        int code;

        k->sent++;
        code = cached_delete(w->c, "load", &key, sizeof(key), NULL);
        note_answer(k, k->sent, true, code);
        load_count(&w->s->deletes, code);
}

/* @n keys from @from on, of which each is another one. */
static void set_many(struct writer *w, uint64_t from, unsigned n)
{
        uint64_t numbers[FILL_MANY];
        const void *keys[FILL_MANY] = {0}, *values[FILL_MANY] = {0};
        size_t n_keys[FILL_MANY] = {0}, n_values[FILL_MANY] = {0};
        cached_reply *r = NULL;
        int code;

        for (unsigned i = 0; i < n; i++) {
                numbers[i] = w->first + (from + i) % w->n;
                n_values[i] = some_size(w);
                load_make(w->values[i], numbers[i], ++w->s->keys[numbers[i]].sent, n_values[i]);
                keys[i] = &numbers[i];
                values[i] = w->values[i];
                n_keys[i] = sizeof(numbers[i]);
        }
        code = cached_set_many(w->c, "load", n, keys, n_keys, values, n_values, NULL, &r);
        for (unsigned i = 0; i < n; i++) {
                struct key *k = &w->s->keys[numbers[i]];
                int its = code == CACHED_OK ? cached_reply_item_code(r, i) : code;

                note_answer(k, k->sent, false, its);
                load_count(&w->s->many, its);
                atomic_fetch_add(&w->s->stores, its == CACHED_OK);
        }
        cached_reply_free(r);
}

static void write_some(struct writer *w)
{
        uint64_t die = load_random(&w->random) % 64;

        if (die < 4)
                delete_one(w);
        else if (die < 28)
                set_one(w);
        else
                set_many(w, load_random(&w->random) % w->n, w->n < MANY ? (unsigned)w->n : MANY);
}

static _Noreturn void writer_run(struct writer *w)
{
        for (;;) {
                atomic_fetch_add(&w->s->n_busy, 1); /* before it looks: rest() has the reverse */
                while (atomic_load(&w->s->running))
                        write_some(w);
                atomic_fetch_sub(&w->s->n_busy, 1);
                load_sleep_us(200);
        }
}

static void rest(struct shared *s)
{
        atomic_store(&s->running, 0);
        while (atomic_load(&s->n_busy) > 0)
                load_sleep_us(200);
}

/* ---- what is there */

struct found {
        unsigned long long expected, there, lost, wrong, older, failed;
};

static void tell_wrong(uint64_t key, const struct key *k, uint64_t seq, const char *what)
{
        static unsigned n;

        if (n++ < TOLD_MAX)
                fprintf(stderr, "load: key %llu: %s: %llu found, %u answered%s, %u sent\n",
                        (unsigned long long)key, what, (unsigned long long)seq, k->answered,
                        k->deleted ? " (deleted)" : "", k->sent);
}

static void look_at(struct key *k, uint64_t key, int code, const void *value, size_t n,
                    struct found *f)
{
        bool expected = k->answered > 0 && !k->deleted && !k->may_be_not;
        uint64_t seq = code == CACHED_OK ? load_look(value, n, key) : 0;

        f->expected += expected;
        if (code == CACHED_OK && (seq == 0 || seq > k->sent)) {
                f->wrong++;
                tell_wrong(key, k, seq, "wrong");
        } else if (code == CACHED_OK && (seq < k->answered || (k->deleted && seq == k->answered))) {
                f->older++;
                tell_wrong(key, k, seq, "older than what was answered");
        } else if (code == CACHED_OK) {
                f->there += expected;
        } else if (code == CACHED_NOT_FOUND) {
                f->lost += expected;
                if (expected)
                        tell_wrong(key, k, 0, "lost");
        } else {
                f->failed++;
        }
        k->deleted = code != CACHED_OK;
        k->answered = seq ? (uint32_t)seq : k->sent;
        k->may_be_not = false;
}

static void verify(struct writer *w, uint64_t n_keys)
{
        struct found f = {0};

        for (uint64_t from = 0; from < n_keys; from += FILL_MANY) {
                uint64_t numbers[FILL_MANY];
                const void *keys[FILL_MANY] = {0};
                size_t n_keys_of[FILL_MANY] = {0};
                unsigned n = n_keys - from < FILL_MANY ? (unsigned)(n_keys - from) : FILL_MANY;
                cached_reply *r = NULL;
                int code;

                for (unsigned i = 0; i < n; i++) {
                        numbers[i] = from + i;
                        keys[i] = &numbers[i];
                        n_keys_of[i] = sizeof(numbers[i]);
                }
                code = cached_get_many(w->c, "load", n, keys, n_keys_of, &r);
                for (unsigned i = 0; i < n; i++) {
                        int its = code == CACHED_OK ? cached_reply_item_code(r, i) : code;
                        size_t size = 0;
                        const void *value = cached_reply_item_value(r, i, &size);

                        look_at(&w->s->keys[numbers[i]], numbers[i], its, value, size, &f);
                }
                cached_reply_free(r);
        }
        printf("{\"expected\": %llu, \"there\": %llu, \"lost\": %llu, \"wrong\": %llu, "
               "\"older\": %llu, \"failed\": %llu}",
               f.expected, f.there, f.lost, f.wrong, f.older, f.failed);
}

/* ---- commands */

static void do_kill(struct shared *s, const char *pid)
{
        unsigned long long before = atomic_load(&s->stores);

        if (kill(atoi(pid), SIGKILL) != 0)
                load_die("kill %s: %s", pid, strerror(errno));
        printf("{\"killed_ns\": %llu, \"stores\": %llu}", (unsigned long long)load_now_ns(),
               before);
        rest(s);
}

static void tell(struct shared *s)
{
        printf("{");
        load_print_tally("set", &s->sets);
        printf(", ");
        load_print_tally("set_many", &s->many);
        printf(", ");
        load_print_tally("delete", &s->deletes);
        printf("}");
}

static void obey(struct writer *w, char **words, uint64_t n_keys)
{
        if (load_is(words, "fill")) {
                for (uint64_t from = 0; from < n_keys; from += FILL_MANY)
                        set_many(w, from,
                                 n_keys - from < FILL_MANY ? (unsigned)(n_keys - from) : FILL_MANY);
        } else if (load_is(words, "run")) {
                atomic_store(&w->s->running, 1);
        } else if (load_is(words, "quiet")) {
                rest(w->s);
        } else if (load_is(words, "kill")) {
                do_kill(w->s, words[1]);
        } else if (load_is(words, "verify")) {
                verify(w, n_keys);
        } else if (load_is(words, "tell")) {
                tell(w->s);
        } else {
                load_die("write: no command %s", words[0]);
        }
        load_answer();
}

int load_write(int argc, char **argv)
{
        struct writer w = {.random = 1};
        unsigned n_writers;
        uint64_t n_keys;
        char *words[LOAD_WORDS];

        if (argc != 6)
                load_die("write SOCKET WRITERS KEYS SIZE");
        n_writers = (unsigned)strtoul(argv[3], NULL, 10);
        n_keys = strtoull(argv[4], NULL, 10);
        w.size = strtoul(argv[5], NULL, 10);
        w.values = malloc(FILL_MANY * sizeof(*w.values));
        w.s = load_shared(sizeof(*w.s) + n_keys * sizeof(struct key));
        if (n_writers < 1 || n_writers > WRITERS_MAX || n_keys < n_writers || !w.values ||
            w.size > LOAD_VALUE_MAX / 2)
                load_die("write: out of range");
        w.n = n_keys;
        for (unsigned i = 0; i < n_writers; i++)
                if (load_fork() == 0) {
                        w.c = load_handle(argv[2], false);
                        w.n = n_keys / n_writers;
                        w.first = i * w.n;
                        w.random = i + 2;
                        writer_run(&w);
                }
        w.c = load_handle(argv[2], false);
        while (load_command(words))
                obey(&w, words, n_keys);
        cached_free(w.c);
        free(w.values);
        return 0;
}
