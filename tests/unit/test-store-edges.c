/* SPDX-License-Identifier: MIT */
/*
 * The store at its edges: each case once was a defect
 *
 * Both buckets of a key full just as the index was split, departures that are told late, the last
 * records of the last span, recency lists of writers that left, a large value that replaces another
 * one, one writer at its share beside much that others let expire, clears that come faster than
 * they are reclaimed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store-check.h"
#include "store/internal.h"

#define MIB (UINT64_C(1) << 20)

static struct store *make(uint64_t arena, uint64_t budget, uint64_t share, uint32_t caches)
{
        struct store_params p = {
                .arena_size = arena,
                .budget = budget,
                .uid_share = share,
                .large_threshold = 1000 * 1024,
                .max_caches = caches,
                .max_entries = 1 << 24,
                .seed = {7, 8},
        };
        struct store *s = NULL;

        assert_int_equal(store_new(&p, &s), 0);
        for (uint32_t i = 1, id; i <= caches; i++) {
                char name[16];

                snprintf(name, sizeof(name), "c%u", i);
                assert_int_equal(store_cache_create(s, name, strlen(name), &id), 0);
                assert_int_equal(id, i);
        }
        return s;
}

static int put(struct store *s, uint32_t cache, uint32_t uid, uint64_t k, uint64_t ttl,
               uint64_t now)
{
        struct store_put p = {.cache = cache,
                              .key = &k,
                              .n_key = 8,
                              .value = "v",
                              .n_value = 1,
                              .ttl_ms = ttl,
                              .uid = uid};
        struct store_refusal why;
        struct store_entry e;

        return store_put(s, &p, now, &e, &why);
}

static void settle(struct store *s, uint64_t now)
{
        while (store_maintain(s, now, 1000))
                ;
}

/* Nine residents of one bucket by both hashes, which stay there when it is split last of all; then
 * a key that the split sends to the new, empty bucket. */
static void test_insert_where_the_last_forced_split_was(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 64 * MIB, 1);
        uint32_t gen = s->a.gens[s->a.caches[1].gen].id;
        unsigned residents = 0;
        struct index_key ik;

        (void)state;
        for (uint64_t k = 1; residents < 9; k++) {
                index_key_init(s, &ik, gen, &k, 8);
                if ((ik.h1 & 127) == 16 && (ik.h2 & 127) == 16) {
                        assert_int_equal(put(s, 1, 0, k, STORE_NEVER, 1), 0);
                        residents++;
                }
        }
        for (uint64_t k = 1;; k++) {
                index_key_init(s, &ik, gen, &k, 8);
                if ((ik.h1 & 127) == 80 && (ik.h2 & 127) == 16) {
                        assert_int_equal(put(s, 1, 0, k, STORE_NEVER, 1), 0);
                        break;
                }
        }
        store_check(s);
        store_free(s);
}

static void test_the_latest_departure_is_told(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 64 * MIB, 1);
        struct store_fate fate;
        uint64_t n, key = 5;

        (void)state;
        for (uint64_t k = 0; k < 100; k++)
                assert_int_equal(put(s, 1, 0, k, STORE_NEVER, 100), 0);
        assert_int_equal(store_clear(s, 1, 200, &n), 0);
        assert_int_equal(put(s, 1, 0, key, STORE_NEVER, 300), 0);
        assert_int_equal(store_delete(s, 1, &key, 8, 400), 0);
        settle(s, 500);
        assert_int_equal(store_explain(s, 1, &key, 8, 500, &fate), 0);
        assert_int_equal(fate.cause, CAUSE_DELETED);
        assert_int_equal(fate.age_ms, 100);
        store_free(s);
}

/* Hundreds of departures do not drive one another out. */
static void test_recent_departures_are_remembered(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 64 * MIB, 1);
        struct store_fate fate;

        (void)state;
        for (uint64_t k = 0; k < 300; k++) {
                assert_int_equal(put(s, 1, 0, k, STORE_NEVER, 1), 0);
                assert_int_equal(store_delete(s, 1, &k, 8, 1 + k), 0);
        }
        for (uint64_t k = 0; k < 300; k++) {
                assert_int_equal(store_explain(s, 1, &k, 8, 1000, &fate), 0);
                assert_true(fate.known && fate.cause == CAUSE_DELETED);
                assert_int_equal(fate.age_ms, 999 - k);
        }
        store_free(s);
}

static void test_every_chunk_of_the_last_span_can_be_used(void **state)
{
        struct store *s = make(1, UINT64_MAX / 2, UINT64_MAX / 2, 1);
        uint64_t chunks = (uint64_t)(s->a.h->n_spans - 1) * (ARENA_SPAN_SIZE / ARENA_CHUNK_MIN),
                 n = 0;

        (void)state;
        while (put(s, 1, 0, n, STORE_NEVER, 1) == 0)
                n++;
        assert_int_equal(n, chunks);
        for (uint64_t k = 0; k < 1000; k++)
                assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        for (uint64_t k = 0; k < 1000; k++)
                assert_int_equal(put(s, 1, 0, k, STORE_NEVER, 1), 0);
        store_free(s);
}

static void test_lists_of_writers_that_left_are_used_again(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 64 * MIB, 17);

        (void)state;
        for (uint32_t c = 1; c <= 16; c++)
                for (uint32_t uid = 0; uid < 4096; uid++) {
                        uint64_t k = 1;

                        assert_int_equal(put(s, c, uid, k, STORE_NEVER, 1), 0);
                        assert_int_equal(store_delete(s, c, &k, 8, 1), 0);
                }
        assert_int_equal(put(s, 17, 1, 1, STORE_NEVER, 1), 0);
        store_check(s);
        store_free(s);
}

static int put_large(struct store *s, uint64_t k, uint64_t size, enum store_mode mode)
{
        struct store_put p = {
                .cache = 1, .key = &k, .n_key = 8, .ttl_ms = STORE_NEVER, .mode = mode};
        struct store_refusal why;
        struct store_entry e;
        struct store_arrival a;
        uint64_t room;
        int r;

        r = store_arrival_begin(s, &p, size, 1, &a, &why);
        for (uint64_t n = MIB; r == 0 && n < size + MIB; n += MIB)
                r = store_arrival_more(&a, n < size ? n : size, n, 1, &room, &why);
        if (r != 0)
                return r;
        store_check(s);
        assert_int_equal(large_new(size, &p.large), 0);
        assert_int_equal(large_seal(p.large), 0);
        store_arrival_end(&a);
        p.arrived = &a;
        r = store_put(s, &p, 1, &e, &why);
        large_unref(p.large);
        return r;
}

static void test_a_large_value_is_replaced_within_the_budget(void **state)
{
        struct store *s = make(64 * MIB, 64 * MIB, 64 * MIB, 1);
        struct store_entry e;
        uint64_t k = 1;

        (void)state;
        assert_int_equal(put_large(s, 1, 40 * MIB, STORE_ANY), 0);
        assert_int_equal(put_large(s, 1, 40 * MIB, STORE_REPLACE_ONLY), 0);
        assert_int_equal(put_large(s, 1, 40 * MIB, STORE_ADD_ONLY), STORE_E_EXISTS);
        assert_int_equal(put_large(s, 2, 40 * MIB, STORE_REPLACE_ONLY), STORE_E_MISS);
        assert_int_equal(store_get(s, 1, &k, 8, 1, true, &e), 0);
        assert_int_equal(e.version, 2);
        assert_int_equal(put_large(s, 2, 65 * MIB, STORE_ANY), STORE_E_TOO_LARGE);
        assert_int_equal(put_large(s, 2, 40 * MIB, STORE_ANY), 0); /* the first one leaves */
        assert_int_equal(store_entries(s), 1);
        store_check(s);
        store_free(s);
}

/* The work of one store is bounded, whatever others have left behind. */
static void test_one_writer_does_not_clean_up_after_all(void **state)
{
        struct store *s = make(256 * MIB, 256 * MIB, 256 * MIB, 2);
        uint64_t before;

        (void)state;
        for (uint64_t k = 0; k < 50000; k++)
                assert_int_equal(put(s, 1, 1, k, 10, 1), 0);
        for (uint64_t k = 0; k < 10; k++)
                assert_int_equal(put(s, 2, 2, k, STORE_NEVER, 1), 0);
        store_set_budget(s, 256 * MIB, 10 * store_charge(8, 1, 0, 0, false));
        before = store_entries(s);
        assert_int_equal(put(s, 2, 2, 11, STORE_NEVER, 100), 0);
        assert_true(before - store_entries(s) <= EVICT_EXTRA + 1);
        store_check(s);
        store_free(s);
}

static void test_clears_wait_for_reclaiming_only_so_long(void **state)
{
        struct store *s = make(256 * MIB, 256 * MIB, 256 * MIB, 1);
        uint64_t n;
        int r = 0;

        (void)state;
        for (uint64_t k = 0; k < 100000; k++)
                assert_int_equal(put(s, 1, 1, k, STORE_NEVER, 1), 0);
        assert_int_equal(store_clear(s, 1, 1, &n), 0);
        for (unsigned i = 0; i < 200 && r == 0; i++) {
                uint64_t held = s->a.t->n_reclaiming;

                for (uint64_t k = 0; k < 65; k++)
                        assert_int_equal(put(s, 1, 1, k, STORE_NEVER, 1), 0);
                r = store_clear(s, 1, 1, &n);
                assert_true(held < s->a.t->n_reclaiming + 5000);
        }
        assert_int_equal(r, STORE_E_LIMIT);
        store_check(s);
        settle(s, 1);
        assert_int_equal(store_clear(s, 1, 1, &n), 0);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_insert_where_the_last_forced_split_was),
                cmocka_unit_test(test_the_latest_departure_is_told),
                cmocka_unit_test(test_recent_departures_are_remembered),
                cmocka_unit_test(test_every_chunk_of_the_last_span_can_be_used),
                cmocka_unit_test(test_lists_of_writers_that_left_are_used_again),
                cmocka_unit_test(test_a_large_value_is_replaced_within_the_budget),
                cmocka_unit_test(test_one_writer_does_not_clean_up_after_all),
                cmocka_unit_test(test_clears_wait_for_reclaiming_only_so_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
