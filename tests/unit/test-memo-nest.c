/* SPDX-License-Identifier: MIT */

/*
 * The list of the runs that a memo is a part of: what was added is found, what is no key is none,
 * and the order of keys decides which waits may be part of a circle.
 */

#include "memo-nest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t low[CACHED_KEY_SIZE] = {0x0f, 0xa0}, middle[CACHED_KEY_SIZE] = {0x0f, 0xa1},
                     high[CACHED_KEY_SIZE] = {0xf0};

static char *list_of(const uint8_t *one, const uint8_t *two)
{
        char *list = memo_nest_add(NULL, one), *both;

        assert_non_null(list);
        if (!two)
                return list;
        both = memo_nest_add(list, two);
        assert_non_null(both);
        free(list);
        return both;
}

static void test_what_was_added_is_there(void **state)
{
        char *list = list_of(high, low);

        (void)state;
        assert_true(memo_nest_has(list, high));
        assert_true(memo_nest_has(list, low));
        assert_false(memo_nest_has(list, middle));
        assert_false(memo_nest_has(NULL, low));
        assert_false(memo_nest_has("", low));
        free(list);
}

static void test_the_list_is_hexadecimal(void **state)
{
        char *list = list_of(low, NULL);

        (void)state;
        assert_int_equal(strlen(list), 64);
        assert_memory_equal(list, "0fa0000000", 10);
        free(list);
}

static void test_what_is_no_key_is_none(void **state)
{
        static const char *const lists[] = {":", "::::", "x", "0fa0", ":0fa0:", "\xff\xff:\x01"};
        char *key = list_of(low, NULL), around[3 * 64];

        (void)state;
        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
                assert_false(memo_nest_has(lists[i], low));
                assert_false(memo_nest_may_circle(lists[i], low));
                (void)snprintf(around, sizeof(around), "%s:%s:%s", lists[i], key, lists[i]);
                assert_true(memo_nest_has(around, low));
        }
        /* A byte more or less is another word. */
        (void)snprintf(around, sizeof(around), "%s0:%.63s", key, key);
        assert_false(memo_nest_has(around, low));
        free(key);
}

static void test_circles(void **state)
{
        char *list = list_of(low, middle);

        (void)state;
        assert_true(memo_nest_may_circle(list, low));
        assert_false(memo_nest_may_circle(list, middle));
        assert_false(memo_nest_may_circle(list, high));
        assert_false(memo_nest_may_circle(NULL, low));
        free(list);
}

static void test_the_list_has_a_bound(void **state)
{
        char *list = NULL;
        unsigned n = 0;

        (void)state;
        for (;; n++) {
                uint8_t key[CACHED_KEY_SIZE] = {(uint8_t)n};
                char *with = memo_nest_add(list, key);

                if (!with)
                        break;
                free(list);
                list = with;
                assert_true(n < 1000);
        }
        assert_int_equal(n, 64);
        assert_true(memo_nest_has(list, (const uint8_t[CACHED_KEY_SIZE]){63}));
        free(list);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_was_added_is_there),
                cmocka_unit_test(test_the_list_is_hexadecimal),
                cmocka_unit_test(test_what_is_no_key_is_none),
                cmocka_unit_test(test_circles),
                cmocka_unit_test(test_the_list_has_a_bound),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
