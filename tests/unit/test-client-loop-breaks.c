/* SPDX-License-Identifier: MIT */
/*
 * Pipelines that wait for nothing: losses
 *
 * Deadlines, a daemon that dies at every byte, lies, refuses, closes while nobody asks; forks; each
 * request comes out exactly once, and the loop is woken for it. At last, every allocation of a
 * round fails in turn.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "loop-harness.h"

#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* --------------------------------------------------------------------------------------- losses */

/* On the first connection nothing after Hello is answered. */
static void serve_silence(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        while (nth == 0 && fake_read_request(d, fd, &r))
                fake_request_done(&r);
        serve_good_rest(d, fd);
}

static void test_d_deadline(void **state)
{
        struct world w;
        uint64_t start = now_ms();
        int fd;

        fake_start(&w.d, serve_silence, NULL);
        world_connect(&w, 50);
        fd = cached_pipeline_fd(w.p);
        for (uint64_t i = 0; i < 10; i++)
                enqueue_get(w.p, i);
        for (uint64_t i = 0; i < 10; i++)
                expect(w.p, i, CACHED_ERR_TIMEOUT);
        assert_true(now_ms() - start >= 50);
        assert_int_equal(cached_pipeline_fd(w.p), fd);
        cached_pipeline_free(w.p);
        cached_free(w.c);
        /* Another one, since the next reply may not come within 50 ms on a busy machine. */
        world_connect(&w, PATIENCE_MS);
        enqueue_get(w.p, 7);
        assert_int_equal(next_get(w.p), 7);
        world_end(&w);
}

/* Takes connections and never says Hello. */
static void serve_nothing(struct fake *d, int fd, int nth)
{
        char byte;

        while (fake_read(d, fd, &byte, 1))
                ;
}

/* Once it is known that the daemon does not greet, nobody waits for it for long. */
static void test_d_silent_daemon(void **state)
{
        struct world w;
        uint64_t start;

        fake_start(&w.d, serve_nothing, NULL);
        world_connect(&w, 50);
        enqueue_get(w.p, 1);
        expect(w.p, 1, CACHED_ERR_TIMEOUT);
        cached_pipeline_free(w.p);
        w.p = pipeline_new(w.c);
        start = now_ms();
        for (uint64_t i = 0; i < 200; i++) {
                int code = cached_pipeline_get(w.p, "x", "k", 1, i);

                /* Refused in the pause, or a try that is given up after a millisecond. */
                if (code == CACHED_OK)
                        expect(w.p, i, CACHED_ERR_TIMEOUT);
                else
                        assert_int_equal(code, CACHED_ERR_TIMEOUT);
        }
        /* Each of them would have waited for 50 ms. */
        assert_true(now_ms() - start < 200 * 50 / 2);
        world_end(&w);
}

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
        struct world w;
        int fd;

        world_start(&w, serve_five, NULL);
        fd = cached_pipeline_fd(w.p);
        for (uint64_t i = 0; i < 12; i++)
                enqueue_get(w.p, i);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(next_get(w.p), i);
        for (uint64_t i = 5; i < 9; i++)
                expect(w.p, i, CACHED_ERR_DISCONNECTED);
        /* A new connection, while three losses have not been collected yet. */
        for (uint64_t i = 12; i < 100; i++)
                enqueue_get(w.p, i);
        assert_int_equal(cached_pipeline_in_flight(w.p), 3 + 88);
        for (uint64_t i = 9; i < 12; i++)
                expect(w.p, i, CACHED_ERR_DISCONNECTED);
        for (uint64_t i = 12; i < 100; i++)
                assert_int_equal(next_get(w.p), i);
        assert_int_equal(cached_pipeline_in_flight(w.p), 0);
        assert_int_equal(cached_pipeline_fd(w.p), fd);
        assert_int_equal(atomic_load(&w.d.n_connections), 2);
        world_end(&w);
}

struct cut {
        size_t n;
        atomic_bool is_asked; /* only then does the first connection say anything */
};

/* The frames of Hello's reply and of one answer, cut after `n` bytes on the first connection. */
static void serve_cut(struct fake *d, int fd, int nth)
{
        struct cut *c = d->data;
        size_t cut = c->n, n_hello, n_answer;
        uint8_t *hello = fake_hello_frame(d, 1, &n_hello), *answer;
        struct fake_request r;

        if (nth > 0) {
                free(hello);
                serve_good(d, fd, nth);
                return;
        }
        if (fake_read_request(d, fd, &r)) {
                fake_request_done(&r);
                while (!atomic_load(&c->is_asked))
                        usleep(100);
                fake_write(d, fd, hello, cut < n_hello ? cut : n_hello);
                if (cut >= n_hello && fake_read_request(d, fd, &r)) {
                        answer = entry_frame(r.m->id, "key-0", 5, &n_answer);
                        assert(cut - n_hello <= n_answer);
                        fake_write(d, fd, answer, cut - n_hello);
                        free(answer);
                        fake_request_done(&r);
                }
        }
        free(hello);
}

/* After a connection that did not come about, none is made for some milliseconds. */
static void enqueue_after_pause(cached_pipeline *p, uint64_t tag)
{
        char key[32];
        size_t n = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)tag);
        uint64_t start = now_ms();
        int code;

        while ((code = cached_pipeline_get(p, "x", key, n, tag)) == CACHED_ERR_DISCONNECTED &&
               now_ms() - start < PATIENCE_MS)
                sched_yield();
        assert_int_equal(code, CACHED_OK);
}

static void test_d_dies_at_every_byte(void **state)
{
        size_t n_hello, n_answer;
        struct fake measure = {.max_in_flight = 1024, .max_message = 1 << 20, .max_value = 1 << 30};

        free(fake_hello_frame(&measure, 1, &n_hello));
        free(entry_frame(2, "key-0", 5, &n_answer));
        for (size_t cut = 0; cut <= n_hello + n_answer; cut++) {
                struct cut c = {.n = cut};
                struct world w;

                world_start(&w, serve_cut, &c);
                enqueue_get(w.p, 0);
                enqueue_get(w.p, 1);
                atomic_store(&c.is_asked, true);
                if (cut == n_hello + n_answer)
                        assert_int_equal(next_get(w.p), 0);
                else
                        expect(w.p, 0, CACHED_ERR_DISCONNECTED);
                expect(w.p, 1, CACHED_ERR_DISCONNECTED);
                assert_int_equal(cached_pipeline_in_flight(w.p), 0);
                enqueue_after_pause(w.p, 2);
                assert_int_equal(next_get(w.p), 2);
                world_end(&w);
        }
}

static void serve_refusal(struct fake *d, int fd, int nth)
{
        atomic_bool *is_asked = d->data;
        struct fake_request r;

        if (!fake_read_request(d, fd, &r))
                return;
        while (!atomic_load(is_asked))
                usleep(100);
        fake_reply_status(d, fd, r.m->id, CACHED_DENIED, "not for you");
        fake_request_done(&r);
}

/* Accepted before that was known, and lost for that reason. */
static void test_d_refused_hello(void **state)
{
        atomic_bool is_asked = false;
        struct world w;
        cached_reply *r;
        uint64_t tag;

        world_start(&w, serve_refusal, &is_asked);
        for (uint64_t i = 0; i < 3; i++)
                enqueue_get(w.p, i);
        atomic_store(&is_asked, true);
        for (uint64_t i = 0; i < 3; i++) {
                assert_int_equal(next(w.p, &tag, &r), CACHED_DENIED);
                assert_int_equal(tag, i);
                assert_string_equal(cached_reply_error(r), "not for you");
                cached_reply_free(r);
        }
        world_end(&w);
}

static void test_d_no_daemon(void **state)
{
        struct world w;

        world_start(&w, serve_good, NULL);
        cached_pipeline_free(w.p);
        cached_free(w.c);
        fake_unlisten(&w.d);
        world_connect(&w, PATIENCE_MS);
        assert_int_equal(cached_pipeline_get(w.p, "x", "k", 1, 1), CACHED_ERR_UNREACHABLE);
        assert_int_equal(cached_pipeline_in_flight(w.p), 0);
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        assert_int_equal(cached_pipeline_dispatch(w.p), CACHED_OK);
        assert_false(is_readable(w.p, 0));
        cached_pipeline_free(w.p);
        cached_free(w.c);
}

static void test_d_lies_and_farewells(void **state)
{
        for (int farewell = 0; farewell < 2; farewell++) {
                struct good g = {0};
                struct world w;

                world_start(&w, serve_liar, farewell ? &g : NULL);
                for (uint64_t i = 0; i < 6; i++)
                        enqueue_get(w.p, i);
                assert_int_equal(next_get(w.p), 0);
                assert_int_equal(next_get(w.p), 1);
                for (uint64_t i = 2; i < 6; i++)
                        expect(w.p, i, farewell ? CACHED_PROTOCOL : CACHED_ERR_BAD_REPLY);
                world_end(&w);
        }
}

/* Answers, and closes the first connection when the test says so. */
static void serve_until_gate(struct fake *d, int fd, int nth)
{
        struct gate *g = d->data;
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = g->open[0], .events = POLLIN}};
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        while (nth > 0 || (poll(p, 2, -1) > 0 && p[1].revents == 0)) {
                if (!fake_read_request(d, fd, &r))
                        return;
                good_answer(d, fd, &r);
                fake_request_done(&r);
        }
        /* A child of the test's own process has this end, too. */
        (void)shutdown(fd, SHUT_RDWR);
}

/*
 * A process that was forked meanwhile still has the socket, so that the kernel goes on reporting
 * it; the descriptor is quiet all the same.
 */
static void test_d_closed_while_idle(void **state)
{
        struct gate g;
        struct world w;
        int status;
        pid_t pid;

        gate_init(&g);
        world_start(&w, serve_until_gate, &g);
        enqueue_get(w.p, 4);
        assert_int_equal(next_get(w.p), 4);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also where the test fails half way */
                pause();
                _exit(0);
        }
        gate_open(&g);
        assert_int_equal(turn(w.p), CACHED_ERR_DISCONNECTED);
        assert_int_equal(cached_pipeline_next(w.p, NULL, NULL), CACHED_ERR_AGAIN);
        assert_int_equal(cached_pipeline_dispatch(w.p), CACHED_OK);
        assert_false(is_readable(w.p, 0));
        enqueue_get(w.p, 5);
        assert_int_equal(next_get(w.p), 5);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        world_end(&w);
        gate_done(&g);
}

/* A flush that finds the connection broken: the loop is woken to collect the losses. */
static void test_d_break_outside_a_dispatch(void **state)
{
        struct gate g;
        struct world w;
        int code;

        gate_init(&g);
        world_start(&w, serve_until_gate, &g);
        enqueue_get(w.p, 4);
        assert_int_equal(next_get(w.p), 4);
        gate_open(&g);
        assert_true(is_readable(w.p, PATIENCE_MS)); /* it is closed, and nobody dispatches */
        enqueue_get(w.p, 5);
        code = cached_pipeline_flush(w.p);
        assert_int_equal(code, CACHED_ERR_DISCONNECTED);
        expect(w.p, 5, CACHED_ERR_DISCONNECTED);
        assert_true(is_readable(w.p, 0));
        assert_int_equal(turn(w.p), CACHED_OK);
        assert_false(is_readable(w.p, 0));
        world_end(&w);
        gate_done(&g);
}

static void test_d_free_in_the_middle(void **state)
{
        struct world w;

        world_start(&w, serve_five, NULL);
        for (uint64_t i = 0; i < 12; i++)
                enqueue_get(w.p, i);
        next_get(w.p);
        world_end(&w);
        world_start(&w, serve_good, NULL);
        enqueue_get(w.p, 1);
        world_end(&w);
}

/* ----------------------------------------------------------------------------------------- fork */

static int in_child(cached_pipeline *p, bool free_only)
{
        int bad = 0;

        if (!free_only) {
                (void)cached_pipeline_get(p, "x", "k", 1, 99);
                while (cached_pipeline_in_flight(p) > 0) {
                        int code = cached_pipeline_next(p, NULL, NULL);

                        bad |= code != CACHED_ERR_DISCONNECTED && code != CACHED_OK &&
                               code != CACHED_ERR_AGAIN;
                        (void)cached_pipeline_dispatch(p);
                }
                bad |= cached_pipeline_get(p, "x", "k", 1, 99) != CACHED_ERR_DISCONNECTED;
        }
        cached_pipeline_free(p);
        return bad;
}

static void test_e_fork(void **state)
{
        for (int free_only = 0; free_only < 2; free_only++) {
                struct world w;
                int status;
                pid_t pid;

                world_start(&w, serve_good, NULL);
                for (uint64_t i = 0; i < 4; i++)
                        enqueue_get(w.p, i);
                next_get(w.p);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        _exit(in_child(w.p, free_only));
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
                for (uint64_t i = 1; i < 4; i++)
                        assert_int_equal(next_get(w.p), i);
                enqueue_get(w.p, 5);
                assert_int_equal(next_get(w.p), 5);
                world_end(&w);
        }
}

/* The child gave our numbers to files of its own: they stay open. */
static void test_e_fork_and_numbers_used_again(void **state)
{
        struct world w;
        int status;
        pid_t pid;

        world_start(&w, serve_good, NULL);
        enqueue_get(w.p, 1);
        next_get(w.p);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = cached_pipeline_fd(w.p), other = epoll_create1(0), kept;

                kept = dup2(other, fd);
                cached_pipeline_free(w.p);
                _exit(kept != fd || fcntl(fd, F_GETFD) < 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        world_end(&w);
}

/* -------------------------------------------------------------------------- failing allocations */

static void loop_round(const char *path)
{
        static const uint8_t value[40000];
        static const void *const keys[] = {"one", "two"};
        static const size_t n_keys[] = {3, 3};
        cached_options *o = cached_options_new();
        cached_pipeline *p = NULL;
        cached *c = NULL;
        size_t n = 0;

        if (o && cached_options_set_socket(o, path) == CACHED_OK && cached_new(o, &c) == CACHED_OK)
                (void)cached_pipeline_new_nonblocking(c, &p);
        for (uint64_t i = 0; p && i < 70; i++) {
                int code;

                if (i == 50)
                        code = cached_pipeline_set(p, "x", "k", 1, value, sizeof(value), NULL, i);
                else if (i == 51)
                        code = cached_pipeline_get_many(p, "x", 2, keys, n_keys, i);
                else if (i == 52)
                        code = cached_pipeline_get(p, "x", "big", 3, i);
                else
                        code = cached_pipeline_get(p, "x", "key", 3, i);
                assert(code == CACHED_OK || code == CACHED_ERR_NOMEM);
                n += code == CACHED_OK;
        }
        assert(!p || cached_pipeline_in_flight(p) == n);
        for (; n > 0; n--) {
                cached_reply *r = NULL;
                int code = next(p, NULL, &r);

                assert(code == CACHED_OK || code == CACHED_ERR_NOMEM);
                assert(r ? cached_reply_code(r) == code : code == CACHED_ERR_NOMEM);
                cached_reply_free(r);
        }
        cached_pipeline_free(p);
        cached_free(c);
        cached_options_free(o);
}

static void test_f_every_allocation_fails(void **state)
{
        struct fake d;
        long n;

        fake_start(&d, serve_good, NULL);
        n_allocations = 0;
        loop_round(d.path);
        n = n_allocations;
        assert_true(n > 70);
        for (long i = 1; i <= n; i++) {
                fail_after = i;
                loop_round(d.path);
                /* How many there are varies with how the replies arrive. */
                fail_after = 0;
        }
        fake_unlisten(&d);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_d_deadline),
                TEST(test_d_silent_daemon),
                TEST(test_d_break_in_the_middle),
                TEST(test_d_dies_at_every_byte),
                TEST(test_d_refused_hello),
                TEST(test_d_no_daemon),
                TEST(test_d_lies_and_farewells),
                TEST(test_d_closed_while_idle),
                TEST(test_d_break_outside_a_dispatch),
                TEST(test_d_free_in_the_middle),
                TEST(test_e_fork),
                TEST(test_e_fork_and_numbers_used_again),
                TEST(test_f_every_allocation_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
