/* SPDX-License-Identifier: MIT */
/*
 * Readers: what mapped reads do to the store
 *
 * Two stores live through the same history, one with reads that ask it, one with mapped reads that
 * note their uses in pages: they must drop the same entries and count the same. Then: order across
 * readers, bounded drains, the second look, rings that run over, positions of more than 32 bits,
 * rubbish, a thousand readers, readers that left, holes.
 */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/arena-read.h"
#include "realm/readers.h"
#include "store/internal.h"

#define MIB  (UINT64_C(1) << 20)
#define LOTS UINT_MAX
#define NOW  UINT64_C(1000000)

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static struct store *make_store(uint64_t max_entries)
{
        struct store_params p = {
                .arena_size = 64 * MIB,
                .budget = 16 * MIB,
                .uid_share = 16 * MIB,
                .large_threshold = 1000 * 1024,
                .max_caches = 8,
                .max_entries = 1 << 20,
                .seed = {7, 8},
        };
        struct store_policy policy = {.ttl_ms = STORE_NEVER,
                                      .max_entries = max_entries,
                                      .max_bytes = STORE_UNLIMITED};
        struct store *s = NULL;
        uint32_t id;

        assert_int_equal(store_new(&p, &s), 0);
        assert_int_equal(store_cache_create(s, "c", 1, &id), 0);
        assert_int_equal(id, 1);
        store_cache_set_policy(s, 1, &policy, &policy, false, NOW);
        return s;
}

static void put(struct store *s, uint64_t key, uint64_t now)
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

        assert_int_equal(store_put(s, &p, now, &e, &why), 0);
}

static bool has(struct store *s, uint64_t key)
{
        struct store_entry e;

        return store_get(s, 1, &key, sizeof(key), NOW, false, &e) == 0;
}

/* ---- a client of a realm, in process */

struct mapped {
        struct reader *reader;
        struct client_page *page;
        struct arena_map map;
        struct readers *rs;
};

static void join(struct mapped *m, struct readers *rs)
{
        int page_fd = -1, map_fd = -1;
        void *p;

        *m = (struct mapped){.rs = rs};
        assert_int_equal(readers_join(rs, &m->reader, &page_fd, &map_fd), 0);
        p = mmap(NULL, CLIENT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
        assert_ptr_not_equal(p, MAP_FAILED);
        m->page = p;
        assert_int_equal(m->page->magic, CLIENT_PAGE_MAGIC);
        assert_int_equal(m->page->dirty_bit, m->reader->bit);
        close(page_fd);
        close(map_fd);
}

static void part(struct mapped *m, bool leave)
{
        munmap(m->page, CLIENT_PAGE_SIZE);
        if (leave)
                readers_leave(m->rs, m->reader);
}

static void note(struct mapped *m, unsigned ring, uint32_t handle, uint32_t version)
{
        struct page_ring *r = &m->page->ring[ring];
        struct page_touch *t = &m->page->touches[ring][page_ring_slot(r->head)];

        t->handle = handle;
        t->version_lo = version;
        atomic_store_explicit(&r->head, r->head + 1, memory_order_release);
}

static void say(struct mapped *m)
{
        uint32_t bit = m->reader->bit;

        atomic_fetch_or(&m->rs->map->words[bit / 64], UINT64_C(1) << bit % 64);
}

static void mark(struct mapped *m, unsigned ring, uint64_t now)
{
        if (m->page->ring[ring].last_mark == (uint32_t)now)
                return;
        m->page->ring[ring].last_mark = (uint32_t)now;
        note(m, ring, 0, (uint32_t)now);
}

static void map_store(struct mapped *m, const struct store *s)
{
        off_t size = lseek(store_arena_fd(s), 0, SEEK_END);
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED | MAP_NORESERVE, store_arena_fd(s),
                       0);

        assert_ptr_not_equal(p, MAP_FAILED);
        assert_null(arena_map_init(p, (uint64_t)size, &m->map));
}

static void unmap_store(struct mapped *m)
{
        munmap((void *)(uintptr_t)m->map.base, m->map.size);
}

static bool mapped_get(struct mapped *m, unsigned ring, uint64_t key, uint64_t now)
{
        struct arena_query q = {.cache = 1,
                                .name_hash = arena_name_hash("c", 1),
                                .key = &key,
                                .n_key = sizeof(key),
                                .now_ms = now};
        struct page_counter *c = &m->page->counters[1];
        struct arena_hit hit;
        char buf[64];
        enum arena_result r = arena_read(&m->map, &q, buf, sizeof(buf), &hit);

        c->cache = 1;
        if (r != ARENA_HIT) {
                assert_int_equal(r, ARENA_MISS);
                c->misses++;
                return false;
        }
        c->hits++;
        mark(m, ring, now);
        note(m, ring, hit.handle, (uint32_t)hit.version);
        say(m);
        return true;
}

static uint64_t counted(struct readers *rs)
{
        struct store_uses uses;

        store_uses(rs->store, &uses);
        return uses.counted;
}

static uint64_t stale(struct readers *rs)
{
        struct store_uses uses;

        store_uses(rs->store, &uses);
        return uses.stale;
}

static void drain(struct readers *rs, uint64_t now)
{
        unsigned slots = LOTS;

        assert_false(readers_drain(rs, false, now, &slots));
        readers_turn_end(rs);
}

/* The handle and version of a key, from the arena itself. */
static struct store_use use_of(struct mapped *m, uint64_t key)
{
        struct arena_query q = {.cache = 1,
                                .name_hash = arena_name_hash("c", 1),
                                .key = &key,
                                .n_key = sizeof(key),
                                .now_ms = NOW};
        struct arena_hit hit;
        char buf[64];

        assert_int_equal(arena_read(&m->map, &q, buf, sizeof(buf), &hit), ARENA_HIT);
        return (struct store_use){hit.handle, (uint32_t)hit.version};
}

/* ---- tests */

static void same_counters(struct store *a, struct store *b, struct readers *rs, uint64_t n_reads)
{
        struct store_cache_info ia, ib;

        readers_count(rs);
        assert_int_equal(store_cache_info(a, 1, &ia), 0);
        assert_int_equal(store_cache_info(b, 1, &ib), 0);
        assert_int_equal(ib.counters.mapped_hits + ib.counters.mapped_misses, n_reads);
        assert_int_equal(ib.counters.hits, ib.counters.mapped_hits);
        ib.counters.mapped_hits = ib.counters.mapped_misses = 0;
        assert_memory_equal(&ia.counters, &ib.counters, sizeof(ia.counters));
}

static void mapped_reads_are_like_others(void **state)
{
        enum { KEYS = 400, STEPS = 60000, READERS = 3 };
        struct store *a = make_store(200), *b = make_store(200);
        struct readers *rs = NULL;
        struct mapped m[READERS];
        uint64_t rng = 88172645463325252u, now = NOW, n_reads = 0;

        (void)state;
        assert_int_equal(readers_new(b, &rs), 0);
        for (unsigned i = 0; i < READERS; i++) {
                join(&m[i], rs);
                map_store(&m[i], b);
        }
        for (unsigned step = 0; step < STEPS; step++) {
                uint64_t x = rng_next(&rng), key = (x >> 8) % KEYS * ((x >> 40) % KEYS) % KEYS;
                struct store_entry e;

                if (x % 10 < 7) {
                        now++; /* a tick: order within one is not told */
                        bool hit = store_get(a, 1, &key, sizeof(key), now, true, &e) == 0;
                        assert_int_equal(mapped_get(&m[x % READERS], x >> 60 & 1, key, now), hit);
                        n_reads++;
                        continue;
                }
                drain(rs, now);
                if (x % 10 < 9) {
                        put(a, key, now);
                        put(b, key, now);
                } else {
                        (void)store_delete(a, 1, &key, sizeof(key), now);
                        (void)store_delete(b, 1, &key, sizeof(key), now);
                }
        }
        drain(rs, now);
        for (uint64_t key = 0; key < KEYS; key++)
                assert_int_equal(has(a, key), has(b, key));
        same_counters(a, b, rs, n_reads);
        assert_int_equal(stale(rs), 0);
        assert_int_equal(rs->n_lost, 0);
        while (store_evict_one(a, CAUSE_REALM_BUDGET, now) > 0) { /* the whole order */
                assert_true(store_evict_one(b, CAUSE_REALM_BUDGET, now) > 0);
                for (uint64_t key = 0; key < KEYS; key++)
                        assert_int_equal(has(a, key), has(b, key));
        }
        for (unsigned i = 0; i < READERS; i++) {
                unmap_store(&m[i]);
                part(&m[i], true);
        }
        drain(rs, now);
        assert_int_equal(rs->n_gone, 0);
        readers_free(rs);
        store_free(a);
        store_free(b);
}

/* A world with one reader and @n keys, stored in the order of their numbers. */
struct world {
        struct store *s;
        struct readers *rs;
        struct mapped m;
};

static void begin(struct world *w, uint64_t n)
{
        *w = (struct world){.s = make_store(STORE_UNLIMITED)};
        assert_int_equal(readers_new(w->s, &w->rs), 0);
        join(&w->m, w->rs);
        map_store(&w->m, w->s);
        for (uint64_t key = 0; key < n; key++)
                put(w->s, key, NOW);
}

static void end(struct world *w)
{
        unmap_store(&w->m);
        part(&w->m, false);
        readers_free(w->rs);
        store_free(w->s);
}

static void drains_are_bounded_and_take_the_oldest_first(void **state)
{
        struct world w;
        struct mapped other;
        unsigned slots, n = 0;

        (void)state;
        begin(&w, 100);
        join(&other, w.rs);
        for (uint64_t key = 0; key < 100; key++) { /* by turns, each a millisecond later */
                struct mapped *m = key % 2 ? &w.m : &other;
                struct store_use u = use_of(&w.m, 99 - key);

                mark(m, key / 2 % 2, NOW + key);
                note(m, key / 2 % 2, u.handle, u.version_lo);
                say(m);
        }
        do {
                slots = 10;
                n++;
                assert_true(counted(w.rs) <= n * 10);
        } while (readers_drain(w.rs, false, NOW + 1000, &slots));
        assert_true(n >= 20); /* 100 uses and 100 marks */
        assert_int_equal(counted(w.rs), 100);
        for (uint64_t key = 99; key > 0; key--) {
                assert_true(has(w.s, key));
                assert_true(store_evict_one(w.s, CAUSE_REALM_BUDGET, NOW) > 0);
                assert_false(has(w.s, key));
        }
        part(&other, false);
        end(&w);
}

static void what_was_emptied_is_looked_at_again(void **state)
{
        struct world w;
        struct store_use u;
        unsigned slots = LOTS;

        (void)state;
        begin(&w, 1);
        u = use_of(&w.m, 0);
        note(&w.m, 0, u.handle, u.version_lo);
        say(&w.m);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), 1);
        /* As if the reader had found its bit still set. */
        note(&w.m, 0, u.handle, u.version_lo);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), 2);
        drain(w.rs, NOW); /* once more, in vain */
        note(&w.m, 1, u.handle, u.version_lo);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), 2);
        assert_false(readers_drain(w.rs, true, NOW, &slots));
        assert_int_equal(counted(w.rs), 3);
        assert_int_equal(w.m.page->ring[1].tail, 1);
        end(&w);
}

static void a_ring_that_runs_over_keeps_its_latest(void **state)
{
        struct world w;
        struct store_use u;

        (void)state;
        begin(&w, 2);
        u = use_of(&w.m, 0);
        for (unsigned i = 0; i < PAGE_RING_SLOTS + 100; i++)
                note(&w.m, 0, u.handle, u.version_lo);
        say(&w.m);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), PAGE_RING_SLOTS);
        assert_int_equal(w.rs->n_lost, 100);
        assert_int_equal(w.m.page->ring[0].tail, PAGE_RING_SLOTS + 100);
        end(&w);
}

/* Where 32 bits would begin again, 3800 slots do not: each use is found in its place all the same.
 */
static void positions_beyond_32_bits(void **state)
{
        enum { N = PAGE_RING_SLOTS };
        const uint64_t start = (UINT64_C(1) << 32) - N / 2;
        struct world w;

        (void)state;
        begin(&w, N);
        for (unsigned ring = 0; ring < PAGE_RINGS; ring++) {
                w.m.reader->ring[ring].tail = start + ring;
                w.m.page->ring[ring].head = w.m.page->ring[ring].tail = start + ring;
        }
        for (unsigned i = 0; i < N; i++) { /* both full, over the place, the last key first */
                struct store_use u = use_of(&w.m, N - 1 - i);

                note(&w.m, 0, u.handle, u.version_lo);
                note(&w.m, 1, u.handle, u.version_lo + 1); /* nobody's */
        }
        say(&w.m);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), N);
        assert_int_equal(stale(w.rs), N);
        assert_int_equal(w.rs->n_lost, 0);
        assert_true(w.m.page->ring[0].tail == start + N);
        assert_true(w.m.page->ring[1].tail == start + 1 + N);
        for (uint64_t key = N - 1; key > 0; key--) {
                assert_true(store_evict_one(w.s, CAUSE_REALM_BUDGET, NOW) > 0);
                assert_false(has(w.s, key));
        }
        end(&w);
}

static void heads_that_lie_do_not_drown_what_was_lost(void **state)
{
        struct world w;

        (void)state;
        begin(&w, 1);
        for (unsigned i = 0; i < 10; i++) {
                w.m.page->ring[0].head = i % 2 ? 0 : UINT64_MAX;
                say(&w.m);
                drain(w.rs, NOW);
        }
        assert_in_range(w.rs->n_lost, 1, UINT64_C(10) * UINT32_MAX);
        end(&w);
}

static void rubbish(void **state)
{
        struct world w;
        uint64_t rng = 4711, *words;
        struct store_cache_info info;

        (void)state;
        begin(&w, 50);
        words = (uint64_t *)(void *)w.m.page;
        for (unsigned round = 0; round < 200; round++) {
                unsigned slots = 20000;

                for (unsigned i = 0; i < CLIENT_PAGE_SIZE / 8; i++)
                        words[i] = rng_next(&rng);
                if (round % 2) { /* handles near those that are there */
                        for (unsigned i = 0; i < PAGE_RING_SLOTS; i++)
                                w.m.page->touches[0][i].handle =
                                        (uint32_t)(1 << ARENA_CHUNK_SHIFT | rng_next(&rng) % 200);
                        w.m.page->ring[0].head = w.m.reader->ring[0].tail + PAGE_RING_SLOTS;
                }
                for (unsigned i = 0; i < DIRTY_MAP_SIZE / 8; i++)
                        atomic_store(&w.rs->map->words[i], rng_next(&rng));
                say(&w.m);
                (void)readers_drain(w.rs, round % 3 == 0, NOW + round, &slots);
                readers_count(w.rs);
                readers_turn_end(w.rs);
        }
        for (uint64_t key = 0; key < 50; key++)
                assert_true(has(w.s, key));
        assert_int_equal(store_cache_info(w.s, 1, &info), 0);
        assert_int_equal(info.entries, 50);
        end(&w);
}

static void counts_wrap_around_but_do_not_go_back(void **state)
{
        struct world w;
        struct store_cache_info info;
        struct page_counter *c;

        (void)state;
        begin(&w, 1);
        c = &w.m.page->counters[1];
        c->cache = 1;
        c->hits = INT32_MAX;
        readers_count(w.rs);
        c->hits = UINT32_MAX - 1;
        readers_count(w.rs);
        c->hits = 5; /* seven more */
        c->misses = 3;
        readers_count(w.rs);
        c->hits = 4;
        readers_count(w.rs);
        assert_int_equal(store_cache_info(w.s, 1, &info), 0);
        assert_int_equal(info.counters.mapped_hits, UINT64_C(4294967294) + 7);
        assert_int_equal(info.counters.mapped_misses, 3);
        end(&w);
}

static void a_thousand_readers(void **state)
{
        enum { N = 1000 };
        struct world w;
        static struct mapped many[N];
        struct store_use u;

        (void)state;
        begin(&w, N);
        for (unsigned i = 0; i < N; i++)
                join(&many[i], w.rs);
        assert_int_equal(w.rs->n, N + 1);
        assert_int_equal(w.rs->n_at, 1024);
        for (unsigned i = 0; i < N; i++) {
                u = use_of(&w.m, N - 1 - i);
                mark(&many[i], 0, NOW + i);
                note(&many[i], 0, u.handle, u.version_lo);
                say(&many[i]);
        }
        /* Half of them leave before anybody looks. */
        for (unsigned i = 0; i < N; i += 2)
                part(&many[i], true);
        assert_int_equal(w.rs->n_gone, N / 2);
        drain(w.rs, NOW + N);
        assert_int_equal(counted(w.rs), N);
        assert_int_equal(w.rs->n_gone, 0);
        assert_int_equal(readers_bytes(w.rs), DIRTY_MAP_SIZE + (N / 2 + 1) * CLIENT_PAGE_SIZE);
        for (uint64_t key = N - 1; key > 0; key--) {
                assert_true(store_evict_one(w.s, CAUSE_REALM_BUDGET, NOW) > 0);
                assert_false(has(w.s, key));
        }
        join(&many[0], w.rs); /* into the first place that is free */
        assert_int_equal(many[0].reader->bit, 1);
        part(&many[0], true);
        for (unsigned i = 1; i < N; i += 2)
                part(&many[i], true);
        drain(w.rs, NOW);
        assert_int_equal(w.rs->n, 1);
        assert_int_equal(w.rs->n_gone, 0);
        end(&w);
}

static void who_left_is_not_listened_to(void **state)
{
        struct world w;
        struct mapped m;
        struct store_use u;

        (void)state;
        begin(&w, 1);
        join(&m, w.rs);
        u = use_of(&w.m, 0);
        note(&m, 0, u.handle, u.version_lo);
        readers_leave(w.rs, m.reader);
        for (unsigned ring = 0; ring < PAGE_RINGS; ring++) /* full, so that it notices */
                assert_int_equal(m.page->ring[ring].head - m.page->ring[ring].tail,
                                 PAGE_RING_SLOTS);
        for (unsigned i = 0; i < 10; i++)
                note(&m, 0, u.handle, u.version_lo);
        drain(w.rs, NOW);
        assert_int_equal(counted(w.rs), 1);
        part(&m, false);
        end(&w);
}

static void holes_are_given_back(void **state)
{
        struct world w;
        uint64_t cursor = 0, sum = 0;

        (void)state;
        begin(&w, 2000);
        assert_int_equal(store_holes_filled(w.s), 0);
        for (uint64_t at = 0; at < w.m.map.size; at += 4096)
                sum += w.m.map.base[at];
        assert_true(sum > 0);
        assert_true(store_holes_filled(w.s) > 60 * MIB);
        while (store_punch_holes(w.s, &cursor, 3))
                ;
        assert_int_equal(cursor, 0);
        assert_int_equal(store_holes_filled(w.s), 0);
        for (uint64_t key = 0; key < 2000; key++)
                assert_true(has(w.s, key));
        end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(mapped_reads_are_like_others),
                cmocka_unit_test(drains_are_bounded_and_take_the_oldest_first),
                cmocka_unit_test(what_was_emptied_is_looked_at_again),
                cmocka_unit_test(a_ring_that_runs_over_keeps_its_latest),
                cmocka_unit_test(positions_beyond_32_bits),
                cmocka_unit_test(heads_that_lie_do_not_drown_what_was_lost),
                cmocka_unit_test(rubbish),
                cmocka_unit_test(counts_wrap_around_but_do_not_go_back),
                cmocka_unit_test(a_thousand_readers),
                cmocka_unit_test(who_left_is_not_listened_to),
                cmocka_unit_test(holes_are_given_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
