/* SPDX-License-Identifier: MIT */
/*
 * What the store promises to bound, against those who would stretch it
 *
 * The oldest of a writer or cache among thousands of lists; heaps of caches with few and with very
 * many deadlines; large values that are evicted while they are being sent, that arrive slowly, many
 * at a time for one key, or where only one fits; descriptors; and the work that one turn does for
 * what others left behind.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena/pages.h"
#include "store-check.h"
#include "store/internal.h"

#define MIB (UINT64_C(1) << 20)

static struct store *make(uint64_t budget, uint64_t share, uint32_t caches)
{
        struct store_params p = {
                .arena_size = 256 * MIB,
                .budget = budget,
                .uid_share = share,
                .large_threshold = 1 * MIB,
                .max_caches = caches,
                .max_entries = 1 << 24,
                .seed = {7, 8},
        };
        struct store *s = NULL;

        assert_int_equal(store_new(&p, &s), 0);
        for (uint32_t i = 1, id; i <= caches; i++) {
                assert_int_equal(store_cache_create(s, (char *)&i, sizeof(i), &id), 0);
                assert_int_equal(id, i);
        }
        return s;
}

static int put(struct store *s, uint32_t cache, uint32_t uid, uint64_t k, uint64_t ttl)
{
        struct store_put p = {.cache = cache, .key = &k, .n_key = 8, .ttl_ms = ttl, .uid = uid};
        struct store_refusal why;
        struct store_entry e;

        return store_put(s, &p, 1, &e, &why);
}

static bool has(struct store *s, uint32_t cache, uint64_t k)
{
        struct store_entry e;

        return store_get(s, cache, &k, 8, 1, false, &e) == 0;
}

static void settle(struct store *s, uint64_t now)
{
        while (store_maintain(s, now, 1000))
                ;
}

static uint64_t one(void)
{
        return store_charge(8, 0, 0, 0, false);
}

/* ---- recency */

#define CACHES  200u
#define WRITERS 5u

/* A pseudo-random permutation is used entry by entry; then entries must leave in that very order,
 * of each writer's and of all, whatever list they are in. */
static void test_the_oldest_is_exact_over_many_lists(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, CACHES);
        const uint32_t n = CACHES * WRITERS * 4;
        static uint32_t order[CACHES * WRITERS * 4];
        struct store_entry e;

        (void)state;
        for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(put(s, 1 + i % CACHES, i / CACHES % WRITERS, i, STORE_NEVER), 0);
                order[i] = i;
        }
        for (uint32_t i = n - 1, rng = 1; i > 0; i--) {
                uint32_t j, t = order[i];

                rng = rng * 1664525 + 1013904223;
                j = (rng >> 8) % (i + 1);
                order[i] = order[j];
                order[j] = t;
        }
        for (uint32_t i = 0; i < n; i++) {
                uint64_t k = order[i];

                assert_int_equal(store_get(s, 1 + order[i] % CACHES, &k, 8, 1, true, &e), 0);
        }
        store_check(s);
        /* Writer 2 gives way to its own entry, and no other. */
        store_set_budget(s, 64 * MIB, s->a.owners[2].charged);
        assert_int_equal(put(s, 1, 2, n, STORE_NEVER), 0);
        for (uint32_t i = 0, gone = 0; i < n; i++) {
                bool first_of_2 = order[i] / CACHES % WRITERS == 2 && gone++ == 0;

                assert_int_equal(has(s, 1 + order[i] % CACHES, order[i]), !first_of_2);
        }
        store_set_budget(s, 64 * MIB, 64 * MIB);
        for (uint32_t i = 0, gone = 0; i < n; i++) {
                if (order[i] / CACHES % WRITERS == 2 && gone++ == 0)
                        continue;
                assert_true(has(s, 1 + order[i] % CACHES, order[i]));
                assert_true(store_evict_one(s, CAUSE_REALM_BUDGET, 1) > 0);
                assert_false(has(s, 1 + order[i] % CACHES, order[i]));
        }
        store_check(s);
        store_free(s);
}

/* Entries of a cleared cache are still found by the writer's and the realm's recency; they leave as
 * cleared. */
static void test_what_is_dying_leaves_as_cleared(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 2);
        struct store_cache_info info;
        uint64_t n;

        (void)state;
        for (uint64_t k = 0; k < 1000; k++)
                assert_int_equal(put(s, 1, k % 3, k, STORE_NEVER), 0);
        assert_int_equal(store_clear(s, 1, 5, &n), 0);
        store_check(s);
        s->extra = 0; /* others have used it up */
        store_set_budget(s, 64 * MIB, s->a.owners[1].charged);
        assert_int_equal(put(s, 2, 1, 1, STORE_NEVER), 0);
        store_check(s);
        assert_int_equal(s->a.t->n_reclaiming, 999);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.counters.departed[CAUSE_CLEARED], 1);
        assert_int_equal(info.counters.departed[CAUSE_UID_SHARE], 0);
        settle(s, 5);
        store_check(s);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.counters.departed[CAUSE_CLEARED], 1000);
        store_free(s);
}

/* ---- memory */

/* A deadline in each of many caches takes a sixteenth of a page, and gives it back. */
static void test_small_heaps_are_small(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1000);

        (void)state;
        for (uint32_t c = 1; c <= 1000; c++)
                assert_int_equal(put(s, c, 0, 1, 1000), 0);
        assert_true(s->a.t->n_pages <= 1000 / 16 + 1);
        for (uint32_t c = 1; c <= 1000; c++)
                for (uint64_t k = 2; k <= 20; k++)
                        assert_int_equal(put(s, c, 0, k, 1000 + k), 0);
        store_check(s);
        assert_true(s->a.t->n_pages <= 1000 / 16 + 1);
        settle(s, 2000);
        assert_int_equal(store_entries(s), 0);
        assert_int_equal(s->a.t->n_pages, 0);
        store_free(s);
}

/* From one item to more than one level of page numbers holds, and back, in order. */
static void test_a_heap_of_every_size_keeps_order(void **state)
{
        struct store *s = make(128 * MIB, 128 * MIB, 1);
        const uint64_t n = 460000;
        uint64_t left = n;

        (void)state;
        for (uint64_t k = 0; k < n; k++)
                assert_int_equal(put(s, 1, 0, k, 1 + k * 7919 % n), 0);
        assert_true(s->a.t->n_pages > n / 448);
        for (uint64_t now = 1; left > 0; now += now < n - 200 ? n / 8 : 1) {
                settle(s, now);
                left = now < n + 1 ? n - (now < 1 ? 0 : now - 1) : 0;
                assert_int_equal(store_entries(s), left);
        }
        store_check(s);
        assert_int_equal(s->a.t->n_pages, 0);
        store_free(s);
}

/* The smallest entries are charged no less than they hold, with index, record and heap. */
static void test_tiny_entries_are_charged_what_they_hold(void **state)
{
        struct store *s = make(16 * MIB, 16 * MIB, 1);
        struct store_stats st;

        (void)state;
        for (uint32_t k = 0; k < 150000; k++) {
                struct store_put p = {.cache = 1, .key = &k, .n_key = 3, .ttl_ms = 1000000 + k};
                struct store_refusal why;
                struct store_entry e;

                assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        }
        store_stats(s, &st);
        assert_true(st.charged > 15 * MIB && st.charged <= 16 * MIB);
        assert_true(st.arena_bytes + st.table_bytes < 16 * MIB + MIB);
        store_free(s);
}

/* ---- large values */

static struct large *make_large(uint64_t size)
{
        struct large *l = NULL;

        assert_int_equal(large_new(size, &l), 0);
        assert_int_equal(large_seal(l), 0);
        return l;
}

static int put_large(struct store *s, uint64_t k, uint64_t size, struct store_refusal *why)
{
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .large = make_large(size),
                              .ttl_ms = STORE_NEVER};
        struct store_entry e;
        int r = store_put(s, &p, 1, &e, why);

        large_unref(p.large);
        return r;
}

static struct large *hold(struct store *s, uint64_t k)
{
        struct store_entry e;

        assert_int_equal(store_get(s, 1, &k, 8, 1, true, &e), 0);
        assert_non_null(e.large);
        return large_ref(e.large);
}

/* A value that is being sent keeps its charge when its entry leaves, until it is sent. */
static void test_what_readers_hold_stays_charged(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1);
        struct store_refusal why;
        struct large *held;
        uint64_t key = 1, n;

        (void)state;
        assert_int_equal(put_large(s, 1, 40 * MIB, &why), 0);
        held = hold(s, 1);
        store_check(s);
        assert_int_equal(store_held(s), 40 * MIB);
        assert_int_equal(store_delete(s, 1, &key, 8, 1), 0);
        store_check(s);
        assert_int_equal(store_entries(s), 0);
        assert_int_equal(store_charged(s), 40 * MIB);
        assert_int_equal(put_large(s, 2, 20 * MIB, &why), 0);
        assert_int_equal(put_large(s, 3, 30 * MIB, &why), STORE_E_NO_SPACE);
        assert_int_equal(why.cause, CAUSE_REALM_BUDGET);
        assert_int_equal(why.limit, 64 * MIB);
        assert_int_equal(why.held, 40 * MIB);
        assert_true(has(s, 1, 2)); /* nothing was evicted in vain */
        large_unref(held);
        assert_int_equal(store_held(s), 0);
        store_check(s);
        assert_int_equal(put_large(s, 3, 30 * MIB, &why), 0);

        /* What leaves by eviction and clear, too; and a store may go before who holds its values.
         */
        held = hold(s, 3);
        assert_int_equal(store_clear(s, 1, 1, &n), 0);
        store_check(s);
        assert_int_equal(store_charged(s), 30 * MIB);
        store_free(s);
        large_unref(held);
}

/* A value that is held and then replaced again and again: only what fits is ever there. */
static void test_replacing_what_is_held_is_bounded(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1);
        struct large *held[8];
        struct store_refusal why;
        unsigned n = 0;

        (void)state;
        assert_int_equal(put_large(s, 1, 20 * MIB, &why), 0);
        while (n < 8) {
                held[n++] = hold(s, 1);
                if (put_large(s, 1, 20 * MIB, &why) != 0)
                        break;
                store_check(s);
        }
        assert_int_equal(n, 3); /* two that were replaced, and the one that is stored */
        assert_true(store_charged(s) <= 64 * MIB);
        assert_true(has(s, 1, 1));
        while (n > 0)
                large_unref(held[--n]);
        assert_int_equal(put_large(s, 1, 60 * MIB, &why), 0);
        store_check(s);
        store_free(s);
}

static struct store_put arriving_put(const uint64_t *k)
{
        return (struct store_put){.cache = 1, .key = k, .n_key = 8, .ttl_ms = STORE_NEVER};
}

/* Announcing takes nothing; each of many on their way to one key is charged for itself. */
static void test_arrivals_take_room_as_they_come(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1);
        struct store_arrival a[4];
        struct store_refusal why;
        uint64_t k = 1, room, charged;
        struct store_put p = arriving_put(&k);

        (void)state;
        assert_int_equal(put_large(s, 1, 30 * MIB, &why), 0);
        charged = store_charged(s);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(store_arrival_begin(s, &p, 30 * MIB, 1, &a[i], &why), 0);
        assert_int_equal(store_charged(s), charged);
        assert_int_equal(store_arrival_more(&a[0], 1, 1 * MIB, 1, &room, &why), 0);
        assert_int_equal(room, 1 * MIB);
        assert_int_equal(store_arrival_more(&a[0], 20 * MIB, 20 * MIB, 1, &room, &why), 0);
        assert_int_equal(store_arriving(s), 20 * MIB + store_charge(8, 0, 0, 0, true));
        store_check(s);
        /* Now there is room for one more, but never for the whole of two beside the third. */
        assert_int_equal(store_arrival_more(&a[1], 20 * MIB, 20 * MIB, 1, &room, &why), 0);
        assert_int_equal(store_arrival_more(&a[2], 20 * MIB, 20 * MIB, 1, &room, &why),
                         STORE_E_NO_SPACE);
        assert_true(why.arriving > 40 * MIB);
        assert_true(store_charged(s) <= 64 * MIB);
        for (unsigned i = 0; i < 4; i++)
                store_arrival_end(&a[i]);
        assert_int_equal(store_arriving(s), 0);
        store_check(s);
        store_free(s);
}

/* Where the old and the new value cannot both be there the old one leaves, not before it must; a
 * condition on it holds all the same. */
static void test_a_value_as_large_as_the_budget_is_replaced(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1);
        struct store_arrival a;
        struct store_refusal why;
        struct store_entry e;
        uint64_t k = 1, other = 2, room;
        struct store_put p = arriving_put(&k);

        (void)state;
        assert_int_equal(put(s, 1, 0, other, STORE_NEVER), 0);
        assert_int_equal(put_large(s, 1, 40 * MIB, &why), 0);
        assert_int_equal(store_get(s, 1, &k, 8, 1, true, &e), 0);
        p.compare = true;
        p.expected_version = e.version;
        assert_int_equal(store_arrival_begin(s, &p, 40 * MIB, 1, &a, &why), 0);
        assert_int_equal(store_arrival_more(&a, 20 * MIB, 20 * MIB, 1, &room, &why), 0);
        assert_true(has(s, 1, 1));
        assert_int_equal(store_arrival_more(&a, 40 * MIB, 40 * MIB, 1, &room, &why), 0);
        assert_false(has(s, 1, 1));
        assert_true(has(s, 1, 2)); /* nobody else had to leave */
        store_arrival_end(&a);
        p.arrived = &a;
        p.large = make_large(40 * MIB);
        p.expected_version++;
        assert_int_equal(store_put(s, &p, 1, &e, &why), STORE_E_VERSION);
        p.expected_version--;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        large_unref(p.large);
        store_check(s);
        store_free(s);
}

/* A million small entries leave bit by bit as the value comes that needs their place. */
static void test_an_arrival_evicts_in_portions(void **state)
{
        struct store *s = make(16 * MIB, 16 * MIB, 1);
        struct store_arrival a;
        struct store_refusal why;
        uint64_t k = 1 << 30, room = 0;
        struct store_put p = arriving_put(&k);
        unsigned turns = 0;

        (void)state;
        for (uint64_t i = 0; i < 16 * MIB / one(); i++)
                assert_int_equal(put(s, 1, 0, i, STORE_NEVER), 0);
        assert_int_equal(store_arrival_begin(s, &p, 12 * MIB, 1, &a, &why), 0);
        while (room < 12 * MIB) {
                uint64_t before = store_entries(s);

                assert_int_equal(store_arrival_more(&a, room + 1, room + MIB, 1, &room, &why), 0);
                assert_true(before - store_entries(s) < 1024);
                store_maintain(s, 1, 0);
                turns++;
        }
        assert_true(turns > 100);
        store_arrival_end(&a);
        store_check(s);
        store_free(s);
}

static void test_the_oldest_large_value_is_known(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1);
        struct store_refusal why;
        struct store_fate fate;
        struct large *held;
        uint64_t k = 2;

        (void)state;
        for (uint64_t i = 1; i <= 4; i++)
                assert_int_equal(put_large(s, i, MIB, &why), 0);
        assert_int_equal(store_files(s), 4);
        held = hold(s, 1);
        large_unref(hold(s, 2)); /* being sent is a use */
        assert_true(store_evict_large(s, 1));
        assert_false(has(s, 1, 3));
        assert_true(store_evict_large(s, 1));
        assert_false(has(s, 1, 4));
        assert_true(store_evict_large(s, 1));
        assert_int_equal(store_explain(s, 1, &k, 8, 1, &fate), 0);
        assert_int_equal(fate.cause, CAUSE_LARGE_VALUES);
        assert_false(store_evict_large(s, 1)); /* what is held does not leave for it */
        assert_true(has(s, 1, 1));
        large_unref(held);
        assert_true(store_evict_large(s, 1));
        assert_int_equal(store_files(s), 0);
        store_check(s);
        store_free(s);
}

/* ---- work in one turn */

static void test_a_lowered_limit_costs_one_turn_little(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 2);
        struct store_policy p = {.ttl_ms = STORE_NEVER,
                                 .max_entries = 10,
                                 .max_bytes = STORE_UNLIMITED};
        uint64_t before;

        (void)state;
        for (uint64_t k = 0; k < 50000; k++)
                assert_int_equal(put(s, 1 + k % 2, 0, k, STORE_NEVER), 0);
        before = store_entries(s);
        for (uint32_t c = 1; c <= 2; c++)
                store_cache_set_policy(s, c, &p, &p, false, 1);
        store_set_budget(s, 1000 * one(), 500 * one());
        for (uint64_t k = 0; k < 1000; k++)
                assert_int_equal(put(s, 1, 0, k + 100000, STORE_NEVER), 0);
        /* Each store takes the place of one for each bound that it meets. */
        assert_true(before - store_entries(s) <= EVICT_EXTRA + 3 * 1000);
        assert_true(store_charged(s) <= before * one()); /* and nothing has grown */
        settle(s, 1);
        assert_int_equal(store_entries(s), 20);
        store_check(s);
        store_free(s);
}

static void test_clearing_all_caches_costs_one_turn_little(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 1000);
        uint64_t n;

        (void)state;
        for (unsigned round = 0; round < 4; round++) {
                for (uint32_t c = 1; c <= 1000; c++)
                        for (uint64_t k = 0; k < 20; k++)
                                assert_int_equal(put(s, c, 0, k, 1000), 0);
                store_maintain(s, 1, 0);
                for (uint32_t c = 1; c <= 1000; c++) {
                        assert_int_equal(store_clear(s, c, 1, &n), 0);
                        assert_int_equal(n, 20);
                }
                assert_true(s->drops <= EVICT_EXTRA);
                assert_int_equal(store_entries(s), 0);
                store_check(s);
        }
        settle(s, 1);
        assert_int_equal(store_charged(s), 0);
        assert_int_equal(s->a.t->n_pages, 0);
        store_check(s);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_oldest_is_exact_over_many_lists),
                cmocka_unit_test(test_what_is_dying_leaves_as_cleared),
                cmocka_unit_test(test_small_heaps_are_small),
                cmocka_unit_test(test_a_heap_of_every_size_keeps_order),
                cmocka_unit_test(test_tiny_entries_are_charged_what_they_hold),
                cmocka_unit_test(test_what_readers_hold_stays_charged),
                cmocka_unit_test(test_replacing_what_is_held_is_bounded),
                cmocka_unit_test(test_arrivals_take_room_as_they_come),
                cmocka_unit_test(test_a_value_as_large_as_the_budget_is_replaced),
                cmocka_unit_test(test_an_arrival_evicts_in_portions),
                cmocka_unit_test(test_the_oldest_large_value_is_known),
                cmocka_unit_test(test_a_lowered_limit_costs_one_turn_little),
                cmocka_unit_test(test_clearing_all_caches_costs_one_turn_little),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
