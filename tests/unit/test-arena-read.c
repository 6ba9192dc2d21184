/* SPDX-License-Identifier: MIT */
/*
 * The mapped reader against the store
 *
 * In lock step: after every change it must say what the store says. In a race: readers run while
 * one writer overwrites, deletes, expires, clears, evicts, moves and grows; every value tells its
 * key, its number and a checksum, so that a torn or foreign one shows. And over mappings that lie.
 * CACHED_LONG: the counts of the long campaign.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#include "arena-store.h"

#define VALUE_MAX (200u << 10)
#define N_KEYS    5000u

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* ------------------------------------------------------------------------------------ self-evident
 */

/* A value that says whose it is: key, number, then bytes that follow from both. */
struct stamp {
        uint64_t key, number, check;
};

static void value_fill(uint8_t *v, size_t n, uint64_t key, uint64_t number)
{
        struct stamp s = {.key = key, .number = number};

        memset(v, (int)(key * 31 + number), n);
        memcpy(v, &s, sizeof(s));
        s.check = XXH3_64bits(v, n);
        memcpy(v, &s, sizeof(s));
}

static bool value_holds(uint8_t *v, size_t n, uint64_t key)
{
        struct stamp s;
        uint64_t check;

        if (n < sizeof(s))
                return false;
        memcpy(&s, v, sizeof(s));
        check = s.check;
        s.check = 0;
        memcpy(v, &s, sizeof(s));
        return s.key == key && XXH3_64bits(v, n) == check;
}

static size_t value_size(uint64_t *rng)
{
        uint64_t r = rng_next(rng);
        size_t n = sizeof(struct stamp) + (r >> 8) % 300;

        if ((r & 63) == 0)
                n += (r >> 20) % 20000;
        if ((r & 1023) == 0)
                n += (r >> 20) % (VALUE_MAX - 30000);
        return n;
}

/* What is stored from now on has other windows, or none. */
static void change_policy(struct store *s, uint64_t r, uint64_t now)
{
        struct store_policy p = {.ttl_ms = STORE_NEVER,
                                 .max_entries = STORE_UNLIMITED,
                                 .max_bytes = STORE_UNLIMITED,
                                 .expire_jitter = r & 1 ? 300 : 0};

        if (r & 2) {
                p.stale_for_ms = (r >> 8) % 900;
                p.stale_if_error_ms = (r >> 24) % 1800;
                p.refresh_ahead = (uint32_t)(r >> 40) % 1000;
        }
        store_cache_set_policy(s, 1, &p, &p, false, now);
}

static void change_refresh(struct store *s, uint64_t k, uint64_t r, uint64_t now)
{
        uint64_t version;

        if (store_refresh_begin(s, 1, &k, 8, now, &version) == 0 && r & 1)
                (void)store_refresh_end(s, 1, &k, 8, version, now + r % 200, r & 2);
}

/* One random change of the store, as daemon threads of requests and upkeep would make them. */
static void change(struct store *s, uint64_t *rng, uint64_t *number, uint64_t now, uint8_t *buf)
{
        uint64_t r = rng_next(rng), k = (r >> 32) % N_KEYS, cleared;
        struct store_refusal why;
        struct store_entry e;

        switch (r % 64) {
        case 0:
                (void)store_delete(s, 1, &k, 8, now);
                break;
        case 1:
                (void)store_touch(s, 1, &k, 8, 1 + (r >> 16) % 2000, now, &e);
                break;
        case 2:
                if ((r >> 6) % 64 == 0)
                        (void)store_clear(s, 1, now, &cleared);
                break;
        case 3:
                (void)store_maintain(s, now, (unsigned)(r >> 8) % 200);
                break;
        case 4:
                if ((r >> 6) % 64 == 0)
                        store_set_budget(s, 2 * MIB + (r >> 16) % (6 * MIB), 8 * MIB);
                break;
        case 5:
        case 6:
                change_refresh(s, k, r >> 6, now);
                break;
        case 7:
                if ((r >> 6) % 8 == 0)
                        change_policy(s, rng_next(rng), now);
                break;
        default: {
                size_t n = value_size(rng);
                struct store_put p = {
                        .cache = 1,
                        .key = &k,
                        .n_key = 8,
                        .value = buf,
                        .n_value = n,
                        .flags = (r >> 8) % 3 ? 0 : (uint32_t)k,
                        .cost_us = (r >> 9) % 5 ? 0 : k,
                        .n_messages = (r >> 11) % 4 ? 0 : n - sizeof(struct stamp),
                        .negative = (r >> 12) % 16 == 0,
                        .vary = (r >> 12) % 16 == 1,
                        .ttl_ms = (r >> 10) % 3 ? STORE_NEVER : 1 + (r >> 16) % 2000,
                };

                value_fill(buf, n, k, ++*number);
                assert_int_equal(store_put(s, &p, now, &e, &why), 0);
        }
        }
}

/* ---------------------------------------------------------------------------------------- lock
 * step */

/* What few entries have. */
static void check_extra(const struct arena_hit *hit, const struct store_entry *e)
{
        uint16_t marks = (e->stale ? ARENA_HIT_STALE : 0) | (e->due ? ARENA_HIT_DUE : 0) |
                         (e->negative ? ARENA_HIT_NEGATIVE : 0) | (e->vary ? ARENA_HIT_VARY : 0) |
                         (e->fresh.fresh ? ARENA_HIT_WINDOW : 0) |
                         (e->n_messages ? ARENA_HIT_MESSAGES : 0);

        assert_int_equal(hit->marks, marks);
        assert_int_equal(arena_hit_messages(hit), e->n_messages);
        if (e->fresh.fresh)
                assert_memory_equal(&hit->fresh, &e->fresh, sizeof(e->fresh));
}

/* @seen: counts what is stale, due, and has messages. */
static void check_same(struct store *s, const struct arena_map *m, uint64_t k, uint64_t now,
                       uint8_t *buf, unsigned seen[3])
{
        struct arena_query q = query_of(&k, now);
        struct arena_hit hit;
        struct store_entry e;
        enum arena_result r;
        uint64_t n;

        if (k % 2 == 0)
                arena_aim(m, &q);
        q.want_messages = k % 3 == 0;
        r = arena_read(m, &q, buf, VALUE_MAX, &hit);
        if (store_get(s, 1, &k, 8, now, false, &e) != 0) {
                assert_int_equal(r, ARENA_MISS);
                return;
        }
        n = e.n_value - (q.want_messages ? 0 : e.n_messages);
        assert_int_equal(r, ARENA_HIT);
        assert_int_equal(hit.n_value, n);
        assert_memory_equal(buf, e.value, n);
        assert_true(hit.version == e.version && hit.flags == e.flags && hit.cost_us == e.cost_us &&
                    hit.uid == e.uid);
        assert_true(hit.deadline_ms == (e.deadline == STORE_NEVER ? ARENA_NEVER : e.deadline));
        check_extra(&hit, &e);
        seen[0] += e.stale;
        seen[1] += e.due;
        seen[2] += e.n_messages != 0;
        assert_int_equal(arena_read(m, &q, buf, n - 1, &hit), ARENA_TOO_LONG);
        assert_int_equal(hit.n_value, n);
        check_extra(&hit, &e);
}

static void test_it_says_what_the_store_says(void **state)
{
        unsigned steps = getenv("CACHED_LONG") ? 2000000 : 60000;
        struct store *s = make(8 * MIB);
        struct arena_map m = map_of(s);
        uint64_t rng = 88172645463325252u, number = 0, now = 1;
        uint8_t *buf = malloc(VALUE_MAX), *out = malloc(VALUE_MAX);
        unsigned seen[3] = {0};

        (void)state;
        assert_true(buf && out);
        assert_int_equal(arena_find_cache(&m, arena_name_hash("c", 1)), 1);
        assert_int_equal(arena_find_cache(&m, arena_name_hash("d", 1)), 0);
        for (unsigned i = 0; i < steps; i++) {
                if (i % 16 == 0)
                        now++;
                change(s, &rng, &number, now, buf);
                /* The reader first: the store's own look-up drops what has expired. */
                check_same(s, &m, rng_next(&rng) % N_KEYS, now, out, seen);
        }
        assert_true(seen[0] > steps / 1000 && seen[1] > steps / 1000 && seen[2] > steps / 100);
        free(buf);
        free(out);
        store_free(s);
}

static void test_encoded_and_large_values(void **state)
{
        struct store *s = make(8 * MIB);
        struct arena_map m = map_of(s);
        uint64_t k = 1;
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = "packed",
                              .n_value = 6,
                              .ttl_ms = STORE_NEVER,
                              .encoding = 1,
                              .raw_size = 100,
                              .flags = 77,
                              .cost_us = UINT64_C(1) << 40};
        struct arena_query q = query_of(&k, 1);
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        char buf[6];

        (void)state;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(arena_read(&m, &q, buf, sizeof(buf), &hit), ARENA_HIT);
        assert_memory_equal(buf, "packed", 6);
        assert_true(hit.encoding == 1 && hit.raw_size == 100 && hit.flags == 77 &&
                    hit.cost_us == UINT64_C(1) << 40);
        assert_int_equal(large_new(2 * MIB, &p.large), 0);
        p.encoding = 0;
        p.value = NULL;
        p.n_value = 2 * MIB;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(arena_read(&m, &q, buf, sizeof(buf), &hit), ARENA_LARGE_VALUE);
        assert_true(hit.large.size == 2 * MIB);
        large_unref(p.large);
        store_free(s);
}

/* Where the key of an entry without an extension lies. */
static uint8_t *key_of(const struct arena_map *m, uint32_t handle)
{
        uint32_t span = handle >> ARENA_CHUNK_SHIFT;

        return (uint8_t *)(uintptr_t)m->spans + ((uint64_t)span << ARENA_SPAN_SHIFT) +
               (uint64_t)(handle & ARENA_CHUNK_MASK) * m->span_chunk[span] + ENTRY_HEADER_SIZE;
}

/* ------------------------------------------------------------------------------------- extents
 */

/* Where the value of an entry with a key of 8 bytes is said to be. */
static uint8_t *extent_of(const struct arena_map *m, uint32_t handle)
{
        return key_of(m, handle) + 8;
}

static void test_extents(void **state)
{
        struct store *s = make(16 * MIB);
        struct arena_map m = map_of(s);
        uint64_t k = 1, n = 4 * MIB - 1;
        uint8_t *value = malloc(n), *buf = malloc(n);
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = value,
                              .n_value = n,
                              .ttl_ms = STORE_NEVER};
        struct arena_query q = query_of(&k, 1);
        struct arena_extent was, end;
        uint8_t *x;
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;

        (void)state;
        assert_true(value && buf);
        value_fill(value, n, k, 1);
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_true(e.extent && e.n_value == n);
        assert_int_equal(arena_read(&m, &q, buf, n, &hit), ARENA_HIT);
        assert_int_equal(hit.n_value, n);
        assert_memory_equal(buf, value, n);
        assert_int_equal(arena_read(&m, &q, buf, n - 1, &hit), ARENA_TOO_LONG);
        assert_int_equal(hit.n_value, n);
        x = extent_of(&m, hit.handle);
        memcpy(&was, x, sizeof(was));
        assert_int_equal(was.size, n);
        /* What lies outside is nonsense, and no hit. */
        const struct arena_extent lies[] = {
                {m.n_extents + 1, 0},     {m.n_extents, 1},          {0, m.n_extents + 1},
                {UINT64_MAX, UINT64_MAX}, {UINT64_MAX - 4095, 8192}, {0, UINT64_C(1) << 32},
        };
        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                memcpy(x, &lies[i], sizeof(was));
                assert_int_equal(arena_read(&m, &q, buf, n, &hit), ARENA_MISS);
        }
        /* At the very end. */
        end = (struct arena_extent){m.n_extents - 5, 5};
        memcpy(x, &end, sizeof(end));
        assert_int_equal(arena_read(&m, &q, buf, n, &hit), ARENA_HIT);
        assert_int_equal(hit.n_value, 5);
        memcpy(x, &was, sizeof(was));
        free(value);
        free(buf);
        store_free(s);
}

struct flicker {
        struct store *s;
        _Atomic bool end;
};

static void *flicker(void *arg)
{
        struct flicker *f = arg;

        while (!atomic_load_explicit(&f->end, memory_order_relaxed))
                for (uint64_t b = 0; b < f->s->a.h->n_buckets; b++)
                        atomic_fetch_add(&f->s->a.buckets[b].seq, 2);
        return NULL;
}

/* A value of megabytes that is overwritten all the time ends in the socket. */
static void test_an_extent_that_is_always_new(void **state)
{
        struct store *s = make(16 * MIB);
        struct arena_map m = map_of(s);
        uint8_t *buf = calloc(1, 4 * MIB - 1);
        struct flicker f = {.s = s};
        uint64_t k = 1;
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = buf,
                              .n_value = 4 * MIB - 1,
                              .ttl_ms = STORE_NEVER};
        struct arena_query q = query_of(&k, 1);
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        enum arena_result r;
        pthread_t thread;

        (void)state;
        assert_non_null(buf);
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(pthread_create(&thread, NULL, flicker, &f), 0);
        do
                r = arena_read(&m, &q, buf, p.n_value, &hit);
        while (r == ARENA_HIT); /* the other thread was not there */
        assert_int_equal(r, ARENA_BUSY);
        atomic_store(&f.end, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(arena_read(&m, &q, buf, p.n_value, &hit), ARENA_HIT);
        free(buf);
        store_free(s);
}

/* Found with its value and nothing behind it written; not found when any byte of the key differs.
 */
static void check_lengths(struct store *s, const struct arena_map *m, uint32_t n_key,
                          size_t n_value)
{
        uint8_t key[64], value[600], out[601];
        struct store_put p = {.cache = 1,
                              .key = key,
                              .n_key = n_key,
                              .value = value,
                              .n_value = n_value,
                              .ttl_ms = STORE_NEVER};
        struct arena_query q = {.cache = 1,
                                .name_hash = arena_name_hash("c", 1),
                                .key = key,
                                .n_key = n_key,
                                .now_ms = 1};
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        uint8_t *stored;

        for (uint32_t i = 0; i < sizeof(key); i++)
                key[i] = (uint8_t)(i * 7 + n_key);
        for (size_t i = 0; i < sizeof(value); i++)
                value[i] = (uint8_t)(i * 3 + n_value + 1);
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        memset(out, 0, sizeof(out));
        assert_int_equal(arena_read(m, &q, out, n_value, &hit), ARENA_HIT);
        assert_int_equal(hit.n_value, n_value);
        assert_memory_equal(out, value, n_value);
        assert_int_equal(out[n_value], 0);
        stored = key_of(m, hit.handle);
        assert_memory_equal(stored, key, n_key);
        for (uint32_t i = 0; i < n_key; i++) {
                stored[i] ^= 0x80;
                assert_int_equal(arena_read(m, &q, out, n_value, &hit), ARENA_MISS);
                stored[i] ^= 0x80;
        }
        assert_int_equal(arena_read(m, &q, out, n_value, &hit), ARENA_HIT);
}

static void test_every_length_of_key_and_value(void **state)
{
        struct store *s = make(8 * MIB);
        struct arena_map m = map_of(s);

        (void)state;
        for (uint32_t n_key = 1; n_key <= 64; n_key++)
                check_lengths(s, &m, n_key, n_key % 8);
        for (size_t n_value = 0; n_value <= 600; n_value++)
                check_lengths(s, &m, 8, n_value);
        store_free(s);
}

/* One that begins, then the store changes, then it goes on: it says what is so at the end. */
static void test_a_look_up_is_overtaken(void **state)
{
        struct store *s = make(8 * MIB);
        struct arena_map m = map_of(s);
        uint64_t k = 1, other, cleared;
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = "1",
                              .n_value = 1,
                              .ttl_ms = STORE_NEVER};
        struct arena_query q = query_of(&k, 1);
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        char out;

        (void)state;
        arena_aim(&m, &q);
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(arena_read(&m, &q, &out, 1, &hit), ARENA_HIT);
        arena_aim(&m, &q);
        p.value = "2";
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(arena_read(&m, &q, &out, 1, &hit), ARENA_HIT);
        assert_true(out == '2' && hit.version == e.version);
        arena_aim(&m, &q);
        assert_int_equal(store_delete(s, 1, &k, 8, 1), 0);
        assert_int_equal(arena_read(&m, &q, &out, 1, &hit), ARENA_MISS);
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        arena_aim(&m, &q);
        assert_int_equal(store_clear(s, 1, 1, &cleared), 0);
        assert_int_equal(arena_read(&m, &q, &out, 1, &hit), ARENA_MISS);
        /* The index grows to many times its size. */
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        arena_aim(&m, &q);
        p.key = &other;
        for (other = 2; other < 5000; other++)
                assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        assert_int_equal(arena_read(&m, &q, &out, 1, &hit), ARENA_HIT);
        store_free(s);
}

/* -------------------------------------------------------------------------------------- the race
 */

struct race {
        struct arena_map map;
        _Atomic uint64_t now;
        uint64_t reads; /* per reader */
        _Atomic uint64_t hits, misses, busy, wrong;
};

/* Old and new moments never come together: each of them follows from one TTL. */
static bool window_holds(const struct arena_hit *hit, uint64_t now)
{
        const struct arena_fresh *f = &hit->fresh;

        if (!(hit->marks & ARENA_HIT_WINDOW))
                return true;
        return now < f->serve && f->fresh <= f->serve && f->serve <= hit->deadline_ms &&
               ((hit->marks & ARENA_HIT_STALE) != 0) == (f->fresh <= now);
}

static void *race_reader(void *arg)
{
        struct race *race = arg;
        uint64_t rng = (uint64_t)(uintptr_t)&rng | 1, hits = 0, misses = 0, busy = 0;
        uint8_t *buf = malloc(VALUE_MAX);

        for (uint64_t i = 0; buf && i < race->reads; i++) {
                uint64_t k = rng_next(&rng) % N_KEYS;
                struct arena_query q = query_of(&k, atomic_load(&race->now));
                struct arena_hit hit;

                q.want_messages = true;
                if (k % 2 == 0)
                        arena_aim(&race->map, &q);
                switch (arena_read(&race->map, &q, buf, VALUE_MAX, &hit)) {
                case ARENA_HIT:
                        hits++;
                        if (!value_holds(buf, hit.n_value, k) || hit.deadline_ms <= q.now_ms ||
                            !window_holds(&hit, q.now_ms))
                                atomic_fetch_add(&race->wrong, 1);
                        break;
                case ARENA_MISS:
                        misses++;
                        break;
                case ARENA_BUSY:
                        busy++;
                        break;
                default:
                        atomic_fetch_add(&race->wrong, 1);
                }
        }
        free(buf);
        atomic_fetch_add(&race->hits, hits);
        atomic_fetch_add(&race->misses, misses);
        atomic_fetch_add(&race->busy, busy);
        return NULL;
}

#define N_READERS 2
static void test_no_torn_and_no_foreign_value(void **state)
{
        struct store *s = make(6 * MIB);
        struct race race = {.map = map_of(s),
                            .reads = getenv("CACHED_LONG") ? UINT64_C(500000000) : 300000};
        uint64_t rng = 1234567, number = 0, changes = 0;
        uint8_t *buf = malloc(VALUE_MAX);
        pthread_t readers[N_READERS];

        (void)state;
        assert_non_null(buf);
        atomic_store(&race.now, 1);
        for (unsigned i = 0; i < N_READERS; i++)
                assert_int_equal(pthread_create(&readers[i], NULL, race_reader, &race), 0);
        while (atomic_load(&race.hits) + atomic_load(&race.misses) + atomic_load(&race.busy) <
               race.reads * N_READERS) {
                if (++changes % 64 == 0)
                        atomic_fetch_add(&race.now, 1);
                change(s, &rng, &number, atomic_load(&race.now), buf);
                assert_int_equal(atomic_load(&race.wrong), 0);
        }
        for (unsigned i = 0; i < N_READERS; i++)
                assert_int_equal(pthread_join(readers[i], NULL), 0);
        assert_int_equal(atomic_load(&race.wrong), 0);
        assert_true(atomic_load(&race.hits) > race.reads / 4);
        print_message("%lu hits, %lu misses, %lu too busy, %lu changes\n", (unsigned long)race.hits,
                      (unsigned long)race.misses, (unsigned long)race.busy, (unsigned long)changes);
        free(buf);
        store_free(s);
}

/* ------------------------------------------------------------------------------------------- lies
 */

static void test_headers_that_lie(void **state)
{
        struct store *s = make(2 * MIB);
        struct arena_header good, *h = (struct arena_header *)(void *)s->a.mem.base;
        struct arena_map m;

        (void)state;
        memcpy(&good, h, sizeof(good));
        assert_non_null(arena_map_init(h, sizeof(*h) - 1, &m));
        assert_non_null(arena_map_init(h, s->a.mem.size - 1, &m));
#define LIE(field, value)                                                                          \
        do {                                                                                       \
                h->field = (value);                                                                \
                assert_non_null(arena_map_init(h, s->a.mem.size, &m));                             \
                memcpy(h, &good, sizeof(good));                                                    \
                assert_null(arena_map_init(h, s->a.mem.size, &m));                                 \
        } while (0)
        LIE(magic, 1);
        LIE(layout_version, ARENA_LAYOUT_VERSION + 1);
        LIE(feature_bits, 1);
        LIE(size, s->a.mem.size + 1);
        LIE(cache_dir_off, UINT64_MAX - 7);
        LIE(cache_dir_max, UINT32_MAX);
        LIE(cache_dir_max, 0);
        LIE(owners_off, s->a.mem.size - 8);
        LIE(span_table_off, good.span_table_off + 1);
        LIE(n_spans, ARENA_SPANS_MAX + 1);
        LIE(n_spans, 0);
        LIE(index_off, good.index_off + 8);
        LIE(index_max_buckets, UINT64_MAX);
        LIE(index_max_buckets, 0);
        LIE(spans_off, good.size - ARENA_SPAN_SIZE);
        LIE(extents_off, good.extents_off + 8);
        LIE(extents_off, UINT64_MAX - 7);
        LIE(extents_size, good.extents_size + 1);
        LIE(extents_size, UINT64_MAX);
#undef LIE
        store_free(s);
}

static void test_states_that_a_killed_writer_leaves(void **state)
{
        struct store *s = make(2 * MIB);
        struct arena_map m = map_of(s);
        uint64_t k = 1, n;
        struct store_put p = {.cache = 1,
                              .key = &k,
                              .n_key = 8,
                              .value = "v",
                              .n_value = 1,
                              .ttl_ms = STORE_NEVER};
        struct arena_query q = query_of(&k, 1);
        struct store_refusal why;
        struct store_entry e;
        struct arena_hit hit;
        char v;

        (void)state;
        assert_int_equal(store_put(s, &p, 1, &e, &why), 0);
        for (uint64_t b = 0; b < 64; b++)
                atomic_fetch_add(&s->a.buckets[b].seq, 1);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_BUSY);
        for (uint64_t b = 0; b < 64; b++)
                atomic_fetch_add(&s->a.buckets[b].seq, 1);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_HIT);
        n = atomic_exchange(&s->a.h->n_buckets, 0);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_BROKEN);
        atomic_store(&s->a.h->n_buckets, s->a.h->index_max_buckets + 1);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_BROKEN);
        atomic_store(&s->a.h->n_buckets, n);
        q.name_hash++;
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_NO_CACHE);
        q.name_hash--;
        q.cache = UINT32_MAX;
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_NO_CACHE);
        q.cache = 1;
        atomic_store(&s->a.h->retired, 1);
        assert_int_equal(arena_read(&m, &q, &v, 1, &hit), ARENA_RETIRED);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_it_says_what_the_store_says),
                cmocka_unit_test(test_encoded_and_large_values),
                cmocka_unit_test(test_extents),
                cmocka_unit_test(test_an_extent_that_is_always_new),
                cmocka_unit_test(test_every_length_of_key_and_value),
                cmocka_unit_test(test_a_look_up_is_overtaken),
                cmocka_unit_test(test_no_torn_and_no_foreign_value),
                cmocka_unit_test(test_headers_that_lie),
                cmocka_unit_test(test_states_that_a_killed_writer_leaves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
