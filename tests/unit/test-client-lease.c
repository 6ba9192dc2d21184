/* SPDX-License-Identifier: MIT */
/*
 * Leases on this side: what is asked and told, and many threads that wait on one connection, which
 * breaks, stays silent, is closed, or is left behind by a fork.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "fake-lease.h"

#include "client/handle.h"
#include "client/line.h"

#include <sys/wait.h>

#define GRANTED CACHED_LEASE_GRANTED

static int ask(cached *c, const char *key, const cached_lease_options *o, cached_reply **ret,
               cached_lease **ret_lease)
{
        return cached_get_or_lease(c, "t", key, strlen(key), o, ret, ret_lease);
}

/* The lease, which has to be granted. */
static cached_lease *granted(cached *c, const char *key)
{
        cached_lease *l;

        assert_int_equal(ask(c, key, NULL, NULL, &l), CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(l), GRANTED);
        return l;
}

static void until(unsigned (*count)(struct leases *), struct leases *s, unsigned n)
{
        uint64_t end = now_ms() + PATIENCE_MS;

        while (count(s) != n) {
                assert_true(now_ms() < end);
                usleep(1000);
        }
}

static void until_is(atomic_uint *word, unsigned n)
{
        uint64_t end = now_ms() + PATIENCE_MS;

        while (atomic_load(word) < n) {
                assert_true(now_ms() < end);
                usleep(1000);
        }
}

/* A call in a thread of its own. */
struct asker {
        pthread_t thread;
        cached *c;
        const char *key;
        const cached_lease_options *o;
        int code, state;
        char value[32];
        unsigned computed;
};

/* Whoever gets the lease stores. */
static void *run_asker(void *data)
{
        struct asker *a = data;
        cached_reply *r;
        cached_lease *l;
        size_t n = 0;

        a->code = ask(a->c, a->key, a->o, &r, &l);
        a->state = cached_lease_state(l);
        if (a->code == CACHED_OK && cached_reply_value(r, &n))
                (void)snprintf(a->value, sizeof(a->value), "%.*s", (int)n,
                               (const char *)cached_reply_value(r, NULL));
        if (a->state == GRANTED) {
                a->computed++;
                a->code = cached_lease_set(l, "value", 5, NULL, NULL);
        }
        cached_reply_free(r);
        cached_lease_free(l);
        return NULL;
}

static void start(struct asker *a, cached *c, const char *key, const cached_lease_options *o)
{
        *a = (struct asker){.c = c, .key = key, .o = o};
        assert_int_equal(pthread_create(&a->thread, NULL, run_asker, a), 0);
}

/* ---------------------------------------------------------------------------- what is told */

static void test_a_null(void **state)
{
        cached_lease_options_free(NULL);
        cached_lease_free(NULL);
        assert_int_equal(cached_lease_state(NULL), CACHED_LEASE_NONE);
        assert_int_equal(cached_lease_holder_pid(NULL), 0);
        assert_int_equal(cached_lease_holder_uid(NULL), UINT32_MAX);
        assert_string_equal(cached_lease_holder_name(NULL), "");
        assert_string_equal(cached_lease_text(NULL), "");
        assert_string_equal(cached_lease_reason(NULL), "");
        assert_int_equal(cached_lease_age_ms(NULL), 0);
        assert_int_equal(cached_lease_permille(NULL), 0);
        assert_int_equal(cached_lease_waited_ms(NULL), 0);
        assert_int_equal(cached_lease_set(NULL, "v", 1, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_share(NULL, "v", 1, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_end(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_progress(NULL, "x", 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_wait_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_hold_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_refresh(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_want_failure(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_waiting(NULL, NULL, NULL, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_options_set_outer(NULL, NULL), CACHED_ERR_USAGE);
}

/* Each state as it comes, also one that nobody here knows; stored is then without a lease. */
static void test_a_states(void **state)
{
        static struct leases s;
        struct fake d;
        cached_reply *r;
        cached_lease *l;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = CACHED_LEASE_YOURS; i <= CACHED_LEASE_UNSTORABLE + 1; i++) {
                atomic_store(&s.state, i);
                assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_NOT_FOUND);
                assert_int_equal(cached_reply_code(r), CACHED_NOT_FOUND);
                assert_int_equal(cached_lease_state(l), i);
                assert_int_equal(cached_lease_holder_pid(l), 4711);
                assert_int_equal(cached_lease_holder_uid(l), 12);
                assert_string_equal(cached_lease_holder_name(l), "somebody");
                assert_int_equal(cached_lease_age_ms(l), 99);
                assert_int_equal(cached_lease_permille(l), 500);
                assert_string_equal(cached_lease_text(l), "half");
                assert_string_equal(cached_lease_reason(l), "because");
                assert_int_equal(cached_lease_waited_ms(l), 77);
                assert_int_equal(cached_lease_progress(l, "x", 1), CACHED_OK);
                assert_int_equal(cached_lease_end(l, "x"), CACHED_OK);
                assert_int_equal(cached_lease_share(l, "v", 1, NULL, NULL), CACHED_OK);
                assert_int_equal(cached_lease_set(l, "v", 1, NULL, NULL), CACHED_OK);
                assert_int_equal(store_n(&s.store), i == CACHED_LEASE_YOURS ? 0 : 1);
                assert_int_equal(s.last_lease_id, 0);
                cached_lease_free(l);
                cached_reply_free(r);
        }
        /* A status of its own, without a lease. */
        atomic_store(&s.status, CACHED_LIMIT);
        assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_LIMIT);
        assert_null(l);
        cached_reply_free(r);
        cached_free(c);
        assert_int_equal(atomic_load(&s.n_ends) + atomic_load(&s.n_told), 0);
        leases_stop(&d, &s);
}

static void test_b_granted(void **state)
{
        static struct leases s;
        char text[3000];
        cached_reply *r;
        struct fake d;
        cached_lease *l;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        text[0] = '\n';
        assert_int_equal(cached_lease_progress(l, text, 5000), CACHED_OK);
        until_is(&s.n_told, 1);
        assert_int_equal(strlen(s.text), 256);
        assert_int_equal(s.text[0], ' ');
        assert_int_equal(s.permille, 1000);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, &r), CACHED_OK);
        assert_int_equal(s.last_lease_id, 1);
        assert_false(s.last_share_only);
        cached_reply_free(r);
        /* It has ended. */
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_ERR_USAGE);
        cached_lease_free(l);
        assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_OK);
        assert_null(l);
        assert_memory_equal(cached_reply_value(r, NULL), "value", 5);
        cached_reply_free(r);
        /* Shared, given up with a reason and without, let go of. */
        l = granted(c, "a");
        assert_int_equal(cached_lease_share(l, "value", 5, NULL, NULL), CACHED_OK);
        assert_true(s.last_share_only);
        cached_lease_free(l);
        l = granted(c, "a");
        text[0] = 'x';
        text[1023] = '\xc3';
        assert_int_equal(cached_lease_end(l, text), CACHED_OK);
        until_is(&s.n_ends, 1);
        assert_int_equal(strlen(s.reasons[0]), 1023);
        cached_lease_free(l);
        cached_lease_free(granted(c, "a"));
        until_is(&s.n_ends, 2);
        assert_string_equal(s.reasons[1], "");
        assert_int_equal(store_n(&s.store), 1);
        assert_int_equal(leases_held(&s), 0);
        cached_free(c);
        assert_int_equal(atomic_load(&s.n_ends), 2);
        leases_stop(&d, &s);
}

/* What can never be stored is told as a store that is refused, not as a lease for the next one. */
static void test_b_too_large(void **state)
{
        static struct leases s;
        struct fake d;
        cached_lease *l;
        cached *c;

        leases_start(&d, &s);
        d.max_value = 10;
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        assert_int_equal(cached_lease_set(l, "0123456789a", 11, NULL, NULL), CACHED_TOO_LARGE);
        assert_int_equal(s.last_lease_id, 1);
        assert_int_equal(atomic_load(&s.n_ends), 0);
        cached_lease_free(l);
        cached_free(c);
        leases_stop(&d, &s);
}

/* A computation that asks for its own key, as the options say. */
static void test_b_outer(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        cached *c, *sibling, *other;
        cached_lease *l, *inner;
        struct fake d;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        other = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_with_timeout(c, PATIENCE_MS / 2, &sibling), CACHED_OK);
        l = granted(c, "k");
        assert_int_equal(cached_lease_options_set_outer(o, l), CACHED_OK);
        assert_int_equal(ask(c, "k", o, NULL, &inner), CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(inner), CACHED_LEASE_YOURS);
        cached_lease_free(inner);
        assert_int_equal(ask(sibling, "k", o, NULL, &inner), CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(inner), CACHED_LEASE_YOURS);
        cached_lease_free(inner);
        /* On another connection the daemon cannot see it, and so there is no wait. */
        assert_int_equal(ask(other, "k", o, NULL, &inner), CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(inner), CACHED_LEASE_BUSY);
        cached_lease_free(inner);
        cached_lease_free(l);
        cached_lease_options_free(o);
        cached_free(other);
        cached_free(sibling);
        cached_free(c);
        leases_stop(&d, &s);
}

/* ------------------------------------------------------------------------------------- waiting */

#define N_THREADS 32

static void test_c_many_threads(void **state)
{
        static struct leases s;
        struct asker a[N_THREADS];
        cached *c, *sibling;
        unsigned computed = 0;
        cached_lease *l;
        struct fake d;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_with_timeout(c, PATIENCE_MS / 2, &sibling), CACHED_OK);
        for (int round = 0; round < 20; round++) {
                char key[3][32];

                for (int i = 0; i < 3; i++)
                        (void)snprintf(key[i], sizeof(key[i]), "%d.%d", round, i);
                l = granted(c, key[0]);
                for (int i = 0; i < N_THREADS; i++)
                        start(&a[i], i % 2 ? c : sibling, key[i % 3], NULL);
                if (round % 2)
                        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
                cached_lease_free(l);
                computed = 0;
                for (int i = 0; i < N_THREADS; i++) {
                        pthread_join(a[i].thread, NULL);
                        assert_int_equal(a[i].code, CACHED_OK);
                        computed += a[i].computed;
                }
                assert_int_equal(computed, round % 2 ? 2 : 3);
        }
        assert_int_equal(leases_held(&s) + leases_waiting(&s), 0);
        /* One for calls of each handle's threads, at most the pool's, and the line. */
        assert_in_range(atomic_load(&s.store.n_connections), 2, 5);
        cached_free(sibling);
        cached_free(c);
        leases_stop(&d, &s);
}

/* The waits of others go on when the one that reads is through. */
static void test_c_readers_change(void **state)
{
        static const char *const keys[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
        static struct leases s;
        struct asker a[8];
        cached_lease *l[8];
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 8; i++)
                l[i] = granted(c, keys[i]);
        for (int i = 0; i < 8; i++) {
                start(&a[i], c, keys[i], NULL);
                until(leases_waiting, &s, (unsigned)i + 1);
        }
        for (int i = 0; i < 8; i++) {
                assert_int_equal(cached_lease_set(l[i], "value", 5, NULL, NULL), CACHED_OK);
                pthread_join(a[i].thread, NULL);
                assert_int_equal(a[i].code, CACHED_OK);
                assert_string_equal(a[i].value, "value");
                cached_lease_free(l[i]);
        }
        cached_free(c);
        leases_stop(&d, &s);
}

/* More threads than the daemon takes requests at a time. */
static void test_c_places(void **state)
{
        static struct leases s;
        struct asker a[N_THREADS];
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        d.max_in_flight = 24;
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        for (int i = 0; i < N_THREADS; i++)
                start(&a[i], c, "k", NULL);
        until(leases_waiting, &s, 4);
        usleep(20000);
        assert_int_equal(leases_waiting(&s), 4);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        cached_lease_free(l);
        for (int i = 0; i < N_THREADS; i++) {
                pthread_join(a[i].thread, NULL);
                assert_int_equal(a[i].code, CACHED_OK);
        }
        cached_free(c);
        leases_stop(&d, &s);
}

struct seen {
        atomic_uint n, permille, pid;
        int stop_after;
};

static int see(void *data, const cached_lease *l)
{
        struct seen *s = data;

        assert_int_equal(cached_lease_state(l), CACHED_LEASE_BUSY);
        atomic_store(&s->pid, cached_lease_holder_pid(l));
        atomic_store(&s->permille, cached_lease_permille(l));
        return atomic_fetch_add(&s->n, 1) + 1 == (unsigned)s->stop_after;
}

static void test_c_news(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        struct seen seen = {0};
        struct asker a;
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_lease_options_set_waiting(o, see, &seen, 0), CACHED_OK);
        l = granted(c, "k");
        start(&a, c, "k", o);
        until(leases_waiting, &s, 1);
        until_is(&seen.n, 1);
        assert_int_equal(atomic_load(&seen.pid), 4711);
        /* It asks twice, and is one look-up. */
        assert_int_equal(atomic_load(&s.n_asked) - atomic_load(&s.n_counted), 1);
        leases_tell(&d, 750);
        until_is(&seen.n, 2);
        assert_int_equal(atomic_load(&seen.pid), 4712);
        assert_int_equal(atomic_load(&seen.permille), 750);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        pthread_join(a.thread, NULL);
        assert_int_equal(a.code, CACHED_OK);
        assert_int_equal(atomic_load(&seen.n), 2);
        /* By time, until it says that it is enough. Nothing stays behind that could be granted a
         * lease. */
        cached_lease_free(l);
        l = granted(c, "m");
        seen.stop_after = 5;
        assert_int_equal(cached_lease_options_set_waiting(o, see, &seen, 1), CACHED_OK);
        start(&a, c, "m", o);
        pthread_join(a.thread, NULL);
        assert_int_equal(a.code, CACHED_NOT_FOUND);
        assert_int_equal(a.state, CACHED_LEASE_TIMEOUT);
        assert_int_equal(atomic_load(&seen.n), 5);
        cached_lease_free(l);
        until(leases_waiting, &s, 0);
        until(leases_held, &s, 0);
        cached_lease_options_free(o);
        cached_free(c);
        leases_stop(&d, &s);
}

/* -------------------------------------------------------------------------------- what goes wrong
 */

/* The connection breaks while many wait: they ask again. */
static void test_d_breaks(void **state)
{
        static struct leases s;
        struct asker a[N_THREADS];
        unsigned computed = 0;
        cached *c, *other;
        cached_lease *l;
        struct fake d;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        other = client_new(d.path, PATIENCE_MS);
        l = granted(other, "k");
        for (int i = 0; i < N_THREADS; i++)
                start(&a[i], c, "k", NULL);
        until(leases_waiting, &s, N_THREADS);
        leases_break(&s);
        cached_lease_free(l);
        for (int i = 0; i < N_THREADS; i++) {
                pthread_join(a[i].thread, NULL);
                assert_int_equal(a[i].code, CACHED_OK);
                computed += a[i].computed;
        }
        assert_int_equal(computed, 1);
        cached_free(other);
        cached_free(c);
        leases_stop(&d, &s);
}

/* A daemon that dies of the request is not asked for ever. What was held is lost. */
static void test_d_hangs_up(void **state)
{
        static struct leases s;
        cached_reply *r;
        cached_lease *l, *lost;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        lost = granted(c, "lost");
        atomic_store(&s.n_asked, 0);
        atomic_store(&s.hang_up, true);
        assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_ERR_DISCONNECTED);
        assert_int_equal(atomic_load(&s.n_asked), 3);
        assert_null(l);
        cached_reply_free(r);
        assert_int_equal(cached_lease_progress(lost, "x", 1), CACHED_ERR_DISCONNECTED);
        assert_int_equal(cached_lease_set(lost, "value", 5, NULL, NULL), CACHED_SUPERSEDED);
        cached_lease_free(lost);
        assert_int_equal(store_n(&s.store), 0);
        cached_free(c);
        leases_stop(&d, &s);
}

/* No answer, nor to a ping: given up within the patience. With pings answered the wait goes on. */
static void test_d_silent(void **state)
{
        static struct leases s;
        uint64_t began;
        struct asker a;
        cached *c, *other;
        cached_lease *l;
        struct fake d;

        leases_start(&d, &s);
        c = client_new(d.path, 1000);
        other = client_new(d.path, PATIENCE_MS);
        l = granted(other, "k");
        start(&a, c, "k", NULL);
        until_is(&s.n_pings, 2); /* after 0.5 s and 1 s */
        assert_int_equal(leases_waiting(&s), 1);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        pthread_join(a.thread, NULL);
        assert_int_equal(a.code, CACHED_OK);
        cached_lease_free(l);
        atomic_store(&s.mute, true);
        atomic_store(&s.mute_pings, true);
        began = now_ms();
        assert_int_equal(ask(c, "m", NULL, NULL, &l), CACHED_ERR_TIMEOUT);
        assert_null(l);
        assert_in_range(now_ms() - began, 990, PATIENCE_MS / 2);
        cached_free(other);
        cached_free(c);
        leases_stop(&d, &s);
}

static void test_d_closed(void **state)
{
        static struct leases s;
        struct asker a[N_THREADS];
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        for (int i = 0; i < N_THREADS; i++)
                start(&a[i], c, "k", NULL);
        until(leases_waiting, &s, N_THREADS);
        cached_close(c);
        for (int i = 0; i < N_THREADS; i++) {
                pthread_join(a[i].thread, NULL);
                assert_int_equal(a[i].code, CACHED_ERR_CLOSED);
        }
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_SUPERSEDED);
        cached_lease_free(l);
        cached_free(c);
        leases_stop(&d, &s);
}

/* Without the feature a lease is nothing that is asked for. */
static void test_d_old_daemon(void **state)
{
        static struct leases s;
        cached_reply *r;
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        d.features = 0;
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_NOT_FOUND);
        assert_null(l);
        cached_reply_free(r);
        assert_int_equal(cached_set(c, "t", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
        assert_int_equal(ask(c, "k", NULL, &r, &l), CACHED_OK);
        cached_reply_free(r);
        assert_int_equal(atomic_load(&s.n_asked), 0);
        assert_int_equal(atomic_load(&s.store.n_connections), 1);
        cached_free(c);
        leases_stop(&d, &s);
}

/* Closed when nobody used it for long, unless a lease is held. */
static void test_d_idle(void **state)
{
        static struct leases s;
        uint64_t later;
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        later = deadline_now_ns() + UINT64_C(31000000000);
        line_rest(c->pool, later);
        assert_non_null(c->pool->line.conn);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        cached_lease_free(l);
        line_rest(c->pool, deadline_now_ns());
        assert_non_null(c->pool->line.conn);
        line_rest(c->pool, later);
        assert_null(c->pool->line.conn);
        cached_lease_free(granted(c, "m"));
        cached_free(c);
        leases_stop(&d, &s);
}

/* Whichever allocation fails, nothing is held afterwards that nobody knows of. */
static void test_d_no_memory(void **state)
{
        static struct leases s;
        unsigned n_failed = 0;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (long i = 1, done = 0; !done; i++) {
                cached_reply *r;
                cached_lease *l;
                int code;

                fail_after = i;
                code = ask(c, "k", NULL, &r, &l);
                done = fail_after > 0;
                fail_after = 0;
                if (code != CACHED_NOT_FOUND)
                        assert_int_equal(code, CACHED_ERR_NOMEM);
                n_failed += code == CACHED_ERR_NOMEM;
                cached_reply_free(r);
                cached_lease_free(l);
                until(leases_held, &s, 0);
        }
        assert_true(n_failed > 0);
        cached_free(c);
        leases_stop(&d, &s);
}

/* ---------------------------------------------------------------------------------------- forks */

static int status_of(pid_t pid)
{
        int status;

        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The parent's lease is none of the child's. */
static void test_e_fork(void **state)
{
        static struct leases s;
        cached_lease *l;
        struct fake d;
        pid_t pid;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        pid = fork();
        if (pid == 0) {
                cached_lease *mine;
                int code = ask(c, "m", NULL, NULL, &mine);

                if (code != CACHED_NOT_FOUND || cached_lease_state(mine) != GRANTED ||
                    cached_lease_set(mine, "value", 5, NULL, NULL) != CACHED_OK)
                        _exit(1);
                cached_lease_free(mine);
                if (cached_lease_progress(l, "x", 1) != CACHED_ERR_DISCONNECTED ||
                    cached_lease_set(l, "value", 5, NULL, NULL) != CACHED_SUPERSEDED)
                        _exit(2);
                cached_lease_free(l);
                cached_free(c);
                _exit(0);
        }
        assert_int_equal(status_of(pid), 0);
        assert_int_equal(atomic_load(&s.n_ends), 0);
        assert_int_equal(leases_held(&s), 1);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        cached_lease_free(l);
        cached_free(c);
        leases_stop(&d, &s);
}

/* A callback that forks: the child's wait is over, the parent's goes on. */
static int see_and_fork(void *data, const cached_lease *l)
{
        struct seen *s = data;
        pid_t pid;

        if (atomic_fetch_add(&s->n, 1) != 1)
                return 0;
        pid = fork();
        if (pid != 0)
                atomic_store(&s->pid, (unsigned)pid);
        else
                s->stop_after = -1;
        return 0;
}

static void test_e_fork_in_a_wait(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        struct seen seen = {0};
        cached *c, *other;
        cached_lease *l, *waited;
        struct asker a;
        struct fake d;
        int code;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        other = client_new(d.path, PATIENCE_MS);
        l = granted(other, "k");
        assert_int_equal(cached_lease_options_set_waiting(o, see_and_fork, &seen, 1), CACHED_OK);
        start(&a, c, "other", NULL); /* the line is there */
        pthread_join(a.thread, NULL);
        /* The next ask's thread is this one, which goes on in the child. */
        pid_t helper = fork();

        if (helper == 0) {
                /* Asks in a process of its own, which forks in its turn. */
                code = ask(c, "k", o, NULL, &waited);
                if (seen.stop_after == -1)
                        _exit(code == CACHED_OK ? 7 : 8); /* it asked again */
                if (code != CACHED_OK)
                        _exit(1);
                _exit(status_of((pid_t)atomic_load(&seen.pid)) == 7 ? 0 : 2);
        }
        until(leases_waiting, &s, 2);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        assert_int_equal(status_of(helper), 0);
        cached_lease_free(l);
        cached_lease_options_free(o);
        cached_free(other);
        cached_free(c);
        leases_stop(&d, &s);
}

/* While other threads wait, read and send. */
static void test_e_fork_among_threads(void **state)
{
        static struct leases s;
        struct asker a[8];
        cached_lease *l;
        struct fake d;
        cached *c;

        if (HAS_ASAN)
                skip();
        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (int round = 0; round < 50; round++) {
                char key[16];
                pid_t pid;

                (void)snprintf(key, sizeof(key), "%d", round);
                l = granted(c, key);
                for (int i = 0; i < 8; i++)
                        start(&a[i], c, key, NULL);
                pid = fork();
                if (pid == 0) {
                        cached_lease *mine;
                        int code = ask(c, "mine", NULL, NULL, &mine);

                        cached_lease_free(mine);
                        _exit(code != CACHED_NOT_FOUND && code != CACHED_OK);
                }
                assert_int_equal(status_of(pid), 0);
                assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
                cached_lease_free(l);
                for (int i = 0; i < 8; i++) {
                        pthread_join(a[i].thread, NULL);
                        assert_int_equal(a[i].code, CACHED_OK);
                }
        }
        cached_free(c);
        leases_stop(&d, &s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_null, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_states, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_granted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_too_large, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_outer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_many_threads, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_readers_change, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_places, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_news, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_breaks, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_hangs_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_silent, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_old_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_idle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_no_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_fork_in_a_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_fork_among_threads, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
