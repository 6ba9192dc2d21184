/* SPDX-License-Identifier: MIT */
/* Caches that are removed: see torn-caches.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store-world.h"
#include "torn-caches.h"

#define OTHER (MODEL_CACHES + 1)

static void put(struct world *w, uint32_t cache, uint32_t key, uint64_t size, uint64_t ttl)
{
        struct store_put p = {.cache = cache,
                              .key = &key,
                              .n_key = sizeof(key),
                              .value = w->buf,
                              .n_value = size,
                              .ttl_ms = ttl,
                              .uid = 1000 + key % 3};
        struct store_refusal why;
        struct store_entry e;

        assert_int_equal(store_put(w->s, &p, w->now, &e, &why), 0);
}

void torn_make_cache(struct world *w)
{
        uint32_t id;

        assert_int_equal(store_cache_create(w->s, "another", 7, &id), 0);
        assert_int_equal(id, OTHER);
        for (uint32_t i = 0; i < 100; i++)
                put(w, id, i, i % 3 ? 50 : 6000, i % 2 ? STORE_NEVER : 5000);
}

void torn_remove_cache(struct world *w)
{
        assert_int_equal(store_cache_remove(w->s, OTHER, w->now), 0);
}

void torn_make_and_remove(struct world *w)
{
        torn_make_cache(w);
        torn_remove_cache(w);
}

void torn_remove_and_reclaim(struct world *w)
{
        torn_make_and_remove(w);
        while (store_maintain(w->s, w->now, 100))
                ;
}

void torn_make_again(struct world *w)
{
        uint32_t id;

        assert_int_equal(store_cache_create(w->s, "yet another", 11, &id), 0);
        assert_int_equal(id, OTHER);
        put(w, id, 5, 60, STORE_NEVER);
}
