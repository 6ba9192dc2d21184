/* SPDX-License-Identifier: MIT */
/*
 * The mapped reader over an arena that changes into nonsense under its eyes
 *
 * fuzz-arena shows it images that stand still. Here a thread scribbles over everything that readers
 * look at while they look, at random and on purpose: what was checked and is then read again would
 * be another number. An entry in the very last chunk, behind which nothing can be read, with sizes
 * that change all the time, turns such a second look into a crash; so does one whose value lies at
 * the very end of the mapping; buffers for values end likewise. What the reader says is nonsense
 * then; that it comes back is the test. In the end all is put back, and it says again what the
 * store says.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "proto/arena-read.h"
#include "store/internal.h"

#define MIB       (UINT64_C(1) << 20)
#define PAGE      4096u
#define N_KEYS    64u
#define N_READERS 2u
#define BUF_MAX   (2u * PAGE)

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

struct scene {
        struct store *s;
        struct arena_map map; /* of the same file once more, read-only, with nothing behind it */
        uint8_t *reserved;
        size_t n_reserved;
        uint64_t reads; /* per reader */
        uint32_t edge;  /* handle of the last chunk, of 64 bytes */
        uint64_t edge_key, n_buckets;
        bool extents; /* the edge is theirs; else nothing can be read behind the spans */
        uint32_t gen; /* as they were */
        _Atomic unsigned n_ended;
        _Atomic uint64_t results[ARENA_BROKEN + 1];
};

static struct arena_query query_of(const uint64_t *k)
{
        return (struct arena_query){.cache = 1,
                                    .name_hash = arena_name_hash("c", 1),
                                    .key = k,
                                    .n_key = 8,
                                    .now_ms = 1};
}

static void scene_make(struct scene *t)
{
        struct store_params p = {
                .arena_size = 16 * MIB,
                .budget = 8 * MIB,
                .uid_share = 8 * MIB,
                .large_threshold = 1000 * 1024,
                .max_caches = 8,
                .max_entries = 1 << 20,
                .seed = {7, 8},
        };
        uint32_t id;

        assert_int_equal(store_new(&p, &t->s), 0);
        assert_int_equal(store_cache_create(t->s, "c", 1, &id), 0);
        for (uint64_t k = 0; k < N_KEYS; k++) {
                static const char zeros[BUF_MAX];
                struct store_put put = {.cache = 1,
                                        .key = &k,
                                        .n_key = 8,
                                        .value = zeros,
                                        .n_value = k * 20,
                                        .flags = k % 2,
                                        .ttl_ms = STORE_NEVER};
                struct store_refusal why;
                struct store_entry e;

                assert_int_equal(store_put(t->s, &put, 1, &e, &why), 0);
        }
        t->n_reserved = t->s->a.mem.size + PAGE;
        t->reserved = mmap(NULL, t->n_reserved, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_ptr_not_equal(t->reserved, MAP_FAILED);
        assert_ptr_equal(mmap(t->reserved, t->s->a.mem.size, PROT_READ, MAP_SHARED | MAP_FIXED,
                              store_arena_fd(t->s), 0),
                         t->reserved);
        assert_null(arena_map_init(t->reserved, t->s->a.mem.size, &t->map));
        if (!t->extents) {
                t->map.n_extents = 0;
                assert_int_equal(mprotect((void *)(uintptr_t)t->map.extents,
                                          t->s->a.h->extents_size, PROT_NONE),
                                 0);
        }
        t->edge = (t->map.n_spans - 1) << ARENA_CHUNK_SHIFT | ARENA_CHUNK_MASK;
        t->edge_key = 3;
        t->n_buckets = t->s->a.h->n_buckets;
        t->gen = t->s->a.cache_dir[1].generation;
}

static void scene_done(struct scene *t)
{
        assert_int_equal(munmap(t->reserved, t->n_reserved), 0);
        store_free(t->s);
}

/* ---- scribbling */

static void scribble(void *at, uint64_t v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                __atomic_store_n((uint8_t *)at + i, (uint8_t)(v >> 8 * i), __ATOMIC_RELAXED);
}

/* Bytes, one by one: whoever reads meanwhile finds any mixture. */
static void put_back(void *at, const uint8_t *was, size_t n)
{
        for (size_t i = 0; i < n; i++)
                __atomic_store_n((uint8_t *)at + i, was[i], __ATOMIC_RELAXED);
}

struct region {
        uint8_t *at, *was;
        size_t n;
};

static void regions_init(const struct scene *t, struct region *r, unsigned n)
{
        const struct arena *a = &t->s->a;
        struct region all[] = {
                {.at = (uint8_t *)&a->h->n_buckets, .n = 8},
                {.at = (uint8_t *)a->cache_dir, .n = 2 * sizeof(*a->cache_dir)},
                {.at = (uint8_t *)a->owner_uids, .n = 64},
                {.at = (uint8_t *)a->span_chunk, .n = 8 * sizeof(uint32_t)},
                {.at = (uint8_t *)a->buckets, .n = a->h->n_buckets * sizeof(*a->buckets)},
                {.at = a->spans_base + ARENA_SPAN_SIZE, .n = 2 * PAGE},
                {.at = a->spans_base + 2 * (size_t)ARENA_SPAN_SIZE, .n = 2 * PAGE},
        };

        assert_int_equal(n, sizeof(all) / sizeof(all[0]));
        memcpy(r, all, sizeof(all));
        for (unsigned i = 0; i < n; i++) {
                r[i].was = malloc(r[i].n);
                assert_non_null(r[i].was);
                memcpy(r[i].was, r[i].at, r[i].n);
        }
}

/* One key leads to the last chunk, whose size, and what is said to be in it, change all the time.
 */
static void scribble_edge(struct scene *t, uint64_t r)
{
        static const uint32_t chunk_sizes[] = {64, 72, 128, 1 << 19, 1 << 20, UINT32_MAX, 0, 8};
        static const uint32_t value_sizes[] = {36, 37, 100, 5000, 1 << 21, ENTRY_SIZE_MAX, 0, 16};
        struct arena *a = &t->s->a;
        struct arena_entry e = {.gen = t->gen,
                                .hi = 0xff000,
                                .deadline_lo = UINT32_MAX,
                                .sizes = value_sizes[r >> 4 & 7] << 10 | 7 << 4};
        uint8_t *at = (uint8_t *)t->map.spans - t->map.base + a->mem.base +
                      (uint64_t)t->map.n_spans * ARENA_SPAN_SIZE - 64;
        struct index_key k;
        struct arena_bucket *b;

        if (r >> 8 & 1)
                e.sizes |= ENTRY_EXT << (r >> 9 & 1);
        else if (t->extents && r >> 9 & 1)
                e.sizes = sizeof(struct arena_extent) << 10 | 7 << 4 | ENTRY_EXTENT;
        scribble(&a->span_chunk[t->map.n_spans - 1], chunk_sizes[r & 7], 4);
        put_back(at, (const uint8_t *)&e, sizeof(e));
        if (e.sizes & ENTRY_EXT) {
                struct arena_ext x = {.n_bytes = (uint16_t)(r >> 10 & 1 ? 8 : r >> 16),
                                      .fields = (uint16_t)(r >> 32 & 7)};

                put_back(at + sizeof(e), (const uint8_t *)&x, sizeof(x));
                scribble(at + sizeof(e) + 8, t->edge_key, 8);
        } else {
                scribble(at + sizeof(e), t->edge_key, 8);
        }
        if (e.sizes & ENTRY_EXTENT) {
                scribble(at + sizeof(e) + 8, a->h->extents_size - (r >> 16 & 0x1fff), 8);
                scribble(at + sizeof(e) + 16, r >> 32 & 0x1fff, 8);
                if (r >> 10 & 1)
                        scribble(at + sizeof(e) + 8 + (r >> 11 & 8), r << 3, 8);
        }
        index_key_init(t->s, &k, e.gen, &t->edge_key, 8);
        b = &a->buckets[arena_bucket_of(k.h1, t->n_buckets)];
        atomic_store_explicit(&b->tag[0], k.tag, memory_order_relaxed);
        atomic_store_explicit(&b->handle[0], t->edge, memory_order_relaxed);
}

static void scribble_on(struct scene *t)
{
        struct region r[7];
        uint64_t rng = 1234567;

        regions_init(t, r, 7);
        for (unsigned i = 0; atomic_load(&t->n_ended) < N_READERS; i++) {
                uint64_t x = rng_next(&rng);
                const struct region *at = &r[x % 7];
                size_t off = (x >> 8) % at->n, n = 1 + (x >> 40) % 8;

                scribble(at->at + off, rng_next(&rng) >> (x >> 48 & 63),
                         off + n > at->n ? at->n - off : n);
                if (i % 32 == 31)
                        for (unsigned j = 0; j < 7; j++)
                                put_back(r[j].at, r[j].was, r[j].n);
                if (i % 32 < 16)
                        for (unsigned j = 0; j < 8; j++)
                                scribble_edge(t, rng_next(&rng));
        }
        for (unsigned j = 0; j < 7; j++) {
                put_back(r[j].at, r[j].was, r[j].n);
                free(r[j].was);
        }
}

/* ---- reading */

/* But not only: the scribbling thread may not have been there all the time. */
static bool was_confused(const struct scene *t)
{
        return t->results[ARENA_HIT] > 0 && t->results[ARENA_TOO_LONG] > 0 &&
               t->results[ARENA_MISS] > 0 && t->results[ARENA_BROKEN] > 0;
}

static void *read_on(void *data)
{
        struct scene *t = data;
        uint64_t rng = (uint64_t)(uintptr_t)&rng | 1;
        /* A buffer that ends where its page does. */
        uint8_t *pages = mmap(NULL, BUF_MAX + PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (pages == MAP_FAILED || mprotect(pages + BUF_MAX, PAGE, PROT_NONE) != 0)
                abort();
        for (uint64_t i = 0; i < t->reads || (i < 100 * t->reads && !was_confused(t)); i++) {
                uint64_t x = rng_next(&rng), keys[4];
                size_t n = (x >> 8) % BUF_MAX;
                struct arena_query q[4];
                struct arena_hit hit;
                enum arena_result r;

                for (unsigned j = 0; j < 4; j++) {
                        keys[j] = j == 0 && x & 1 ? t->edge_key : (x >> (32 + j)) % N_KEYS;
                        q[j] = query_of(&keys[j]);
                }
                if (i % 16 == 0) {
                        arena_ahead(&t->map, q, 4);
                        (void)arena_find_cache(&t->map, q[0].name_hash);
                } else if (i % 2 == 0) {
                        arena_aim(&t->map, &q[0]);
                }
                r = arena_read(&t->map, &q[0], pages + BUF_MAX - n, n, &hit);
                if (r == ARENA_HIT && hit.n_value > n)
                        abort();
                atomic_fetch_add_explicit(&t->results[r], 1, memory_order_relaxed);
        }
        if (munmap(pages, BUF_MAX + PAGE) != 0)
                abort();
        atomic_fetch_add(&t->n_ended, 1);
        return NULL;
}

static void comes_back(bool extents)
{
        struct scene t = {.reads = getenv("CACHED_LONG") ? 15000000 : 100000, .extents = extents};
        pthread_t readers[N_READERS];

        scene_make(&t);
        for (unsigned i = 0; i < N_READERS; i++)
                assert_int_equal(pthread_create(&readers[i], NULL, read_on, &t), 0);
        scribble_on(&t);
        for (unsigned i = 0; i < N_READERS; i++)
                pthread_join(readers[i], NULL);
        for (unsigned i = 0; i <= ARENA_BROKEN; i++)
                print_message("%lu ", (unsigned long)t.results[i]);
        print_message("by result\n");
        assert_true(was_confused(&t));
        for (uint64_t k = 0; k < N_KEYS; k++) {
                struct arena_query q = query_of(&k);
                struct arena_hit hit;
                char buf[BUF_MAX];

                assert_int_equal(arena_read(&t.map, &q, buf, sizeof(buf), &hit), ARENA_HIT);
                assert_int_equal(hit.n_value, k * 20);
        }
        scene_done(&t);
}

static void test_it_comes_back(void **state)
{
        (void)state;
        comes_back(false);
}

static void test_it_comes_back_from_extents(void **state)
{
        (void)state;
        comes_back(true);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_it_comes_back),
                cmocka_unit_test(test_it_comes_back_from_extents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
