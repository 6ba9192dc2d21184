/* SPDX-License-Identifier: MIT */
/*
 * Memoized functions: the key, the identity of code, results, and a cache that is no help: what is
 * asked of it then is counted, and whatever fails, the function's value comes.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "fake-store.h"

#include "client/code-id.h"
#include "client/handle.h"

#include <sys/wait.h>

/* ------------------------------------------------------------------------------------- the clock
 */

/* Added to what this thread reads. */
static _Thread_local uint64_t clock_ahead_ns;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        int r = __real_clock_gettime(clock, ret);
        uint64_t ns = (uint64_t)ret->tv_nsec + clock_ahead_ns;

        ret->tv_sec += (time_t)(ns / 1000000000u);
        ret->tv_nsec = (long)(ns % 1000000000u);
        return r;
}

/* ------------------------------------------------------------------------------------- functions
 */

struct job {
        const char *value;
        size_t n;
        int code;
        bool take;        /* the memory stays known in `alias` */
        uint64_t took_ns; /* on the clock */
        unsigned calls;
        void *alias;
};

#define JOB(text) ((struct job){.value = (text), .n = strlen(text)})

static int compute(void *data, cached_result *out)
{
        struct job *j = data;

        j->calls++;
        clock_ahead_ns += j->took_ns;
        if (j->code)
                return j->code;
        if (!j->value)
                return CACHED_OK;
        if (!j->take)
                return cached_result_set(out, j->value, j->n);
        j->alias = __real_malloc(j->n);
        assert_non_null(j->alias);
        memcpy(j->alias, j->value, j->n);
        return cached_result_take(out, j->alias, j->n);
}

/* Generous: a busy machine is not a daemon that is away. */
static cached_memo_options *patient(void)
{
        cached_memo_options *o = cached_memo_options_new();

        assert_non_null(o);
        assert_int_equal(cached_memo_options_set_wait_ms(o, PATIENCE_MS), CACHED_OK);
        return o;
}

static cached_memo_options *hurried(void)
{
        cached_memo_options *o = cached_memo_options_new();

        assert_int_equal(cached_memo_options_set_wait_ms(o, 20), CACHED_OK);
        return o;
}

static cached_result *memoize_with(cached *c, cached_key *k, struct job *j,
                                   const cached_memo_options *o)
{
        cached_key *none = cached_key_new();
        cached_result *r;
        int code = cached_memoize(c, "f", k ? k : none, compute, j, o, &r);

        assert_non_null(r);
        assert_int_equal(code, j->code);
        cached_key_free(none);
        return r;
}

static cached_result *memoize(cached *c, struct job *j)
{
        cached_memo_options *o = patient();
        cached_result *r = memoize_with(c, NULL, j, o);

        cached_memo_options_free(o);
        return r;
}

static void assert_result(cached_result *r, const char *value, bool is_hit, int cache_code)
{
        size_t n = 0;
        const void *p = cached_result_value(r, &n);

        assert_non_null(p);
        assert_int_equal(n, strlen(value));
        assert_memory_equal(p, value, n);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        assert_int_equal(cached_result_is_hit(r), is_hit);
        assert_int_equal(cached_result_cache_code(r), cache_code);
        assert_int_equal(*cached_result_error(r) == '\0', cache_code == CACHED_OK);
        cached_result_free(r);
}

/* --------------------------------------------------------------------------------- code identity
 */

static void test_a_code_id(void **state)
{
        struct code_id a, b;

        assert_true(code_id_find((const void *)(uintptr_t)compute, &a));
        assert_in_range(a.n, 8, CODE_ID_MAX);
        assert_true(code_id_find_by_walk((const void *)(uintptr_t)compute, &b));
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.bytes, b.bytes, a.n);
        /* Another object has another one. */
        assert_true(code_id_find((const void *)(uintptr_t)_cmocka_run_group_tests, &b));
        assert_false(a.n == b.n && !memcmp(a.bytes, b.bytes, a.n));
        /* What lies in no object has none. */
        assert_false(code_id_find(NULL, &a));
        assert_false(code_id_find_by_walk(NULL, &a));
        assert_false(code_id_find(&a, &b));
        assert_false(code_id_find((const void *)UINTPTR_MAX, &b));
}

/* Another note before it, with a name and a description that are padded. */
static const uint8_t notes[] = {
        4, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 'G', 'N', 'U', 0, 1, 2, 3, 4, 5, 0, 0, 0, /* */
        2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 'X', 0,   0,   0, 9, 9, 0, 0,             /* */
        4, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, 1, 2, 3, 4, 5, 6,
};

static void test_a_notes(void **state)
{
        struct code_id id = {.n = 99};
        uint8_t bad[sizeof(notes)];

        assert_true(code_id_in_notes(notes, sizeof(notes), 4, &id));
        assert_int_equal(id.n, 6);
        assert_memory_equal(id.bytes, "\1\2\3\4\5\6", 6);
        for (size_t n = 0; n < sizeof(notes); n++) {
                uint8_t *cut = malloc(n ? n : 1);

                assert_non_null(cut);
                memcpy(cut, notes, n);
                assert_false(code_id_in_notes(cut, n, 4, &id));
                free(cut);
        }
        /* Whatever a byte says, nothing outside is read (the sanitizer sees to it). */
        for (size_t i = 0; i < sizeof(notes); i++)
                for (int v = 0; v < 256; v += 5) {
                        memcpy(bad, notes, sizeof(notes));
                        bad[i] = (uint8_t)v;
                        (void)code_id_in_notes(bad, sizeof(bad), i % 2 ? 4 : 8, &id);
                        assert_in_range(id.n, 1, CODE_ID_MAX);
                }
        memcpy(bad, notes, sizeof(notes));
        memset(bad, 0xff, 8);
        assert_false(code_id_in_notes(bad, sizeof(bad), 4, &id));
}

/* ------------------------------------------------------------------------------------------- key
 */

/* As KEYS.md has it, by the builder. */
static void key_by_hand(const char *name, const char *version, cached_key *arguments,
                        uint8_t ret[CACHED_KEY_SIZE])
{
        cached_key *k = cached_key_new(), *none = cached_key_new();
        uint8_t digest[CACHED_KEY_SIZE];
        struct code_id id;

        assert_int_equal(cached_key_finish(arguments ? arguments : none, digest), CACHED_OK);
        assert_int_equal(cached_key_add_text(k, name, strlen(name)), CACHED_OK);
        if (version) {
                assert_int_equal(cached_key_add_text(k, version, strlen(version)), CACHED_OK);
        } else {
                assert_true(code_id_find((const void *)(uintptr_t)compute, &id));
                assert_int_equal(cached_key_add_bytes(k, id.bytes, id.n), CACHED_OK);
        }
        assert_int_equal(cached_key_add_bytes(k, digest, sizeof(digest)), CACHED_OK);
        assert_int_equal(cached_key_finish(k, ret), CACHED_OK);
        cached_key_free(k);
        cached_key_free(none);
}

static void test_b_key(void **state)
{
        cached_memo_options *o = patient();
        cached_key *k = cached_key_new();
        struct job j = JOB("v");
        uint8_t expected[CACHED_KEY_SIZE];
        static struct store s;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_result(memoize_with(c, NULL, &j, o), "v", false, CACHED_OK);
        cached_key_add_text(k, "x", 1);
        cached_key_add_uint(k, 5);
        assert_result(memoize_with(c, k, &j, o), "v", false, CACHED_OK);
        assert_int_equal(cached_memo_options_set_version(o, "1.0"), CACHED_OK);
        assert_result(memoize_with(c, k, &j, o), "v", false, CACHED_OK);
        /* The builder is as it was. */
        assert_result(memoize_with(c, k, &j, o), "v", true, CACHED_OK);
        assert_int_equal(store_n(&s), 3);
        key_by_hand("f", NULL, NULL, expected);
        assert_memory_equal(store_at(&s, 0).key, expected, sizeof(expected));
        key_by_hand("f", NULL, k, expected);
        assert_memory_equal(store_at(&s, 1).key, expected, sizeof(expected));
        key_by_hand("f", "1.0", k, expected);
        assert_memory_equal(store_at(&s, 2).key, expected, sizeof(expected));
        /* "" is none. */
        assert_int_equal(cached_memo_options_set_version(o, ""), CACHED_OK);
        assert_result(memoize_with(c, k, &j, o), "v", true, CACHED_OK);
        assert_int_equal(j.calls, 3);
        cached_key_free(k);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

static void assert_usage(cached *c, const char *name, cached_key *k, cached_compute f,
                         const cached_memo_options *o, const char *word)
{
        struct job j = JOB("v");
        cached_result *r;

        assert_int_equal(cached_memoize(c, name, k, f, &j, o, &r), CACHED_ERR_USAGE);
        assert_int_equal(j.calls, 0);
        assert_null(cached_result_value(r, NULL));
        assert_int_equal(cached_result_is_hit(r), 0);
        assert_int_equal(cached_result_cache_code(r), CACHED_ERR_USAGE);
        assert_non_null(strstr(cached_result_error(r), word));
        cached_result_free(r);
        assert_int_equal(cached_memoize(c, name, k, f, &j, o, NULL), CACHED_ERR_USAGE);
}

static void test_b_arguments(void **state)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_key *open = cached_key_new(), *bad = cached_key_new(), *k = cached_key_new();
        char name[200];
        cached *c = client_new("/nonexistent", PATIENCE_MS);

        memset(name, 'n', sizeof(name));
        name[129] = '\0';
        assert_usage(c, NULL, k, compute, NULL, "name");
        assert_usage(c, "f", k, NULL, NULL, "function");
        assert_usage(c, "", k, compute, NULL, "a function and its name");
        assert_usage(c, name, k, compute, NULL, "128");
        assert_usage(c, "a\nb", k, compute, NULL, "control");
        assert_usage(c, "\xff", k, compute, NULL, "UTF-8");
        assert_int_equal(cached_memo_options_set_cache(o, "\xff"), CACHED_OK);
        assert_usage(c, "f", k, compute, o, "UTF-8");
        assert_int_equal(cached_memo_options_set_cache(o, NULL), CACHED_OK);
        assert_int_equal(cached_memo_options_set_version(o, "v\xff"), CACHED_OK);
        assert_usage(c, "f", k, compute, o, "version");
        cached_key_begin_list(open);
        assert_usage(c, "f", open, compute, NULL, "open");
        cached_key_add_text(bad, "\xff", 1);
        assert_usage(c, "f", bad, compute, NULL, "item 1");
        cached_key_free(open);
        cached_key_free(bad);
        cached_key_free(k);
        cached_memo_options_free(o);
        cached_free(c);
}

/* --------------------------------------------------------------------------------------- results
 */

static void test_c_null(void **state)
{
        char one = 'x';

        cached_result_free(NULL);
        cached_memo_options_free(NULL);
        assert_null(cached_result_value(NULL, NULL));
        assert_int_equal(cached_result_is_hit(NULL), 0);
        assert_int_equal(cached_result_cache_code(NULL), CACHED_ERR_NOMEM);
        assert_true(strlen(cached_result_error(NULL)) > 0);
        assert_int_equal(cached_result_set(NULL, &one, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_result_take(NULL, __real_malloc(1), 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_version(NULL, "1"), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_cache(NULL, "1"), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_ttl_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_wait_ms(NULL, 1), CACHED_ERR_USAGE);
}

/* Sets more than once, wrongly, and last to nothing. */
static int compute_often(void *data, cached_result *out)
{
        assert_int_equal(cached_result_set(out, "one", 3), CACHED_OK);
        assert_int_equal(cached_result_take(out, __real_malloc(2), 2), CACHED_OK);
        assert_int_equal(cached_result_set(out, "two", 3), CACHED_OK);
        assert_int_equal(cached_result_set(out, NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_result_take(out, NULL, 1), CACHED_ERR_USAGE);
        assert_memory_equal(cached_result_value(out, NULL), "two", 3);
        if (data)
                assert_int_equal(cached_result_set(out, NULL, 0), CACHED_OK);
        return CACHED_OK;
}

static void test_c_set_again(void **state)
{
        cached_result *r;
        size_t n = 77;

        assert_int_equal(cached_memoize(NULL, "f", NULL, compute_often, NULL, NULL, &r), CACHED_OK);
        assert_result(r, "two", false, CACHED_ERR_USAGE);
        assert_int_equal(cached_memoize(NULL, "f", NULL, compute_often, &n, NULL, &r), CACHED_OK);
        assert_non_null(cached_result_value(r, &n));
        assert_int_equal(n, 0);
        cached_result_free(r);
}

/* Whoever computed it or got it, it is his own; also what the function kept. */
static void test_c_private(void **state)
{
        static struct store s;
        struct job j = JOB("original");
        cached_result *r;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        j.take = true;
        for (int i = 0; i < 3; i++) {
                r = memoize(c, &j);
                assert_memory_equal(cached_result_value(r, NULL), "original", 8);
                memset(cached_result_value(r, NULL), '!', 8);
                if (i == 0)
                        memset(j.alias, '?', 8);
                cached_result_free(r);
        }
        assert_int_equal(j.calls, 1);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_c_empty(void **state)
{
        static struct store s;
        struct job j = {0};
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_result(memoize(c, &j), "", false, CACHED_OK);
        assert_result(memoize(c, &j), "", true, CACHED_OK);
        assert_int_equal(j.calls, 1);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_c_failures(void **state)
{
        static const int codes[] = {-5, CACHED_NOT_FOUND, CACHED_ERR_USAGE, CACHED_ERR_CALLER};
        static struct store s;
        struct job j = JOB("v");
        cached_result *r;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
                j.code = codes[i];
                r = memoize(c, &j);
                assert_null(cached_result_value(r, NULL));
                assert_int_equal(cached_result_cache_code(r), CACHED_NOT_FOUND);
                assert_non_null(strstr(cached_result_error(r), "f failed"));
                cached_result_free(r);
        }
        assert_int_equal(atomic_load(&s.n_sets), 0);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_c_options(void **state)
{
        cached_memo_options *o = patient();
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        cached_key *k;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_memo_options_set_ttl_ms(o, 4711), CACHED_OK);
        j.took_ns = 3000000;
        assert_result(memoize_with(c, NULL, &j, o), "v", false, CACHED_OK);
        assert_int_equal(store_at(&s, 0).ttl_ms, 4711);
        assert_in_range(store_at(&s, 0).cost_us, 3000, 3000 + PATIENCE_MS * 1000);
        k = cached_key_new();
        assert_int_equal(cached_memoize(c, "f", k, compute, &j, o, NULL), CACHED_OK);
        assert_int_equal(j.calls, 1);
        cached_key_free(k);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

/* ------------------------------------------------------------------------- a cache that is no help
 */

/* A hit is one request, a miss two, a failed look-up one. */
static void test_d_requests(void **state)
{
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        atomic_store(&s.get_status, CACHED_DENIED);
        assert_result(memoize(c, &j), "v", false, CACHED_DENIED);
        assert_int_equal(atomic_load(&s.n_gets), 1);
        assert_int_equal(atomic_load(&s.n_sets), 0);
        atomic_store(&s.get_status, 0);
        atomic_store(&s.set_status, CACHED_NO_SPACE);
        assert_result(memoize(c, &j), "v", false, CACHED_NO_SPACE);
        assert_int_equal(atomic_load(&s.n_gets), 2);
        assert_int_equal(atomic_load(&s.n_sets), 1);
        atomic_store(&s.set_status, 0);
        assert_result(memoize(c, &j), "v", false, CACHED_OK);
        assert_int_equal(atomic_load(&s.n_gets), 3);
        assert_int_equal(atomic_load(&s.n_sets), 2);
        assert_result(memoize(c, &j), "v", true, CACHED_OK);
        assert_int_equal(atomic_load(&s.n_gets), 4);
        assert_int_equal(atomic_load(&s.n_sets), 2);
        assert_int_equal(atomic_load(&s.n_connections), 1);
        /* An encoding that nobody here knows is a miss. */
        pthread_mutex_lock(&s.lock);
        s.at[0].encoding = (Cached__V1__Encoding)7;
        pthread_mutex_unlock(&s.lock);
        assert_result(memoize(c, &j), "v", false, CACHED_OK);
        assert_result(memoize(c, &j), "v", true, CACHED_OK);
        cached_free(c);
        store_stop(&d, &s);
}

/* Where the look-up failed, only what took long is worth an attempt to store. */
static void test_d_worth_it_anyway(void **state)
{
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        atomic_store(&s.get_status, CACHED_INTERNAL);
        j.took_ns = 1000000000;
        assert_result(memoize(c, &j), "v", false, CACHED_OK);
        assert_int_equal(atomic_load(&s.n_sets), 1);
        atomic_store(&s.get_status, 0);
        assert_result(memoize(c, &j), "v", true, CACHED_OK);
        cached_free(c);
        store_stop(&d, &s);
}

/* Gets are not answered: one call waits for that. Then the daemon counts as silent, and no call
 * connects but now and then. */
static void test_d_silent(void **state)
{
        cached_memo_options *o = hurried();
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        atomic_store(&s.mute_gets, true);
        assert_result(memoize_with(c, NULL, &j, o), "v", false, CACHED_ERR_TIMEOUT);
        assert_int_equal(atomic_load(&s.n_gets), 1);
        atomic_store(&s.mute, true);
        /* None of these calls is where a pause ends. */
        c->pool->backoff.until_ns = UINT64_MAX / 2;
        for (int i = 0; i < 500; i++)
                assert_result(memoize_with(c, NULL, &j, o), "v", false, CACHED_ERR_TIMEOUT);
        assert_int_equal(j.calls, 501);
        assert_int_equal(atomic_load(&s.n_gets), 1);
        assert_int_equal(atomic_load(&s.n_sets), 0);
        assert_int_equal(atomic_load(&s.n_connections), 1);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

/* Sets are not answered: the value comes all the same. */
static void test_d_mute_sets(void **state)
{
        cached_memo_options *o = patient();
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        atomic_store(&s.mute_sets, true);
        assert_int_equal(cached_memo_options_set_wait_ms(o, 200), CACHED_OK);
        assert_result(memoize_with(c, NULL, &j, o), "v", false, CACHED_ERR_TIMEOUT);
        assert_int_equal(j.calls, 1);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_d_absent(void **state)
{
        struct job j = JOB("v");
        cached *c = client_new("/nonexistent/s", PATIENCE_MS);

        assert_result(memoize(c, &j), "v", false, CACHED_ERR_UNREACHABLE);
        cached_close(c);
        assert_result(memoize(c, &j), "v", false, CACHED_ERR_CLOSED);
        cached_free(c);
        assert_result(memoize(NULL, &j), "v", false, CACHED_ERR_USAGE);
        assert_int_equal(j.calls, 3);
}

/* Whichever allocation fails, the value comes, unless it was the result's own. */
static void test_e_no_memory(void **state)
{
        cached_memo_options *o = patient();
        static struct store s;
        size_t n_uncached = 0;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (long i = 1, done = 0; !done; i++) {
                struct job j = JOB("value");
                cached_key *k = cached_key_new();
                cached_result *r;
                int code;

                cached_key_add_int(k, i % 2 ? i : 0); /* a miss, a hit */
                j.take = true;
                fail_after = i / 2 + 1;
                code = cached_memoize(c, "f", k, compute, &j, o, &r);
                done = fail_after > 0 && i % 2;
                fail_after = 0;
                if (r) {
                        assert_int_equal(code, CACHED_OK);
                        assert_memory_equal(cached_result_value(r, NULL), "value", 5);
                        n_uncached += cached_result_cache_code(r) != CACHED_OK;
                } else {
                        assert_int_equal(code, CACHED_ERR_NOMEM);
                        assert_int_equal(j.calls, 0);
                }
                cached_result_free(r);
                cached_key_free(k);
        }
        assert_true(n_uncached > 0);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

/* No builder: not what a function without arguments has. */
static void test_e_no_memory_for_arguments(void **state)
{
        static struct store s;
        struct job j = JOB("v");
        cached_result *r;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_result(memoize(c, &j), "v", false, CACHED_OK);
        assert_int_equal(cached_memoize(c, "f", NULL, compute, &j, NULL, &r), CACHED_OK);
        assert_non_null(strstr(cached_result_error(r), "NULL"));
        assert_result(r, "v", false, CACHED_ERR_NOMEM);
        assert_int_equal(atomic_load(&s.n_gets), 1);
        cached_free(c);
        store_stop(&d, &s);
}

/* ------------------------------------------------------------------------------ threads and forks
 */

#define N_THREADS 16
#define N_KEYS    20

struct worker {
        cached *c;
        const cached_memo_options *o;
        unsigned wrong;
};

static void *work(void *data)
{
        struct worker *w = data;

        for (int i = 0; i < 5 * N_KEYS; i++) {
                char text[16];
                struct job j = {.value = text, .n = (size_t)sprintf(text, "value %d", i % N_KEYS)};
                cached_key *k = cached_key_new();
                cached_result *r;
                char *value;
                size_t n = 0;

                cached_key_add_int(k, i % N_KEYS);
                w->wrong += cached_memoize(w->c, "f", k, compute, &j, w->o, &r) != CACHED_OK;
                value = cached_result_value(r, &n);
                if (!value || n != j.n || memcmp(value, text, n) != 0)
                        w->wrong++;
                else
                        memset(value, '!', n);
                cached_result_free(r);
                cached_key_free(k);
        }
        return NULL;
}

static void test_f_threads(void **state)
{
        cached_memo_options *o = patient();
        struct worker w[N_THREADS];
        pthread_t t[N_THREADS];
        static struct store s;
        struct fake d;
        cached *c;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < N_THREADS; i++) {
                w[i] = (struct worker){c, o, 0};
                assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
        }
        for (int i = 0; i < N_THREADS; i++) {
                pthread_join(t[i], NULL);
                assert_int_equal(w[i].wrong, 0);
        }
        assert_int_equal(store_n(&s), N_KEYS);
        cached_memo_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

/* The child's value is stored, and its end leaves the parent's connection alone. */
static void test_f_fork(void **state)
{
        static struct store s;
        struct job j = JOB("v");
        struct fake d;
        int status;
        cached *c;
        pid_t pid;

        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        pid = fork();
        if (pid == 0) {
                cached_memo_options *o = cached_memo_options_new();
                cached_key *k = cached_key_new();
                cached_result *r;
                int code;

                (void)cached_memo_options_set_wait_ms(o, PATIENCE_MS);
                code = cached_memoize(c, "f", k, compute, &j, o, &r);
                _exit(code != CACHED_OK || cached_result_cache_code(r) != CACHED_OK);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_result(memoize(c, &j), "v", true, CACHED_OK);
        assert_int_equal(j.calls, 0);
        cached_free(c);
        store_stop(&d, &s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_code_id, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_notes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_key, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_null, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_set_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_private, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_empty, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_failures, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_options, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_requests, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_worth_it_anyway, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_silent, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_mute_sets, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_absent, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory_for_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_threads, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_fork, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
