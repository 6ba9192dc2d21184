/* SPDX-License-Identifier: MIT */
/*
 * The queue of a subscriber: order, losses and where they are told, filtering, and memory that runs
 * out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dispatch/event-queue.h"

#define STORED CACHED__V1__EVENT_KIND__EVENT_STORED

static bool fail; /* allocations */

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

void *__wrap_malloc(size_t n)
{
        return fail ? NULL : __real_malloc(n);
}

static struct event *numbered(uint64_t version)
{
        const struct event_facts facts = {
                .kind = STORED,
                .cache = {.text = "c", .n = 1},
                .key = "k",
                .n_key = 1,
                .version = version,
        };
        struct event *e = event_new(&facts);
        assert_non_null(e);
        return e;
}

static void push(struct event_queue *q, uint64_t version, uint64_t max)
{
        struct event *e = numbered(version);
        event_queue_push(q, e, max);
        event_unref(e);
}

/* The next is this event, or so many lost ones. */
static void assert_next(struct event_queue *q, uint64_t version, uint64_t lost)
{
        struct event *e = NULL;
        uint64_t n = 0;
        assert_true(event_queue_next(q, &e, &n));
        assert_int_equal(n, lost);
        assert_true((e == NULL) == (lost > 0));
        if (e)
                assert_int_equal(e->version, version);
        event_queue_pop(q);
}

static void assert_empty(struct event_queue *q)
{
        struct event *e;
        uint64_t n;
        assert_false(event_queue_next(q, &e, &n));
        assert_null(q->items);
}

static void test_a_queue_keeps_the_order_and_tells_losses_in_place(void **state)
{
        struct event_queue q = {0};
        (void)state;
        for (uint64_t i = 1; i <= 43; i++) /* more than the ring has at first; 41 to 43 are lost */
                push(&q, i, 40);
        for (uint64_t i = 1; i <= 5; i++)
                assert_next(&q, i, 0);
        for (uint64_t i = 44; i <= 50; i++) /* room for five, then two are lost */
                push(&q, i, 40);
        for (uint64_t i = 6; i <= 40; i++)
                assert_next(&q, i, 0);
        assert_next(&q, 0, 3);
        for (uint64_t i = 44; i <= 48; i++)
                assert_next(&q, i, 0);
        assert_next(&q, 0, 2);
        assert_empty(&q);
        push(&q, 51, 40);
        assert_next(&q, 51, 0);
        assert_empty(&q);
}

static void test_a_queue_counts_what_memory_has_no_room_for(void **state)
{
        struct event_queue q = {0};
        (void)state;
        event_queue_push(&q, NULL, 40);
        event_queue_push(&q, NULL, 40);
        push(&q, 1, 40);
        event_queue_push(&q, NULL, 40);
        struct event *e = numbered(2);
        for (unsigned i = 0; i < 20; i++) {
                fail = i == 15; /* the ring is full then */
                event_queue_push(&q, e, 40);
                fail = false;
        }
        event_unref(e);
        assert_next(&q, 0, 2);
        assert_next(&q, 1, 0);
        assert_next(&q, 0, 1);
        for (unsigned i = 0; i < 15; i++)
                assert_next(&q, 2, 0);
        assert_next(&q, 0, 1);
        for (unsigned i = 0; i < 4; i++)
                assert_next(&q, 2, 0);
        assert_empty(&q);
        push(&q, 3, 40);
        event_queue_push(&q, NULL, 40);
        event_queue_done(&q); /* a sanitizer sees what is left */
        assert_empty(&q);
}

static bool is_even(void *ctx, const struct event *e)
{
        (void)ctx;
        return e->version % 2 == 0;
}

static void test_a_filtered_queue_still_knows_its_losses(void **state)
{
        struct event_queue q = {0};
        (void)state;
        event_queue_push(&q, NULL, 40);
        for (uint64_t i = 1; i <= 6; i++) {
                push(&q, i, 40);
                event_queue_push(&q, NULL, 40);
        }
        event_queue_filter(&q, is_even, NULL);
        assert_next(&q, 0, 2);
        assert_next(&q, 2, 0);
        assert_next(&q, 0, 2);
        assert_next(&q, 4, 0);
        assert_next(&q, 0, 2);
        assert_next(&q, 6, 0);
        assert_next(&q, 0, 1);
        assert_empty(&q);
        push(&q, 1, 40);
        event_queue_filter(&q, is_even, NULL);
        assert_empty(&q);
}

static void test_an_event_keeps_its_text(void **state)
{
        char text[EVENT_TEXT_MAX + 1];
        struct event_facts facts = {.kind = STORED, .text = {.text = text, .n = EVENT_TEXT_MAX}};
        struct event *e;
        (void)state;
        memset(text, 'x', sizeof(text));
        e = event_new(&facts);
        assert_non_null(e);
        assert_true(e->has_text);
        assert_int_equal(strlen(e->text), EVENT_TEXT_MAX);
        event_unref(e);
        facts.text.n++; /* nobody does that */
        e = event_new(&facts);
        assert_int_equal(strlen(e->text), EVENT_TEXT_MAX);
        event_unref(e);
        facts.text = (struct store_text){0};
        e = event_new(&facts);
        assert_false(e->has_text);
        assert_string_equal(e->text, "");
        event_unref(e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_queue_keeps_the_order_and_tells_losses_in_place),
                cmocka_unit_test(test_a_queue_counts_what_memory_has_no_room_for),
                cmocka_unit_test(test_a_filtered_queue_still_knows_its_losses),
                cmocka_unit_test(test_an_event_keeps_its_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
