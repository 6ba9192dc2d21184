/* SPDX-License-Identifier: MIT */
/*
 * What the mapped reader makes of an entry's extension: stale windows and recorded messages, at
 * their borders. That it says what the store says is test-arena-read's.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena-store.h"

/* What lies behind an entry's header: its key, if it has no extension. */
static uint8_t *key_of(const struct arena_map *m, uint32_t handle)
{
        uint32_t span = handle >> ARENA_CHUNK_SHIFT;

        return (uint8_t *)(uintptr_t)m->spans + ((uint64_t)span << ARENA_SPAN_SHIFT) +
               (uint64_t)(handle & ARENA_CHUNK_MASK) * m->span_chunk[span] + ENTRY_HEADER_SIZE;
}

/* An entry in its three times, at each border. */
static void test_windows(void **state)
{
        struct store *s = make(8 * MIB);
        struct arena_map m = map_of(s);
        const struct store_policy policy = {.ttl_ms = 100,
                                            .max_entries = STORE_UNLIMITED,
                                            .max_bytes = STORE_UNLIMITED,
                                            .stale_for_ms = 50,
                                            .stale_if_error_ms = 200,
                                            .refresh_ahead = 800};
        static const struct {
                uint64_t now;
                enum arena_result is;
                uint16_t marks;
        } times[] = {
                {1000, ARENA_HIT, 0},
                {1079, ARENA_HIT, 0},
                {1080, ARENA_HIT, ARENA_HIT_DUE},
                {1099, ARENA_HIT, ARENA_HIT_DUE},
                {1100, ARENA_HIT, ARENA_HIT_DUE | ARENA_HIT_STALE},
                {1149, ARENA_HIT, ARENA_HIT_DUE | ARENA_HIT_STALE},
                {1150, ARENA_MISS, 0},
                {1299, ARENA_MISS, 0},
        };
        uint64_t k = 1, version;
        struct store_put p = {.cache = 1, .key = &k, .n_key = 8, .value = "v", .n_value = 1};
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        char v;

        (void)state;
        store_cache_set_policy(s, 1, &policy, &policy, false, 1000);
        assert_int_equal(store_put(s, &p, 1000, &e, &why), 0);
        assert_true(e.deadline == 1300 && !e.stale && !e.due);
        for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
                struct arena_query q = query_of(&k, times[i].now);

                assert_int_equal(arena_read(&m, &q, &v, 1, &hit), times[i].is);
                assert_int_equal(store_get(s, 1, &k, 8, times[i].now, true, &e),
                                 times[i].is == ARENA_HIT ? 0 : STORE_E_MISS);
                if (times[i].is == ARENA_HIT)
                        assert_int_equal(hit.marks, times[i].marks | ARENA_HIT_WINDOW);
        }
        /* Computing it anew fails: it is served to the end. */
        assert_int_equal(store_peek_kept(s, 1, &k, 8, 1200, &e), 0);
        assert_int_equal(store_refresh_begin(s, 1, &k, 8, 1200, &version), 0);
        assert_int_equal(version, e.version);
        assert_int_equal(store_refresh_end(s, 1, &k, 8, version, 1250, true), 0);
        struct arena_query q = query_of(&k, 1249);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_HIT);
        assert_int_equal(hit.marks, ARENA_HIT_WINDOW | ARENA_HIT_STALE);
        q.now_ms = 1299;
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_HIT);
        assert_int_equal(hit.marks, ARENA_HIT_WINDOW | ARENA_HIT_STALE | ARENA_HIT_DUE);
        q.now_ms = 1300;
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_MISS);
        store_free(s);
}

/* Messages of a value in a block, in an extent and in a file; more of them than there are bytes. */
static void test_messages(void **state)
{
        struct store *s = make(16 * MIB);
        struct arena_map m = map_of(s);
        uint8_t *value = calloc(1, 100 << 10), *buf = malloc(100 << 10);
        static const uint64_t sizes[] = {500, 100 << 10};
        uint64_t k = 1, lie = UINT64_MAX;
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = value,
                              .n_messages = 100,
                              .ttl_ms = STORE_NEVER};
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;

        (void)state;
        assert_true(value && buf);
        for (size_t i = 0; i < 2; i++) {
                struct arena_query q = query_of(&k, 1);

                p.n_value = sizes[i];
                memset(value + sizes[i] - 100, 7, 100);
                assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
                assert_true(e.n_messages == 100 && e.raw_size == sizes[i] - 100);
                assert_int_equal(arena_read(&m, &q, buf, sizes[i] - 100, &hit), ARENA_HIT);
                assert_true(hit.n_value == sizes[i] - 100 && arena_hit_messages(&hit) == 100);
                q.want_messages = true;
                assert_int_equal(arena_read(&m, &q, buf, sizes[i] - 1, &hit), ARENA_TOO_LONG);
                assert_int_equal(arena_read(&m, &q, buf, sizes[i], &hit), ARENA_HIT);
                assert_int_equal(hit.n_value, sizes[i]);
                assert_memory_equal(buf, value, sizes[i]);
                memcpy(key_of(&m, hit.handle) + sizeof(struct arena_ext), &lie, sizeof(lie));
                assert_int_equal(arena_read(&m, &q, buf, sizes[i], &hit), ARENA_MISS);
        }
        assert_int_equal(large_new(2 * MIB, &p.large), 0);
        p.n_value = 2 * MIB;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        struct arena_query q = query_of(&k, 1);
        assert_int_equal(arena_read(&m, &q, NULL, 0, &hit), ARENA_LARGE_VALUE);
        assert_true(hit.large.size == 2 * MIB && arena_hit_messages(&hit) == 100);
        lie = 2 * MIB + 1;
        memcpy(key_of(&m, hit.handle) + sizeof(struct arena_ext), &lie, sizeof(lie));
        assert_int_equal(arena_read(&m, &q, NULL, 0, &hit), ARENA_MISS);
        large_unref(p.large);
        free(value);
        free(buf);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_windows),
                cmocka_unit_test(test_messages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
