/* SPDX-License-Identifier: MIT */
/*
 * Uses that the store is told of later: they are put by, and nobody can tell
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arena-store.h"
#include "fail-alloc.h"

#define NOW UINT64_C(1000000)

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static void put(struct store *s, uint64_t key)
{
        struct store_put p = {.cache = 1,
                              .key = &key,
                              .n_key = sizeof(key),
                              .value = "value",
                              .n_value = 5,
                              .ttl_ms = STORE_NEVER,
                              .cost_us = key + 1};
        struct store_entry e;
        struct store_refusal why;

        assert_int_equal(store_put(s, &p, NOW, &e, &why), 0);
}

/* The keys of cache 1 in the order of use, at most @max. */
static unsigned order_of(struct store *s, uint32_t *handles, unsigned max)
{
        unsigned n = 0;

        for (uint32_t h = lru_oldest(s); h != ARENA_NONE; h = arena_rec(&s->a, h)->prev) {
                assert_true(n < max);
                handles[n++] = h;
        }
        return n;
}

static void same_order(struct store *a, struct store *b)
{
        enum { MAX = 20000 };
        static uint32_t in_a[MAX], in_b[MAX];
        unsigned n = order_of(a, in_a, MAX);

        assert_int_equal(order_of(b, in_b, MAX), n);
        assert_memory_equal(in_a, in_b, n * sizeof(in_a[0]));
}

static struct store_use use_at(const struct store *s, uint32_t handle)
{
        return (struct store_use){handle, arena_block(&s->a, handle)->version_lo};
}

/* What one store applies at once, use by use, the other one when it has to: nobody can tell. */
static void uses_are_put_by_and_nobody_can_tell(void **state)
{
        enum { KEYS = 15000, STEPS = 400, USES = 60000 };
        struct store *a = make(16 * MIB), *b = make(16 * MIB);
        static struct store_use uses[USES];
        static uint32_t handles[KEYS + STEPS];
        struct store_uses ua, ub;
        struct store_cache_info ia, ib;
        uint64_t rng = 88172645463325252u, n_cleared;
        unsigned n = 0, n_put_by = 0;

        (void)state;
        for (uint64_t key = 0; key < KEYS; key++) {
                put(a, key);
                put(b, key);
        }
        n = order_of(b, handles, KEYS);
        for (unsigned step = 0; step < STEPS; step++) {
                /* Few entries often; at last many, most of them once; and between, more than can
                 * be put by. */
                bool all = step == STEPS / 2, many = all || (step > STEPS / 2 && step % 8 == 0);
                unsigned span = many ? KEYS : 1 + (unsigned)(rng_next(&rng) % 40);
                unsigned n_uses = all ? USES : 1 + (unsigned)(rng_next(&rng) % (many ? 3000 : 300));
                uint64_t x = rng_next(&rng), key = (x >> 8) % KEYS;

                for (unsigned i = 0; i < n_uses; i++) {
                        uint64_t y = rng_next(&rng);

                        uses[i] = use_at(b, handles[(y >> 8) % (span < n ? span : n)]);
                        if (y % 50 == 0)
                                uses[i].version_lo += 1 + (y >> 60);
                        if (y % 77 == 0)
                                uses[i].handle = (uint32_t)(y >> 32);
                        store_used(a, &uses[i], 1);
                        store_apply_told(a);
                }
                store_used(b, uses, n_uses);
                n_put_by += store_has_told(b);
                if (x % 4 == 0) {
                        put(a, key);
                        put(b, key);
                } else if (x % 4 == 1) {
                        (void)store_delete(a, 1, &key, sizeof(key), NOW);
                        (void)store_delete(b, 1, &key, sizeof(key), NOW);
                } else if (x % 20 == 2) {
                        assert_true(store_evict_one(a, CAUSE_REALM_BUDGET, NOW) > 0);
                        assert_true(store_evict_one(b, CAUSE_REALM_BUDGET, NOW) > 0);
                        same_order(a, b);
                }
        }
        assert_true(n_put_by > STEPS / 4 && n_put_by < STEPS);
        same_order(a, b);
        uses[0] = use_at(b, lru_oldest(b));
        store_used(a, uses, 1);
        store_apply_told(a);
        store_used(b, uses, 1);
        assert_int_equal(store_clear(a, 1, NOW, &n_cleared), 0);
        assert_int_equal(store_clear(b, 1, NOW, &n_cleared), 0);
        store_uses(a, &ua);
        store_uses(b, &ub);
        assert_int_equal(ua.counted, ub.counted);
        assert_int_equal(ua.stale, ub.stale);
        assert_int_equal(store_cache_info(a, 1, &ia), 0);
        assert_int_equal(store_cache_info(b, 1, &ib), 0);
        assert_true(ia.counters.time_saved_us > 0);
        assert_memory_equal(&ia.counters, &ib.counters, sizeof(ia.counters));
        store_free(a);
        store_free(b);
}

static void what_depends_on_uses_has_them(void **state)
{
        struct store *s = make(16 * MIB);
        struct store_cache_info info;
        struct store_uses uses;
        struct store_use u;
        uint64_t n_cleared;

        (void)state;
        for (uint64_t key = 0; key < 100; key++)
                put(s, key);
        for (unsigned i = 0; i < 3; i++) {
                u = use_at(s, lru_oldest(s));
                store_used(s, &u, 1);
                assert_true(store_has_told(s));
                uint32_t oldest = i == 0   ? lru_oldest(s)
                                  : i == 1 ? lru_oldest_of_gen(s, 1)
                                           : lru_oldest_of_owner(s, 0);
                assert_true(oldest != ARENA_NONE && oldest != u.handle);
                assert_false(store_has_told(s));
        }
        store_used(s, &u, 1);
        store_used(s, &u, 1);
        assert_int_equal(store_cache_info(s, 1, &info), 0);
        assert_int_equal(info.counters.time_saved_us, 1 + 2 + 3 + 2 * 3);
        store_used(s, &u, 1);
        assert_int_equal(store_clear(s, 1, NOW, &n_cleared), 0);
        assert_int_equal(n_cleared, 100);
        store_uses(s, &uses);
        assert_int_equal(uses.counted, 6);
        assert_int_equal(uses.stale, 0);
        store_used(s, &u, 1);
        store_uses(s, &uses);
        assert_int_equal(uses.stale, 1);
        store_free(s);
}

/* Without memory to put them by uses are applied at once; the next ones are put by again. */
static void uses_are_applied_where_there_is_no_memory(void **state)
{
        enum { KEYS = 100, USES = 70 };
        struct store *s = make(16 * MIB);
        struct store_use uses[USES];
        uint32_t handles[KEYS];
        struct store_uses sum;

        (void)state;
        for (uint64_t key = 0; key < KEYS; key++)
                put(s, key);
        assert_int_equal(order_of(s, handles, KEYS), KEYS);
        for (unsigned i = 0; i < USES; i++)
                uses[i] = use_at(s, handles[i]);
        fail_after = 1;
        store_used(s, uses, USES);
        assert_int_equal(fail_after, 0);
        assert_false(store_has_told(s));
        assert_int_equal(lru_oldest(s), handles[USES]);
        store_used(s, &(struct store_use){handles[USES], uses[0].version_lo}, 1);
        assert_true(store_has_told(s));
        store_uses(s, &sum);
        assert_int_equal(sum.counted, USES);
        assert_int_equal(sum.stale, 1);
        store_free(s);
}

/* Uses that all want one place in the hash are applied when there are many. */
static void uses_of_one_place_are_applied(void **state)
{
        enum { N = 1000 };
        struct store *s = make(16 * MIB);
        struct store_use u = {.handle = 77}, real;
        struct store_uses uses;
        unsigned n = 0;

        (void)state;
        put(s, 1);
        put(s, 2);
        real = use_at(s, lru_oldest(s));
        store_used(s, &real, 1);
        for (uint32_t place = told_place(&u); n < N; u.version_lo++)
                if (told_place(&u) == place) {
                        store_used(s, &u, 1);
                        n++;
                }
        assert_true(s->n_told < 100);
        store_uses(s, &uses);
        assert_int_equal(uses.counted, 1);
        assert_int_equal(uses.stale, N);
        assert_true(lru_oldest(s) != real.handle);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(uses_are_put_by_and_nobody_can_tell),
                cmocka_unit_test(what_depends_on_uses_has_them),
                cmocka_unit_test(uses_are_applied_where_there_is_no_memory),
                cmocka_unit_test(uses_of_one_place_are_applied),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
