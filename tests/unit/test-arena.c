/* SPDX-License-Identifier: MIT */
/*
 * The block allocator on its own, and the small heap with stored positions
 *
 * Chunk sizes, exhaustion and recovery from it, memory that goes back to the kernel (asked of the
 * kernel, not of our own counters), draining of sparse spans, seals and mode of the files.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "arena/alloc.h"
#include "base/idheap.h"

static void make(struct arena *a)
{
        struct arena_params p = {.size = 1, .max_caches = 4, .seed = {1, 2}};

        assert_int_equal(arena_init(a, &p), 0);
}

static uint64_t resident(const struct arena *a)
{
        struct stat st;

        assert_int_equal(fstat(a->mem.fd, &st), 0);
        return (uint64_t)st.st_blocks * 512;
}

/* A live block has a stamp, which the store gives it. */
static uint32_t take(struct arena *a, uint32_t n)
{
        uint32_t h;

        if (alloc_block(a, n, &h) < 0)
                return ARENA_NONE;
        rec_set_stamp(arena_rec(a, h), 1);
        return h;
}

static void test_chunks_fit_and_waste_little(void **state)
{
        uint32_t last = 0;

        (void)state;
        for (uint32_t n = 1; n <= BLOCK_MAX; n += n < 5000 ? 1 : 777) {
                uint32_t size = alloc_chunk_size(n);

                assert_true(size >= n && size >= last && size % 8 == 0);
                assert_true(n < ARENA_CHUNK_MIN || size - n <= (n < 512 ? 7 : n / 16));
                last = size;
        }
        assert_int_equal(alloc_chunk_size(BLOCK_MAX), ARENA_SPAN_SIZE);
}

static void test_files_cannot_be_resized_or_opened_by_others(void **state)
{
        struct arena a;
        struct stat st;

        (void)state;
        make(&a);
        for (unsigned i = 0; i < 2; i++) {
                int fd = i ? a.table.fd : a.mem.fd;

                assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
                                 F_SEAL_SHRINK | F_SEAL_GROW);
                assert_int_equal(fstat(fd, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0600);
                assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        }
        arena_done(&a);
}

static void test_exhaustion_is_an_error_and_passes(void **state)
{
        struct arena a;
        uint32_t *handles = calloc(1 << 16, sizeof(*handles)), n = 0;

        (void)state;
        make(&a);
        while (n < 1 << 16 && (handles[n] = take(&a, 60000)) != ARENA_NONE)
                memset(arena_block(&a, handles[n]), (int)n, 60000), n++;
        assert_true(n > 900 && n < 1 << 16);
        for (uint32_t i = 0; i < n; i++) {
                const uint8_t *p = (const uint8_t *)arena_block(&a, handles[i]);

                assert_true(p[0] == (uint8_t)i && p[59999] == (uint8_t)i);
        }
        alloc_free(&a, handles[n / 2]);
        assert_int_equal(take(&a, 60000), handles[n / 2]);
        assert_int_equal(take(&a, 100), ARENA_NONE); /* another class finds no span either */
        for (uint32_t i = 0; i < n; i++)
                alloc_free(&a, handles[i]);
        assert_int_equal(a.t->used_bytes, 0);
        assert_true(take(&a, 100) != ARENA_NONE);
        free(handles);
        arena_done(&a);
}

static void test_unused_spans_go_back_to_the_kernel(void **state)
{
        struct arena a;
        static uint32_t handles[5000];
        uint64_t before, full;

        (void)state;
        make(&a);
        before = resident(&a);
        for (unsigned i = 0; i < 5000; i++)
                handles[i] = take(&a, 4000);
        full = resident(&a);
        assert_true(full >= before + UINT64_C(5000) * 4000);
        for (unsigned i = 0; i < 5000; i++)
                alloc_free(&a, handles[i]);
        assert_true(alloc_waste(&a) >= UINT64_C(5000) * 4000);
        while (alloc_release_unused(&a))
                ;
        assert_int_equal(alloc_waste(&a), 0);
        assert_true(resident(&a) < before + 65536);
        arena_done(&a);
}

#define LITTLE (UINT64_C(640) << 10)
static void test_sparse_spans_are_drained(void **state)
{
        struct arena a;
        static uint32_t handles[20000];
        uint32_t from;
        unsigned moved = 0;

        (void)state;
        make(&a);
        for (unsigned i = 0; i < 20000; i++)
                handles[i] = take(&a, 1000);
        for (unsigned i = 0; i < 20000; i++)
                if (i % 5)
                        alloc_free(&a, handles[i]);
        while (alloc_waste(&a) > LITTLE && (from = alloc_drain_next(&a, false)) != ARENA_NONE) {
                uint32_t to = take(&a, 1000);

                assert_true(to != ARENA_NONE && handle_span(to) != handle_span(from));
                alloc_free(&a, from);
                while (alloc_release_unused(&a))
                        ;
                moved++;
        }
        assert_true(moved > 0 && moved < 4000);
        assert_true(alloc_waste(&a) <= LITTLE);
        arena_done(&a);
}

/* ---- the heap */

#define N_IDS 500
static uint32_t *pos_of(void *ctx, uint32_t id)
{
        return (uint32_t *)ctx + id;
}

static void test_what_is_resident_is_mapped_again_and_holes_are_filled(void **state)
{
        const uint64_t n = 64 * 4096;
        struct memfile m;
        struct stat st;

        (void)state;
        assert_int_equal(memfile_init(&m, "test", 2 * n), 0);
        assert_int_equal(memfile_commit(&m, 0, n / 4), 0);
        m.base[5] = 1;
        assert_int_equal(memfile_recommit(&m, 0, n), 0);
        assert_int_equal(fstat(m.fd, &st), 0);
        assert_int_equal(st.st_blocks * 512, n);
        assert_int_equal(m.base[5], 1);
        memset(m.base, 7, n);
        assert_int_equal(fstat(m.fd, &st), 0);
        assert_int_equal(st.st_blocks * 512, n);
        assert_int_equal(memfile_recommit(&m, n, n + 1), -ENOMEM);
        memfile_done(&m);
}

static void test_idheap_keeps_order(void **state)
{
        struct idheap_item items[N_IDS];
        uint32_t pos[N_IDS], n = 0, rng = 1;
        uint64_t keys[N_IDS] = {0}, least;
        struct idheap h = {items, &n, pos_of, pos};

        (void)state;
        memset(pos, 0xff, sizeof(pos));
        for (unsigned step = 0; step < 100000; step++) {
                uint32_t id;

                rng = rng * 1664525 + 1013904223;
                id = (rng >> 8) % N_IDS;
                if (rng >> 29 == 0) {
                        idheap_drop(&h, id);
                } else {
                        keys[id] = (rng >> 4) % 1000;
                        idheap_put(&h, id, keys[id]);
                }
                if (step % 100)
                        continue;
                least = UINT64_MAX;
                for (uint32_t i = 0; i < N_IDS; i++)
                        if (pos[i] != IDHEAP_NONE) {
                                assert_int_equal(items[pos[i]].id, i);
                                assert_int_equal(items[pos[i]].key, keys[i]);
                                least = keys[i] < least ? keys[i] : least;
                        }
                if (n > 0)
                        assert_int_equal(items[0].key, least);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_chunks_fit_and_waste_little),
                cmocka_unit_test(test_files_cannot_be_resized_or_opened_by_others),
                cmocka_unit_test(test_exhaustion_is_an_error_and_passes),
                cmocka_unit_test(test_unused_spans_go_back_to_the_kernel),
                cmocka_unit_test(test_sparse_spans_are_drained),
                cmocka_unit_test(test_what_is_resident_is_mapped_again_and_holes_are_filled),
                cmocka_unit_test(test_idheap_keeps_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
