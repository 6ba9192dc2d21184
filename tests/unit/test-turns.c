/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is, and who may hold memory: both without connections.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/holds.h"
#include "transport/turns.h"

/* ---- turns */

struct guest {
        struct list node;
        struct turns_lane *lane;
        unsigned served;
};

static struct guest *next(struct turns *t)
{
        struct list *node = turns_next(t);

        return node ? LIST_ENTRY(node, struct guest, node) : NULL;
}

static void guests_init(struct guest *g, size_t n, struct turns_lane *lane)
{
        turns_lane_init(lane);
        for (size_t i = 0; i < n; i++) {
                g[i] = (struct guest){.lane = lane};
                list_init(&g[i].node);
        }
}

static void many_connections_are_one_user(void **state)
{
        struct turns_lane crowd, single;
        struct guest many[100], one;
        struct turns t;

        turns_init(&t);
        guests_init(many, 100, &crowd);
        guests_init(&one, 1, &single);
        for (size_t i = 0; i < 100; i++)
                turns_add(&t, &crowd, &many[i].node);
        turns_add(&t, &single, &one.node);
        assert_int_equal(t.n, 101);
        for (unsigned i = 0; i < 200; i++) {
                struct guest *g = next(&t);
                g->served++;
                turns_add(&t, g->lane, &g->node);
        }
        assert_int_equal(one.served, 100); /* every other one */
        for (size_t i = 0; i < 100; i++)
                assert_int_equal(many[i].served, 1);
}

static void who_leaves_is_not_served(void **state)
{
        struct turns_lane a, b;
        struct guest of_a[2], of_b;
        struct turns t;

        turns_init(&t);
        guests_init(of_a, 2, &a);
        guests_init(&of_b, 1, &b);
        assert_null(next(&t));
        turns_remove(&t, &a, &of_a[0].node); /* does not wait */
        turns_add(&t, &a, &of_a[0].node);
        turns_add(&t, &a, &of_a[1].node);
        turns_add(&t, &b, &of_b.node);
        turns_remove(&t, &a, &of_a[0].node);
        assert_int_equal(t.n, 2);
        assert_ptr_equal(next(&t), &of_a[1]);
        turns_remove(&t, &b, &of_b.node);
        assert_null(next(&t));
        assert_int_equal(t.n, 0);
        turns_lane_done(&a);
        turns_lane_done(&b);
}

/* ---- holds */

static void within_both_bounds(void **state)
{
        struct holds_account a = {0}, b = {0};
        struct hold of_a[3], of_b[2];
        struct holds s;

        holds_init(&s, 150, 100);
        for (int i = 0; i < 3; i++)
                hold_init(&of_a[i], &a);
        for (int i = 0; i < 2; i++)
                hold_init(&of_b[i], &b);
        assert_true(hold_take(&s, &of_a[0], HOLD_INPUT, 60));
        assert_true(hold_take(&s, &of_a[1], HOLD_INPUT, 40));
        assert_false(hold_take(&s, &of_a[2], HOLD_INPUT, 1)); /* its uid has all */
        assert_true(hold_take(&s, &of_b[0], HOLD_INPUT, 50));
        assert_false(hold_take(&s, &of_b[1], HOLD_INPUT, 1)); /* all have all */
        assert_true(hold_take(&s, &of_a[0], HOLD_BODY, 100)); /* another kind */
        assert_null(hold_next(&s));
        hold_drop(&s, &of_a[0]);
        assert_ptr_equal(hold_next(&s), &of_a[2]);
        assert_ptr_equal(hold_next(&s), &of_b[1]);
        assert_null(hold_next(&s));
        for (int i = 0; i < 3; i++)
                hold_drop(&s, &of_a[i]);
        for (int i = 0; i < 2; i++)
                hold_drop(&s, &of_b[i]);
        assert_int_equal(s.bytes[HOLD_INPUT] + s.bytes[HOLD_BODY], 0);
}

static void one_that_is_too_large_goes_alone(void **state)
{
        struct holds_account a = {0};
        struct hold h[3];
        struct holds s;

        holds_init(&s, 1000, 100);
        for (int i = 0; i < 3; i++)
                hold_init(&h[i], &a);
        assert_true(hold_take(&s, &h[0], HOLD_BODY, 10));
        assert_false(hold_take(&s, &h[1], HOLD_BODY, 5000));
        assert_false(hold_take(&s, &h[2], HOLD_BODY, 1)); /* does not overtake */
        hold_drop(&s, &h[0]);
        assert_ptr_equal(hold_next(&s), &h[1]);
        assert_int_equal(h[1].bytes[HOLD_BODY], 5000);
        assert_null(hold_next(&s));
        hold_drop(&s, &h[1]);
        assert_ptr_equal(hold_next(&s), &h[2]);
        hold_drop(&s, &h[2]);
}

/* Messages that wait for room for their bodies hold what other messages wait for: those who wait
 * for bodies are not behind them. */
static void bodies_do_not_wait_behind_messages(void **state)
{
        struct holds_account a = {0};
        struct hold h[4];
        struct holds s;

        holds_init(&s, 100, 100);
        for (int i = 0; i < 4; i++)
                hold_init(&h[i], &a);
        assert_true(hold_take(&s, &h[0], HOLD_INPUT, 50));
        assert_true(hold_take(&s, &h[1], HOLD_INPUT, 50));
        assert_false(hold_take(&s, &h[2], HOLD_INPUT, 50));
        assert_true(hold_take(&s, &h[3], HOLD_BODY, 100));
        assert_false(hold_take(&s, &h[0], HOLD_BODY, 100));
        hold_drop(&s, &h[3]);
        assert_ptr_equal(hold_next(&s), &h[0]);
        hold_drop(&s, &h[0]);
        assert_ptr_equal(hold_next(&s), &h[2]);
        hold_drop(&s, &h[1]);
        hold_drop(&s, &h[2]);
}

static void other_limits_are_noticed(void **state)
{
        struct holds_account a = {0};
        struct hold h[2];
        struct holds s;

        holds_init(&s, 100, 100);
        hold_init(&h[0], &a);
        hold_init(&h[1], &a);
        assert_true(hold_take(&s, &h[0], HOLD_INPUT, 100));
        assert_false(hold_take(&s, &h[1], HOLD_INPUT, 100));
        holds_set_limits(&s, 50, 50);
        assert_null(hold_next(&s));
        holds_set_limits(&s, 200, 200);
        assert_ptr_equal(hold_next(&s), &h[1]);
        assert_null(hold_next(&s));
        hold_drop(&s, &h[0]);
        hold_drop(&s, &h[1]);
        assert_null(hold_next(&s));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(many_connections_are_one_user),
                cmocka_unit_test(who_leaves_is_not_served),
                cmocka_unit_test(within_both_bounds),
                cmocka_unit_test(one_that_is_too_large_goes_alone),
                cmocka_unit_test(bodies_do_not_wait_behind_messages),
                cmocka_unit_test(other_limits_are_noticed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
