/* SPDX-License-Identifier: MIT */
#ifndef ARENA_STORE_H
#define ARENA_STORE_H

/*
 * A store with one cache, "c", and what the mapped reader looks into it with. Keys are numbers.
 *
 * Included by a test's one source file, after cmocka.h.
 */

#include "proto/arena-read.h"
#include "store/internal.h"

#define MIB (UINT64_C(1) << 20)

static inline struct store *make(uint64_t budget)
{
        struct store_params p = {
                .arena_size = UINT64_C(1) << 30,
                .budget = budget,
                .uid_share = budget,
                .large_threshold = 4 * MIB,
                .extent_min = 30 << 10,
                .max_caches = 8,
                .max_entries = 1 << 24,
                .seed = {7, 8},
        };
        struct store *s = NULL;
        uint32_t id;

        assert_int_equal(store_new(&p, &s), 0);
        assert_int_equal(store_cache_create(s, "c", 1, &id), 0);
        assert_int_equal(id, 1);
        return s;
}

static inline struct arena_map map_of(const struct store *s)
{
        struct arena_map m;

        assert_null(arena_map_init(s->a.mem.base, s->a.mem.size, &m));
        return m;
}

static inline struct arena_query query_of(const uint64_t *k, uint64_t now)
{
        return (struct arena_query){.cache = 1,
                                    .name_hash = arena_name_hash("c", 1),
                                    .key = k,
                                    .n_key = 8,
                                    .now_ms = now};
}

#endif
