/* SPDX-License-Identifier: MIT */
/*
 * Spare buffer blocks: as many stay as were needed of late, and no more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/blocks.h"

#define MANY 20

static void take_and_return(struct blocks *b, unsigned n)
{
        void *taken[BLOCKS_SPARE_MAX + MANY];

        for (unsigned i = 0; i < n; i++) {
                taken[i] = blocks_get(b);
                assert_non_null(taken[i]);
        }
        while (n > 0)
                blocks_put(b, taken[--n]);
}

/* After a rush there are as many as it took, for a while; then as many as are used, then none. */
static void test_what_is_needed_stays(void **state)
{
        struct blocks b;

        (void)state;
        blocks_init(&b);
        assert_false(blocks_have_spare(&b));
        take_and_return(&b, MANY);
        assert_int_equal(b.bytes, (uint64_t)MANY * BLOCK_SIZE);
        assert_false(blocks_trim(&b));
        take_and_return(&b, MANY); /* none of them is new */
        assert_int_equal(b.bytes, (uint64_t)MANY * BLOCK_SIZE);
        assert_false(blocks_trim(&b));
        take_and_return(&b, 3);
        assert_false(blocks_trim(&b));
        assert_int_equal(b.bytes, UINT64_C(3) * BLOCK_SIZE);
        take_and_return(&b, 2);
        take_and_return(&b, 1);
        assert_false(blocks_trim(&b));
        assert_int_equal(b.bytes, UINT64_C(2) * BLOCK_SIZE);
        assert_true(blocks_trim(&b));
        assert_int_equal(b.bytes, 0);
        assert_false(blocks_have_spare(&b));
        blocks_done(&b);
}

static void test_a_rush_is_bounded(void **state)
{
        struct blocks b;

        (void)state;
        blocks_init(&b);
        take_and_return(&b, BLOCKS_SPARE_MAX + MANY);
        assert_int_equal(b.bytes, (uint64_t)BLOCKS_SPARE_MAX * BLOCK_SIZE);
        blocks_done(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_is_needed_stays),
                cmocka_unit_test(test_a_rush_is_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
