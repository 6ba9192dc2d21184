/* SPDX-License-Identifier: MIT */
/*
 * Given: names there and back, and what is let in under them
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "realm/given.h"

/* Every number comes back from its name, and no two have the same. */
static void test_names_come_back(void **state)
{
        char name[GIVEN_NAME_MAX + 1];
        uint32_t number;

        (void)state;
        for (uint32_t n = 0; given_fits(n); n += n < 100000 ? 1 : 37) {
                for (unsigned k = GIVEN_ARENA; k < N_GIVEN_KINDS; k++) {
                        given_name(name, (enum given_kind)k, n);
                        assert_in_range(strlen(name), 2, GIVEN_NAME_MAX);
                        assert_int_equal(given_parse(name, &number), k);
                        assert_int_equal(number, n);
                }
        }
        given_name(name, GIVEN_LARGE, 36 * 36 * 36 * 36 - 1);
        assert_string_equal(name, "Lzzzz");
        assert_false(given_fits(36 * 36 * 36 * 36));
}

static void test_other_names_are_none(void **state)
{
        static const char *const none[] = {"",    "a",        "L",      "A0",     "aA",
                                           "l0",  "a-1",      "a 1",    "a00",    "01",
                                           "a01", "t0x0\x80", "a10000", "sock",   "lock",
                                           "b1",  "\xff",     "stored", "unknown"};
        uint32_t number = 4711;

        (void)state;
        for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
                if (given_parse(none[i], &number) != GIVEN_NONE)
                        fail_msg("'%s' is a name", none[i]);
        assert_int_equal(number, 4711);
}

/* A memory file as the daemon makes them, with the header of an arena. */
static int arena_file(uint64_t instance, uint32_t version)
{
        struct arena_header h = {.magic = ARENA_MAGIC,
                                 .layout_version = version,
                                 .instance = instance};
        int fd = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(fchmod(fd, 0600), 0);
        assert_int_equal(write(fd, &h, sizeof(h)), sizeof(h));
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
        return fd;
}

static bool is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

static void test_one_instance_is_let_in(void **state)
{
        struct given g = {0};
        int first = arena_file(7, ARENA_LAYOUT_VERSION), fds[4];

        (void)state;
        fds[0] = arena_file(8, ARENA_LAYOUT_VERSION);
        fds[1] = arena_file(7, ARENA_LAYOUT_VERSION + 1);
        fds[2] = arena_file(0, ARENA_LAYOUT_VERSION);
        fds[3] = arena_file(7, ARENA_LAYOUT_VERSION);
        assert_null(given_add(&g, "a0", first));
        assert_int_equal(g.instance, 7);
        assert_non_null(given_add(&g, "a1", fds[0])); /* of another instance */
        assert_non_null(given_add(&g, "a2", fds[1])); /* of another version */
        assert_non_null(given_add(&g, "a3", fds[2])); /* of none */
        assert_non_null(given_add(&g, "a0", fds[3])); /* a second one of that name */
        assert_int_equal(g.n, 1);
        assert_int_equal(g.n_refused, 4);
        for (size_t i = 0; i < 4; i++)
                assert_false(is_open(fds[i]));
        assert_int_equal(given_take(&g, GIVEN_TABLE, 0), -1);
        assert_int_equal(given_take(&g, GIVEN_ARENA, 0), first);
        given_done(&g);
        assert_true(is_open(first)); /* it is the caller's */
        close(first);
}

static void test_only_our_files_are_let_in(void **state)
{
        struct given g = {0};
        int unsealed = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING), pair[2], many[200];

        (void)state;
        assert_int_equal(pipe(pair), 0);
        assert_non_null(given_add(&g, "L0", pair[0]));
        assert_non_null(given_add(&g, "L1", pair[1]));
        assert_non_null(given_add(&g, "L2", unsealed));
        assert_non_null(given_add(&g, "L3", -1));
        assert_non_null(given_add(&g, "x", dup(STDIN_FILENO)));
        assert_int_equal(g.n, 0);
        for (uint32_t i = 0; i < 200; i++) {
                char name[GIVEN_NAME_MAX + 1];

                many[i] = arena_file(1, 1);
                given_name(name, GIVEN_LARGE, i + 10);
                assert_null(given_add(&g, name, many[i]));
        }
        given_done(&g);
        for (size_t i = 0; i < 200; i++)
                assert_false(is_open(many[i]));
}

/* Nothing is asked of it. */
static void test_a_resource_may_be_anything(void **state)
{
        struct given g = {0};
        int pair[2];
        uint32_t number = 0;
        size_t at = 0;

        (void)state;
        assert_int_equal(pipe(pair), 0);
        assert_null(given_add(&g, "R5", pair[0]));
        assert_null(given_add(&g, "R0", pair[1]));
        assert_non_null(given_add(&g, "R0", dup(pair[0]))); /* a second one of that name */
        assert_non_null(given_add(&g, "R1", -1));
        assert_int_equal(g.n_refused, 2);
        assert_int_equal(given_next(&g, GIVEN_RESOURCE, &at, &number), pair[0]);
        assert_int_equal(number, 5);
        assert_int_equal(given_next(&g, GIVEN_RESOURCE, &at, &number), pair[1]);
        assert_int_equal(number, 0);
        assert_int_equal(given_next(&g, GIVEN_RESOURCE, &at, &number), -1);
        given_done(&g);
        assert_true(is_open(pair[0]) && is_open(pair[1]));
        close(pair[0]);
        close(pair[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_resource_may_be_anything),
                cmocka_unit_test(test_names_come_back),
                cmocka_unit_test(test_other_names_are_none),
                cmocka_unit_test(test_one_instance_is_let_in),
                cmocka_unit_test(test_only_our_files_are_let_in),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
