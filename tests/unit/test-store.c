/* SPDX-License-Identifier: MIT */
/*
 * The store at size: what the model test is too small for
 *
 * Growth and shrinking of the index, compaction under moving value sizes, memory that comes back
 * after expiry and clear, listings, lowered limits, exhausted tables, keys that were made to
 * collide.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store-check.h"
#include "store/internal.h"

#define MIB (UINT64_C(1) << 20)

static struct store *make_caches(uint64_t budget, uint32_t n_caches)
{
        struct store_params p = {
                .arena_size = UINT64_C(2) << 30,
                .budget = budget,
                .uid_share = budget,
                .large_threshold = 1000 * 1024,
                .max_caches = n_caches < 8 ? 8 : n_caches,
                .max_entries = 1 << 24,
                .seed = {7, 8},
        };
        struct store *s = NULL;

        assert_int_equal(store_new(&p, &s), 0);
        for (uint32_t i = 1; i <= n_caches; i++) {
                uint32_t id;

                assert_int_equal(store_cache_create(s, (char *)&i, sizeof(i), &id), 0);
                assert_int_equal(id, i);
        }
        return s;
}

static struct store *make(uint64_t budget)
{
        return make_caches(budget, 1);
}

static int put(struct store *s, uint64_t k, const void *value, uint64_t n, uint64_t ttl,
               uint64_t now)
{
        struct store_put p = {
                .cache = 1, .key = &k, .n_key = 8, .value = value, .n_value = n, .ttl_ms = ttl};
        struct store_refusal why;
        struct store_entry e;

        return store_put(s, &p, now, &e, &why);
}

static int get(struct store *s, uint64_t k, uint64_t now, struct store_entry *e)
{
        return store_get(s, 1, &k, 8, now, true, e);
}

static void settle(struct store *s, uint64_t now)
{
        while (store_maintain(s, now, 1000))
                ;
}

static uint64_t held(struct store *s)
{
        struct store_stats st;

        store_stats(s, &st);
        return st.arena_bytes + st.table_bytes;
}

static void test_index_grows_and_shrinks(void **state)
{
        const uint64_t n = 200000;
        struct store *s = make(1024 * MIB);
        struct store_entry e;
        struct store_stats st;

        (void)state;
        for (uint64_t i = 0; i < n; i++)
                assert_int_equal(put(s, i, &i, 8, STORE_NEVER, 1), 0);
        store_check(s);
        store_stats(s, &st);
        assert_int_equal(st.entries, n);
        /* All of them are there: nothing was evicted for want of a slot. */
        for (uint64_t i = 0; i < n; i++) {
                assert_int_equal(get(s, i, 1, &e), 0);
                assert_memory_equal(e.value, &i, 8);
        }
        assert_true(st.index_buckets * 9 < n * 13 / 10);
        for (uint64_t i = 0; i < n; i++)
                if (i % 64)
                        assert_int_equal(store_delete(s, 1, &i, 8, 1), 0);
        settle(s, 1);
        store_check(s);
        store_stats(s, &st);
        assert_true(st.index_buckets * 9 < n / 64 * 5);
        for (uint64_t i = 0; i < n; i += 64)
                assert_int_equal(get(s, i, 1, &e), 0);
        store_free(s);
}

/* Short keys, the same ones in many caches: as programs have them. None may be lost for want of a
 * slot, and the index stays small. */
static void test_short_keys_in_many_caches(void **state)
{
        static const struct {
                uint32_t caches, keys;
                size_t n_key;
        } shapes[] = {{300, 64, 3}, {16, 4096, 8}, {20, 4096, 6}, {200, 200, 1}};

        (void)state;
        for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
                struct store *s = make_caches(256 * MIB, shapes[i].caches);
                struct store_stats st;

                for (uint32_t c = 1; c <= shapes[i].caches; c++)
                        for (uint32_t k = 0; k < shapes[i].keys; k++) {
                                uint8_t key[8] = {0};
                                struct store_put p = {.cache = c,
                                                      .key = key,
                                                      .n_key = shapes[i].n_key,
                                                      .ttl_ms = STORE_NEVER};
                                struct store_refusal why;
                                struct store_entry e;

                                if (shapes[i].n_key == 1) {
                                        key[0] = (uint8_t)k;
                                } else {
                                        key[0] = k % 64;
                                        key[shapes[i].n_key - 1] = (uint8_t)(k / 64);
                                }
                                assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
                        }
                store_stats(s, &st);
                assert_int_equal(st.entries, shapes[i].caches * shapes[i].keys);
                assert_true(st.index_buckets * 6 < st.entries + 1000);
                store_free(s);
        }
}

/* Sizes move from tiny to 64 KiB and back at a full budget: nothing is refused, memory stays
 * bounded. */
static void test_moving_sizes_stay_within_budget(void **state)
{
        const uint64_t budget = 64 * MIB;
        struct store *s = make(budget);
        static uint8_t value[65536];
        uint64_t rng = 1, peak = 0, k = 0;

        (void)state;
        for (unsigned round = 0; round < 24; round++) {
                uint64_t size = UINT64_C(100)
                                << (round % 12 < 6 ? round % 12 * 2 : (12 - round % 12) * 2);
                uint64_t total = 0;

                if (size > sizeof(value))
                        size = sizeof(value);
                while (total < budget) {
                        uint64_t n;

                        rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407;
                        n = size / 2 + (rng >> 33) % (size / 2 + 1);
                        /* Three quarters new keys, the rest overwrites of random recent ones. */
                        memset(value, (int)n, n);
                        assert_int_equal(put(s,
                                             rng >> 60 < 12 ? k++
                                                            : k - 1 - (rng >> 40) % (k + 1) % 1000,
                                             value, n, STORE_NEVER, 1),
                                         0);
                        total += n + 100;
                        if (held(s) > peak)
                                peak = held(s);
                }
                store_check(s);
        }
        assert_true(store_charged(s) <= budget);
        if (peak > budget + budget * 3 / 100 + 2 * MIB)
                fail_msg("held %lu KiB at a budget of %lu KiB", (unsigned long)(peak >> 10),
                         (unsigned long)(budget >> 10));
        store_free(s);
}

static void test_memory_comes_back_after_expiry(void **state)
{
        struct store *s = make(1024 * MIB);
        uint8_t value[300] = {0};
        uint64_t before = held(s);

        (void)state;
        for (uint64_t i = 0; i < 100000; i++)
                assert_int_equal(put(s, i, value, 50 + i % 250, 1 + i * 7919 % 1000, 0), 0);
        settle(s, 0);
        assert_int_equal(store_next_deadline(s), 1);
        settle(s, 999);
        store_check(s);
        assert_true(store_entries(s) > 0 && store_entries(s) < 200);
        settle(s, 1000);
        assert_int_equal(store_entries(s), 0);
        assert_int_equal(store_charged(s), 0);
        assert_int_equal(store_next_deadline(s), STORE_NEVER);
        store_check(s);
        assert_true(held(s) < before + 2 * MIB);
        store_free(s);
}

static void test_clear_is_immediate_and_reclaims_in_steps(void **state)
{
        struct store *s = make(1024 * MIB);
        struct store_entry e;
        uint64_t n, key = 5;
        struct store_fate fate;

        (void)state;
        for (uint64_t i = 0; i < 50000; i++)
                assert_int_equal(put(s, i, &i, 8, i % 2 ? 1000 : STORE_NEVER, 0), 0);
        assert_int_equal(store_clear(s, 1, 10, &n), 0);
        assert_int_equal(n, 50000);
        assert_int_equal(store_entries(s), 0);
        assert_int_equal(get(s, 5, 10, &e), STORE_E_MISS);
        assert_int_equal(store_explain(s, 1, &key, 8, 15, &fate), 0);
        assert_true(fate.known && fate.cause == CAUSE_CLEARED);
        assert_int_equal(fate.age_ms, 5);
        assert_int_equal(put(s, 5, "new", 3, STORE_NEVER, 11), 0);
        assert_true(store_maintain(s, 11, 100));
        store_check(s);
        assert_int_equal(get(s, 5, 11, &e), 0);
        assert_int_equal(e.n_value, 3);
        settle(s, 11);
        store_check(s);
        assert_int_equal(get(s, 5, 11, &e), 0);
        assert_int_equal(store_entries(s), 1);
        store_free(s);
}

/* Clears faster than they are reclaimed: generations run out, and the oldest are finished on the
 * spot. */
static void test_many_clears_at_once(void **state)
{
        struct store *s = make(64 * MIB);
        uint64_t n;

        (void)state;
        for (uint64_t i = 0; i < 1000; i++) {
                assert_int_equal(put(s, i, "x", 1, 1000, 0), 0);
                assert_int_equal(store_clear(s, 1, 1, &n), 0);
                assert_int_equal(n, 1);
        }
        settle(s, 1);
        store_check(s);
        assert_int_equal(store_charged(s), 0);
        store_free(s);
}

static void test_lowered_limit_applies_at_once(void **state)
{
        struct store *s = make(1024 * MIB);
        struct store_policy p = {.ttl_ms = STORE_NEVER,
                                 .max_entries = 100,
                                 .max_bytes = STORE_UNLIMITED};
        struct store_cache_info info;
        struct store_entry e;

        (void)state;
        for (uint64_t i = 0; i < 20000; i++)
                assert_int_equal(put(s, i, &i, 8, STORE_NEVER, 0), 0);
        store_cache_set_policy(s, 1, &p, &p, false, 0);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.entries, 20000 - 2048);
        /* A store takes the place of one, and in another turn of some more. */
        assert_int_equal(put(s, 20000, "x", 1, STORE_NEVER, 0), 0);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.entries, 20000 - 2048);
        store_maintain(s, 0, 0);
        assert_int_equal(put(s, 20000, "x", 1, STORE_NEVER, 0), 0);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.entries, 20000 - 2 * 2048);
        settle(s, 0);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.entries, 100);
        assert_int_equal(get(s, 20000, 0, &e), 0);
        for (uint64_t i = 19901; i < 20000; i++)
                assert_int_equal(get(s, i, 0, &e), 0);
        assert_int_equal(get(s, 19900, 0, &e), STORE_E_MISS);
        store_check(s);
        store_free(s);
}

static bool visit(void *ctx, const struct store_entry *e)
{
        uint8_t *seen = ctx;
        uint64_t k;

        memcpy(&k, e->key, 8);
        seen[k]++;
        return true;
}

static void test_listing_shows_everything_once(void **state)
{
        struct store *s = make(1024 * MIB);
        uint8_t *seen = calloc(1, 30000);
        uint64_t cursor = 0;
        unsigned pages = 0;

        (void)state;
        for (uint64_t i = 0; i < 30000; i++)
                assert_int_equal(put(s, i, seen, i % 500, i % 3 ? STORE_NEVER : 10, 0), 0);
        do {
                assert_int_equal(store_list(s, 1, 10, 100, &cursor, visit, seen), 0);
                pages++;
        } while (cursor != 0);
        assert_true(pages >= 200);
        for (uint64_t i = 0; i < 30000; i++)
                assert_int_equal(seen[i], i % 3 != 0);
        /* A cursor that never was one ends or goes on, and harms nothing. */
        for (uint64_t c = 1; c != 0; c <<= 1) {
                cursor = c;
                store_list(s, 1, 10, 10, &cursor, visit, seen);
        }
        free(seen);
        store_free(s);
}

static void test_refusals_name_the_budget(void **state)
{
        struct store *s = make(1 * MIB);
        struct store_policy p = {.ttl_ms = STORE_NEVER,
                                 .max_entries = STORE_UNLIMITED,
                                 .max_bytes = 5000};
        struct store_refusal why;
        static uint8_t value[900000];
        uint64_t k = 1;
        struct store_put q = {
                .cache = 1, .key = &k, .n_key = 8, .value = value, .ttl_ms = STORE_NEVER};
        struct store_entry e;

        (void)state;
        store_cache_set_policy(s, 1, &p, &p, false, 0);
        q.n_value = 6000;
        assert_int_equal(store_put(s, &q, 0, &e, &why), STORE_E_TOO_LARGE);
        assert_int_equal(why.cause, CAUSE_MAX_BYTES);
        assert_int_equal(why.limit, 5000);
        p.max_bytes = STORE_UNLIMITED;
        store_cache_set_policy(s, 1, &p, &p, false, 0);
        store_set_budget(s, 1 * MIB, 500000);
        q.n_value = sizeof(value);
        assert_int_equal(store_put(s, &q, 0, &e, &why), STORE_E_TOO_LARGE);
        assert_int_equal(why.cause, CAUSE_UID_SHARE);
        store_set_budget(s, 500000, 1 * MIB);
        assert_int_equal(store_put(s, &q, 0, &e, &why), STORE_E_TOO_LARGE);
        assert_int_equal(why.cause, CAUSE_REALM_BUDGET);
        assert_int_equal(why.need, store_charge(8, sizeof(value), 0, 0, true));
        store_free(s);
}

static void test_caches_are_limited(void **state)
{
        struct store *s = make(1 * MIB);
        char name[8];
        uint32_t id;

        (void)state;
        for (unsigned i = 2; i <= 8; i++) {
                snprintf(name, sizeof(name), "n%u", i);
                assert_int_equal(store_cache_create(s, name, strlen(name), &id), 0);
        }
        assert_int_equal(store_cache_create(s, "more", 4, &id), STORE_E_LIMIT);
        assert_int_equal(store_cache_find(s, "more", 4, &id), STORE_E_NO_CACHE);
        assert_int_equal(store_cache_create(s, "n8", 2, &id), 0); /* it is there already */
        assert_int_equal(id, 8);
        store_free(s);
}

/* Who reads the seed can make keys that all want the same two buckets. Some leave, by cause;
 * nothing breaks. */
static void test_colliding_keys_evict_by_index(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_cache_info info;
        uint64_t found = 0;

        (void)state;
        for (uint64_t i = 0; found < 300; i++) {
                struct index_key k;

                index_key_init(s, &k, s->a.gens[0].id, &i, 8);
                /* The same bucket by both hashes, also after some doublings. */
                if ((k.h1 & 0xfff) != 5 || (k.h2 & 0x3f) != 5)
                        continue;
                found++;
                assert_int_equal(put(s, i, "x", 1, STORE_NEVER, 0), 0);
        }
        store_check(s);
        store_cache_info(s, 1, &info);
        assert_int_equal(info.entries + info.counters.departed[CAUSE_INDEX], 300);
        assert_true(info.counters.departed[CAUSE_INDEX] > 0);
        store_free(s);
}

static void test_deadlines_saturate(void **state)
{
        struct store *s = make(64 * MIB);
        struct store_entry e;
        uint64_t far = UINT64_C(1) << 39;

        (void)state;
        assert_int_equal(put(s, 1, "x", 1, UINT64_MAX - 1, far), 0);
        assert_int_equal(get(s, 1, far + far / 2, &e), 0);
        assert_int_not_equal(e.deadline, STORE_NEVER);
        assert_int_equal(put(s, 2, "x", 1, 1, far), 0);
        assert_int_equal(get(s, 2, far, &e), 0);
        assert_int_equal(get(s, 2, far + 1, &e), STORE_E_MISS);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_index_grows_and_shrinks),
                cmocka_unit_test(test_short_keys_in_many_caches),
                cmocka_unit_test(test_moving_sizes_stay_within_budget),
                cmocka_unit_test(test_memory_comes_back_after_expiry),
                cmocka_unit_test(test_clear_is_immediate_and_reclaims_in_steps),
                cmocka_unit_test(test_many_clears_at_once),
                cmocka_unit_test(test_lowered_limit_applies_at_once),
                cmocka_unit_test(test_listing_shows_everything_once),
                cmocka_unit_test(test_refusals_name_the_budget),
                cmocka_unit_test(test_caches_are_limited),
                cmocka_unit_test(test_colliding_keys_evict_by_index),
                cmocka_unit_test(test_deadlines_saturate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
