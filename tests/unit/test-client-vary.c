/* SPDX-License-Identifier: MIT */
/*
 * Discovered inputs whose getters memoize, or ask for inputs themselves. Without a daemon: each
 * call computes.
 */

#include <cached.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define CALLS_MAX 10 /* instead of a stack that overflows */

struct inputs {
        cached_inputs *outer, *inner;
        int outer_calls, inner_calls, own_code, other_code;
};

static int read_input(void *data, cached_result *out)
{
        const void *value;
        size_t n;
        int code = cached_input("a", &value, &n);

        (void)data;
        return code == CACHED_OK ? cached_result_set(out, value, n) : code;
}

static int memoize(const cached_inputs *in, cached_compute f, void *data, cached_result **ret)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_key *k = cached_key_new();
        int code;

        (void)cached_memo_options_set_version(o, "1");
        code = cached_memoize_vary(NULL, "f", k, in, f, data, o, ret);
        cached_key_free(k);
        cached_memo_options_free(o);
        return code;
}

static int get_plain(void *data, const char *name, cached_result *out)
{
        struct inputs *i = data;

        (void)name;
        i->inner_calls++;
        return cached_result_set(out, "plain", 5);
}

/* Of the outer function's input: what a function gives that reads an input of the same name. */
static int get_memoized(void *data, const char *name, cached_result *out)
{
        struct inputs *i = data;
        cached_result *r;
        const void *value;
        size_t n = 0;
        int code;

        (void)name;
        if (++i->outer_calls > CALLS_MAX)
                return -7;
        code = memoize(i->inner, read_input, NULL, &r);
        value = cached_result_value(r, &n);
        if (code == CACHED_OK)
                code = cached_result_set(out, value, n);
        cached_result_free(r);
        return code;
}

/* Asks for itself, and for another one, and does without. */
static int get_itself(void *data, const char *name, cached_result *out)
{
        struct inputs *i = data;

        if (strcmp(name, "a") != 0)
                return cached_result_set(out, "other", 5);
        if (++i->outer_calls > CALLS_MAX)
                return -7;
        i->own_code = cached_input("a", NULL, NULL);
        i->other_code = cached_input("b", NULL, NULL);
        return cached_result_set(out, "mine", 4);
}

static void assert_gives(struct inputs *i, const char *value)
{
        cached_result *r;
        size_t n = 0;

        assert_int_equal(memoize(i->outer, read_input, NULL, &r), CACHED_OK);
        assert_memory_equal(cached_result_value(r, &n), value, strlen(value));
        assert_int_equal(n, strlen(value));
        cached_result_free(r);
        assert_int_equal(i->outer_calls, 1);
}

static void test_getter_memoizes(void **state)
{
        struct inputs i = {.outer = cached_inputs_new(), .inner = cached_inputs_new()};

        (void)state;
        assert_int_equal(cached_inputs_add(i.outer, "a", get_memoized, &i), CACHED_OK);
        assert_int_equal(cached_inputs_add(i.inner, "a", get_plain, &i), CACHED_OK);
        assert_gives(&i, "plain");
        assert_int_equal(i.inner_calls, 1);
        cached_inputs_free(i.outer);
        cached_inputs_free(i.inner);
}

static void test_getter_reads_nothing(void **state)
{
        struct inputs i = {.outer = cached_inputs_new()};

        (void)state;
        assert_int_equal(cached_inputs_add(i.outer, NULL, get_itself, &i), CACHED_OK);
        assert_gives(&i, "mine");
        assert_int_equal(i.own_code, CACHED_ERR_USAGE);
        assert_int_equal(i.other_code, CACHED_ERR_USAGE);
        cached_inputs_free(i.outer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_getter_memoizes),
                cmocka_unit_test(test_getter_reads_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
