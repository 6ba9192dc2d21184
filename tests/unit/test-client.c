/* SPDX-License-Identifier: MIT */
/*
 * libcached and a daemon that behaves: replies of every kind, their accessors, paths into them, the
 * limits that Hello told, arguments that are wrong, cache ids, and where the socket may be.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"
#include "client/sockpath.h"

/* -------------------------------------------------------------------------------------- replies */

static void test_a_words(void **state)
{
        for (int code = -1; code < 100; code++)
                assert_true(strlen(cached_strerror(code)) > 0);
        assert_string_equal(cached_strerror(CACHED_NOT_FOUND), "not found");
        assert_string_not_equal(cached_strerror(CACHED_ERR_FORBIDDEN), cached_strerror(72));
        assert_true(strlen(cached_version()) > 0);
        assert_int_equal(cached_reply_code(NULL), CACHED_ERR_NOMEM);
        assert_null(cached_reply_value(NULL, NULL));
        cached_reply_free(NULL);
        cached_free(NULL);
        cached_pipeline_free(NULL);
}

static void test_b_get(void **state)
{
        struct fake d;
        cached_reply *r;
        size_t n = 77;
        cached *c;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_get(c, "x", "hello", 5, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n), "hello", 5);
        assert_int_equal(n, 5);
        assert_int_equal(cached_reply_version(r), 1);
        assert_true(cached_reply_ttl_ms(r) == CACHED_NEVER);
        assert_string_equal(cached_reply_error(r), "");
        cached_reply_free(r);

        assert_int_equal(cached_get(c, "x", "empty", 5, &r), CACHED_OK);
        assert_non_null(cached_reply_value(r, &n));
        assert_int_equal(n, 0);
        cached_reply_free(r);

        n = 77;
        assert_int_equal(cached_get(c, "x", "miss", 4, &r), CACHED_NOT_FOUND);
        assert_null(cached_reply_value(r, &n));
        assert_int_equal(n, 77);
        cached_reply_free(r);

        assert_int_equal(cached_get(c, "x", "big", 3, &r), CACHED_OK);
        assert_non_null(cached_reply_value(r, &n));
        assert_int_equal(n, BIG);
        cached_reply_free(r);
        assert_int_equal(cached_get(c, "x", "big", 3, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_b_get_many(void **state)
{
        const void *keys[] = {"one", "miss", "three", "four"};
        size_t sizes[] = {3, 4, 5, 4}, n;
        struct fake d;
        cached_reply *r;
        uint64_t v;
        cached *c;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_get_many(c, "x", 4, keys, sizes, &r), CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 4);
        assert_int_equal(cached_reply_item_code(r, 1), CACHED_NOT_FOUND);
        assert_null(cached_reply_item_value(r, 1, &n));
        assert_memory_equal(cached_reply_item_value(r, 2, &n), "three", 5);
        assert_int_equal(n, 5);
        assert_memory_equal(cached_reply_item_value(r, 3, &n), "four", 4);
        assert_int_equal(cached_reply_item_code(r, 4), CACHED_ERR_USAGE);
        assert_null(cached_reply_item_value(r, 4, &n));
        assert_int_equal(cached_reply_u64(r, "items[3].entry.version", &v), CACHED_OK);
        assert_int_equal(v, 4);
        cached_reply_free(r);
        assert_int_equal(cached_get_many(c, "x", 0, NULL, NULL, &r), CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 0);
        cached_reply_free(r);
        cached_free(c);
        fake_unlisten(&d);
}

/* More values than one system call takes, and more bytes than the socket holds. */
static void test_b_set_many(void **state)
{
        enum { N = 1500 };
        static char keys[N][2];
        static const void *key[N], *value[N];
        static size_t n_key[N], n_value[N];
        struct fake d;
        cached_reply *r;
        cached *c;

        for (int i = 0; i < N; i++) {
                keys[i][0] = (char)('a' + i % 26);
                keys[i][1] = (char)(i / 26);
                key[i] = keys[i];
                n_key[i] = 2;
                n_value[i] = i % 7 == 0 ? 0 : (size_t)(i * 3);
                value[i] = malloc(n_value[i] + 1);
                memset((void *)(uintptr_t)value[i], keys[i][0], n_value[i]);
        }
        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set_many(c, "x", N, key, n_key, value, n_value, NULL, &r),
                         CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), N);
        for (int i = 0; i < N; i++)
                assert_int_equal(cached_reply_item_code(r, (size_t)i), CACHED_OK);
        assert_null(cached_reply_item_value(r, 0, NULL));
        cached_reply_free(r);
        for (int i = 0; i < N; i++)
                free((void *)(uintptr_t)value[i]);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_b_limits_of_hello(void **state)
{
        struct fake d;
        cached_reply *r;
        char value[200] = "";
        cached *c;

        fake_start(&d, serve_good, NULL);
        d.max_value = 100;
        d.max_message = 4096;
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "k", 1, value, 101, NULL, &r), CACHED_TOO_LARGE);
        assert_non_null(strstr(cached_reply_error(r), "101 bytes"));
        cached_reply_free(r);
        assert_int_equal(cached_set(c, "x", "k", 1, value, 100, NULL, NULL), CACHED_OK);
        {
                static char key[5000];

                assert_int_equal(cached_get(c, "x", key, sizeof(key), NULL), CACHED_TOO_LARGE);
        }
        assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(c);
        fake_unlisten(&d);
}

static void test_b_usage(void **state)
{
        cached_reply *r;
        cached *c = client_new("/nonexistent/s", 100);

        assert_int_equal(cached_get(c, NULL, "k", 1, &r), CACHED_ERR_USAGE);
        assert_true(strlen(cached_reply_error(r)) > 0);
        cached_reply_free(r);
        assert_int_equal(cached_get(NULL, "x", "k", 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_get(c, "x", NULL, 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_set(c, "x", "k", 1, NULL, 1, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_set_policy(c, "x", NULL, 128, 0, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_new(NULL, NULL), CACHED_ERR_USAGE);
        cached_free(c);
}

/* ---------------------------------------------------------------------------------------- paths */

static void assert_text(const cached_reply *r, const char *path, const char *expected)
{
        const char *text;

        assert_int_equal(cached_reply_text(r, path, &text), CACHED_OK);
        assert_string_equal(text, expected);
}

static void assert_u64(const cached_reply *r, const char *path, uint64_t expected)
{
        uint64_t v;

        assert_int_equal(cached_reply_u64(r, path, &v), CACHED_OK);
        assert_true(v == expected);
}

static void check_paths_of_stats(const cached_reply *r)
{
        static const char *const wrong[] = {"",
                                            ".",
                                            "..",
                                            "[",
                                            "]",
                                            "[0]",
                                            "daemon",
                                            "daemon.",
                                            ".daemon",
                                            "daemon..pid",
                                            "daemon.pid.",
                                            "daemon.pid[0]",
                                            "daemon[0].pid",
                                            "daemon.pid.x",
                                            "nope",
                                            "daemon.nope",
                                            "daemon.latencies",
                                            "daemon.latencies[",
                                            "daemon.latencies[]",
                                            "daemon.latencies[-1].count",
                                            "daemon.latencies[0",
                                            "daemon.latencies[0]]",
                                            "daemon.latencies[0]x",
                                            "daemon.latencies[0].bucket_ns",
                                            "daemon.latencies.count",
                                            "daemon.latencies[+0].count",
                                            "daemon.latencies[ 0].count",
                                            "daemon.latencies[0x0].count",
                                            "daemon\n.pid",
                                            "Daemon.pid",
                                            "daemon.version",
                                            "base",
                                            "base.descriptor",
                                            "n_latencies"};
        uint64_t v = 1;

        assert_u64(r, "daemon.uptime_ms", 4711);
        assert_u64(r, "daemon.pid", 12);
        assert_u64(r, "total.pinned", 1);
        assert_u64(r, "total.policy.ttl_ms", 250);
        assert_u64(r, "total.hits", 0);
        assert_text(r, "total.name", "all");
        assert_text(r, "daemon.latencies[1].request", "Get");
        assert_u64(r, "daemon.latencies[1].bucket_ns[2]", UINT64_MAX);
        assert_int_equal(cached_reply_u64(r, "total.policy.max_bytes", &v), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_u64(r, "cache.entries", &v), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_u64(r, "daemon.latencies[2].count", &v), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_u64(r, "daemon.latencies[99999999999999999999].count", &v),
                         CACHED_NOT_FOUND);
        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
                if (cached_reply_u64(r, wrong[i], &v) != CACHED_ERR_USAGE)
                        fail_msg("\"%s\" is no path", wrong[i]);
        assert_int_equal(v, 1);
        assert_int_equal(cached_reply_u64(r, NULL, &v), CACHED_ERR_USAGE);
        assert_int_equal(cached_reply_count(r, "daemon.latencies"), 2);
        assert_int_equal(cached_reply_count(r, "daemon.latencies[0].bucket_ns"), 3);
        assert_int_equal(cached_reply_count(r, "daemon"), 1);
        assert_int_equal(cached_reply_count(r, "cache"), 0);
        assert_int_equal(cached_reply_count(r, "nope"), 0);
}

static void check_paths_of_entries(const cached_reply *r)
{
        const void *bytes;
        size_t n;
        uint64_t v;

        assert_u64(r, "entries[0].entry.version", 99);
        assert_u64(r, "entries[0].entry.encoding", CACHED_ENCODING_LZ4);
        assert_text(r, "entries[0].entry.encoding", "ENCODING_LZ4");
        assert_int_equal(cached_reply_bytes(r, "entries[0].key", &bytes, &n), CACHED_OK);
        assert_int_equal(n, 3);
        assert_memory_equal(bytes, "k\0y", 3);
        assert_int_equal(cached_reply_bytes(r, "entries[1].key", &bytes, &n), CACHED_OK);
        assert_int_equal(n, 0);
        assert_int_equal(cached_reply_bytes(r, "entries[0].charge", &bytes, &n), CACHED_ERR_USAGE);
        assert_int_equal(cached_reply_u64(r, "entries[1].entry.version", &v), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_u64(r, "entries[0].entry.ttl_ms", &v), CACHED_NOT_FOUND);
}

/* Nothing is expected but that it comes back. */
static void check_random_paths(const cached_reply *r)
{
        static const char *const pieces[] = {"daemon", "latencies", "total", ".", "[",
                                             "]",      "0",         "1",     "7", "ttl",
                                             "pid",    "cache",     "\xff"};
        uint32_t seed = 12345;

        for (int i = 0; i < 20000; i++) {
                char path[128];
                size_t n = 0;
                uint64_t v;
                const char *t;

                for (int k = 0; k < 7; k++) {
                        seed = seed * 1664525u + 1013904223u;
                        n += (size_t)
                                snprintf(path + n, sizeof(path) - n, "%s",
                                         pieces[(seed >> 16) % (sizeof(pieces) / sizeof(*pieces))]);
                }
                (void)cached_reply_u64(r, path, &v);
                (void)cached_reply_text(r, path, &t);
                (void)cached_reply_count(r, path);
        }
}

static void test_c_paths(void **state)
{
        struct fake d;
        cached_reply *r;
        uint64_t v;
        cached *c;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_stats(c, NULL, &r), CACHED_OK);
        check_paths_of_stats(r);
        check_random_paths(r);
        cached_reply_free(r);
        assert_int_equal(cached_list_entries(c, "x", 0, 0, &r), CACHED_OK);
        check_paths_of_entries(r);
        cached_reply_free(r);
        assert_int_equal(cached_list_caches(c, 0, 0, &r), CACHED_UNSUPPORTED);
        assert_string_equal(cached_reply_error(r), "not here");
        assert_int_equal(cached_reply_u64(r, "next", &v), CACHED_NOT_FOUND);
        cached_reply_free(r);
        assert_int_equal(cached_connect(c, &r), CACHED_OK);
        assert_text(r, "realm", "uid:7");
        cached_reply_free(r);
        cached_free(c);
        fake_unlisten(&d);
}

/* ------------------------------------------------------------------------------------ cache ids */

/* The id is used once OpenCache told it, and is forgotten with the connection. */
static void serve_good_twice(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        /* The first connection ends after three requests. */
        for (int i = 0; (nth > 0 || i < 3) && fake_read_request(d, fd, &r); i++) {
                good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_d_cache_ids(void **state)
{
        struct good g = {0};
        struct fake d;
        cached *c;

        fake_start(&d, serve_good_twice, &g);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&g.n_by_name), 1);
        assert_int_equal(cached_open_cache(c, "x", NULL, NULL), CACHED_OK);
        assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&g.n_by_id), 1);
        assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        assert_int_equal(atomic_load(&g.n_by_id), 1);
        assert_int_equal(atomic_load(&g.n_by_name), 2);
        cached_free(c);
        fake_unlisten(&d);
}

/* -------------------------------------------------------------------------------------- sockets */

static void test_e_socket_paths(void **state)
{
        struct sockpaths p = {0};
        char text[64], long_path[200];

        memset(long_path, 'x', sizeof(long_path) - 1);
        long_path[sizeof(long_path) - 1] = 0;
        setenv("CACHED_SOCKET", "/a/b", 1);
        assert_int_equal(sockpaths_resolve(NULL, &p), 0);
        assert_int_equal(p.n, 1);
        assert_string_equal(p.at[0].path, "/a/b");
        assert_int_equal(sockpaths_resolve("/c", &p), 0);
        assert_string_equal(p.at[0].path, "/c");
        assert_int_equal(sockpaths_resolve(long_path, &p), -ENAMETOOLONG);
        assert_string_equal(p.at[0].path, "/c");
        setenv("CACHED_SOCKET", "", 1);
        setenv("XDG_RUNTIME_DIR", "/run/me", 1);
        assert_int_equal(sockpaths_resolve(NULL, &p), 0);
        assert_int_equal(p.n, 4);
        assert_string_equal(p.at[0].path, "/run/cached/cached.sock");
        assert_string_equal(p.at[1].path, "/run/me/cached/cached.sock");
        snprintf(text, sizeof(text), "/run/user/%u/cached/cached.sock", (unsigned)geteuid());
        assert_string_equal(p.at[2].path, text);
        snprintf(text, sizeof(text), "/tmp/cached-%u/cached.sock", (unsigned)geteuid());
        assert_string_equal(p.at[3].path, text);
        /* Where a login puts it: named once. */
        snprintf(text, sizeof(text), "/run/user/%u", (unsigned)geteuid());
        setenv("XDG_RUNTIME_DIR", text, 1);
        assert_int_equal(sockpaths_resolve(NULL, &p), 0);
        assert_int_equal(p.n, 3);
        snprintf(text, sizeof(text), "/run/user/%u/cached/cached.sock", (unsigned)geteuid());
        assert_string_equal(p.at[1].path, text);
        setenv("XDG_RUNTIME_DIR", long_path, 1);
        unsetenv("CACHED_SOCKET");
        assert_int_equal(sockpaths_resolve(NULL, &p), 0);
        assert_int_equal(p.n, 3);
        unsetenv("XDG_RUNTIME_DIR");
}

static void test_e_no_daemon(void **state)
{
        cached *c = client_new("/nonexistent/socket", 1000);
        cached_options *o = cached_options_new();
        cached_reply *r;
        char long_path[200];

        assert_int_equal(cached_ping(c, &r), CACHED_ERR_UNREACHABLE);
        assert_non_null(strstr(cached_reply_error(r), "/nonexistent/socket"));
        assert_string_equal(cached_socket_path(c), "/nonexistent/socket");
        cached_reply_free(r);
        cached_free(c);
        memset(long_path, 'x', sizeof(long_path) - 1);
        long_path[sizeof(long_path) - 1] = 0;
        assert_int_equal(cached_options_set_socket(o, long_path), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_ERR_USAGE);
        cached_options_free(o);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_words, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_get, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_get_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_set_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_limits_of_hello, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_usage, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_cache_ids, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_socket_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_daemon, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
