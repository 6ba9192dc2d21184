/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: client pages
 *
 * Whatever a page holds, and whoever leaves with it: all entries stay, every one of them can be
 * evicted once, and what was taken over in one drain is within its bound. The input is the heads of
 * both rings, three counters, and what the rings are filled with, over and over.
 */

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "realm/readers.h"

#define KEYS     20u
#define SLOTS    5000u
#define COUNTERS (3 * sizeof(struct page_counter))

static struct store *make_store(void)
{
        struct store_params p = {.arena_size = UINT64_C(1) << 20,
                                 .budget = UINT64_C(1) << 20,
                                 .uid_share = UINT64_C(1) << 20,
                                 .large_threshold = 1000 * 1024,
                                 .max_caches = 4,
                                 .max_entries = 1000};
        struct store *s = NULL;
        uint32_t cache = 0;

        assert(store_new(&p, &s) == 0);
        assert(store_cache_create(s, "c", 1, &cache) == 0);
        for (uint8_t key = 0; key < KEYS; key++) {
                struct store_put put = {.cache = cache,
                                        .key = &key,
                                        .n_key = 1,
                                        .value = "v",
                                        .n_value = 1,
                                        .cost_us = key,
                                        .ttl_ms = STORE_NEVER};
                struct store_entry e;
                struct store_refusal why;

                assert(store_put(s, &put, 1, &e, &why) == 0);
        }
        return s;
}

static void fill(struct client_page *page, const uint8_t *data, size_t n)
{
        uint8_t *touches = (uint8_t *)page->touches;

        memcpy(&page->ring[0].head, data, 8);
        memcpy(&page->ring[1].head, data + 8, 8);
        data += 16, n -= 16;
        memcpy(page->counters, data, n < COUNTERS ? n : COUNTERS);
        for (size_t i = 0; i < sizeof(page->touches); i++)
                touches[i] = data[i % n];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct store *s = NULL;
        struct readers *rs = NULL;
        struct reader *r = NULL;
        int fds[2];
        unsigned n_evicted = 0;

        if (n < 17)
                return 0;
        s = make_store();
        assert(readers_new(s, &rs) == 0);
        assert(readers_join(rs, &r, &fds[0], &fds[1]) == 0);
        close(fds[0]);
        close(fds[1]);
        for (unsigned i = 0; i < 3; i++) {
                unsigned slots = SLOTS;

                fill(r->page, data, n);
                (void)readers_drain(rs, true, 1000 + i, &slots);
                assert(slots <= SLOTS);
                readers_count(rs);
                readers_turn_end(rs);
        }
        readers_leave(rs, r);
        for (unsigned slots = SLOTS; readers_drain(rs, false, 2000, &slots);)
                slots = SLOTS;
        assert(rs->n == 0 && rs->n_gone == 0);
        assert(store_entries(s) == KEYS);
        while (store_evict_one(s, CAUSE_REALM_BUDGET, 2000) > 0)
                n_evicted++;
        assert(n_evicted == KEYS && store_entries(s) == 0);
        readers_free(rs);
        store_free(s);
        return 0;
}
