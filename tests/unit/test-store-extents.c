/* SPDX-License-Identifier: MIT */
/*
 * Values in extents, in the store
 *
 * Sizes on both sides of the bounds, what they are charged, replacing and what becomes of warm
 * memory, values that arrive bit by bit, values that are being sent while their entries leave, and
 * taking over: extents that lie outside or in two entries.
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
#include "store/internal.h"
#include "store/recover.h"

#define MIB    (UINT64_C(1) << 20)
#define KIB    (UINT64_C(1) << 10)
#define N_LONG 32u /* places for values from 513 to 1024 KiB, and above: 16 of each */

static const struct store_params params = {
        .arena_size = 1, /* the least */
        .budget = 64 * MIB,
        .uid_share = STORE_UNLIMITED,
        .large_threshold = 4 * MIB,
        .max_caches = 3,
        .max_entries = 1000,
        .seed = {5, 6},
};

static struct store *make(uint64_t budget)
{
        struct store_params p = params;
        struct store *s = NULL;
        uint32_t id;

        p.budget = budget;
        assert_int_equal(store_new(&p, &s), 0);
        assert_int_equal(store_cache_create(s, "c", 1, &id), 0);
        return s;
}

static struct store_put put_of(const uint64_t *k, uint64_t n)
{
        static uint8_t value[4 << 20];

        memset(value, (int)(*k + 1), n);
        return (struct store_put){.cache = 1,
                                  .key = k,
                                  .n_key = 8,
                                  .value = value,
                                  .n_value = n,
                                  .ttl_ms = STORE_NEVER,
                                  .uid = 1000};
}

static int put(struct store *s, uint64_t k, uint64_t n)
{
        struct store_put p = put_of(&k, n);
        struct store_refusal why;
        struct store_entry e;

        return store_put(s, &p, 1, &e, &why);
}

static int get(struct store *s, uint64_t k, struct store_entry *ret)
{
        return store_get(s, 1, &k, 8, 1, true, ret);
}

static void assert_value(struct store *s, uint64_t k, uint64_t n)
{
        struct store_entry e;

        assert_int_equal(get(s, k, &e), 0);
        assert_int_equal(e.n_value, n);
        assert_int_equal(e.raw_size, n);
        for (uint64_t i = 0; i < n; i += 1021)
                assert_int_equal(e.value[i], (uint8_t)(k + 1));
        assert_int_equal(e.value[n - 1], (uint8_t)(k + 1));
}

/* All upkeep there is. */
static void settle(struct store *s)
{
        while (store_maintain(s, 1, 1000))
                ;
        store_check(s);
}

static void test_sizes_around_the_bounds(void **state)
{
        const uint64_t sizes[] = {256 * KIB - 1, 256 * KIB, 600 * KIB, 2 * MIB + 1, 4 * MIB - 1};
        struct store *s = make(64 * MIB);

        (void)state;
        for (uint64_t i = 0; i < 5; i++) {
                uint64_t n = sizes[i], block = 20 + 8 + (i > 0 ? 16 : n);
                struct store_entry e;

                assert_int_equal(put(s, i, n), 0);
                assert_value(s, i, n);
                assert_int_equal(get(s, i, &e), 0);
                assert_true(e.extent == (i > 0) && !e.large);
                block = block < 64 ? 64 : block;
                assert_int_equal(e.charge,
                                 block + block / 8 + 56 + (i > 0 ? (n + 4095) / 4096 * 4096 : 0));
                assert_int_equal(e.charge, store_charge(8, n, 0, 0, i > 0));
        }
        store_check(s);
        for (uint64_t i = 0; i < 5; i++)
                assert_int_equal(store_delete(s, 1, &i, 8, 1), 0);
        assert_int_equal(store_charged(s), 0);
        settle(s);
        assert_int_equal(s->a.extents.needed, 0);
        assert_true(s->a.extents.committed <= MIB);
        store_free(s);
}

/* The pages of what was replaced are those of the next value. */
static void test_replacing_stays_in_warm_memory(void **state)
{
        struct store *s = make(64 * MIB);

        (void)state;
        for (unsigned i = 0; i < 40; i++) {
                assert_int_equal(put(s, 1, MIB - i * 100), 0);
                if (i % 2)
                        settle(s);
                assert_true(s->a.extents.committed <= 2 * MIB);
                assert_value(s, 1, MIB - i * 100);
        }
        assert_int_equal(s->a.extents.kinds[1].high, 2);
        store_free(s);
}

static void test_what_is_spare_goes_back(void **state)
{
        struct store *s = make(64 * MIB);

        (void)state;
        for (uint64_t k = 0; k < 14; k++)
                assert_int_equal(put(s, k, 4 * MIB - 1), 0);
        assert_int_equal(s->a.extents.committed, 56 * MIB);
        for (uint64_t k = 0; k < 13; k++)
                assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        assert_int_equal(s->a.extents.committed, 56 * MIB);
        settle(s);
        /* As much stays as is in use, and what the other bounds leave. */
        assert_true(s->a.extents.committed <= 9 * MIB);
        assert_value(s, 13, 4 * MIB - 1);
        /* A long place with a shorter value in it: the rest goes, too. */
        assert_int_equal(put(s, 13, 1000 * KIB), 0);
        settle(s);
        assert_true(s->a.extents.committed <= 3 * MIB);
        assert_value(s, 13, 1000 * KIB);
        store_free(s);
}

/* What other sizes left behind goes, and not what is used again and again. */
static void test_what_is_used_again_stays(void **state)
{
        struct store *s = make(256 * MIB);
        uint64_t given_back = 0;

        (void)state;
        for (uint64_t k = 0; k < 12; k++)
                assert_int_equal(put(s, k, k < 8 ? MIB : 3 * MIB), 0);
        for (uint64_t k = 0; k < 8; k++)
                assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        settle(s);
        for (unsigned i = 0; i < 60; i++) {
                uint64_t before = s->a.extents.committed;

                assert_int_equal(put(s, 8 + i % 4, 3 * MIB), 0);
                settle(s);
                if (i >= 10 && s->a.extents.committed < before)
                        given_back += before - s->a.extents.committed;
        }
        assert_int_equal(given_back, 0);
        store_free(s);
}

static void test_no_place_is_told(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_entry e;
        uint64_t k;

        (void)state;
        for (k = 0; k < N_LONG; k++)
                assert_int_equal(put(s, k, 1000 * KIB), 0);
        assert_int_equal(put(s, k, 1000 * KIB), STORE_E_NO_PLACE);
        assert_int_equal(put(s, 3, 1000 * KIB), STORE_E_NO_PLACE);
        for (k = 0; k < N_LONG; k++)
                assert_int_equal(get(s, k, &e), 0);
        k = 3;
        assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        assert_int_equal(put(s, N_LONG, 1000 * KIB), 0);
        store_check(s);
        store_free(s);
}

static void test_eviction_by_budget(void **state)
{
        struct store *s = make(10 * MIB);
        struct store_entry e;

        (void)state;
        for (uint64_t k = 0; k < 40; k++) {
                assert_int_equal(put(s, k, MIB + k * 30000), 0);
                assert_true(store_charged(s) <= 10 * MIB);
                assert_value(s, k, MIB + k * 30000);
                settle(s);
                assert_true(s->a.extents.committed <= 11 * MIB);
        }
        assert_int_equal(get(s, 20, &e), STORE_E_MISS);
        store_free(s);
}

/* ---- arriving */

static void test_a_value_arrives_in_its_extent(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_arrival a = {0};
        uint64_t k = 1, n = 3 * MIB, room = 0, charge;
        struct store_put p = put_of(&k, n);
        struct store_refusal why;
        struct store_entry e;

        (void)state;
        assert_int_equal(store_arrival_begin(s, &p, n, 1, &a, &why), 0);
        assert_true(a.extent && !a.large);
        assert_int_equal(s->a.extents.committed, 0);
        while (room < n) {
                uint64_t had = room;

                assert_int_equal(store_arrival_more(&a, had + 1, had + 200000, 1, &room, &why), 0);
                assert_true(room > had && room <= n);
                memcpy(store_arrival_dst(&a) + had, (const uint8_t *)p.value + had, room - had);
                assert_int_equal(get(s, 1, &e), STORE_E_MISS);
                assert_int_equal(s->a.extents.filling, s->a.extents.needed);
                store_check(s);
        }
        charge = store_arriving(s);
        store_arrival_ready(&a);
        assert_int_equal(store_arriving(s), 0);
        p.arrived = &a;
        p.value = NULL;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        store_arrival_end(&a);
        assert_int_equal(e.charge, charge);
        assert_int_equal(store_charged(s), charge);
        assert_value(s, 1, n);
        assert_int_equal(s->a.extents.kinds[0].high, 1);
        settle(s);
        store_free(s);
}

static void test_a_sender_that_leaves(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_arrival a = {0}, b = {0};
        uint64_t k = 1, room;
        struct store_put p = put_of(&k, 3 * MIB);
        struct store_refusal why;
        struct store_entry e;

        (void)state;
        assert_int_equal(put(s, 1, MIB), 0);
        assert_int_equal(store_arrival_begin(s, &p, 3 * MIB, 1, &a, &why), 0);
        assert_int_equal(store_arrival_more(&a, 2 * MIB, 2 * MIB, 1, &room, &why), 0);
        assert_true(store_arriving(s) >= 2 * MIB);
        store_arrival_end(&a);
        assert_int_equal(store_arriving(s), 0);
        assert_int_equal(s->a.extents.filling, 0);
        settle(s);
        assert_value(s, 1, MIB);
        /* One that is complete, but not wanted. */
        assert_int_equal(store_arrival_begin(s, &p, 3 * MIB, 1, &b, &why), 0);
        assert_int_equal(store_arrival_more(&b, 3 * MIB, 3 * MIB, 1, &room, &why), 0);
        store_arrival_ready(&b);
        p.arrived = &b;
        p.mode = STORE_ADD_ONLY;
        assert_int_equal(store_put(s, &p, 1, &e, &why), STORE_E_EXISTS);
        store_arrival_end(&b);
        settle(s);
        assert_int_equal(s->a.extents.needed, MIB);
        assert_value(s, 1, MIB);
        store_free(s);
}

/* Without a place it is to become a large value. */
static void test_an_arrival_without_a_place(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_arrival a = {0};
        uint64_t k = 99;
        struct store_put p = put_of(&k, MIB);
        struct store_refusal why;

        (void)state;
        for (uint64_t i = 0; i < N_LONG; i++)
                assert_int_equal(put(s, i, 1000 * KIB), 0);
        assert_int_equal(store_arrival_begin(s, &p, MIB, 1, &a, &why), 0);
        assert_true(a.large && !a.extent && !store_arrival_dst(&a));
        assert_int_equal(store_files(s), 1);
        store_arrival_end(&a);
        assert_int_equal(store_files(s), 0);
        store_check(s);
        store_free(s);
}

/* ---- held */

static void test_what_is_sent_stays(void **state)
{
        struct store *s = make(10 * MIB);
        struct store_hold *one, *two;
        struct store_entry e, was;
        uint64_t k = 1;

        (void)state;
        assert_int_equal(put(s, 1, 4 * MIB - 1), 0);
        assert_int_equal(get(s, 1, &was), 0);
        one = store_hold(s, &was);
        two = store_hold(s, &was);
        assert_true(one && two);
        assert_int_equal(store_held(s), 4 * MIB);
        store_check(s);
        /* It is replaced, and stays, and stays charged. */
        assert_int_equal(put(s, 1, 1000 * KIB), 0);
        assert_int_equal(store_held(s), 4 * MIB);
        assert_true(store_charged(s) > 4 * MIB + 1000 * KIB);
        assert_value(s, 1, 1000 * KIB);
        for (uint64_t i = 0; i < was.n_value; i += 1021)
                assert_int_equal(was.value[i], 2);
        store_check(s);
        /* There is no room that eviction could make beside it. */
        assert_int_equal(put(s, 2, 4 * MIB - 1), 0);
        assert_int_equal(put(s, 3, 4 * MIB - 1), 0);
        assert_int_equal(get(s, 2, &e), STORE_E_MISS);
        store_unhold(one);
        assert_int_equal(store_held(s), 4 * MIB);
        assert_int_equal(was.value[was.n_value - 1], 2);
        settle(s);
        store_unhold(two);
        assert_int_equal(store_held(s), 0);
        settle(s);
        k = 3;
        assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        assert_int_equal(store_charged(s), 0);
        /* One that is held and not replaced. */
        assert_int_equal(put(s, 1, MIB), 0);
        assert_int_equal(get(s, 1, &was), 0);
        one = store_hold(s, &was);
        store_unhold(one);
        assert_value(s, 1, MIB);
        /* A hold outlives the store. */
        one = store_hold(s, &was);
        store_free(s);
        store_unhold(one);
}

/* ---- taking over */

static struct store *hand_over(struct store *s, struct store_adopted *report)
{
        struct store_files f = {.arena = dup(store_arena_fd(s)), .table = dup(store_table_fd(s))};

        store_leave(s);
        assert_int_equal(store_adopt(&params, &f, 1, &s, report), 0);
        store_check(s);
        assert_int_equal(store_holes_filled(s), 0);
        return s;
}

static struct arena_extent extent_of(struct store *s, uint64_t k, uint8_t **ret_at)
{
        struct found f = store_find_live(s, cache_at(s, 1), &k, 8, 1);
        struct entry e;

        assert_int_not_equal(f.handle, ARENA_NONE);
        entry_read(arena_block(&s->a, f.handle), &e);
        *ret_at = (uint8_t *)(uintptr_t)e.stored;
        return entry_extent(&e);
}

static void test_taking_over(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_arrival a = {0};
        struct store_adopted report;
        struct store_refusal why;
        struct store_hold *hold;
        struct store_entry e;
        uint64_t k = 50, room;
        struct store_put p = put_of(&k, 3 * MIB);

        (void)state;
        assert_int_equal(put(s, 7, MIB), 0);
        assert_int_equal(store_arrival_begin(s, &p, 3 * MIB, 1, &a, &why), 0);
        assert_int_equal(store_arrival_more(&a, 2 * MIB, 2 * MIB, 1, &room, &why), 0);
        for (k = 0; k < 6; k++)
                assert_int_equal(put(s, k, MIB + k), 0);
        k = 2;
        assert_int_equal(get(s, 2, &e), 0);
        hold = store_hold(s, &e);
        assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        s = hand_over(s, &report);
        store_unhold(hold);
        assert_int_equal(report.kept, 6);
        assert_int_equal(get(s, 2, &e), STORE_E_MISS);
        assert_value(s, 7, MIB);
        for (k = 0; k < 6; k++)
                if (k != 2)
                        assert_value(s, k, MIB + k);
        /* What was arriving, and what was being sent, is nobody's, and takes no memory. */
        assert_int_equal(extents_spare(&s->a), 0);
        assert_int_equal(s->a.extents.needed, 6 * MIB + 4 * 4096);
        for (k = 10; k < 18; k++)
                assert_int_equal(put(s, k, MIB), 0);
        settle(s);
        store_free(s);
}

static void test_extents_that_lie(void **state)
{
        struct store *s = make(64 * MIB);
        const uint64_t wrong[][2] = {
                {s->a.h->extents_size, MIB},
                {4096, MIB / 4},
                {UINT64_MAX - 4095, MIB},
                {0, 0},
                {s->a.extents.kinds[1].offset, MIB + 1},
                {0, UINT64_MAX},
        };
        struct store_adopted report;
        struct arena_extent x;
        uint8_t *at;

        (void)state;
        for (uint64_t k = 0; k < 8; k++)
                assert_int_equal(put(s, k, MIB), 0);
        for (uint64_t k = 0; k < 6; k++) {
                (void)extent_of(s, k, &at);
                memcpy(at, wrong[k], sizeof(wrong[k]));
        }
        /* Two in one place: one of them stays. */
        x = extent_of(s, 6, &at);
        (void)extent_of(s, 7, &at);
        memcpy(at, &x, sizeof(x));
        s = hand_over(s, &report);
        assert_int_equal(report.kept, 1);
        assert_int_equal(report.dropped[DROPPED_EXTENT], 7);
        assert_int_equal(s->a.extents.committed, MIB);
        assert_value(s, 6, MIB);
        for (uint64_t k = 0; k < 8; k++)
                assert_int_equal(put(s, k, MIB), 0);
        settle(s);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sizes_around_the_bounds),
                cmocka_unit_test(test_replacing_stays_in_warm_memory),
                cmocka_unit_test(test_what_is_spare_goes_back),
                cmocka_unit_test(test_what_is_used_again_stays),
                cmocka_unit_test(test_no_place_is_told),
                cmocka_unit_test(test_eviction_by_budget),
                cmocka_unit_test(test_a_value_arrives_in_its_extent),
                cmocka_unit_test(test_a_sender_that_leaves),
                cmocka_unit_test(test_an_arrival_without_a_place),
                cmocka_unit_test(test_what_is_sent_stays),
                cmocka_unit_test(test_taking_over),
                cmocka_unit_test(test_extents_that_lie),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
