/* SPDX-License-Identifier: MIT */
/*
 * libcached, who is at the other end and who is at this one: daemons that may not be trusted or
 * reached, forks between and inside calls, four threads on one handle.
 *
 * What needs another uid is skipped unless it runs as root. Every case ends with as many open
 * descriptors as it began with.
 */

#include "client-harness.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "client/call.h"

/* ---------------------------------------------------------------------------------------- trust */

/* Runs a good daemon as another uid in a child; returns its pid, or -1 where that is not allowed.
 */
static pid_t fork_daemon(struct fake *d, uid_t uid)
{
        pid_t pid;

        fake_listen(d, 16);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                /* The peer's credentials are those of whoever calls listen(). */
                if (setresuid(uid, uid, uid) < 0 || listen(d->listener, 16) < 0)
                        _exit(1);
                d->serve = serve_good;
                close(d->stop[1]);
                fake_run(d);
                _exit(0);
        }
        return pid;
}

static void test_i_untrusted_daemon(void **state)
{
        cached_options *o = cached_options_new();
        struct fake d;
        cached_reply *r;
        cached *c;
        pid_t pid;
        int status;

        if (geteuid() != 0) {
                cached_options_free(o);
                skip();
        }
        pid = fork_daemon(&d, 12345);
        /* Only a daemon that listens as that uid is a test: wait until it does. */
        for (struct ucred peer = {0}; peer.uid != 12345;) {
                struct sockaddr_un a = {.sun_family = AF_UNIX};
                socklen_t n = sizeof(peer);
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", d.path);
                assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n), 0);
                close(fd);
        }
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, &r), CACHED_ERR_UNTRUSTED);
        assert_non_null(strstr(cached_reply_error(r), "12345"));
        cached_reply_free(r);
        cached_free(c);
        cached_options_set_socket(o, d.path);
        cached_options_set_service_uid(o, 12345);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(c);
        cached_options_free(o);
        fake_unlisten(&d);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* In a child, as a user who may not: the system's socket is closed to it, and no other answers. */
static int forbidden_in_child(const struct fake *d, const char *path, enum sockpath_kind kind)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                struct cached_options o = {.timeout_ms = 1000};
                struct sockpaths p = {.n = 2};
                struct failure f = {0};
                struct conn *conn;
                size_t which;

                if (setresuid(12345, 12345, 12345) < 0)
                        _exit(99);
                p.at[0].kind = kind;
                (void)snprintf(p.at[0].path, sizeof(p.at[0].path), "%s", path);
                p.at[1].kind = SOCKPATH_OF_USER;
                (void)snprintf(p.at[1].path, sizeof(p.at[1].path), "%s/none", d->dir);
                _exit(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_i_forbidden_socket(void **state)
{
        char no_path[108];
        struct fake d;

        if (geteuid() != 0)
                skip();
        fake_start(&d, serve_good, NULL);
        assert_int_equal(chmod(d.dir, 0755), 0);
        assert_int_equal(chmod(d.path, 0600), 0);
        (void)snprintf(no_path, sizeof(no_path), "%s/neither", d.dir);
        assert_int_equal(forbidden_in_child(&d, d.path, SOCKPATH_OF_SYSTEM), CACHED_ERR_FORBIDDEN);
        assert_int_equal(forbidden_in_child(&d, d.path, SOCKPATH_NAMED), CACHED_ERR_FORBIDDEN);
        assert_int_equal(forbidden_in_child(&d, no_path, SOCKPATH_OF_SYSTEM),
                         CACHED_ERR_UNREACHABLE);
        fake_unlisten(&d);
}

/* A directory in /tmp that others may enter could have been made by them. */
static void test_i_open_tmp_directory(void **state)
{
        struct cached_options o = {.timeout_ms = PATIENCE_MS};
        struct sockpaths p = {.n = 1};
        struct failure f = {0};
        struct conn *conn;
        struct fake d;
        size_t which;

        fake_start(&d, serve_good, NULL);
        p.at[0].kind = SOCKPATH_OF_USER_TMP;
        (void)snprintf(p.at[0].path, sizeof(p.at[0].path), "%s", d.path);
        assert_int_equal(chmod(d.dir, 0755), 0);
        assert_int_equal(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which),
                         CACHED_ERR_UNREACHABLE);
        assert_int_equal(chmod(d.dir, 0700), 0);
        assert_int_equal(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which), CACHED_OK);
        assert_null(conn_free(conn));
        fake_unlisten(&d);
}

/* ---------------------------------------------------------------------------- forks and threads */

static void test_j_fork(void **state)
{
        struct parallel p = {0};
        struct fake d;
        int status;
        cached *c;
        pid_t pid;

        parallel_start(&d, &p, serve_good);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int code = cached_ping(c, NULL);

                cached_free(c);
                _exit(code);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        /* The parent's connection was not touched. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        cached_free(c);
        parallel_stop(&d, &p);
}

struct caller {
        cached *c;
        atomic_bool stop;
        atomic_uint n;
        int bad;
};

static void *call_all_the_time(void *data)
{
        struct caller *k = data;

        while (!atomic_load(&k->stop)) {
                if (cached_get(k->c, "x", "key", 3, NULL) != CACHED_OK)
                        k->bad++;
                atomic_fetch_add(&k->n, 1);
        }
        return NULL;
}

/* Forked while another thread is in a call, again and again: the child neither hangs nor meddles.
 */
static void test_j_fork_in_a_call(void **state)
{
        struct caller k = {0};
        pthread_t thread;

        if (HAS_ASAN)
                skip();
        for (int i = 0; i < 3; i++) {
                struct parallel p = {0};
                struct fake d;
                int status;

                parallel_start(&d, &p, serve_good);
                k.c = client_new(d.path, PATIENCE_MS);
                atomic_store(&k.stop, false);
                atomic_store(&k.n, 0);
                assert_int_equal(pthread_create(&thread, NULL, call_all_the_time, &k), 0);
                for (unsigned n = 0; n < 10; n++) {
                        unsigned before = atomic_load(&k.n);
                        pid_t pid;

                        while (atomic_load(&k.n) < before + 3)
                                ;
                        pid = fork();
                        assert_true(pid >= 0);
                        if (pid == 0) {
                                alarm(20);
                                _exit(cached_ping(k.c, NULL));
                        }
                        assert_int_equal(waitpid(pid, &status, 0), pid);
                        assert_int_equal(status, 0);
                }
                atomic_store(&k.stop, true);
                pthread_join(thread, NULL);
                assert_int_equal(k.bad, 0);
                cached_free(k.c);
                parallel_stop(&d, &p);
        }
}

static void *call_many(void *data)
{
        struct caller *k = data;

        for (int i = 0; i < 500; i++) {
                char key[32];
                cached_reply *r;
                size_t n, n_key = (size_t)snprintf(key, sizeof(key), "%p/%d", (void *)&r, i);
                const void *v;

                if (cached_get(k->c, "x", key, n_key, &r) != CACHED_OK ||
                    !(v = cached_reply_value(r, &n)) || n != n_key || memcmp(v, key, n) != 0)
                        k->bad++;
                cached_reply_free(r);
        }
        return NULL;
}

static void test_j_threads(void **state)
{
        struct caller k[4] = {0};
        struct parallel p = {0};
        pthread_t threads[4];
        struct fake d;
        cached *c;

        parallel_start(&d, &p, serve_good);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 4; i++) {
                k[i].c = c;
                assert_int_equal(pthread_create(&threads[i], NULL, call_many, &k[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(k[i].bad, 0);
        }
        assert_in_range(atomic_load(&d.n_connections), 1, 4);
        cached_free(c);
        parallel_stop(&d, &p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_i_untrusted_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_forbidden_socket, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_open_tmp_directory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_fork_in_a_call, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_threads, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
