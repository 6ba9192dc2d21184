/* SPDX-License-Identifier: MIT */
/*
 * The store against the reference model: random operations, every reply compared
 *
 * Exercises put in all modes, TTLs, large values, values in extents and more than there are places,
 * several writers, tags and variants, get, peek, touch, delete, clear (all, by tag, by prefix),
 * policy and budget changes, the passing of time and upkeep in random portions. Every few thousand
 * operations both settle: then counts and counters must agree, and the store's own invariants hold.
 *
 * CACHED_LONG=1: 1,000,000 operations of each of several mixes; else a tenth. CACHED_SEED=n repeats
 * a run.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store-world.h"
#include "store/internal.h"

/* Virtual size of the spans, from which the number of extents follows. */
#define ENOUGH      (UINT64_C(256) << 20)
#define LEAST       UINT64_C(1)
#define PLACES_LEFT 8u

static void run(unsigned n_keys, unsigned value_max, uint64_t budget, uint64_t uid_share,
                uint64_t global, uint64_t arena_size)
{
        uint64_t n_ops = getenv("CACHED_LONG") ? 1000000 : 100000;
        const struct world_params p = {.n_keys = n_keys,
                                       .value_max = value_max,
                                       .budget = budget,
                                       .uid_share = uid_share,
                                       .global = global,
                                       .arena_size = arena_size};
        struct world w;

        world_init(&w, &p);
        if (arena_size == LEAST) /* all but a few are in use for ever */
                for (uint32_t i = PLACES_LEFT, place; i < w.s->a.extents.n_places; i++)
                        assert_int_equal(extents_take(&w.s->a, 1, &place), 0);
        for (w.op = 0; w.op < n_ops; w.op++) {
                world_step(&w);
                if (w.op % 2000 == 1999)
                        world_settle(&w);
        }
        assert_true((w.n_places_short > 0) == (arena_size == LEAST));
        assert_true(w.n_variants > 100 && w.n_no_node > 100);
        assert_true(w.n_tags_short > 0 || budget == 400000); /* where there are many entries */
        world_done(&w);
}

static void test_small_values(void **state)
{
        (void)state;
        run(400, 200, 100000, UINT64_MAX, UINT64_MAX, ENOUGH);
}

static void test_mixed_values_with_large_ones(void **state)
{
        (void)state;
        run(300, WORLD_VALUE_MAX, 400000, 250000, UINT64_MAX, ENOUGH);
}

static void test_global_budget(void **state)
{
        (void)state;
        run(300, 5000, 400000, 150000, 120000, ENOUGH);
}

static void test_more_values_than_extents(void **state)
{
        (void)state;
        run(300, 20000, 800000, UINT64_MAX, UINT64_MAX, LEAST);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small_values),
                cmocka_unit_test(test_mixed_values_with_large_ones),
                cmocka_unit_test(test_global_budget),
                cmocka_unit_test(test_more_values_than_extents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
