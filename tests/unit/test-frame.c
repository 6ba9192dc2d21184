/* SPDX-License-Identifier: MIT */
/*
 * The frame header: every length survives a round trip, in the byte order that PROTOCOL.md fixes; a
 * header outside the limits is named as such, at the exact bound.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proto/frame.h"

static void test_a_bytes(void **state)
{
        static const uint8_t want[FRAME_HEADER_SIZE] = {0x78, 0x56, 0x34, 0x12, 0xef, 0xcd,
                                                        0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
        uint8_t got[FRAME_HEADER_SIZE];
        struct frame_header h;

        (void)state;
        frame_header_write(got, 0x12345678, UINT64_C(0x0123456789abcdef));
        assert_memory_equal(got, want, sizeof(want));
        h = frame_header_read(want);
        assert_int_equal(h.n_message, 0x12345678);
        assert_true(h.n_body == UINT64_C(0x0123456789abcdef));
}

static void test_b_round_trip(void **state)
{
        (void)state;
        for (int i = 0; i < 32; i++) {
                for (int j = 0; j < 64; j++) {
                        uint8_t b[FRAME_HEADER_SIZE];
                        struct frame_header h;

                        frame_header_write(b, UINT32_C(1) << i, UINT64_C(1) << j);
                        h = frame_header_read(b);
                        assert_true(h.n_message == UINT32_C(1) << i && h.n_body == UINT64_C(1)
                                                                                           << j);
                }
        }
}

static const char *check(uint32_t n_message, uint64_t n_body)
{
        return frame_header_check((struct frame_header){n_message, n_body}, 1000, 5000);
}

static void test_c_limits(void **state)
{
        (void)state;
        assert_null(check(1, 0));
        assert_null(check(1000, 5000));
        assert_non_null(strstr(check(0, 0), "without a message"));
        assert_non_null(strstr(check(1001, 0), "max_message_bytes"));
        assert_non_null(strstr(check(UINT32_MAX, 0), "max_message_bytes"));
        assert_non_null(strstr(check(1000, 5001), "max_value_bytes"));
        assert_non_null(strstr(check(1, UINT64_MAX), "max_value_bytes"));
        assert_non_null(strstr(check(1, UINT64_C(1) << 63), "max_value_bytes"));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_bytes),
                cmocka_unit_test(test_b_round_trip),
                cmocka_unit_test(test_c_limits),
        };

        return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
