/* SPDX-License-Identifier: MIT */
/*
 * Many threads on one line, where one of them stands in the way of the others: in a callback, with
 * places that it left behind, with a lease that nobody would end.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fake-lease.h"

#include "client/handle.h"

#include <semaphore.h>

/* client/lease.h, whose names the fake has as well */
void lease_end_now(cached_lease *l, const char *reason, uint32_t patience_ms);

/* How long what should happen at once may take. */
#define SOON_S 5

static cached_lease *granted(cached *c, const char *key)
{
        cached_lease *l;

        assert_int_equal(cached_get_or_lease(c, "t", key, strlen(key), NULL, NULL, &l),
                         CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(l), CACHED_LEASE_GRANTED);
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

static unsigned ends(struct leases *s)
{
        return atomic_load(&s->n_ends);
}

/* A call in a thread of its own. Whoever gets the lease stores. */
struct asker {
        pthread_t thread;
        cached *c;
        const char *key;
        const cached_lease_options *o;
        int code, state;
        atomic_bool is_done;
};

static void *run_asker(void *data)
{
        struct asker *a = data;
        cached_lease *l;

        a->code = cached_get_or_lease(a->c, "t", a->key, strlen(a->key), a->o, NULL, &l);
        a->state = cached_lease_state(l);
        if (a->state == CACHED_LEASE_GRANTED)
                a->code = cached_lease_set(l, "value", 5, NULL, NULL);
        cached_lease_free(l);
        atomic_store(&a->is_done, true);
        return NULL;
}

static void start(struct asker *a, cached *c, const char *key, const cached_lease_options *o)
{
        *a = (struct asker){.c = c, .key = key, .o = o};
        assert_int_equal(pthread_create(&a->thread, NULL, run_asker, a), 0);
}

static void is_done_soon(struct asker *a)
{
        uint64_t end = now_ms() + SOON_S * 1000;

        while (!atomic_load(&a->is_done)) {
                assert_true(now_ms() < end);
                usleep(1000);
        }
        pthread_join(a->thread, NULL);
}

/* ----------------------------------------------------------------------------------- callbacks */

struct stuck {
        atomic_bool is_armed;
        sem_t in, out;
};

/* The first call after that does not return before it may. */
static int be_stuck(void *data, const cached_lease *l)
{
        struct stuck *s = data;

        (void)l;
        if (atomic_exchange(&s->is_armed, false)) {
                sem_post(&s->in);
                while (sem_wait(&s->out) < 0)
                        ;
        }
        return 0;
}

/* While the one that reads is in its callback another one reads. */
static void test_a_callback(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        struct stuck stuck = {0};
        cached_lease *k, *m, *n;
        struct asker a, b, later;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(sem_init(&stuck.in, 0, 0) | sem_init(&stuck.out, 0, 0), 0);
        assert_int_equal(cached_lease_options_set_waiting(o, be_stuck, &stuck, 1), CACHED_OK);
        k = granted(c, "k");
        m = granted(c, "m");
        n = granted(c, "n");
        start(&a, c, "k", o);
        until(leases_waiting, &s, 1);
        start(&b, c, "m", NULL);
        until(leases_waiting, &s, 2);
        start(&later, c, "n", NULL);
        until(leases_waiting, &s, 3);
        atomic_store(&stuck.is_armed, true);
        assert_int_equal(sem_wait(&stuck.in), 0);
        assert_int_equal(cached_lease_set(m, "value", 5, NULL, NULL), CACHED_OK);
        is_done_soon(&b);
        /* It is not the one in the callback that goes on reading. */
        assert_int_equal(cached_lease_set(n, "value", 5, NULL, NULL), CACHED_OK);
        is_done_soon(&later);
        assert_false(atomic_load(&a.is_done));
        sem_post(&stuck.out);
        assert_int_equal(cached_lease_set(k, "value", 5, NULL, NULL), CACHED_OK);
        is_done_soon(&a);
        cached_lease_free(k);
        cached_lease_free(m);
        cached_lease_free(n);
        cached_lease_options_free(o);
        sem_destroy(&stuck.in);
        sem_destroy(&stuck.out);
        cached_free(c);
        leases_stop(&d, &s);
}

/* -------------------------------------------------------------------------------------- places */

static int stop_when_told(void *data, const cached_lease *l)
{
        (void)l;
        return atomic_load((atomic_bool *)data);
}

/* Waits that were ended before their replies came have their places until these are read, if only
 * by those who wait for places. */
static void test_b_left_places(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        struct asker left[4], next[3];
        atomic_bool is_enough = false;
        cached_lease *l;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        d.max_in_flight = 24; /* 4 places for those who are no computation's */
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        assert_int_equal(cached_lease_options_set_waiting(o, stop_when_told, &is_enough, 1),
                         CACHED_OK);
        for (int i = 0; i < 4; i++)
                start(&left[i], c, "k", o);
        until(leases_waiting, &s, 4);
        atomic_store(&is_enough, true);
        for (int i = 0; i < 4; i++) {
                is_done_soon(&left[i]);
                assert_int_equal(left[i].state, CACHED_LEASE_TIMEOUT);
        }
        assert_int_equal(leases_waiting(&s), 4);
        for (int i = 0; i < 3; i++)
                start(&next[i], c, "m", NULL);
        usleep(20000);
        assert_false(atomic_load(&next[0].is_done));
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_OK);
        for (int i = 0; i < 3; i++) {
                is_done_soon(&next[i]);
                assert_int_equal(next[i].code, CACHED_OK);
        }
        cached_lease_free(l);
        cached_lease_options_free(o);
        cached_free(c);
        leases_stop(&d, &s);
}

/* ---------------------------------------------------------------------------- no lease is left */

/* Where there is no place to ask for it, the end of a lease is told without a reply. */
static void test_c_end_without_place(void **state)
{
        static struct leases s;
        struct fake d;
        struct asker a;
        cached_lease *l;
        cached *c;

        leases_start(&d, &s);
        d.max_in_flight = 17; /* one place */
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        start(&a, c, "k", NULL);
        until(leases_waiting, &s, 1);
        lease_end_now(l, "because", PATIENCE_MS);
        is_done_soon(&a);
        until(leases_ended, &s, 1);
        assert_string_equal(s.reasons[0], "because");
        assert_int_equal(a.state, CACHED_LEASE_GRANTED);
        assert_int_equal(a.code, CACHED_OK);
        cached_lease_free(l);
        cached_free(c);
        leases_stop(&d, &s);
}

/* Two connections are served, the others are too many. */
static void serve_two(struct fake *d, int fd, int nth)
{
        if (nth < 2)
                serve_leases(d, fd, nth);
        else
                (void)fake_reply_status(d, fd, 0, CACHED_LIMIT, "too many connections");
}

/* A store for which there is no connection ends the lease as well. */
static void test_c_store_without_connection(void **state)
{
        static struct leases s;
        struct fake d;
        cached_lease *l;
        cached *c;

        memset(&s, 0, sizeof(s));
        assert_int_equal(pthread_mutex_init(&s.store.lock, NULL), 0);
        parallel_start(&d, &s.store.parallel, serve_two);
        d.features = CACHED__V1__FEATURE__FEATURE_LEASES | CACHED__V1__FEATURE__FEATURE_EVENTS;
        c = client_new(d.path, PATIENCE_MS);
        l = granted(c, "k");
        assert_int_equal(leases_held(&s), 1);
        for (unsigned i = 0; i < c->pool->n_slots; i++)
                if (c->pool->slots[i].conn)
                        (void)shutdown(c->pool->slots[i].conn->fd, SHUT_RDWR);
        assert_int_equal(cached_lease_set(l, "value", 5, NULL, NULL), CACHED_LIMIT);
        until(ends, &s, 1);
        until(leases_held, &s, 0);
        cached_lease_free(l);
        cached_free(c);
        leases_stop(&d, &s);
}

/* A lease that came for one thread is not lost by another one that finds nothing in flight but what
 * was left, and ends the connection for that. */
static void test_d_forsaken(void **state)
{
        static struct leases s;
        cached_lease_options *o = cached_lease_options_new();
        struct fake d;

        leases_start(&d, &s);
        for (int round = 0; round < 20; round++) {
                cached *c = client_new(d.path, PATIENCE_MS);
                cached *other = client_new(d.path, PATIENCE_MS), *third = NULL;
                cached_lease *k = granted(other, "k"), *l[3];
                char keys[3][32];
                struct asker left, a[3];
                atomic_bool is_enough = false;

                third = client_new(d.path, PATIENCE_MS);
                assert_int_equal(cached_lease_options_set_waiting(o, stop_when_told, &is_enough, 1),
                                 CACHED_OK);
                start(&left, c, "k", o);
                until(leases_waiting, &s, 1);
                for (int i = 0; i < 3; i++) {
                        (void)snprintf(keys[i], sizeof(keys[i]), "%d.%d", round, i);
                        l[i] = granted(third, keys[i]);
                        start(&a[i], c, keys[i], NULL);
                }
                until(leases_waiting, &s, 4);
                atomic_store(&is_enough, true);
                is_done_soon(&left);
                cached_close(third);
                for (int i = 0; i < 3; i++) {
                        is_done_soon(&a[i]);
                        assert_int_equal(a[i].state, CACHED_LEASE_GRANTED);
                        assert_int_equal(a[i].code, CACHED_OK);
                        cached_lease_free(l[i]);
                }
                cached_lease_free(k);
                cached_free(third);
                cached_free(other);
                cached_free(c);
        }
        cached_lease_options_free(o);
        leases_stop(&d, &s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_callback, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_left_places, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_end_without_place, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_store_without_connection, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_forsaken, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
