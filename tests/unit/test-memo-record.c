/* SPDX-License-Identifier: MIT */

/*
 * Records of `cachectl memo`: what goes in comes out in order, the limit holds to the byte, running
 * out of memory drops the record and nothing else, and what is damaged is refused. (fuzz-memo goes
 * further with the last one.)
 */

#include "memo-record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static long fail_after; /* the allocation that fails, counted down; 0: none does */

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_realloc(void *p, size_t n)
{
        return fail_after > 0 && --fail_after == 0 ? NULL : __real_realloc(p, n);
}

static void add(struct record *r, unsigned stream, const char *text)
{
        record_add(r, stream, text, strlen(text));
}

static void check_next(struct record_view *v, unsigned stream, const char *text)
{
        const void *bytes;
        unsigned got;
        size_t n;

        assert_true(record_next(v, &got, &bytes, &n));
        assert_int_equal(got, stream);
        assert_int_equal(n, strlen(text));
        assert_memory_equal(bytes, text, n);
}

static void test_runs_come_out_in_order(void **state)
{
        struct record_view v;
        struct record r;
        const void *bytes;
        unsigned stream;
        size_t n;

        record_init(&r, 1000);
        add(&r, RECORD_STDERR, "first ");
        add(&r, RECORD_STDERR, "of all");
        add(&r, RECORD_STDOUT, "");
        add(&r, RECORD_STDOUT, "out");
        add(&r, RECORD_STDERR, "err");
        assert_int_equal(record_finish(&r, 3, &bytes, &n), RECORD_OK);
        /* Three runs of a byte each: what one stream wrote in a row is one. */
        assert_int_equal(n, RECORD_HEADER_SIZE + 18 + 3);
        assert_int_equal(record_open(bytes, n, &v), RECORD_OK);
        assert_int_equal(v.status, 3);
        assert_int_equal(v.n_output, 18);
        check_next(&v, RECORD_STDERR, "first of all");
        check_next(&v, RECORD_STDOUT, "out");
        check_next(&v, RECORD_STDERR, "err");
        assert_false(record_next(&v, &stream, &bytes, &n));
        record_done(&r);
}

static void test_nothing_printed_is_a_record(void **state)
{
        struct record_view v;
        struct record r;
        const void *bytes;
        unsigned stream;
        size_t n;

        record_init(&r, RECORD_HEADER_SIZE);
        assert_int_equal(record_finish(&r, 255, &bytes, &n), RECORD_OK);
        assert_int_equal(n, RECORD_HEADER_SIZE);
        assert_int_equal(record_open(bytes, n, &v), RECORD_OK);
        assert_int_equal(v.status, 255);
        assert_false(record_next(&v, &stream, &bytes, &n));
        record_done(&r);
}

/* The layout of MEMO.md, byte by byte: records are read by later versions. */
static void test_layout(void **state)
{
        static const char expected[] = "memo\1\5\0\0"
                                       "\3\0\0\0\0\0\0\0"
                                       "abc"
                                       "\4\3";
        struct record r;
        const void *bytes;
        size_t n;

        record_init(&r, 1000);
        add(&r, RECORD_STDOUT, "ab");
        add(&r, RECORD_STDERR, "c");
        assert_int_equal(record_finish(&r, 5, &bytes, &n), RECORD_OK);
        assert_int_equal(n, sizeof(expected) - 1);
        assert_memory_equal(bytes, expected, n);
        record_done(&r);
}

static void test_limit(void **state)
{
        static const uint8_t zeros[5000];
        struct record r;
        const void *bytes;
        size_t n;

        /* Memory is given back when the limit is passed, and later output does not bring it back.
         */
        record_init(&r, 4096);
        record_add(&r, RECORD_STDOUT, zeros, 4000);
        record_add(&r, RECORD_STDERR, zeros, 100);
        assert_int_equal(r.output.capacity, 0);
        record_add(&r, RECORD_STDOUT, zeros, 1);
        assert_int_equal(r.output.capacity, 0);
        assert_int_equal(record_finish(&r, 0, &bytes, &n), RECORD_E_TOO_LARGE);
        record_done(&r);

        /* It counts all of the record: here 16 of header, 399 of output and 200 runs of a byte. */
        for (size_t limit = 0; limit < 600; limit++) {
                int result;

                record_init(&r, limit);
                for (unsigned i = 0; i < 200; i++)
                        record_add(&r, i % 2, zeros, 1 + i % 3);
                result = record_finish(&r, 0, &bytes, &n);
                assert_int_equal(result, RECORD_E_TOO_LARGE);
                record_done(&r);
        }
        record_init(&r, 700);
        for (unsigned i = 0; i < 200; i++)
                record_add(&r, i % 2, zeros, 1 + i % 3);
        assert_int_equal(record_finish(&r, 0, &bytes, &n), RECORD_OK);
        assert_int_equal(n, 16 + 399 + 200);
        record_done(&r);
        record_init(&r, SIZE_MAX);
        record_add(&r, RECORD_STDOUT, zeros, sizeof(zeros));
        assert_int_equal(record_finish(&r, 0, &bytes, &n), RECORD_OK);
        record_done(&r);
}

static void test_out_of_memory(void **state)
{
        static const uint8_t zeros[10000];
        int result = -ENOMEM;
        long i;

        for (i = 1; result != RECORD_OK; i++) {
                struct record r;
                const void *bytes;
                size_t n;

                fail_after = i;
                record_init(&r, 1 << 20);
                for (unsigned k = 0; k < 30; k++)
                        record_add(&r, k % 2, zeros, sizeof(zeros));
                result = record_finish(&r, 0, &bytes, &n);
                fail_after = 0;
                assert_true(result == RECORD_OK || result == -ENOMEM);
                if (result != RECORD_OK)
                        assert_int_equal(r.output.capacity, 0);
                record_done(&r);
        }
        assert_true(i > 3);
}

static void test_damage(void **state)
{
        struct record_view v;
        uint8_t copy[64] = {0};
        struct record r;
        const void *bytes;
        size_t n;

        record_init(&r, 1000);
        add(&r, RECORD_STDOUT, "ab");
        add(&r, RECORD_STDERR, "cd");
        assert_int_equal(record_finish(&r, 0, &bytes, &n), RECORD_OK);
        for (size_t cut = 0; cut < n; cut++)
                assert_int_equal(record_open(bytes, cut, &v), RECORD_E_DAMAGED);
        memcpy(copy, bytes, n);
        copy[n] = 2;
        assert_int_equal(record_open(copy, n + 1, &v), RECORD_E_DAMAGED);
        for (size_t i = 0; i < RECORD_HEADER_SIZE; i++) {
                memcpy(copy, bytes, n);
                copy[i] ^= 0x40;
                /* Any exit status is one. */
                assert_int_equal(record_open(copy, n, &v), i == 5 ? RECORD_OK : RECORD_E_DAMAGED);
        }
        record_done(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_runs_come_out_in_order),
                cmocka_unit_test(test_nothing_printed_is_a_record),
                cmocka_unit_test(test_layout),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_out_of_memory),
                cmocka_unit_test(test_damage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
