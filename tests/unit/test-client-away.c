/* SPDX-License-Identifier: MIT */
/*
 * libcached and a daemon that is away: the pauses of the back-off, by a clock of the test; one that
 * is absent, that refuses, that stops answering and begins again, that is slow for one caller
 * alone.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include "client/backoff.h"
#include "client/handle.h"

#define MS UINT64_C(1000000)

/* ---------------------------------------------------------------------------------- the pauses */

static void test_a_pauses_double(void **state)
{
        static const uint64_t pauses_ms[] = {10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000};
        struct backoff b = {0};
        struct failure f, why;
        uint64_t now = 12345 * MS;

        (void)failure_set(&why, CACHED_ERR_UNREACHABLE, "nobody is there");
        assert_false(backoff_is_away(&b));
        for (size_t i = 0; i < sizeof(pauses_ms) / sizeof(*pauses_ms); i++) {
                backoff_failed(&b, now, &why);
                assert_true(backoff_is_away(&b));
                assert_true(backoff_is_pause(&b, now + pauses_ms[i] * MS * 3 / 4 - 1));
                assert_false(backoff_is_pause(&b, now + pauses_ms[i] * MS * 5 / 4 + 1));
                assert_int_equal(backoff_refuse(&b, now, &f), CACHED_ERR_UNREACHABLE);
                assert_non_null(strstr(f.text, "nobody is there (not tried again for "));
                now = b.until_ns;
                assert_false(backoff_is_pause(&b, now));
        }
        backoff_over(&b);
        assert_false(backoff_is_away(&b));
        backoff_failed(&b, now, &why);
        assert_false(backoff_is_pause(&b, now + 13 * MS));
}

/* Also of a clock that moves by whole milliseconds. */
static void test_a_pauses_differ(void **state)
{
        struct failure why;
        uint64_t least = UINT64_MAX, most = 0;

        (void)failure_set(&why, CACHED_ERR_UNREACHABLE, "nobody is there");
        for (uint64_t now = 0; now < 200 * MS; now += MS) {
                struct backoff b = {0};
                uint64_t pause;

                backoff_failed(&b, now, &why);
                pause = b.until_ns - now;
                assert_in_range(pause, 10 * MS * 3 / 4, 10 * MS * 5 / 4);
                least = pause < least ? pause : least;
                most = pause > most ? pause : most;
        }
        assert_true(most - least > 3 * MS);
}

/* The first timeout is followed by a look, not by a pause. */
static void test_a_silence(void **state)
{
        struct backoff b = {0};
        struct failure why;

        (void)failure_set(&why, CACHED_ERR_TIMEOUT, "nothing came");
        backoff_failed(&b, 7 * MS, &why);
        assert_true(b.silent);
        assert_false(backoff_is_pause(&b, 7 * MS));
        backoff_failed(&b, 7 * MS, &why);
        assert_true(backoff_is_pause(&b, 8 * MS));
        (void)failure_set(&why, CACHED_ERR_UNREACHABLE, "gone");
        backoff_failed(&b, 60 * MS, &why);
        assert_false(b.silent);
}

/* A text that fills all room keeps the words behind it. */
static void test_a_long_text(void **state)
{
        struct backoff b = {0};
        struct failure f, why = {.code = CACHED_ERR_UNREACHABLE};

        memset(why.text, 'x', sizeof(why.text) - 1);
        backoff_failed(&b, MS, &why);
        (void)backoff_refuse(&b, MS, &f);
        assert_non_null(strstr(f.text, "xx (not tried again for "));
}

/* ---------------------------------------------------------------------------------- absent */

/* So that the next call tries: as if the pause were over. */
static void pause_over(cached *c)
{
        c->pool->backoff.until_ns = 0;
}

/* So that none begins while the test looks. */
static void pause_for_ever(cached *c)
{
        c->pool->backoff.until_ns = UINT64_MAX / 2;
}

static void test_b_absent(void **state)
{
        struct fake d;
        cached_reply *r;
        cached_pipeline *p;
        char path[128];
        cached *c;

        fake_listen(&d, 16);
        (void)snprintf(path, sizeof(path), "%s.away", d.path);
        assert_int_equal(rename(d.path, path), 0);
        c = client_new(d.path, PATIENCE_MS);
        p = cached_pipeline_new(c);
        assert_int_equal(cached_ping(c, &r), CACHED_ERR_UNREACHABLE);
        assert_non_null(strstr(cached_reply_error(r), d.path));
        assert_null(strstr(cached_reply_error(r), "not tried again"));
        cached_reply_free(r);
        /* It is back, and nobody looks. */
        assert_int_equal(rename(path, d.path), 0);
        pause_for_ever(c);
        assert_int_equal(cached_ping(c, &r), CACHED_ERR_UNREACHABLE);
        assert_non_null(strstr(cached_reply_error(r), "not tried again"));
        cached_reply_free(r);
        assert_int_equal(cached_pipeline_get(p, "x", "k", 1, 0), CACHED_ERR_UNREACHABLE);
        /* Until the pause is over. */
        d.serve = serve_good;
        assert_int_equal(pthread_create(&d.thread, NULL, fake_run, &d), 0);
        pause_over(c);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(c->pool->backoff.n_failures, 0);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

/* cached_connect() does not wait for the end of a pause. */
static void test_b_connect_always_tries(void **state)
{
        struct fake d;
        char path[128];
        cached *c;

        fake_start(&d, serve_good, NULL);
        (void)snprintf(path, sizeof(path), "%s.away", d.path);
        assert_int_equal(rename(d.path, path), 0);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_connect(c, NULL), CACHED_ERR_UNREACHABLE);
        assert_int_equal(rename(path, d.path), 0);
        pause_for_ever(c);
        assert_int_equal(cached_ping(c, NULL), CACHED_ERR_UNREACHABLE);
        assert_int_equal(cached_connect(c, NULL), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(c);
        fake_unlisten(&d);
}

/* A daemon of a version that has nothing in common with ours, in the place of one that had. */
static void serve_then_version(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (nth == 0) {
                if (fake_hello(d, fd) && fake_read_request(d, fd, &r)) {
                        (void)good_answer(d, fd, &r);
                        fake_request_done(&r);
                }
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        (void)fake_reply_status(d, fd, r.m->id, CACHED_VERSION, "this daemon speaks 2 to 3");
        fake_request_done(&r);
}

static void test_b_another_version(void **state)
{
        struct fake d;
        cached_reply *r;
        cached *c;

        fake_start(&d, serve_then_version, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(cached_ping(c, &r), CACHED_VERSION);
        assert_non_null(strstr(cached_reply_error(r), "2 to 3"));
        cached_reply_free(r);
        pause_for_ever(c);
        assert_int_equal(cached_set(c, "x", "k", 1, "v", 1, NULL, &r), CACHED_VERSION);
        assert_non_null(strstr(cached_reply_error(r), "2 to 3"));
        cached_reply_free(r);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        cached_free(c);
        fake_unlisten(&d);
}

/* ---------------------------------------------------------------------------------- silent */

/* Does nothing while it is stopped; what was sent meanwhile is answered afterwards. */
struct stoppable {
        struct parallel p;
        atomic_bool is_stopped;
};

static bool await_going(struct fake *d)
{
        struct stoppable *s = d->data;
        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

        while (atomic_load(&s->is_stopped))
                if (poll(&stop, 1, 1) > 0)
                        return false;
        return true;
}

static void serve_stoppable(struct fake *d, int fd, int nth)
{
        struct fake_request r;
        bool ok = await_going(d) && fake_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                ok = await_going(d) && good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_c_stopped(void **state)
{
        struct stoppable s = {0};
        struct fake d;
        cached_reply *r;
        uint64_t start;
        cached *c;
        int n;

        parallel_start(&d, &s.p, serve_stoppable);
        c = client_new(d.path, 1000);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        atomic_store(&s.is_stopped, true);
        start = now_ms();
        assert_int_equal(cached_ping(c, NULL), CACHED_ERR_TIMEOUT);
        assert_true(now_ms() - start >= 999);
        /* A hundred calls take less than one timeout, also those that look. */
        start = now_ms();
        for (int i = 0; i < 100; i++) {
                assert_int_equal(cached_get(c, "x", "key", 3, &r), CACHED_ERR_TIMEOUT);
                assert_true(strlen(cached_reply_error(r)) > 0);
                cached_reply_free(r);
                if (i % 10 == 0)
                        pause_over(c);
        }
        assert_true(now_ms() - start < 1000);
        /* They looked on one connection, which is used as soon as it is greeted. */
        n = atomic_load(&d.n_connections);
        assert_int_equal(n, 2);
        pause_for_ever(c);
        atomic_store(&s.is_stopped, false);
        for (uint64_t end = now_ms() + PATIENCE_MS; cached_ping(c, NULL) != CACHED_OK;)
                assert_true(now_ms() < end);
        assert_int_equal(c->pool->backoff.n_failures, 0);
        assert_int_equal(atomic_load(&d.n_connections), n);
        cached_free(c);
        parallel_stop(&d, &s.p);
}

/* From the start: it listens, and greets nobody. */
static void test_c_stopped_from_the_start(void **state)
{
        struct stoppable s = {.is_stopped = true};
        struct fake d;
        cached *c;

        parallel_start(&d, &s.p, serve_stoppable);
        c = client_new(d.path, 200);
        for (int i = 0; i < 20; i++)
                assert_int_equal(cached_ping(c, NULL), CACHED_ERR_TIMEOUT);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        atomic_store(&s.is_stopped, false);
        for (uint64_t end = now_ms() + PATIENCE_MS; cached_ping(c, NULL) != CACHED_OK;)
                assert_true(now_ms() < end);
        cached_free(c);
        parallel_stop(&d, &s.p);
}

/* A daemon that answers pings is not silent because one get takes long. */
static void serve_slow_get(struct fake *d, int fd, int nth)
{
        struct fake_request r;
        bool ok = fake_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                if (r.m->op_case == CACHED__V1__REQUEST__OP_GET) {
                        struct stoppable *s = d->data;

                        atomic_store(&s->is_stopped, true);
                        ok = await_going(d);
                }
                ok = ok && good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void *slow_get(void *data)
{
        return (void *)(intptr_t)cached_get(data, "x", "key", 3, NULL);
}

static void test_c_slow_for_one(void **state)
{
        struct stoppable s = {0};
        cached *c, *hurried;
        pthread_t thread;
        struct fake d;
        void *code;

        parallel_start(&d, &s.p, serve_slow_get);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_with_timeout(c, 300, &hurried), CACHED_OK);
        assert_int_equal(pthread_create(&thread, NULL, slow_get, hurried), 0);
        while (!atomic_load(&s.is_stopped))
                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        /* Answered later than it began. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        pthread_join(thread, &code);
        assert_int_equal((intptr_t)code, CACHED_ERR_TIMEOUT);
        assert_int_equal(c->pool->backoff.n_failures, 0);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(hurried);
        cached_free(c);
        parallel_stop(&d, &s.p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_pauses_double, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_pauses_differ, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_silence, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_long_text, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_absent, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_connect_always_tries, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_another_version, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_stopped, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_stopped_from_the_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_slow_for_one, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
