/* SPDX-License-Identifier: MIT */
/*
 * Clients that do what programs do, while the service is restarted: which calls fail
 *
 *     load mix SOCKET CLIENTS KEYS PAUSE_US
 *
 * Each client is a process that makes a call and pauses: it stores values of its own and reads them
 * (mapped), memoizes a function that others ask for, too, counts in a session of its own and sets
 * values there, counts in a segment under its lock, and acquires others. It knows what each answer
 * has to be: what it stored last, a square, what was acknowledged.
 *
 *     mark    begins to count the slow calls anew
 *     tell    the slow ones since then: how many, the longest, from the begin of the first to the
 *             end of the last
 *     calls   how calls ended since the beginning
 *     ready   how many clients have begun
 *     end     the clients end; how all calls ended, and whether sums are right
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "load.h"

#define CLIENTS_MAX 64u
#define SLOW_NS     UINT64_C(50000000)
#define SIZE_MAX_   2000u
#define ARGUMENTS   500u
#define SEGMENTS    4u
#define TOLD_MAX    20u

enum kind { SET, GET, MEMO, ADD, PUT, TAKE, LOCK, UNLOCK, ACQUIRE, N_KINDS };

static const char *const kind_names[N_KINDS] = {
        [SET] = "set",         [GET] = "get",         [MEMO] = "memoize",
        [ADD] = "session_add", [PUT] = "session_set", [TAKE] = "session_get",
        [LOCK] = "lock",       [UNLOCK] = "unlock",   [ACQUIRE] = "acquire",
};

struct shared {
        atomic_int ending;
        atomic_uint n_told, n_ready;
        struct load_tally tallies[N_KINDS];
        struct load_tally uncached; /* cached_result_cache_code() of memoized calls */
        atomic_ullong calls, runs, added;
        atomic_ullong n_slow, slowest_ns, slow_until_ns, slow_from_inv; /* ~ of when it began */
        atomic_uint slowest_kind;
};

struct own {
        uint32_t answered, sent;
};

struct client {
        cached *c;
        struct shared *s;
        unsigned id;
        uint64_t n_keys, random, round;
        struct own *own;
        cached_session *session;
        int64_t count_low, count_high; /* what the session's number may be */
        uint64_t put_answered, put_sent;
        cached_resource *counter; /* held all the time */
        cached_memo_options *memo;
        cached_key *key;
        uint8_t value[SIZE_MAX_];
};

/* ---- how calls end */

static void tell_wrong(struct client *k, enum kind kind, const char *what, const char *error)
{
        atomic_fetch_add(&k->s->tallies[kind].wrong, 1);
        if (atomic_fetch_add(&k->s->n_told, 1) < TOLD_MAX)
                fprintf(stderr, "load: client %u: %s: %s %s\n", k->id, kind_names[kind], what,
                        error ? error : "");
}

static void note(struct client *k, enum kind kind, uint64_t began, int code, const char *error)
{
        uint64_t now = load_now_ns();
        struct shared *s = k->s;

        load_count(&s->tallies[kind], code);
        atomic_fetch_add(&s->calls, 1);
        if (code != CACHED_OK && code != CACHED_NOT_FOUND && code != CACHED_OUTCOME_UNKNOWN &&
            atomic_fetch_add(&s->n_told, 1) < TOLD_MAX)
                fprintf(stderr, "load: client %u: %s: code %d %s\n", k->id, kind_names[kind], code,
                        error ? error : "");
        if (now - began < SLOW_NS)
                return;
        atomic_fetch_add(&s->n_slow, 1);
        if (now - began > atomic_load(&s->slowest_ns))
                atomic_store(&s->slowest_kind, kind);
        load_keep_larger(&s->slowest_ns, now - began);
        load_keep_larger(&s->slow_until_ns, now);
        load_keep_larger(&s->slow_from_inv, ~began);
}

/* ---- data */

static void do_set(struct client *k)
{
        uint64_t i = load_random(&k->random) % k->n_keys, key = k->id * k->n_keys + i;
        size_t n = LOAD_VALUE_MIN + load_random(&k->random) % (SIZE_MAX_ - LOAD_VALUE_MIN);
        uint64_t began;
        int code;

        load_make(k->value, key, ++k->own[i].sent, n);
        began = load_now_ns();
        code = cached_set(k->c, "mix", &key, sizeof(key), k->value, n, NULL, NULL);
        note(k, SET, began, code, NULL);
        if (code == CACHED_OK)
                k->own[i].answered = k->own[i].sent;
}

static void do_get(struct client *k)
{
        uint64_t i = load_random(&k->random) % k->n_keys, key = k->id * k->n_keys + i;
        uint64_t began = load_now_ns(), seq;
        cached_reply *r = NULL;
        int code = cached_get(k->c, "mix", &key, sizeof(key), &r);
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);

        note(k, GET, began, code, cached_reply_error(r));
        seq = load_look(value, n, key);
        if (code == CACHED_OK && (seq < k->own[i].answered || seq > k->own[i].sent || seq == 0))
                tell_wrong(k, GET, "a value that is not the last one", "");
        if (code == CACHED_NOT_FOUND && k->own[i].answered > 0) {
                tell_wrong(k, GET, "a value was lost", "");
                k->own[i].answered = 0;
        }
        cached_reply_free(r);
}

struct square {
        struct client *k;
        uint64_t n;
};

static int compute(void *data, cached_result *out)
{
        struct square *q = data;
        uint64_t square = q->n * q->n;

        atomic_fetch_add(&q->k->s->runs, 1);
        load_sleep_us(1000); /* so that others come and wait */
        return cached_result_set(out, &square, sizeof(square));
}

/* The arguments move on, so that there are always some that nobody has asked for yet. */
static void do_memo(struct client *k)
{
        struct square q = {.k = k, .n = k->round++ / 8 + load_random(&k->random) % ARGUMENTS};
        uint64_t began, square = 0;
        cached_result *r = NULL;
        size_t n = 0;
        int code;
        void *value;

        cached_key_reset(k->key);
        (void)cached_key_add_uint(k->key, q.n);
        began = load_now_ns();
        code = cached_memoize(k->c, "square", k->key, compute, &q, k->memo, &r);
        note(k, MEMO, began, code, cached_result_error(r));
        value = cached_result_value(r, &n);
        if (value && n == sizeof(square))
                memcpy(&square, value, n);
        if (code == CACHED_OK && square != q.n * q.n)
                tell_wrong(k, MEMO, "not the square", "");
        load_count(&k->s->uncached, cached_result_cache_code(r));
        cached_result_free(r);
}

/* ---- a session */

static void do_add(struct client *k)
{
        const int64_t zero = 0;
        uint64_t began = load_now_ns();
        int64_t sum = 0;
        cached_reply *r = NULL;
        int code = cached_session_increment(k->session, "count", 1, &zero, &sum, &r);

        note(k, ADD, began, code, cached_reply_error(r));
        k->count_high += code == CACHED_OK || code == CACHED_OUTCOME_UNKNOWN;
        k->count_low += code == CACHED_OK;
        if (code == CACHED_OK) {
                if (sum < k->count_low || sum > k->count_high)
                        tell_wrong(k, ADD, "not the number", "");
                k->count_low = k->count_high = sum;
        }
        cached_reply_free(r);
}

static void do_put(struct client *k)
{
        uint64_t began = load_now_ns(), number = ++k->put_sent;
        cached_reply *r = NULL;
        int code = cached_session_set(k->session, "put", &number, sizeof(number), &r);

        note(k, PUT, began, code, cached_reply_error(r));
        if (code == CACHED_OK)
                k->put_answered = number;
        cached_reply_free(r);
}

static void do_take(struct client *k)
{
        uint64_t began = load_now_ns(), number = 0;
        cached_reply *r = NULL;
        int code = cached_session_get(k->session, "put", &r);
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);

        note(k, TAKE, began, code, cached_reply_error(r));
        if (value && n == sizeof(number))
                memcpy(&number, value, n);
        if (code == CACHED_OK && (number < k->put_answered || number > k->put_sent))
                tell_wrong(k, TAKE, "not the value that was set last", "");
        if (code == CACHED_NOT_FOUND && k->put_answered > 0)
                tell_wrong(k, TAKE, "lost:", cached_reply_error(r));
        cached_reply_free(r);
}

/* ---- resources */

static void do_lock(struct client *k)
{
        uint64_t began = load_now_ns();
        cached_reply *r = NULL;
        int code = cached_resource_lock(k->counter, UINT32_MAX, &r);
        volatile uint64_t *count = cached_resource_data(k->counter);

        note(k, LOCK, began, code, cached_reply_error(r));
        cached_reply_free(r);
        if (code != CACHED_OK && code != CACHED_OWNER_DIED)
                return;
        *count = *count + 1;
        atomic_fetch_add(&k->s->added, 1);
        began = load_now_ns();
        code = cached_resource_unlock(k->counter);
        note(k, UNLOCK, began, code, NULL);
}

static int fill(cached_resource *r, void *data)
{
        (void)data;
        memset(cached_resource_data(r), 7, cached_resource_size(r));
        return 0;
}

static void do_acquire(struct client *k)
{
        cached_resource_options *o = cached_resource_options_new();
        uint64_t key = load_random(&k->random) % SEGMENTS, began = load_now_ns();
        cached_resource *s = NULL;
        cached_reply *r = NULL;
        int code;

        if (!o || cached_resource_options_set_create(o, fill, NULL) != CACHED_OK)
                load_die("no memory");
        code = cached_resource_acquire_segment(k->c, "segments", &key, sizeof(key), 4096, o, &s,
                                               &r);
        note(k, ACQUIRE, began, code, cached_reply_error(r));
        if (code == CACHED_OK && *(uint8_t *)cached_resource_data(s) != 7)
                tell_wrong(k, ACQUIRE, "not what it was filled with", "");
        cached_resource_release(s);
        cached_reply_free(r);
        cached_resource_options_free(o);
}

/* ---- clients */

static void begin(struct client *k, const char *socket)
{
        cached_resource_options *o = cached_resource_options_new();
        int code;

        k->c = load_handle(socket, true);
        k->key = cached_key_new();
        k->memo = cached_memo_options_new();
        k->own = calloc(k->n_keys, sizeof(*k->own));
        if (!o || !k->key || !k->own)
                load_die("no memory");
        /* As patient as the other calls. By default it is not: where a restart takes longer, its
         * time-out makes the daemon count as silent, and the handle's other calls fail as well. */
        code = cached_memo_options_set_wait_ms(k->memo, LOAD_TIMEOUT_MS);
        if (code == CACHED_OK)
                code = cached_session_open(k->c, NULL, &k->session, NULL);
        if (code == CACHED_OK)
                code = cached_resource_options_set_create(o, NULL, NULL);
        if (code == CACHED_OK) {
                code = cached_resource_acquire_segment(k->c, "counter", "c", 1, sizeof(uint64_t), o,
                                                       &k->counter, NULL);
                if (code == CACHED_NOT_FOUND && k->counter)
                        code = cached_resource_publish(k->counter, NULL);
        }
        if (code != CACHED_OK)
                load_die("client %u cannot begin: %s", k->id, cached_strerror(code));
        cached_resource_options_free(o);
}

/* What was acknowledged is there, at the daemon. */
static void check(struct client *k)
{
        uint64_t state = k->random;

        k->random = 1;
        for (uint64_t i = 0; i < 200; i++)
                do_get(k);
        k->random = state;
        do_take(k);
        do_add(k);
}

static _Noreturn void client_run(struct client *k, uint64_t pause_us, const char *socket)
{
        static void (*const calls[])(struct client * k) = {
                do_set, do_set,  do_set,  do_set, do_get, do_get,  do_get,  do_get,     do_get,
                do_get, do_memo, do_memo, do_add, do_put, do_take, do_lock, do_acquire,
        };

        begin(k, socket);
        atomic_fetch_add(&k->s->n_ready, 1);
        while (!atomic_load(&k->s->ending)) {
                calls[load_random(&k->random) % (sizeof(calls) / sizeof(calls[0]))](k);
                load_sleep_us(pause_us);
        }
        check(k);
        cached_resource_release(k->counter);
        cached_session_free(k->session);
        cached_free(k->c);
        cached_key_free(k->key);
        cached_memo_options_free(k->memo);
        free(k->own);
        exit(0);
}

/* ---- commands */

static void mark(struct shared *s)
{
        atomic_store(&s->n_slow, 0);
        atomic_store(&s->slowest_ns, 0);
        atomic_store(&s->slow_until_ns, 0);
        atomic_store(&s->slow_from_inv, 0);
}

static void tell(struct shared *s)
{
        unsigned long long until = atomic_load(&s->slow_until_ns);
        unsigned long long from = ~atomic_load(&s->slow_from_inv);

        printf("{\"slow\": %llu, \"slowest_ns\": %llu, \"slowest\": \"%s\", \"span_ns\": %llu, "
               "\"calls\": %llu}",
               atomic_load(&s->n_slow), atomic_load(&s->slowest_ns),
               kind_names[atomic_load(&s->slowest_kind)], until ? until - from : 0,
               atomic_load(&s->calls));
}

static void tell_calls(struct shared *s)
{
        printf("{");
        for (unsigned i = 0; i < N_KINDS; i++) {
                load_print_tally(kind_names[i], &s->tallies[i]);
                printf(", ");
        }
        load_print_tally("memoize_cache", &s->uncached);
        printf("}");
}

/* The segment is there as long as this process holds it. */
static uint64_t read_counter(cached *c)
{
        cached_resource *r = NULL;
        uint64_t count = 0;

        if (cached_resource_acquire_segment(c, "counter", "c", 1, sizeof(uint64_t), NULL, &r,
                                            NULL) == CACHED_OK)
                memcpy(&count, cached_resource_data(r), sizeof(count));
        cached_resource_release(r);
        return count;
}

static void end(struct shared *s, unsigned n_clients, cached *c)
{
        unsigned failed = 0;

        atomic_store(&s->ending, 1);
        for (unsigned i = 0; i < n_clients; i++) {
                int status;

                failed += wait(&status) < 0 || status != 0;
        }
        printf("{\"failed_clients\": %u, \"calls\": %llu, \"runs\": %llu, \"counter\": %" PRIu64
               ", \"added\": %llu, \"ended\": ",
               failed, atomic_load(&s->calls), atomic_load(&s->runs), read_counter(c),
               atomic_load(&s->added));
        tell_calls(s);
        printf("}");
}

int load_mix(int argc, char **argv)
{
        struct shared *s = load_shared(sizeof(*s));
        char *words[LOAD_WORDS];
        unsigned n_clients;
        cached *c;

        if (argc != 6)
                load_die("mix SOCKET CLIENTS KEYS PAUSE_US");
        n_clients = (unsigned)strtoul(argv[3], NULL, 10);
        for (unsigned i = 0; i < n_clients && n_clients <= CLIENTS_MAX; i++)
                if (load_fork() == 0) {
                        struct client k = {.s = s, .id = i, .random = i + 2};

                        k.n_keys = strtoull(argv[4], NULL, 10);
                        client_run(&k, strtoull(argv[5], NULL, 10), argv[2]);
                }
        c = load_handle(argv[2], false);
        while (load_command(words)) {
                if (load_is(words, "mark"))
                        mark(s);
                else if (load_is(words, "tell"))
                        tell(s);
                else if (load_is(words, "ready"))
                        printf("%u", atomic_load(&s->n_ready));
                else if (load_is(words, "calls"))
                        tell_calls(s);
                else if (load_is(words, "end"))
                        end(s, n_clients, c);
                else
                        load_die("mix: no command %s", words[0]);
                load_answer();
        }
        cached_free(c);
        return 0;
}
