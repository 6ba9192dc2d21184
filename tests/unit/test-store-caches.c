/* SPDX-License-Identifier: MIT */
/*
 * Caches that are removed: nothing of one is found under its id when that is another one's
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

#define N_NAMES 200u

static struct store *make(uint32_t max_caches)
{
        struct store_params p = {
                .arena_size = UINT64_C(256) << 20,
                .budget = UINT64_C(64) << 20,
                .uid_share = UINT64_C(64) << 20,
                .large_threshold = STORE_EXTENT_MAX,
                .max_caches = max_caches,
                .max_entries = 1 << 20,
                .seed = {3, 4},
        };
        struct store *s = NULL;

        assert_int_equal(store_new(&p, &s), 0);
        return s;
}

static uint32_t create(struct store *s, const char *name)
{
        uint32_t id;

        assert_int_equal(store_cache_create(s, name, strlen(name), &id), 0);
        return id;
}

static int put(struct store *s, uint32_t cache, const char *key, const char *value, uint64_t now)
{
        struct store_put p = {.cache = cache,
                              .key = key,
                              .n_key = strlen(key),
                              .value = value,
                              .n_value = strlen(value),
                              .ttl_ms = STORE_NEVER,
                              .uid = 1000};
        struct store_refusal why;
        struct store_entry e;

        return store_put(s, &p, now, &e, &why);
}

static void reclaim(struct store *s, uint64_t now)
{
        while (store_maintain(s, now, 100))
                ;
        store_check(s);
}

static void test_nothing_of_a_removed_cache_is_found(void **state)
{
        struct store *s = make(8);
        uint32_t a = create(s, "a"), b;
        struct store_cache_info info;
        struct store_fate fate;
        struct store_entry e;
        size_t n;

        (void)state;
        store_cache_counters(s, a)->opens = 7;
        assert_int_equal(put(s, a, "key", "of a", 1), 0);
        assert_int_equal(put(s, a, "gone", "of a", 1), 0);
        assert_int_equal(store_delete(s, a, "gone", 4, 2), 0);
        assert_int_equal(store_cache_remove(s, a, 3), 0);
        store_check(s);
        assert_int_equal(store_cache_find(s, "a", 1, &b), STORE_E_NO_CACHE);
        assert_int_equal(store_cache_info(s, a, &info), STORE_E_NO_CACHE);
        assert_null(store_cache_name(s, a, &n));
        assert_int_equal(store_get(s, a, "key", 3, 3, true, &e), STORE_E_NO_CACHE);
        assert_int_equal(put(s, a, "key", "x", 3), STORE_E_NO_CACHE);
        assert_int_equal(store_cache_remove(s, a, 3), STORE_E_NO_CACHE);

        reclaim(s, 4);
        assert_int_equal(store_entries(s), 0);
        b = create(s, "b");
        assert_int_equal(b, a);
        assert_string_equal(store_cache_name(s, b, &n), "b");
        assert_int_equal(store_get(s, b, "key", 3, 5, true, &e), STORE_E_MISS);
        assert_int_equal(store_explain(s, b, "key", 3, 5, &fate), 0);
        assert_false(fate.known);
        assert_int_equal(store_explain(s, b, "gone", 4, 5, &fate), 0);
        assert_false(fate.known);
        assert_int_equal(store_cache_info(s, b, &info), 0);
        assert_int_equal(info.counters.opens, 0);
        assert_int_equal(info.counters.stores, 0);
        store_check(s);
        store_free(s);
}

/* Not before what was there is gone; then there is room for as many caches as ever. */
static void test_an_id_waits_for_what_is_dying(void **state)
{
        struct store *s = make(4);
        uint32_t ids[4], id;
        char name[16];

        (void)state;
        for (unsigned i = 0; i < 4; i++) {
                (void)snprintf(name, sizeof(name), "old%u", i);
                ids[i] = create(s, name);
                for (unsigned k = 0; k < 300; k++) {
                        (void)snprintf(name, sizeof(name), "k%u", k);
                        assert_int_equal(put(s, ids[i], name, "v", 1), 0);
                }
        }
        assert_int_equal(store_cache_create(s, "more", 4, &id), STORE_E_LIMIT);
        assert_int_equal(store_cache_remove(s, ids[1], 2), 0);
        assert_int_equal(s->reusable, 0);
        store_check(s);
        reclaim(s, 3);
        assert_int_equal(s->reusable, ids[1]);
        assert_int_equal(create(s, "more"), ids[1]);
        assert_int_equal(store_cache_create(s, "too many", 8, &id), STORE_E_LIMIT);
        /* All at once, without upkeep in between: a request does some of it. */
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(store_cache_remove(s, ids[i], 4), 0);
        id = create(s, "at last");
        assert_in_range(id, 1, 4);
        store_check(s);
        store_free(s);
}

static void test_names_are_found_whatever_was_removed(void **state)
{
        struct store *s = make(N_NAMES);
        uint32_t ids[N_NAMES] = {0}, id;
        uint64_t x = 5;
        char name[24];

        (void)state;
        for (unsigned i = 0; i < 4000; i++) {
                unsigned k = (unsigned)((x = x * 48271 % 0x7fffffff) % N_NAMES);
                int n = snprintf(name, sizeof(name), "name %u", k);

                if (ids[k] == 0) {
                        ids[k] = create(s, name);
                        assert_int_equal(put(s, ids[k], "key", name, i), 0);
                } else {
                        assert_int_equal(store_cache_find(s, name, (size_t)n, &id), 0);
                        assert_int_equal(id, ids[k]);
                        assert_int_equal(store_cache_remove(s, id, i), 0);
                        ids[k] = 0;
                }
                if (i % 50 == 0)
                        reclaim(s, i);
        }
        for (unsigned k = 0; k < N_NAMES; k++) {
                int n = snprintf(name, sizeof(name), "name %u", k);
                struct store_entry e;

                assert_int_equal(store_cache_find(s, name, (size_t)n, &id),
                                 ids[k] ? 0 : STORE_E_NO_CACHE);
                if (!ids[k])
                        continue;
                assert_int_equal(store_get(s, id, "key", 3, 5000, true, &e), 0);
                assert_memory_equal(e.value, name, (size_t)n);
        }
        store_check(s);
        store_free(s);
}

/* Who goes on with what it began before the cache was removed means that one. */
static void test_a_sweep_ends_with_its_cache(void **state)
{
        struct store *s = make(8);
        uint32_t a = create(s, "a");
        struct store_sweep sweep;
        struct store_entry e;

        (void)state;
        assert_int_equal(put(s, a, "k1", "of a", 1), 0);
        assert_int_equal(store_sweep_begin(s, a, "k", 1, &sweep), 0);
        assert_int_equal(store_cache_remove(s, a, 2), 0);
        reclaim(s, 2);
        assert_int_equal(create(s, "b"), a);
        assert_int_equal(put(s, a, "k1", "of b", 3), 0);
        while (store_sweep_step(&sweep, 3, 10))
                ;
        store_sweep_end(&sweep);
        assert_int_equal(store_get(s, a, "k1", 2, 3, true, &e), 0);
        store_free(s);
}

/* A value that arrives makes the old one under its key leave where both have no room: not that of
 * another cache. */
static void test_an_arrival_ends_with_its_cache(void **state)
{
        const uint64_t size = UINT64_C(900) << 10;
        struct store *s = make(8);
        uint32_t a = create(s, "a");
        struct store_put p = {.cache = a,
                              .key = "k",
                              .n_key = 1,
                              .n_value = size,
                              .ttl_ms = STORE_NEVER,
                              .uid = 1000};
        uint8_t *value = calloc(1, 700 << 10);
        struct store_arrival arrival;
        struct store_refusal why;
        struct store_entry e;
        uint64_t room;

        (void)state;
        store_set_budget(s, UINT64_C(1) << 20, UINT64_C(1) << 20);
        assert_int_equal(store_arrival_begin(s, &p, size, 1, &arrival, &why), 0);
        assert_int_equal(store_cache_remove(s, a, 2), 0);
        reclaim(s, 2);
        assert_int_equal(create(s, "b"), a);
        p.value = value;
        p.n_value = 200 << 10;
        assert_int_equal(store_put(s, &p, 3, &e, &why), 0);
        p.key = "l";
        p.n_value = 700 << 10;
        assert_int_equal(store_put(s, &p, 3, &e, &why), 0);
        assert_int_equal(store_get(s, a, "k", 1, 4, true, &e), 0); /* "l" leaves first */
        assert_int_equal(store_arrival_more(&arrival, 100000, 100000, 4, &room, &why), 0);
        assert_int_equal(arrival.dropped_version, 0);
        assert_int_equal(store_get(s, a, "k", 1, 4, true, &e), 0);
        store_arrival_end(&arrival);
        store_check(s);
        store_free(s);
        free(value);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_of_a_removed_cache_is_found),
                cmocka_unit_test(test_an_id_waits_for_what_is_dying),
                cmocka_unit_test(test_names_are_found_whatever_was_removed),
                cmocka_unit_test(test_a_sweep_ends_with_its_cache),
                cmocka_unit_test(test_an_arrival_ends_with_its_cache),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
