/* SPDX-License-Identifier: MIT */
/*
 * The checker of histories (tests/outside/order-check.c) can fail: histories that are wrong in each
 * way that a cache could be, each beside one that differs in a single time or answer and is right.
 * Then histories that a simulation makes right, of which none is refused; and the same with one
 * answer changed to a value that the key had at another time, of which nearly all are.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../outside/order-check.h"

#define SET(from, to, k, v)                                                                        \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_SET, .key = k, .value = v           \
        }
#define READ(from, to, k, v)                                                                       \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_READ, .key = k, .value = v          \
        }
#define DELETE(from, to, k)                                                                        \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_DELETE, .key = k                    \
        }
#define ABSENT(from, to, k)                                                                        \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_ABSENT, .key = k                    \
        }
#define CLEAR(from, to, k)                                                                         \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_CLEAR, .key = k                     \
        }
#define LOSS(from, to)                                                                             \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_LOSS                                \
        }
#define PERHAPS(from, to, k, v)                                                                    \
        {                                                                                          \
                .invoked = from, .returned = to, .kind = ORDER_SET, .key = k, .value = v,          \
                .maybe = true                                                                      \
        }

#define CHECK(verdict, ...)                                                                        \
        do {                                                                                       \
                const struct order_op ops[] = {__VA_ARGS__};                                       \
                assert_int_equal(order_check(ops, sizeof(ops) / sizeof(ops[0])), verdict);         \
        } while (0)
#define FINE(...)  CHECK(ORDER_FINE, __VA_ARGS__)
#define WRONG(...) CHECK(ORDER_WRONG, __VA_ARGS__)

static void test_a_one_after_the_other(void **state)
{
        (void)state;
        assert_int_equal(order_check(NULL, 0), ORDER_FINE);
        FINE(SET(1, 2, 0, 7), READ(3, 4, 0, 7));
        WRONG(SET(1, 2, 0, 7), READ(3, 4, 0, 8));
        /* Lost. */
        WRONG(SET(1, 2, 0, 7), READ(3, 4, 0, 0));
        /* Before it was there. */
        WRONG(READ(1, 2, 0, 7), SET(3, 4, 0, 7));
        /* The older one. */
        FINE(SET(1, 2, 0, 7), SET(3, 4, 0, 8), READ(5, 6, 0, 8));
        WRONG(SET(1, 2, 0, 7), SET(3, 4, 0, 8), READ(5, 6, 0, 7));
        /* Another key's. */
        WRONG(SET(1, 2, 0, 7), READ(3, 4, 1, 7));
        FINE(SET(1, 2, 0, 7), READ(3, 4, 1, 0));
}

static void test_b_removed(void **state)
{
        (void)state;
        FINE(SET(1, 2, 0, 7), DELETE(3, 4, 0), READ(5, 6, 0, 0));
        WRONG(SET(1, 2, 0, 7), DELETE(3, 4, 0), READ(5, 6, 0, 7));
        WRONG(SET(1, 2, 0, 7), CLEAR(3, 4, 0), READ(5, 6, 0, 7));
        FINE(SET(1, 2, 0, 7), CLEAR(3, 4, 1), READ(5, 6, 0, 7));
        /* What a delete was told. */
        WRONG(DELETE(1, 2, 0));
        FINE(ABSENT(1, 2, 0));
        WRONG(SET(1, 2, 0, 7), ABSENT(3, 4, 0));
        WRONG(SET(1, 2, 0, 7), DELETE(3, 4, 0), DELETE(5, 6, 0));
        FINE(SET(1, 2, 0, 7), DELETE(3, 9, 0), ABSENT(4, 8, 0));
        WRONG(SET(1, 2, 0, 7), DELETE(3, 9, 0), DELETE(4, 8, 0));
}

static void test_c_at_the_same_time(void **state)
{
        (void)state;
        /* While a set runs, old and new are both right, but not new and then old. */
        FINE(SET(1, 2, 0, 7), SET(3, 9, 0, 8), READ(4, 5, 0, 7), READ(6, 7, 0, 8));
        FINE(SET(1, 2, 0, 7), SET(3, 9, 0, 8), READ(4, 7, 0, 8), READ(6, 8, 0, 7));
        WRONG(SET(1, 2, 0, 7), SET(3, 9, 0, 8), READ(4, 5, 0, 8), READ(6, 7, 0, 7));
        /* Two readers see two sets in different orders. */
        WRONG(SET(1, 9, 0, 7), SET(1, 9, 0, 8), READ(2, 3, 0, 7), READ(4, 5, 0, 8),
              READ(6, 7, 0, 7));
        FINE(SET(1, 9, 0, 7), SET(1, 9, 0, 8), READ(2, 3, 0, 7), READ(4, 5, 0, 8));
        WRONG(SET(1, 9, 0, 7), SET(1, 9, 0, 8), READ(2, 3, 0, 7), READ(4, 5, 0, 8),
              READ(10, 11, 0, 7));
        /* Gone while a delete runs, and there again. */
        WRONG(SET(1, 2, 0, 7), DELETE(3, 9, 0), READ(4, 5, 0, 0), READ(6, 7, 0, 7));
        WRONG(SET(1, 2, 0, 7), CLEAR(3, 9, 0), READ(4, 5, 0, 0), READ(6, 7, 0, 7));
        /* Between two sets of one process there was no time without a value. */
        WRONG(SET(1, 2, 0, 7), SET(3, 9, 0, 8), READ(4, 5, 0, 0));
        /* Each touches the next: an instant at which all of it is right is not needed. */
        FINE(SET(1, 5, 0, 7), READ(4, 9, 0, 7), SET(8, 12, 0, 8), READ(11, 12, 0, 8));
}

static void test_d_perhaps(void **state)
{
        (void)state;
        FINE(PERHAPS(1, 2, 0, 7), READ(3, 4, 0, 7));
        FINE(PERHAPS(1, 2, 0, 7), READ(3, 4, 0, 0));
        WRONG(PERHAPS(1, 2, 0, 7), READ(3, 4, 0, 0), READ(5, 6, 0, 7));
        FINE(PERHAPS(1, ORDER_LATER, 0, 7), READ(3, 4, 0, 0), READ(5, 6, 0, 7));
        WRONG(PERHAPS(1, ORDER_LATER, 0, 7), READ(3, 4, 0, 7), READ(5, 6, 0, 0));
        /* Not before it was asked for. */
        WRONG(READ(1, 2, 0, 7), PERHAPS(3, ORDER_LATER, 0, 7));
        /* It must not have been too late for what it would have to come before. */
        WRONG(SET(1, 2, 0, 7), PERHAPS(3, 4, 0, 8), SET(5, 6, 0, 9), READ(7, 8, 0, 8));
        FINE(SET(1, 2, 0, 7), PERHAPS(3, 6, 0, 8), SET(5, 6, 0, 9), READ(7, 8, 0, 8));
        /* Reads that are taken early must not make it impossible. */
        FINE(PERHAPS(1, 4, 0, 7), READ(2, 9, 0, 0), READ(5, 6, 1, 0), READ(7, 8, 0, 7));
        /* A delete of which nobody knows. */
        FINE({.invoked = 1, .returned = 2, .kind = ORDER_DELETE, .maybe = true}, READ(3, 4, 0, 0));
        FINE(SET(1, 2, 0, 7),
             {.invoked = 3, .returned = ORDER_LATER, .kind = ORDER_DELETE, .maybe = true},
             READ(4, 5, 0, 7), READ(6, 7, 0, 0));
}

static void test_e_loss(void **state)
{
        (void)state;
        FINE(SET(1, 2, 0, 7), SET(1, 2, 1, 8), LOSS(3, 9), READ(4, 5, 0, 7), READ(6, 7, 1, 0));
        /* One key of the old, after another was seen to be gone. */
        WRONG(SET(1, 2, 0, 7), SET(1, 2, 1, 8), LOSS(3, 9), READ(4, 5, 0, 0), READ(6, 7, 1, 8));
        /* After the new daemon has answered anything. */
        WRONG(SET(1, 2, 0, 7), LOSS(3, 9), ABSENT(4, 5, 0), READ(6, 7, 0, 7));
        WRONG(SET(1, 2, 0, 7), LOSS(3, 9), SET(4, 5, 0, 8), READ(6, 7, 0, 7));
        WRONG(SET(1, 2, 0, 7), LOSS(3, 9), READ(10, 11, 0, 7));
        FINE(SET(1, 2, 0, 7), LOSS(3, 9), SET(4, 5, 0, 8), READ(10, 11, 0, 8));
        /* Lost with the old, or done by the new. */
        FINE(PERHAPS(1, 5, 0, 7), LOSS(3, 9), READ(10, 11, 0, 7));
        FINE(PERHAPS(1, 5, 0, 7), LOSS(3, 9), READ(4, 4, 0, 7), READ(10, 11, 0, 0));
        WRONG(PERHAPS(1, 2, 0, 7), LOSS(3, 9), READ(10, 11, 0, 7));
        WRONG(PERHAPS(1, 5, 0, 7), LOSS(3, 9), READ(4, 5, 0, 7), READ(10, 11, 0, 0),
              READ(12, 13, 0, 7));
}

/* ---- made right */

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* Operations at instants one after the other, answered rightly, with intervals around the instants.
 */
static unsigned simulate(uint64_t *rng, struct order_op *ops, unsigned n)
{
        uint32_t value[2] = {0};

        for (unsigned i = 0; i < n; i++) {
                uint64_t r = rng_next(rng), at = 1000 + 10 * (uint64_t)i;
                struct order_op o = {.invoked = at - (r >> 8) % 30,
                                     .returned = at + (r >> 16) % 30,
                                     .key = r >> 24 & 1};

                switch (r % 16) {
                case 0:
                case 1:
                case 2:
                case 3:
                        o.kind = ORDER_SET;
                        o.value = value[o.key] = i + 1;
                        break;
                case 4:
                case 5:
                        o.kind = value[o.key] ? ORDER_DELETE : ORDER_ABSENT;
                        value[o.key] = 0;
                        break;
                case 6:
                        o.kind = ORDER_CLEAR;
                        value[o.key] = 0;
                        break;
                case 7:
                        o.kind = ORDER_SET;
                        o.maybe = true;
                        o.value = i + 1;
                        if (r >> 25 & 1)
                                value[o.key] = o.value;
                        break;
                default:
                        o.kind = ORDER_READ;
                        o.value = value[o.key];
                }
                if (r % 1024 == 15) {
                        o.kind = ORDER_LOSS;
                        value[0] = value[1] = 0;
                }
                ops[i] = o;
        }
        return n;
}

static void test_f_simulated(void **state)
{
        unsigned rounds = getenv("CACHED_LONG") ? 300000 : 2000, changed = 0, refused = 0;
        uint64_t rng = 88172645463325252u;

        (void)state;
        for (unsigned i = 0; i < rounds; i++) {
                struct order_op ops[60];
                unsigned n = simulate(&rng, ops, 60), j = (unsigned)rng_next(&rng) % n;

                assert_int_equal(order_check(ops, n), ORDER_FINE);
                /* A value of long ago. */
                if (ops[j].kind != ORDER_READ || j < 12 || ops[j].value == 0)
                        continue;
                for (unsigned k = 0; k + 8 < j; k++)
                        if (ops[k].kind == ORDER_SET && ops[k].key == ops[j].key)
                                ops[j].value = ops[k].value;
                changed++;
                refused += order_check(ops, n) == ORDER_WRONG;
        }
        print_message("%u of %u changed histories were refused\n", refused, changed);
        assert_true(changed > rounds / 10 && refused > changed / 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_one_after_the_other),
                cmocka_unit_test(test_b_removed),
                cmocka_unit_test(test_c_at_the_same_time),
                cmocka_unit_test(test_d_perhaps),
                cmocka_unit_test(test_e_loss),
                cmocka_unit_test(test_f_simulated),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
