/* SPDX-License-Identifier: MIT */
/*
 * Taking a store over that was left in order
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store-check.h"
#include "store-world.h"
#include "store/recover.h"

/* Duplicates of a store's descriptors, as a successor gets them. */
struct files {
        struct store_files f;
        int large[1024];
};

static void files_of(const struct store *s, struct files *ret)
{
        uint32_t cursor = 0;
        int fd;

        ret->f = (struct store_files){.arena = dup(store_arena_fd(s)),
                                      .table = dup(store_table_fd(s)),
                                      .large = ret->large};
        while ((fd = store_large_next(s, &cursor)) >= 0)
                ret->large[ret->f.n_large++] = dup(fd);
}

/* The store changes hands. */
static void hand_over(struct world *w, struct store_adopted *report)
{
        struct store_params p = world_store_params(w);
        uint64_t entries = store_entries(w->s);
        struct files files;

        files_of(w->s, &files);
        w->s = store_leave(w->s);
        assert_int_equal(store_adopt(&p, &files.f, w->now, &w->s, report), 0);
        assert_int_equal(store_entries(w->s), entries);
        assert_int_equal(report->large_unused, 0);
        for (unsigned i = 0; i < N_DROPPED; i++)
                assert_int_equal(report->dropped[i], 0);
        store_check(w->s);
}

static void run(unsigned n_keys, unsigned value_max, uint64_t budget, uint64_t uid_share)
{
        const struct world_params p = {.n_keys = n_keys,
                                       .value_max = value_max,
                                       .budget = budget,
                                       .uid_share = uid_share,
                                       .global = UINT64_MAX,
                                       .arena_size = UINT64_C(256) << 20};
        struct store_adopted report;
        struct world w;

        world_init(&w, &p);
        for (w.op = 0; w.op < 20000; w.op++) {
                world_step(&w);
                if (w.op % 97 == 0)
                        hand_over(&w, &report);
                if (w.op % 1000 == 999)
                        world_settle(&w);
        }
        world_done(&w);
}

static void test_goes_on_as_if_nothing_had_been(void **state)
{
        (void)state;
        run(400, 200, 100000, UINT64_MAX);
}

static void test_goes_on_with_large_values(void **state)
{
        (void)state;
        run(300, WORLD_VALUE_MAX, 400000, 250000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_goes_on_as_if_nothing_had_been),
                cmocka_unit_test(test_goes_on_with_large_values),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
