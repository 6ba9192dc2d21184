/* SPDX-License-Identifier: MIT */
/*
 * Pipelines of libcached, and its allocations
 *
 * Windows of requests, replies that overtake, the daemon's limit on requests in flight, large
 * values in both directions at once, cache ids, connections that break in the middle, deadlines,
 * lies, forks: each request comes out exactly once. At last, every allocation of a whole round of
 * calls fails in turn.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "pipeline-harness.h"

#include <sys/wait.h>

static cached_pipeline *pipeline_new(cached *c)
{
        cached_pipeline *p = cached_pipeline_new(c);

        assert_non_null(p);
        return p;
}

static uint64_t next_get(cached_pipeline *p)
{
        cached_reply *r;
        uint64_t tag;
        int code = cached_pipeline_next(p, &tag, &r);

        return check_get(code, tag, r);
}

static void test_a_window(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;
        uint64_t asked = 0, answered = 0;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        while (answered < 5000) {
                for (; asked < 5000 && asked - answered < 16; asked++)
                        enqueue_get(p, asked);
                assert_int_equal(cached_pipeline_in_flight(p), asked - answered);
                assert_int_equal(next_get(p), answered++);
        }
        assert_int_equal(cached_pipeline_in_flight(p), 0);
        assert_int_equal(cached_pipeline_next(p, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_a_kinds(void **state)
{
        struct good g = {0};
        struct fake d;
        cached_pipeline *p;
        cached_reply *r;
        uint64_t tag;
        cached *c;

        fake_start(&d, serve_good, &g);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, "\1\2", 2, NULL, 10), CACHED_OK);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, NULL, 0, NULL, 11), CACHED_OK);
        assert_int_equal(cached_pipeline_delete(p, "x", "k", 1, 12), CACHED_OK);
        assert_int_equal(cached_pipeline_get(p, "x", "miss", 4, 13), CACHED_OK);
        assert_int_equal(cached_pipeline_get(p, "x", "empty", 5, 14), CACHED_OK);
        assert_int_equal(cached_pipeline_get(p, NULL, "empty", 5, 15), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_flush(p), CACHED_OK);
        for (uint64_t i = 10; i <= 14; i++) {
                assert_int_equal(cached_pipeline_next(p, &tag, &r),
                                 i == 13 ? CACHED_NOT_FOUND : CACHED_OK);
                assert_int_equal(tag, i);
                assert_true((cached_reply_value(r, NULL) != NULL) == (i == 14));
                cached_reply_free(r);
        }
        assert_int_equal(atomic_load(&g.n_sets), 2);
        assert_true(g.body_sum == 3);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static const void *const pair_keys[] = {"one", "two"};
static const size_t pair_n_keys[] = {3, 3};

static cached_reply *next_reply(cached_pipeline *p, uint64_t expected_tag, int expected_code)
{
        cached_reply *r;
        uint64_t tag;

        assert_int_equal(cached_pipeline_next(p, &tag, &r), expected_code);
        assert_int_equal(tag, expected_tag);
        return r;
}

static void test_a_more_kinds(void **state)
{
        static uint8_t large[100000];
        const void *values[] = {"ooo", large};
        size_t n_values[] = {3, sizeof(large)};
        struct good g = {0};
        struct fake d;
        cached_pipeline *p;
        cached_reply *r;
        cached *c;
        size_t n;

        memset(large, 't', sizeof(large));
        fake_start(&d, serve_good, &g);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        assert_int_equal(cached_pipeline_peek(p, "x", "k", 1, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_touch(p, "x", "k", 1, 4711, 0, 2), CACHED_OK);
        assert_int_equal(cached_pipeline_touch(p, "x", "k", 1, 4711, 1, 3), CACHED_OK);
        assert_int_equal(cached_pipeline_get_many(p, "x", 2, pair_keys, pair_n_keys, 4), CACHED_OK);
        assert_int_equal(cached_pipeline_set_many(p, "x", 2, pair_keys, pair_n_keys, values,
                                                  n_values, NULL, 5),
                         CACHED_OK);
        assert_int_equal(cached_pipeline_get_many(p, "x", 0, NULL, NULL, 6), CACHED_OK);
        assert_int_equal(cached_pipeline_set_many(p, "x", 0, NULL, NULL, NULL, NULL, NULL, 7),
                         CACHED_OK);
        cached_reply_free(next_reply(p, 1, CACHED_OK));
        r = next_reply(p, 2, CACHED_OK);
        assert_int_equal(cached_reply_version(r), 4712);
        cached_reply_free(r);
        r = next_reply(p, 3, CACHED_OK);
        assert_int_equal(cached_reply_version(r), 1);
        cached_reply_free(r);
        r = next_reply(p, 4, CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 2);
        assert_memory_equal(cached_reply_item_value(r, 1, &n), "two", 3);
        assert_int_equal(n, 3);
        cached_reply_free(r);
        r = next_reply(p, 5, CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 2);
        assert_int_equal(cached_reply_item_code(r, 0), CACHED_OK);
        assert_int_equal(cached_reply_item_code(r, 1), CACHED_OK);
        cached_reply_free(r);
        cached_reply_free(next_reply(p, 6, CACHED_OK));
        cached_reply_free(next_reply(p, 7, CACHED_OK));
        assert_int_equal(atomic_load(&g.n_peeks), 1);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_a_wrong_arguments(void **state)
{
        const void *none[] = {NULL, NULL};
        cached *c = client_new("/nowhere", PATIENCE_MS);
        cached_pipeline *p = pipeline_new(c), *other = NULL;

        assert_int_equal(cached_pipeline_peek(NULL, "x", "k", 1, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_touch(p, NULL, "k", 1, 1, 0, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_get_many(p, "x", 2, none, pair_n_keys, 1),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_get_many(p, "x", 2, NULL, NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_set_many(p, "x", 2, pair_keys, pair_n_keys, none,
                                                  pair_n_keys, NULL, 1),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_fd(p), -1);
        assert_int_equal(cached_pipeline_fd(NULL), -1);
        assert_int_equal(cached_pipeline_wants(p), 0);
        assert_int_equal(cached_pipeline_dispatch(p), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_dispatch(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_new_nonblocking(NULL, &other), CACHED_ERR_USAGE);
        assert_int_equal(cached_pipeline_new_nonblocking(c, NULL), CACHED_ERR_USAGE);
        assert_null(other);
        assert_int_equal(cached_pipeline_in_flight(p), 0);
        cached_pipeline_free(p);
        cached_free(c);
}

/* Answers in groups of 8, the last one first. */
static void serve_reversed(struct fake *d, int fd, int nth)
{
        struct fake_request r[8];

        if (!fake_hello(d, fd))
                return;
        for (;;) {
                for (int i = 0; i < 8; i++)
                        if (!fake_read_request(d, fd, &r[i])) {
                                while (i-- > 0)
                                        fake_request_done(&r[i]);
                                return;
                        }
                for (int i = 7; i >= 0; i--) {
                        good_answer(d, fd, &r[i]);
                        fake_request_done(&r[i]);
                }
        }
}

static void test_b_overtaking(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;

        fake_start(&d, serve_reversed, NULL);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t round = 0; round < 50; round++) {
                for (uint64_t i = 0; i < 8; i++)
                        enqueue_get(p, round * 8 + i);
                for (uint64_t i = 0; i < 8; i++)
                        assert_int_equal(next_get(p), round * 8 + 7 - i);
        }
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_b_limit_in_flight(void **state)
{
        struct good g = {0};
        struct fake d;
        cached_pipeline *p;
        cached *c;

        fake_start(&d, serve_limited, &g);
        d.max_in_flight = 4;
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 400; i++)
                enqueue_get(p, i);
        assert_int_equal(cached_pipeline_in_flight(p), 400);
        for (uint64_t i = 0; i < 400; i++)
                assert_int_equal(next_get(p), i);
        assert_int_equal(g.n_last_body, 0);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

/* The daemon writes a reply before it reads on: whoever only wrote would wait for ever. */
static void test_b_large_values_both_ways(void **state)
{
        static uint8_t value[1 << 20];
        struct good g = {0};
        struct fake d;
        cached_pipeline *p;
        cached *c;
        size_t n;

        memset(value, 1, sizeof(value));
        fake_start(&d, serve_good, &g);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 20; i++) {
                assert_int_equal(cached_pipeline_get(p, "x", "big", 3, 2 * i), CACHED_OK);
                assert_int_equal(cached_pipeline_set(p, "x", "k", 1, value, sizeof(value), NULL,
                                                     2 * i + 1),
                                 CACHED_OK);
        }
        for (uint64_t i = 0; i < 40; i++) {
                cached_reply *r;
                uint64_t tag;

                assert_int_equal(cached_pipeline_next(p, &tag, &r), CACHED_OK);
                assert_int_equal(tag, i);
                if (i % 2 == 0) {
                        assert_non_null(cached_reply_value(r, &n));
                        assert_int_equal(n, BIG);
                }
                cached_reply_free(r);
        }
        assert_true(g.body_sum == 20 * sizeof(value));
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

/* A handle's connection and a pipeline's, one after the other: the first is kept while both live.
 */
struct two {
        struct good good;
        pthread_t thread;
        struct fake *d;
        int fd;
        bool running;
};

static void *serve_second(void *data)
{
        struct two *t = data;

        serve_good(t->d, t->fd, 1);
        close(t->fd);
        return NULL;
}

static void serve_two(struct fake *d, int fd, int nth)
{
        struct two *t = d->data;

        if (nth > 0) {
                serve_good(d, fd, nth);
                return;
        }
        t->d = d;
        t->fd = dup(fd);
        t->running = pthread_create(&t->thread, NULL, serve_second, t) == 0;
        assert(t->running);
}

static void test_c_cache_ids(void **state)
{
        struct two t = {0};
        struct fake d;
        cached_pipeline *p;
        cached *c;

        fake_start(&d, serve_two, &t);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_open_cache(c, "x", NULL, NULL), CACHED_OK);
        p = pipeline_new(c);
        enqueue_get(p, 1);
        assert_int_equal(cached_pipeline_in_flight(p), 1);
        next_get(p);
        assert_int_equal(atomic_load(&t.good.n_opens), 2);
        assert_int_equal(atomic_load(&t.good.n_by_name), 1);
        enqueue_get(p, 2);
        next_get(p);
        assert_int_equal(atomic_load(&t.good.n_by_id), 1);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
        pthread_join(t.thread, NULL);
}

/* --------------------------------------------------------------------------------------- losses */

/* Answers five requests of the first connection and closes it. */
static void serve_five(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        for (int i = 0; (nth > 0 || i < 5) && fake_read_request(d, fd, &r); i++) {
                good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_d_break_in_the_middle(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;
        uint64_t tag;

        fake_start(&d, serve_five, NULL);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 12; i++)
                enqueue_get(p, i);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(next_get(p), i);
        for (uint64_t i = 5; i < 9; i++) {
                cached_reply *r;

                assert_int_equal(cached_pipeline_next(p, &tag, &r), CACHED_ERR_DISCONNECTED);
                assert_int_equal(tag, i);
                assert_true(strlen(cached_reply_error(r)) > 0);
                cached_reply_free(r);
        }
        /* A new connection, while three losses have not been collected yet. */
        for (uint64_t i = 12; i < 100; i++)
                enqueue_get(p, i);
        assert_int_equal(cached_pipeline_in_flight(p), 3 + 88);
        for (uint64_t i = 9; i < 12; i++) {
                assert_int_equal(cached_pipeline_next(p, &tag, NULL), CACHED_ERR_DISCONNECTED);
                assert_int_equal(tag, i);
        }
        for (uint64_t i = 12; i < 100; i++)
                assert_int_equal(next_get(p), i);
        assert_int_equal(cached_pipeline_in_flight(p), 0);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

/* What was not collected is freed with the pipeline. */
static void test_d_free_in_the_middle(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;

        fake_start(&d, serve_five, NULL);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 12; i++)
                enqueue_get(p, i);
        next_get(p);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static void serve_until_silence(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        while (nth == 0 && fake_read_request(d, fd, &r))
                fake_request_done(&r);
        serve_good_rest(d, fd);
}

static void test_d_timeout(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;
        uint64_t tag, start = now_ms();

        fake_start(&d, serve_until_silence, NULL);
        c = client_new(d.path, 300);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 10; i++)
                enqueue_get(p, i);
        for (uint64_t i = 0; i < 10; i++) {
                assert_int_equal(cached_pipeline_next(p, &tag, NULL), CACHED_ERR_TIMEOUT);
                assert_int_equal(tag, i);
        }
        assert_in_range(now_ms() - start, 299, 1500);
        enqueue_get(p, 7);
        assert_int_equal(next_get(p), 7);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_d_lies_and_farewells(void **state)
{
        for (int farewell = 0; farewell < 2; farewell++) {
                struct good g = {0};
                struct fake d;
                cached_pipeline *p;
                cached *c;
                uint64_t tag;

                fake_start(&d, serve_liar, farewell ? &g : NULL);
                c = client_new(d.path, PATIENCE_MS);
                p = pipeline_new(c);
                for (uint64_t i = 0; i < 6; i++)
                        enqueue_get(p, i);
                assert_int_equal(next_get(p), 0);
                assert_int_equal(next_get(p), 1);
                for (uint64_t i = 2; i < 6; i++) {
                        assert_int_equal(cached_pipeline_next(p, &tag, NULL),
                                         farewell ? CACHED_PROTOCOL : CACHED_ERR_BAD_REPLY);
                        assert_int_equal(tag, i);
                }
                assert_int_equal(cached_pipeline_in_flight(p), 0);
                cached_pipeline_free(p);
                cached_free(c);
                fake_unlisten(&d);
        }
}

static void test_e_fork(void **state)
{
        struct fake d;
        cached_pipeline *p;
        cached *c;
        int status;
        pid_t pid;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        p = pipeline_new(c);
        for (uint64_t i = 0; i < 4; i++)
                enqueue_get(p, i);
        next_get(p);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int bad = 0;

                enqueue_get(p, 4);
                while (cached_pipeline_in_flight(p) > 0) {
                        int code = cached_pipeline_next(p, NULL, NULL);

                        /* Replies that the parent had received are whole. */
                        bad |= code != CACHED_ERR_DISCONNECTED && code != CACHED_OK;
                }
                cached_pipeline_free(p);
                _exit(bad);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        for (uint64_t i = 1; i < 4; i++)
                assert_int_equal(next_get(p), i);
        enqueue_get(p, 5);
        assert_int_equal(next_get(p), 5);
        cached_pipeline_free(p);
        cached_free(c);
        fake_unlisten(&d);
}

/* -------------------------------------------------------------------------- failing allocations */

/* An answer, or the lack of memory; with a reply that says the same. */
static int check(int code, cached_reply **r)
{
        assert(code == CACHED_OK || code == CACHED_ERR_NOMEM);
        assert(*r ? cached_reply_code(*r) == code : code == CACHED_ERR_NOMEM);
        cached_reply_free(*r);
        *r = NULL;
        return code;
}

static int pipeline_round(cached *c)
{
        static const uint8_t value[40000];
        cached_pipeline *p = cached_pipeline_new(c);
        int worst = p ? CACHED_OK : CACHED_ERR_NOMEM;
        cached_reply *r = NULL;
        size_t n = 0;

        if (!p)
                return worst;
        for (uint64_t i = 0; i < 70; i++) {
                int code;

                if (i == 50)
                        code = cached_pipeline_set(p, "x", "k", 1, value, sizeof(value), NULL, i);
                else if (i == 51)
                        code = cached_pipeline_get_many(p, "x", 2, pair_keys, pair_n_keys, i);
                else if (i == 52)
                        code = cached_pipeline_set_many(p, "x", 2, pair_keys, pair_n_keys,
                                                        pair_keys, pair_n_keys, NULL, i);
                else
                        code = cached_pipeline_get(p, "x", "key", 3, i);
                if (code == CACHED_OK)
                        n++;
                else
                        worst = check(code, &r);
        }
        assert(cached_pipeline_in_flight(p) == n);
        while (cached_pipeline_in_flight(p) > 0) {
                int code = cached_pipeline_next(p, NULL, &r);

                if (check(code, &r) != CACHED_OK)
                        worst = code;
        }
        cached_pipeline_free(p);
        return worst;
}

/* Most calls once. CACHED_OK: nothing failed. */
static int whole_round(const char *path)
{
        const void *keys[] = {"one", "two"};
        size_t n_keys[] = {3, 3};
        cached_options *o = cached_options_new();
        cached_policy *policy = cached_policy_new();
        cached_set_options *so = cached_set_options_new();
        int worst = o && policy && so ? CACHED_OK : CACHED_ERR_NOMEM;
        cached_reply *r = NULL;
        cached *c = NULL;

        if (worst == CACHED_OK)
                worst |= cached_options_set_socket(o, path);
        if (worst == CACHED_OK)
                worst |= cached_options_set_client_name(o, "test");
        if (worst == CACHED_OK)
                worst |= cached_new(o, &c);
        if (c) {
                worst |= check(cached_connect(c, &r), &r);
                worst |= check(cached_open_cache(c, "x", policy, &r), &r);
                worst |= check(cached_get(c, "x", "key", 3, &r), &r);
                worst |= check(cached_get(c, "x", "big", 3, &r), &r);
                worst |= check(cached_set(c, "x", "key", 3, "value", 5, so, &r), &r);
                worst |= check(cached_get_many(c, "x", 2, keys, n_keys, &r), &r);
                worst |= check(cached_set_many(c, "x", 2, keys, n_keys, keys, n_keys, so, &r), &r);
                worst |= check(cached_stats(c, NULL, &r), &r);
                /* The handle serves one connection at a time, and so does this daemon. */
                cached_free(c);
                c = NULL;
                worst |= cached_new(o, &c);
        }
        if (c)
                worst |= pipeline_round(c);
        cached_free(c);
        cached_set_options_free(so);
        cached_policy_free(policy);
        cached_options_free(o);
        return worst;
}

static void test_f_every_allocation_fails(void **state)
{
        struct fake d;
        long n;

        fake_start(&d, serve_good, NULL);
        n_allocations = 0;
        assert_int_equal(whole_round(d.path), CACHED_OK);
        n = n_allocations;
        assert_true(n > 100);
        for (long i = 1; i <= n; i++) {
                fail_after = i;
                (void)whole_round(d.path);
                /* A round that ended early has met its failure. */
                assert_int_equal(fail_after, 0);
        }
        fake_unlisten(&d);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_window, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_kinds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_more_kinds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_wrong_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_overtaking, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_limit_in_flight, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_large_values_both_ways, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_cache_ids, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_break_in_the_middle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_free_in_the_middle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_lies_and_farewells, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_every_allocation_fails, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
