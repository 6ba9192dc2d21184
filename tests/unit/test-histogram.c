/* SPDX-License-Identifier: MIT */
/*
 * The latency histogram: every value lies in the bucket whose bound it does not exceed, bounds
 * grow, the error is at most a sixteenth, quantiles are ranks, extremes do not wrap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"

static size_t bucket_after_adding(uint64_t value)
{
        static struct histogram h; /* too large for some stacks; cleared each time */
        memset(&h, 0, sizeof(h));
        histogram_add(&h, value);
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
                if (h.buckets[i] == 1)
                        return i;
        fail();
        return 0;
}

static void test_bounds_grow_without_gaps(void **state)
{
        for (size_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
                uint64_t bound = histogram_upper_bound(i);
                assert_true(bound < histogram_upper_bound(i + 1));
                assert_int_equal(bucket_after_adding(bound), i);
                assert_int_equal(bucket_after_adding(bound + 1), i + 1);
        }
}

static void test_error_is_at_most_a_sixteenth(void **state)
{
        uint64_t value = 1;
        for (int i = 0; i < 20000; i++) {
                value = value * 6364136223846793005u + 1442695040888963407u;
                uint64_t v = value >> (24 + i % 40);
                uint64_t bound = histogram_upper_bound(bucket_after_adding(v));
                assert_true(bound >= v);
                assert_true(bound - v <= v / 16);
        }
}

static void test_extremes_share_the_last_bucket(void **state)
{
        assert_int_equal(bucket_after_adding(0), 0);
        assert_int_equal(bucket_after_adding(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
        assert_int_equal(bucket_after_adding(UINT64_C(1) << HISTOGRAM_MAX_BITS),
                         HISTOGRAM_BUCKETS - 1);
}

static void test_quantiles_are_ranks(void **state)
{
        struct histogram *h = calloc(1, sizeof(*h));
        assert_non_null(h);
        assert_int_equal(histogram_quantile(h, 500), 0);
        histogram_add(h, 7);
        assert_int_equal(histogram_quantile(h, 0), 7);
        assert_int_equal(histogram_quantile(h, 500), 7);
        assert_int_equal(histogram_quantile(h, 1000), 7);

        memset(h, 0, sizeof(*h));
        for (uint64_t v = 1; v <= 10; v++) /* exact: below 16 */
                histogram_add(h, v);
        assert_int_equal(histogram_quantile(h, 500), 5);
        assert_int_equal(histogram_quantile(h, 501), 6);
        assert_int_equal(histogram_quantile(h, 990), 10);
        assert_int_equal(h->sum, 55);

        memset(h, 0, sizeof(*h));
        for (int i = 0; i < 999; i++)
                histogram_add(h, 1000);
        histogram_add(h, UINT64_C(5000000000));
        assert_in_range(histogram_quantile(h, 999), 1000, 1063);
        assert_int_equal(histogram_quantile(h, 1000), UINT64_C(5000000000));
        assert_int_equal(h->max, UINT64_C(5000000000));
        free(h);
}

static void test_a_quantile_never_exceeds_the_maximum(void **state)
{
        struct histogram *h = calloc(1, sizeof(*h));
        assert_non_null(h);
        histogram_add(h, 1000001);
        assert_int_equal(histogram_quantile(h, 500), 1000001);
        histogram_add(h, UINT64_MAX);
        assert_int_equal(histogram_quantile(h, 1000), UINT64_MAX);
        free(h);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bounds_grow_without_gaps),
                cmocka_unit_test(test_error_is_at_most_a_sixteenth),
                cmocka_unit_test(test_extremes_share_the_last_bucket),
                cmocka_unit_test(test_quantiles_are_ranks),
                cmocka_unit_test(test_a_quantile_never_exceeds_the_maximum),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
