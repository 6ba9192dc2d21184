/* SPDX-License-Identifier: MIT */
/*
 * Extents on their own, beside a model that is an array of values
 *
 * Random takings, fillings in steps, completions, ends, holders, giving back, and taking over: no
 * value ever changes while it is needed, no two lie in one place, the sums are those of the model,
 * and the kernel agrees about what is resident. Then what is chosen, running out, what is not
 * adopted, and holes that readers fill.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "arena/arena.h"
#include "arena/holes.h"

#define PAGE     4096u
#define MIB      (UINT64_C(1) << 20)
#define N_VALUES 12u

static void make(struct arena *a)
{
        struct arena_params p = {.size = 1, .max_caches = 4, .seed = {1, 2}};

        assert_int_equal(arena_init(a, &p), 0);
}

static uint64_t page_up(uint64_t n)
{
        return (n + PAGE - 1) / PAGE * PAGE;
}

/* ---- the model */

struct value {
        bool used, full, gone;
        uint32_t place, holders;
        uint64_t size, filled;
        uint8_t fill;
};

struct world {
        struct arena a;
        struct value v[N_VALUES];
        uint64_t rng;
};

static uint64_t rnd(struct world *w, uint64_t n)
{
        w->rng ^= w->rng << 13;
        w->rng ^= w->rng >> 7;
        w->rng ^= w->rng << 17;
        return (w->rng * UINT64_C(0x2545f4914f6cdd1d) >> 11) % n;
}

static uint64_t size_of(struct world *w)
{
        return 1 + rnd(w, MIB / 4 << rnd(w, 5));
}

static void do_take(struct world *w, struct value *v)
{
        uint64_t size = size_of(w);
        uint32_t place;

        assert_int_equal(extents_take(&w->a, size, &place), 0);
        *v = (struct value){.used = true,
                            .place = place,
                            .size = size,
                            .fill = (uint8_t)rnd(w, 256)};
        assert_false(extents_is_free(&w->a, place));
}

static void do_fill(struct world *w, struct value *v)
{
        uint64_t n = 1 + rnd(w, v->size - v->filled);

        if (rnd(w, 2))
                n = v->size - v->filled;
        assert_int_equal(extents_commit(&w->a, v->place, v->filled + n), 0);
        memset(extents_at(&w->a, v->place) + v->filled, v->fill, n);
        v->filled += n;
        if (v->filled < v->size)
                return;
        extents_complete(&w->a, v->place);
        v->full = true;
}

static void do_release(struct world *w, struct value *v)
{
        assert_int_equal(extents_release(&w->a, v->place), v->holders - 1);
        if (--v->holders == 0 && v->gone)
                *v = (struct value){0};
}

static void do_end(struct world *w, struct value *v)
{
        extents_free(&w->a, v->place);
        assert_true(extents_is_free(&w->a, v->place));
        v->gone = true;
        if (v->holders == 0)
                *v = (struct value){0};
}

/* What is arriving or gone is nobody's, and the rest goes on. */
static void do_adopt(struct world *w)
{
        assert_int_equal(extents_init(&w->a), 0);
        for (unsigned i = 0; i < N_VALUES; i++) {
                struct arena_extent x = extents_name(&w->a, w->v[i].place, w->v[i].size);

                if (!w->v[i].full || w->v[i].gone) {
                        w->v[i] = (struct value){0};
                        continue;
                }
                w->v[i].holders = 0;
                assert_int_equal(extents_adopt(&w->a, &x), 0);
                assert_int_equal(extents_adopt(&w->a, &x), -EINVAL);
        }
        extents_adopt_end(&w->a);
        assert_int_equal(extents_spare(&w->a), 0);
}

static void step(struct world *w)
{
        struct value *v = &w->v[rnd(w, N_VALUES)];
        uint64_t dice = rnd(w, 100), before = extents_spare(&w->a), n;

        if (dice == 0) {
                do_adopt(w);
        } else if (dice < 10) {
                n = extents_give_back(&w->a);
                assert_true(n <= MIB && (n > 0) == (before > 0));
                assert_int_equal(extents_spare(&w->a), before - n);
        } else if (!v->used) {
                do_take(w, v);
        } else if (v->gone || (v->holders > 0 && dice < 40)) {
                do_release(w, v);
        } else if (!v->full && dice < 90) {
                do_fill(w, v);
        } else if (v->full && dice < 60) {
                assert_int_equal(extents_hold(&w->a, v->place), ++v->holders);
        } else {
                do_end(w, v);
        }
}

static void check(struct world *w)
{
        uint64_t needed = 0, filling = 0;

        for (unsigned i = 0; i < N_VALUES; i++) {
                const struct value *v = &w->v[i];
                const uint8_t *at;

                if (!v->used)
                        continue;
                at = extents_at(&w->a, v->place);
                needed += page_up(v->filled);
                filling += v->full ? 0 : page_up(v->filled);
                assert_int_equal(extents_is_held(&w->a, v->place), v->holders > 0);
                for (unsigned j = 0; j < i; j++)
                        assert_true(!w->v[j].used || w->v[j].place != v->place);
                for (uint64_t n = 0; n < v->filled; n += 509)
                        assert_int_equal(at[n], v->fill);
                assert_true(v->filled == 0 || at[v->filled - 1] == v->fill);
        }
        assert_int_equal(w->a.extents.needed, needed);
        assert_int_equal(w->a.extents.filling, filling);
        assert_true(w->a.extents.committed >= needed);
        assert_int_equal(holes_filled(&w->a), 0);
}

static void test_a_model(void **state)
{
        struct world w = {.rng = 20240917};

        (void)state;
        make(&w.a);
        for (unsigned i = 0; i < 6000; i++) {
                step(&w);
                if (i % 16 == 0)
                        check(&w);
        }
        arena_done(&w.a);
}

/* ---- what is chosen */

static uint32_t put(struct arena *a, uint64_t size)
{
        uint32_t place;

        assert_int_equal(extents_take(a, size, &place), 0);
        assert_int_equal(extents_commit(a, place, size), 0);
        extents_complete(a, place);
        return place;
}

static void test_warm_memory_is_used_again(void **state)
{
        uint32_t small, middle, long_one;
        struct arena a;

        (void)state;
        make(&a);
        small = put(&a, MIB + MIB / 4);
        middle = put(&a, 2 * MIB);
        long_one = put(&a, 4 * MIB);
        extents_free(&a, long_one);
        extents_free(&a, small);
        extents_free(&a, middle);
        assert_int_equal(a.extents.committed, 7 * MIB + MIB / 4);
        assert_int_equal(extents_spare(&a), 7 * MIB + MIB / 4);
        assert_int_equal(put(&a, 2 * MIB - 5), middle);
        assert_int_equal(put(&a, MIB + 7), small);
        /* Much is better than nothing. */
        assert_int_equal(put(&a, MIB + 1), long_one);
        assert_int_equal(a.extents.committed, 7 * MIB + MIB / 4);
        assert_true(extents_spare(&a) > 3 * MIB - 8192);
        /* Almost enough is better than much too much. */
        extents_free(&a, small);
        extents_free(&a, long_one);
        assert_int_equal(put(&a, MIB + MIB / 4 + 70000), small);
        assert_true(a.extents.committed <= 7 * MIB + MIB / 4 + 128 * 1024);
        arena_done(&a);
}

static void test_the_places_run_out_and_come_back(void **state)
{
        uint32_t place, last = 0, n = 0, n_long = 0;
        struct arena a;

        (void)state;
        make(&a);
        while (extents_take(&a, 1, &place) == 0) {
                n++;
                last = place;
        }
        assert_int_equal(n, a.extents.n_places);
        assert_int_equal(extents_take(&a, 1, &place), -ENOSPC);
        assert_false(extents_has_room(&a, 1));
        /* The longest were the last to be taken, for want of others. */
        extents_free(&a, last);
        assert_int_equal(extents_take(&a, EXTENT_SIZE_MAX, &place), 0);
        assert_int_equal(place, last);
        assert_int_equal(a.extents.committed, 0);
        for (uint32_t i = 0; i < n; i++)
                extents_free(&a, i);
        while (extents_take(&a, EXTENT_SIZE_MAX, &place) == 0)
                n_long++;
        assert_true(n_long > 0 && n_long < n);
        assert_true(extents_has_room(&a, MIB) && !extents_has_room(&a, MIB + 1));
        arena_done(&a);
}

/* No two places overlap, each is where it is named, and together they are the part. */
static void test_where_places_are(void **state)
{
        uint64_t end = 0;
        struct arena a;

        (void)state;
        make(&a);
        for (uint32_t i = 0; i < a.extents.n_places; i++) {
                struct arena_extent x = extents_name(&a, i, 1), y = x;

                assert_int_equal(x.offset, end);
                assert_int_equal(extents_place(&a, &x), i);
                assert_ptr_equal(extents_at(&a, i), a.mem.base + a.h->extents_off + end);
                y.offset += PAGE;
                assert_int_equal(extents_place(&a, &y), EXTENT_NONE);
                end += x.offset < a.extents.kinds[1].offset   ? 4 * MIB
                       : x.offset < a.extents.kinds[2].offset ? MIB
                                                              : MIB / 2;
        }
        assert_int_equal(end, a.h->extents_size);
        assert_int_equal(a.h->extents_off + end, a.h->size);
        arena_done(&a);
}

static void test_only_places_are_adopted(void **state)
{
        struct arena a;

        (void)state;
        make(&a);
        const struct arena_extent wrong[] = {
                {PAGE, 1},
                {a.h->extents_size, 1},
                {UINT64_MAX & ~(uint64_t)(EXTENT_SIZE_MAX - 1), 1},
                {a.extents.kinds[1].offset, MIB + 1},
                {a.extents.kinds[2].offset, MIB / 2 + 1},
                {a.extents.kinds[2].offset + MIB / 4, 1},
                {0, 0},
                {0, EXTENT_SIZE_MAX + 1},
                {0, UINT64_MAX},
        };

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                assert_int_equal(extents_adopt(&a, &wrong[i]), -EINVAL);
        extents_adopt_end(&a);
        assert_int_equal(a.extents.committed, 0);
        arena_done(&a);
}

static void test_holes_that_readers_fill(void **state)
{
        uint64_t cursor = 0, from;
        uint8_t sum = 0;
        struct arena a;
        uint32_t kept;

        (void)state;
        make(&a);
        extents_free(&a, put(&a, MIB));
        kept = put(&a, 2 * MIB);
        (void)put(&a, MIB);
        (void)put(&a, 300000);
        memset(extents_at(&a, kept), 7, 2 * MIB);
        (void)put(&a, MIB + 1);
        assert_int_equal(holes_filled(&a), 0);
        from = a.h->extents_off;
        for (uint64_t at = from; at < a.h->size; at += PAGE)
                sum |= *(volatile uint8_t *)(a.mem.base + at);
        assert_int_equal(sum, 7);
        assert_true(holes_filled(&a) > 10 * MIB);
        while (holes_punch(&a, &cursor, 3))
                ;
        assert_int_equal(holes_filled(&a), 0);
        for (uint64_t i = 0; i < 2 * MIB; i += PAGE)
                assert_int_equal(extents_at(&a, kept)[i], 7);
        arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_warm_memory_is_used_again),
                cmocka_unit_test(test_the_places_run_out_and_come_back),
                cmocka_unit_test(test_where_places_are),
                cmocka_unit_test(test_only_places_are_adopted),
                cmocka_unit_test(test_holes_that_readers_fill),
                cmocka_unit_test(test_a_model),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
