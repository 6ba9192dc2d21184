/* SPDX-License-Identifier: MIT */
/*
 * Memoized functions under leases: whatever the daemon says of who computes, the value comes; what
 * is stored, shared, given up; nested computations; forks. What several processes see is in
 * tests/outside/test_memoize_once.py.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "fake-lease.h"

#include "client/handle.h"

#include <sys/wait.h>

struct job {
        cached *c;
        int code, calls;
        const char *reason, *negative;
        bool declines, forks;
        const char *inner; /* the key of a nested call */
        cached *inner_handle;
        int progress, inner_code, inner_calls;
        int forked; /* in which of both processes this is: -1 the child, else the child's pid */
};

static int compute_inner(void *data, cached_result *out)
{
        struct job *j = data;

        j->inner_calls++;
        return cached_result_set(out, "inner", 5);
}

static int nested(struct job *j)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_key *k = cached_key_new();
        int code;

        (void)cached_memo_options_set_version(o, "1");
        (void)cached_memo_options_set_wait_ms(o, PATIENCE_MS);
        (void)cached_key_add_text(k, j->inner, strlen(j->inner));
        code = cached_memoize(j->inner_handle ? j->inner_handle : j->c, "f", k, compute_inner, j, o,
                              NULL);
        cached_key_free(k);
        cached_memo_options_free(o);
        return code;
}

static int compute(void *data, cached_result *out)
{
        struct job *j = data;

        j->calls++;
        j->progress = cached_progress("half", 0.5);
        if (j->inner)
                j->inner_code = nested(j);
        if (j->forks) {
                pid_t pid = fork();

                j->forked = pid == 0 ? -1 : (int)pid;
        }
        if (j->declines)
                (void)cached_result_decline(out);
        if (j->reason)
                (void)cached_result_set_reason(out, j->reason);
        if (j->negative)
                return cached_result_set_negative(out, j->negative, 4711);
        return j->code ? j->code : cached_result_set(out, "value", 5);
}

static cached_result *memoize(struct job *j, const char *key, const cached_memo_options *how)
{
        cached_memo_options *o = how ? NULL : cached_memo_options_new();
        cached_key *k = cached_key_new();
        cached_result *r;

        if (o) {
                (void)cached_memo_options_set_version(o, "1");
                (void)cached_memo_options_set_wait_ms(o, PATIENCE_MS);
        }
        (void)cached_key_add_text(k, key, strlen(key));
        (void)cached_memoize(j->c, "f", k, compute, j, how ? how : o, &r);
        cached_key_free(k);
        cached_memo_options_free(o);
        return r;
}

static void assert_value(cached_result *r, int cache_code)
{
        size_t n = 0;
        const void *value = cached_result_value(r, &n);

        assert_non_null(value);
        assert_int_equal(n, 5);
        assert_memory_equal(value, "value", 5);
        assert_int_equal(cached_result_cache_code(r), cache_code);
        assert_int_equal(*cached_result_error(r) == '\0', cache_code == CACHED_OK);
        cached_result_free(r);
}

/* ------------------------------------------------------------------------------------- answers */

static void test_a_null(void **state)
{
        assert_int_equal(cached_result_decline(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_result_set_negative(NULL, "x", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_result_set_reason(NULL, "x"), CACHED_ERR_USAGE);
        assert_int_equal(cached_result_is_stale(NULL), 0);
        assert_int_equal(cached_result_waited_ms(NULL), 0);
        assert_int_equal(cached_result_holder_pid(NULL), 0);
        assert_int_equal(cached_memo_options_set_lease_wait_ms(NULL, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_hold_ms(NULL, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_refresh(NULL, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_memo_options_set_waiting(NULL, NULL, NULL, 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_progress("x", 1), CACHED_NOT_FOUND);
}

/* Each answer that is not "wait" has the function run; stored is as that says. */
static void test_a_states(void **state)
{
        static struct leases s;
        struct fake d;
        struct job j = {0};

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        for (int i = CACHED_LEASE_YOURS; i <= CACHED_LEASE_UNSTORABLE + 1; i++) {
                bool is_outer = i == CACHED_LEASE_YOURS;
                char key[16];
                cached_result *r;

                (void)snprintf(key, sizeof(key), "%d", i);
                atomic_store(&s.state, i);
                r = memoize(&j, key, NULL);
                assert_int_equal(cached_result_is_hit(r), 0);
                assert_int_equal(cached_result_waited_ms(r), 77);
                assert_int_equal(cached_result_holder_pid(r), 4711);
                assert_value(r, is_outer ? CACHED_NOT_FOUND : CACHED_OK);
                assert_int_equal(j.calls, i - 1);
                assert_int_equal(j.progress, CACHED_NOT_FOUND);
                assert_int_equal(store_n(&s.store), i - 2);
                assert_int_equal(s.last_lease_id, 0);
        }
        cached_free(j.c);
        leases_stop(&d, &s);
}

static void test_a_statuses(void **state)
{
        static struct leases s;
        struct fake d;
        struct job j = {0};

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        /* Too many: as on a miss. */
        atomic_store(&s.status, CACHED_LIMIT);
        assert_value(memoize(&j, "k", NULL), CACHED_OK);
        assert_int_equal(store_n(&s.store), 1);
        /* No use in storing. */
        atomic_store(&s.status, CACHED_DENIED);
        assert_value(memoize(&j, "m", NULL), CACHED_DENIED);
        assert_int_equal(store_n(&s.store), 1);
        atomic_store(&s.status, 0);
        atomic_store(&s.hang_up, true);
        assert_value(memoize(&j, "m", NULL), CACHED_ERR_DISCONNECTED);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* Neither is asked for a lease, nor gets what would be taken for a value. */
static void test_a_without_leases(void **state)
{
        for (int i = 0; i < 2; i++) {
                static struct leases s;
                struct job j = {0};
                cached_result *r;
                struct fake d;

                leases_start(&d, &s);
                if (i)
                        d.role = CACHED__V1__ROLE__ROLE_READER;
                else
                        d.features = 0;
                j.c = client_new(d.path, PATIENCE_MS);
                j.declines = true;
                assert_value(memoize(&j, "k", NULL), CACHED_NOT_FOUND);
                j.declines = false;
                j.negative = "none";
                r = memoize(&j, "k", NULL);
                assert_int_equal(cached_result_cache_code(r), CACHED_UNSUPPORTED);
                assert_string_equal(cached_result_error(r), "none");
                assert_null(cached_result_value(r, NULL));
                cached_result_free(r);
                assert_int_equal(store_n(&s.store), 0);
                j.negative = NULL;
                assert_value(memoize(&j, "k", NULL), CACHED_OK);
                assert_value(memoize(&j, "k", NULL), CACHED_OK);
                assert_int_equal(j.calls, 3);
                assert_int_equal(atomic_load(&s.n_asked), 0);
                cached_free(j.c);
                leases_stop(&d, &s);
        }
}

/* -------------------------------------------------------------------------------- what is given */

static void test_b_given(void **state)
{
        static struct leases s;
        struct job j = {0};
        cached_result *r;
        struct fake d;

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        assert_value(memoize(&j, "k", NULL), CACHED_OK);
        assert_int_equal(j.progress, CACHED_OK);
        assert_int_equal(s.last_lease_id, 1);
        /* It may come after the store, which goes another way. */
        while (atomic_load(&s.n_told) == 0)
                usleep(1000);
        assert_string_equal(s.text, "half");
        assert_int_equal(s.permille, 500);
        r = memoize(&j, "k", NULL);
        assert_int_equal(cached_result_is_hit(r), 1);
        assert_value(r, CACHED_OK);
        j.declines = true;
        assert_value(memoize(&j, "declined", NULL), CACHED_NOT_FOUND);
        assert_true(s.last_share_only);
        j.declines = false;
        j.negative = "there is none";
        r = memoize(&j, "negative", NULL);
        assert_int_equal(cached_result_cache_code(r), CACHED_OK);
        assert_string_equal(cached_result_error(r), "there is none");
        cached_result_free(r);
        assert_true(s.last_negative);
        assert_int_equal(store_at(&s.store, 1).ttl_ms, 4711);
        assert_int_equal(store_at(&s.store, 1).n, 13);
        assert_int_equal(atomic_load(&s.n_ends), 0);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* A lease is given up with the reason that the function gave, or with its code. */
static void test_b_fails(void **state)
{
        static struct leases s;
        struct job j = {.code = 300, .reason = "no luck"};
        cached_result *r;
        struct fake d;

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 2; i++) {
                r = memoize(&j, "k", NULL);
                assert_int_equal(atomic_load(&s.n_ends), i + 1);
                assert_int_equal(cached_result_cache_code(r), CACHED_NOT_FOUND);
                assert_string_equal(cached_result_error(r), s.reasons[i]);
                assert_non_null(strstr(s.reasons[i], i ? "code 300" : "no luck"));
                assert_null(cached_result_value(r, NULL));
                cached_result_free(r);
                j.reason = NULL;
        }
        /* A reason of a run that succeeds is none. */
        j.code = 0;
        j.reason = "unused";
        assert_value(memoize(&j, "k", NULL), CACHED_OK);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* ------------------------------------------------------------------------------------- nested */

/* One owner for what belongs together, on one handle. */
static void test_c_owners(void **state)
{
        static struct leases s;
        struct job j = {.inner = "inner"};
        struct fake d;

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        assert_value(memoize(&j, "outer", NULL), CACHED_OK);
        assert_int_equal(j.inner_code, CACHED_OK);
        assert_int_equal(atomic_load(&s.n_asked), 2);
        assert_int_equal(s.owners[0], s.owners[1]);
        j.inner = NULL;
        assert_value(memoize(&j, "another", NULL), CACHED_OK);
        assert_int_not_equal(s.owners[0], s.owners[2]);
        assert_int_equal(j.inner_calls, 1);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* By two handles the daemon cannot see who waits for whom: no wait without an end. */
static void test_c_two_handles(void **state)
{
        static struct leases s;
        struct job j = {.inner = "k"};
        struct fake d;

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        j.inner_handle = client_new(d.path, PATIENCE_MS);
        /* It asks for itself. The inner store is the one that counts. */
        assert_value(memoize(&j, "k", NULL), CACHED_SUPERSEDED);
        assert_int_equal(j.inner_code, CACHED_OK);
        assert_int_equal(j.inner_calls, 1);
        cached_free(j.inner_handle);
        j.inner_handle = NULL;
        /* By one it is told that it is its own. */
        j.inner = "m";
        assert_value(memoize(&j, "m", NULL), CACHED_OK);
        assert_int_equal(j.inner_calls, 2);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* Both processes return from the function, and only the parent's value is stored. */
static void test_d_fork_in_the_function(void **state)
{
        static struct leases s;
        struct job j = {.forks = true};
        cached_result *r;
        struct fake d;
        int status;

        leases_start(&d, &s);
        j.c = client_new(d.path, PATIENCE_MS);
        r = memoize(&j, "k", NULL);
        if (j.forked == -1)
                _exit(cached_result_cache_code(r) == CACHED_SUPERSEDED &&
                                      cached_result_value(r, NULL)
                              ? 0
                              : 1);
        assert_value(r, CACHED_OK);
        assert_int_equal(waitpid(j.forked, &status, 0), j.forked);
        assert_int_equal(status, 0);
        assert_int_equal(store_n(&s.store), 1);
        assert_int_equal(atomic_load(&s.n_ends), 0);
        cached_free(j.c);
        leases_stop(&d, &s);
}

/* Whichever allocation fails, the value comes, and nothing is held on to. */
static void test_e_no_memory(void **state)
{
        cached_memo_options *o = cached_memo_options_new();
        static struct leases s;
        size_t n_uncached = 0;
        struct fake d;
        cached *c;

        leases_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        (void)cached_memo_options_set_wait_ms(o, PATIENCE_MS);
        (void)cached_memo_options_set_version(o, "1");
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (long i = 1, done = 0; !done; i++) {
                struct job j = {.c = c};
                cached_key *k = cached_key_new();
                cached_result *r;
                int code;

                cached_key_add_int(k, i);
                fail_after = i;
                code = cached_memoize(c, "f", k, compute, &j, o, &r);
                done = fail_after > 0;
                fail_after = 0;
                assert_true(code == CACHED_OK || code == CACHED_ERR_NOMEM);
                n_uncached += code == CACHED_OK && cached_result_cache_code(r) != CACHED_OK;
                cached_result_free(r);
                cached_key_free(k);
        }
        assert_true(n_uncached > 0);
        assert_int_equal(leases_held(&s) + leases_waiting(&s), 0);
        cached_memo_options_free(o);
        cached_free(c);
        leases_stop(&d, &s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_null, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_states, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_statuses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_without_leases, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_given, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_fails, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_owners, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_two_handles, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_fork_in_the_function, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
