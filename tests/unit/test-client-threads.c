/* SPDX-License-Identifier: MIT */
/*
 * libcached, one handle and many threads: calls that run side by side, the limit on connections and
 * waiting for one, a daemon that takes no more; closing and freeing while calls are inside; handles
 * with another timeout on the same connections; sixteen threads with everything at once; forks in
 * the midst of it.
 *
 * Every case ends with as many open descriptors as it began with. Clean under TSan.
 */

#include "client-harness.h"

#include <sys/wait.h>

#include "client/handle.h"

struct caller {
        cached *c;
        pthread_t thread;
        const char *key;
        int code;
        uint64_t took_ms;
        char error[256];
};

static void *call_once(void *data)
{
        struct caller *k = data;
        uint64_t start = now_ms();
        cached_reply *r;

        k->code = cached_get(k->c, "x", k->key ? k->key : "key", 3, &r);
        k->took_ms = now_ms() - start;
        (void)snprintf(k->error, sizeof(k->error), "%s", cached_reply_error(r));
        cached_reply_free(r);
        return NULL;
}

static void callers_start(struct caller *k, int n, cached *c)
{
        for (int i = 0; i < n; i++) {
                k[i].c = c;
                assert_int_equal(pthread_create(&k[i].thread, NULL, call_once, &k[i]), 0);
        }
}

static void callers_join(struct caller *k, int n)
{
        for (int i = 0; i < n; i++)
                pthread_join(k[i].thread, NULL);
}

static void wait_for(atomic_uint *counter, unsigned n)
{
        for (uint64_t end = now_ms() + PATIENCE_MS; atomic_load(counter) < n;) {
                assert_true(now_ms() < end);
                (void)poll(NULL, 0, 1);
        }
}

/* ------------------------------------------------------------------------------- side by side */

/* Answers nothing until as many requests are here, on as many connections. */
struct crowd {
        struct parallel p;
        atomic_uint n_here;
        unsigned n_wanted;
};

static void serve_crowd(struct fake *d, int fd, int nth)
{
        struct crowd *crowd = d->data;
        struct fake_request r;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        atomic_fetch_add(&crowd->n_here, 1);
        wait_for(&crowd->n_here, crowd->n_wanted);
        (void)good_answer(d, fd, &r);
        fake_request_done(&r);
        serve_good_rest(d, fd);
}

static void test_a_side_by_side(void **state)
{
        struct crowd crowd = {.n_wanted = 3};
        struct caller k[3] = {0};
        struct fake d;
        cached *c;

        parallel_start(&d, &crowd.p, serve_crowd);
        c = client_new(d.path, PATIENCE_MS);
        callers_start(k, 3, c);
        callers_join(k, 3);
        for (int i = 0; i < 3; i++)
                assert_int_equal(k[i].code, CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 3);
        /* One thread needs one, and uses the one that it used last. */
        for (int i = 0; i < 20; i++)
                assert_int_equal(cached_get(c, "x", "key", 3, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 3);
        cached_free(c);
        parallel_stop(&d, &crowd.p);
}

/* -------------------------------------------------------------------------------- the limit */

/* Requests for "big" stay without an answer until told. */
struct gate {
        struct parallel p;
        atomic_uint n_waiting;
        atomic_bool is_open;
};

static void serve_gate(struct fake *d, int fd, int nth)
{
        struct gate *g = d->data;
        struct fake_request r;
        bool ok = fake_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                bool waits = r.m->op_case == CACHED__V1__REQUEST__OP_GET &&
                             r.m->get->key.len == 3 && !memcmp(r.m->get->key.data, "big", 3);

                if (waits)
                        atomic_fetch_add(&g->n_waiting, 1);
                while (waits && !atomic_load(&g->is_open)) {
                        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

                        if (poll(&stop, 1, 1) > 0)
                                break;
                }
                ok = good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_b_waiting_for_a_connection(void **state)
{
        struct caller k = {.key = "big"};
        struct gate g = {0};
        cached_reply *r;
        struct fake d;
        cached *c, *hurried;

        parallel_start(&d, &g.p, serve_gate);
        c = client_of_size(d.path, PATIENCE_MS, 1);
        assert_int_equal(cached_with_timeout(c, 50, &hurried), CACHED_OK);
        callers_start(&k, 1, c);
        wait_for(&g.n_waiting, 1);
        assert_int_equal(cached_ping(hurried, &r), CACHED_ERR_TIMEOUT);
        assert_non_null(strstr(cached_reply_error(r), "connections"));
        cached_reply_free(r);
        atomic_store(&g.is_open, true);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        callers_join(&k, 1);
        assert_int_equal(k.code, CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(hurried);
        cached_free(c);
        parallel_stop(&d, &g.p);
}

static void test_b_options(void **state)
{
        cached_options *o = cached_options_new();

        assert_int_equal(cached_options_set_max_connections(o, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_options_set_max_connections(o, 65), CACHED_ERR_USAGE);
        assert_int_equal(cached_options_set_max_connections(o, 64), CACHED_OK);
        assert_int_equal(cached_options_set_max_connections(NULL, 1), CACHED_ERR_USAGE);
        cached_options_free(o);
}

/* A daemon that lets no more than two in. */
static void serve_two(struct fake *d, int fd, int nth)
{
        if (nth < 2)
                serve_good(d, fd, nth);
        else
                (void)fake_reply_status(d, fd, 0, CACHED_LIMIT, "too many connections");
}

static void *call_many(void *data)
{
        struct caller *k = data;

        for (int i = 0; i < 100 && k->code == CACHED_OK; i++)
                (void)call_once(k);
        return NULL;
}

static void test_b_no_more_connections(void **state)
{
        struct caller k[8] = {0};
        struct parallel p = {0};
        struct fake d;
        cached *c;

        parallel_start(&d, &p, serve_two);
        c = client_of_size(d.path, PATIENCE_MS, 8);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (int i = 0; i < 8; i++) {
                k[i].c = c;
                assert_int_equal(pthread_create(&k[i].thread, NULL, call_many, &k[i]), 0);
        }
        callers_join(k, 8);
        for (int i = 0; i < 8; i++)
                if (k[i].code != CACHED_OK)
                        fail_msg("%d: %s", k[i].code, k[i].error);
        cached_free(c);
        parallel_stop(&d, &p);
}

/* Refused a connection, a call takes one that stands, also when the pause has ended meanwhile. */
static void test_b_refused_after_the_pause(void **state)
{
        struct deadline d = deadline_in_ms(PATIENCE_MS);
        struct pool_slot *standing, *none;
        struct parallel p = {0};
        struct failure f;
        struct fake daemon;
        cached *c;

        parallel_start(&daemon, &p, serve_two);
        c = client_of_size(daemon.path, PATIENCE_MS, 2);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(pool_take(c->pool, &c->user, d, &f, &standing), CACHED_OK);
        assert_non_null(standing->conn);
        assert_int_equal(pool_take(c->pool, &c->user, d, &f, &none), CACHED_OK);
        assert_null(none->conn);
        pool_give(c->pool, &c->user, standing, 0);
        assert_int_equal(pool_may_connect(c->pool, deadline_now_ns(), &f, &(bool){0}), CACHED_OK);
        assert_true(pool_exchange(c->pool, &c->user, d, &f, &none));
        assert_ptr_equal(none, standing);
        pool_give(c->pool, &c->user, none, 0);
        cached_free(c);
        parallel_stop(&daemon, &p);
}

/* ---------------------------------------------------------------------------------- closing */

static void test_c_close_with_calls_inside(void **state)
{
        enum { N = 16 };
        struct caller k[N] = {0};
        struct gate g = {0};
        cached_pipeline *p;
        cached_reply *r;
        struct fake d;
        cached *c;

        parallel_start(&d, &g.p, serve_gate);
        c = client_new(d.path, 0);
        for (int i = 0; i < N; i++)
                k[i].key = "big";
        callers_start(k, N, c);
        /* Four are with the daemon, the others wait for a connection. */
        wait_for(&g.n_waiting, 4);
        cached_close(c);
        callers_join(k, N);
        for (int i = 0; i < N; i++) {
                assert_int_equal(k[i].code, CACHED_ERR_CLOSED);
                assert_true(strlen(k[i].error) > 0);
        }
        assert_int_equal(cached_ping(c, &r), CACHED_ERR_CLOSED);
        assert_int_equal(cached_reply_code(r), CACHED_ERR_CLOSED);
        cached_reply_free(r);
        assert_int_equal(cached_connect(c, NULL), CACHED_ERR_CLOSED);
        p = cached_pipeline_new(c);
        assert_int_equal(cached_pipeline_get(p, "x", "k", 1, 0), CACHED_ERR_CLOSED);
        cached_pipeline_free(p);
        cached_close(c);
        assert_int_equal(atomic_load(&d.n_connections), 4);
        cached_free(c);
        parallel_stop(&d, &g.p);
}

/* Free alone does the same, and waits. */
static void test_c_free_with_calls_inside(void **state)
{
        enum { N = 8 };
        struct caller k[N] = {0};
        struct gate g = {0};
        struct fake d;
        cached *c;

        parallel_start(&d, &g.p, serve_gate);
        c = client_of_size(d.path, 0, N);
        for (int i = 0; i < N; i++)
                k[i].key = "big";
        callers_start(k, N, c);
        wait_for(&g.n_waiting, N);
        cached_free(c);
        callers_join(k, N);
        for (int i = 0; i < N; i++)
                assert_int_equal(k[i].code, CACHED_ERR_CLOSED);
        parallel_stop(&d, &g.p);
}

/* Where nothing can wake the call: nobody accepts, and the backlog is full. */
static void test_c_close_while_connecting(void **state)
{
        struct caller k = {0};
        struct fake d;
        cached *c, *filler[2];

        fake_listen(&d, 0);
        for (int i = 0; i < 2; i++) {
                filler[i] = client_new(d.path, 20);
                assert_int_equal(cached_ping(filler[i], NULL), CACHED_ERR_TIMEOUT);
        }
        c = client_new(d.path, 0);
        callers_start(&k, 1, c);
        (void)poll(NULL, 0, 30);
        cached_close(c);
        callers_join(&k, 1);
        assert_int_equal(k.code, CACHED_ERR_CLOSED);
        cached_free(c);
        for (int i = 0; i < 2; i++)
                cached_free(filler[i]);
        fake_unlisten(&d);
}

/* Says Hello to nobody. */
static void serve_mute(struct fake *d, int fd, int nth)
{
        struct gate *g = d->data;
        struct fake_request r;

        if (!fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        atomic_fetch_add(&g->n_waiting, 1);
        (void)fake_readable(d, fd);
}

static void test_c_close_while_greeting(void **state)
{
        struct caller k[3] = {0};
        struct gate g = {0};
        struct fake d;
        cached *c;

        parallel_start(&d, &g.p, serve_mute);
        c = client_new(d.path, 0);
        callers_start(k, 3, c);
        wait_for(&g.n_waiting, 3);
        cached_close(c);
        callers_join(k, 3);
        for (int i = 0; i < 3; i++)
                assert_int_equal(k[i].code, CACHED_ERR_CLOSED);
        cached_free(c);
        parallel_stop(&d, &g.p);
}

/* -------------------------------------------------------------------------- another timeout */

static void test_d_with_timeout(void **state)
{
        struct gate g = {0};
        cached *c, *hurried, *third;
        struct fake d;
        uint64_t start;

        parallel_start(&d, &g.p, serve_gate);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_with_timeout(NULL, 1, &hurried), CACHED_ERR_USAGE);
        assert_int_equal(cached_with_timeout(c, 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_with_timeout(c, 100, &hurried), CACHED_OK);
        assert_int_equal(cached_with_timeout(hurried, 0, &third), CACHED_OK);
        assert_string_equal(cached_socket_path(hurried), d.path);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
                assert_int_equal(cached_ping(hurried, NULL), CACHED_OK);
                assert_int_equal(cached_ping(third, NULL), CACHED_OK);
        }
        assert_int_equal(atomic_load(&d.n_connections), 1);
        start = now_ms();
        assert_int_equal(cached_get(hurried, "x", "big", 3, NULL), CACHED_ERR_TIMEOUT);
        assert_in_range(now_ms() - start, 99, PATIENCE_MS / 2);
        /* Freed without closing; closed without being freed. */
        cached_free(hurried);
        assert_int_equal(cached_connect(c, NULL), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(c);
        assert_int_equal(cached_ping(third, NULL), CACHED_ERR_CLOSED);
        cached_free(third);
        parallel_stop(&d, &g.p);
}

/* ----------------------------------------------------------------------------- all at once */

struct worker {
        cached *c;
        pthread_t thread;
        atomic_bool *stop;
        atomic_uint n;
        int bad;
};

static void *work(void *data)
{
        struct worker *w = data;

        for (unsigned i = 0; !atomic_load(w->stop); i++) {
                char key[64];
                size_t n, n_key = (size_t)snprintf(key, sizeof(key), "%p/%u", data, i);
                cached_reply *r;
                const void *v;

                if (cached_get(w->c, "x", key, n_key, &r) != CACHED_OK ||
                    !(v = cached_reply_value(r, &n)) || n != n_key || memcmp(v, key, n) != 0)
                        w->bad++;
                cached_reply_free(r);
                if (i % 16 == 0 && cached_open_cache(w->c, "x", NULL, NULL) != CACHED_OK)
                        w->bad++;
                atomic_fetch_add(&w->n, 1);
        }
        return NULL;
}

static void workers_start(struct worker *w, int n, cached *c, atomic_bool *stop)
{
        for (int i = 0; i < n; i++) {
                w[i].c = c;
                w[i].stop = stop;
                assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
        }
}

static void workers_stop(struct worker *w, int n, atomic_bool *stop)
{
        atomic_store(stop, true);
        for (int i = 0; i < n; i++) {
                pthread_join(w[i].thread, NULL);
                assert_int_equal(w[i].bad, 0);
        }
}

/* Nobody starves, each gets its own value, and none needs more connections than the limit. */
static void test_e_sixteen_threads(void **state)
{
        enum { N = 16 };
        struct worker w[N] = {0};
        struct parallel p = {0};
        atomic_bool stop = false;
        struct fake d;
        cached *c;

        parallel_start(&d, &p, serve_good);
        c = client_new(d.path, PATIENCE_MS);
        workers_start(w, N, c, &stop);
        for (int i = 0; i < N; i++)
                wait_for(&w[i].n, 20);
        workers_stop(w, N, &stop);
        assert_in_range(atomic_load(&d.n_connections), 1, 4);
        cached_free(c);
        parallel_stop(&d, &p);
}

/* Closed and freed in the midst of it, at different moments. */
static void *work_until_closed(void *data)
{
        struct worker *w = data;
        int code;

        do
                code = cached_get(w->c, "x", "key", 3, NULL);
        while (code == CACHED_OK);
        if (code != CACHED_ERR_CLOSED)
                w->bad++;
        return NULL;
}

static void test_e_closed_at_any_moment(void **state)
{
        enum { N = 16 };
        struct parallel p = {0};
        struct fake d;

        parallel_start(&d, &p, serve_good);
        for (int round = 0; round < 12; round++) {
                struct worker w[N] = {0};
                cached *c = client_of_size(d.path, PATIENCE_MS, 1 + (uint32_t)round % 8);

                for (int i = 0; i < N; i++) {
                        w[i].c = c;
                        assert_int_equal(pthread_create(&w[i].thread, NULL, work_until_closed,
                                                        &w[i]),
                                         0);
                }
                (void)poll(NULL, 0, round);
                cached_close(c);
                for (int i = 0; i < N; i++) {
                        pthread_join(w[i].thread, NULL);
                        assert_int_equal(w[i].bad, 0);
                }
                cached_free(c);
        }
        parallel_stop(&d, &p);
}

static void in_child(cached *c, bool close_it)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                int code;

                alarm(20);
                code = cached_get(c, "x", "key", 3, NULL);
                if (close_it)
                        cached_close(c);
                cached_free(c);
                _exit(code);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/*
 * All connections are in use, and others wait for one; then likewise with the guard held, as if a
 * thread were in the midst of changing the pool.
 */
static void test_f_fork_inside_calls(void **state)
{
        enum { N = 6 };
        struct caller k[N] = {0};
        struct gate g = {0};
        struct fake d;
        cached *c;

        parallel_start(&d, &g.p, serve_gate);
        c = client_of_size(d.path, PATIENCE_MS, 3);
        assert_int_equal(cached_open_cache(c, "x", NULL, NULL), CACHED_OK);
        for (int i = 0; i < N; i++)
                k[i].key = "big";
        callers_start(k, N, c);
        wait_for(&g.n_waiting, 3);
        in_child(c, false);
        in_child(c, true);
        assert_int_equal(guard_lock(&c->pool->guard, &c->pool->self), GUARD_MINE);
        in_child(c, false);
        in_child(c, true);
        guard_unlock(&c->pool->guard);
        /* Nothing of that reached the parent's calls. */
        atomic_store(&g.is_open, true);
        callers_join(k, N);
        for (int i = 0; i < N; i++)
                assert_int_equal(k[i].code, CACHED_OK);
        assert_int_equal(cached_get(c, "x", "key", 3, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 3 + 4);
        cached_free(c);
        parallel_stop(&d, &g.p);
}

/* Forked while others call: the child neither hangs nor meddles, and may free the handle. */
static void test_f_fork_in_many_calls(void **state)
{
        enum { N = 6 };
        struct worker w[N] = {0};
        struct parallel p = {0};
        atomic_bool stop = false;
        struct fake d;
        cached *c, *derived;

        if (HAS_ASAN)
                skip();
        parallel_start(&d, &p, serve_good);
        c = client_of_size(d.path, PATIENCE_MS, 3);
        assert_int_equal(cached_with_timeout(c, PATIENCE_MS, &derived), CACHED_OK);
        workers_start(w, N, c, &stop);
        for (unsigned i = 0; i < 30; i++) {
                int status;
                pid_t pid;

                wait_for(&w[i % N].n, atomic_load(&w[i % N].n) + 1);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        int code;

                        alarm(20);
                        code = cached_ping(derived, NULL) | cached_get(c, "x", "key", 3, NULL);
                        if (i % 3 == 0)
                                cached_close(c);
                        cached_free(derived);
                        cached_free(c);
                        _exit(code);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
        }
        workers_stop(w, N, &stop);
        cached_free(derived);
        cached_free(c);
        parallel_stop(&d, &p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_side_by_side, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_waiting_for_a_connection, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_options, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_no_more_connections, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_refused_after_the_pause, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_close_with_calls_inside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_free_with_calls_inside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_close_while_connecting, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_close_while_greeting, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_with_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_sixteen_threads, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_closed_at_any_moment, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_fork_inside_calls, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_fork_in_many_calls, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
