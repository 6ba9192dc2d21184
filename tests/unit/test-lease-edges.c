/* SPDX-License-Identifier: MIT */
/*
 * Leases, where test-lease's model does not reach: many waiters, long chains, tags, progress, what
 * cannot be answered now, ends, and each allocation failing. And the pauses after failures.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fail-alloc.h"
#include "services/backoff.h"
#include "services/lease.h"

#define NEVER UINT64_MAX

struct scene {
        struct leases t;
        uint64_t now, request;
        int spaces[2]; /* of which only the addresses count */
};

static const char *const texts[] = {"aa", "ab", "b", "c", "aa"};

/* The last one is in another cache. */
static struct lease_where where(struct scene *s, unsigned key)
{
        return (struct lease_where){.space = &s->spaces[0],
                                    .cache = key == 4 ? 2 : 1,
                                    .key = (const uint8_t *)texts[key],
                                    .n_key = strlen(texts[key])};
}

static void count(void *ctx, void *space, uint32_t cache, enum lease_count what)
{
        const struct scene *s = ctx;
        assert_ptr_equal(space, &s->spaces[0]);
        assert_true(cache <= 2 && what <= LEASE_COUNT_FAILED);
}

static void over(void *ctx, const struct lease *l)
{
        (void)ctx;
        assert_true(l->refresh);
}

static void no_payload(void *payload)
{
        (void)payload;
}

static void scene_init(struct scene *s)
{
        *s = (struct scene){.now = 1000};
        const struct lease_hooks hooks = {.count = count, .over = over, .ctx = s};
        leases_init(&s->t, 7, 0, &hooks);
        leases_set_bounds(&s->t, 10, 10);
}

static void scene_done(struct scene *s)
{
        assert_null(leases_decided(&s->t));
        leases_done(&s->t);
}

struct few {
        struct scene *s;
        struct lease_party *a, *b;
};

static struct few few_new(struct scene *s)
{
        struct few f = {.s = s};
        scene_init(s);
        leases_set_bounds(&s->t, 1000, 1000);
        assert_int_equal(lease_party_new(&s->t, 1, s, &f.a), 0);
        assert_int_equal(lease_party_new(&s->t, 2, s, &f.b), 0);
        return f;
}

static void few_done(struct few *f)
{
        f->a = lease_party_free(&f->s->t, f->a, f->s->now, no_payload);
        f->b = lease_party_free(&f->s->t, f->b, f->s->now, no_payload);
        scene_done(f->s);
}

static int ask(struct few *f, struct lease_party *p, uint64_t owner, unsigned key,
               struct lease **ret)
{
        struct lease_where at = where(f->s, key);
        struct lease_ask a = {.party = p,
                              .number = owner,
                              .wait_ms = NEVER,
                              .want_progress = owner % 2,
                              .note = {.request_id = ++f->s->request}};
        return leases_ask(&f->s->t, &at, &a, f->s->now, ret);
}

/* Who is decided on next. */
static uint64_t next_decided(struct few *f, enum lease_outcome outcome)
{
        struct lease_waiter *w = leases_decided(&f->s->t);
        assert_non_null(w);
        uint64_t id = w->note.request_id;
        assert_int_equal(w->outcome, outcome);
        lease_waiter_free(&f->s->t, w);
        return id;
}

static void many_waiters_are_answered_in_their_order(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l;
        (void)state;
        leases_set_bounds(&s.t, 10, 20000);
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        uint64_t first = s.request + 1;
        for (unsigned i = 0; i < 20000; i++)
                assert_int_equal(ask(&f, f.b, i % 3 ? 1 : i, 0, &l), LEASE_PARKED);
        assert_int_equal(ask(&f, f.b, 1, 0, &l), LEASE_E_WAITERS);
        struct lease_where at = where(&s, 0);
        assert_int_equal(leases_stored(&s.t, &at, &s), 20000);
        for (unsigned i = 0; i < 20000; i++)
                assert_int_equal(next_decided(&f, LEASE_GOT_VALUE), first + i);
        few_done(&f);
}

static void a_chain_of_many_waits_ends(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l;
        char key[16];
        (void)state;
        /* Owner i holds key i and waits for key i + 1; the last one wants key 0. */
        for (unsigned n = 2; n < 200; n += 7) {
                int want = LEASE_CYCLE;
                for (unsigned i = 0; i < n; i++) {
                        struct lease_where at = where(&s, 0);
                        int k = snprintf(key, sizeof(key), "chain%u", i);
                        at.key = (const uint8_t *)key;
                        at.n_key = (size_t)k;
                        struct lease_ask a = {.party = f.a, .number = i, .wait_ms = NEVER};
                        assert_int_equal(leases_ask(&s.t, &at, &a, s.now, &l), LEASE_GRANTED);
                        if (i == 0)
                                continue;
                        a.number = i - 1;
                        assert_int_equal(leases_ask(&s.t, &at, &a, s.now, &l), LEASE_PARKED);
                }
                struct lease_where at = where(&s, 0);
                at.key = (const uint8_t *)"chain0";
                at.n_key = 6;
                struct lease_ask a = {.party = f.a, .number = n - 1, .wait_ms = NEVER};
                assert_int_equal(leases_ask(&s.t, &at, &a, s.now, &l), want);
                f.a = lease_party_free(&s.t, f.a, s.now, no_payload);
                assert_int_equal(lease_party_new(&s.t, 1, &s, &f.a), 0);
        }
        few_done(&f);
}

static void cleared_tags_are_remembered(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l, *other;
        char tag[8];
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.a, 0, 4, &other), LEASE_GRANTED);
        for (unsigned i = 0; i < LEASE_TAGS_MAX; i++) {
                snprintf(tag, sizeof(tag), "t%u", i);
                for (unsigned twice = 0; twice < 2; twice++)
                        leases_cleared_tag(&s.t, &s.spaces[0], 1, tag, strlen(tag));
                assert_true(lease_tag_was_cleared(&s.t, l, tag, strlen(tag)));
        }
        assert_true(lease_tag_was_cleared(&s.t, l, "t0", 2));
        assert_false(lease_tag_was_cleared(&s.t, l, "other", 5));
        assert_false(lease_tag_was_cleared(&s.t, other, "t0", 2));
        /* One more than can be noted: any may be it. */
        leases_cleared_tag(&s.t, &s.spaces[0], 1, "more", 4);
        assert_true(lease_tag_was_cleared(&s.t, l, "other", 5));
        few_done(&f);
}

static void progress_is_told_once_to_who_wants_it(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l, *h;
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        for (unsigned i = 1; i <= 6; i++)
                assert_int_equal(ask(&f, f.b, i, 0, &h), LEASE_PARKED);
        assert_true(lease_progress(&s.t, l, 100, "first", 5));
        assert_true(lease_progress(&s.t, l, 200, "second", 6));
        assert_string_equal(l->progress, "second");
        unsigned told = 0, rounds = 0;
        while (!list_is_empty(&s.t.news)) {
                unsigned steps = 2;
                struct lease_waiter *w;
                assert_true(++rounds < 20);
                while ((w = leases_next_news(&s.t, &steps))) {
                        assert_int_equal(w->number % 2, 1);
                        told++;
                        if (told == 1) /* while some are told already */
                                assert_true(lease_progress(&s.t, l, 300, "", 0));
                }
        }
        assert_null(l->progress);
        assert_int_equal(told, 6); /* three, and again */
        assert_true(lease_progress(&s.t, l, 400, "x", 1));
        struct lease_where at = where(&s, 0);
        assert_int_equal(leases_stored(&s.t, &at, &s), 6);
        unsigned steps = 100;
        assert_null(leases_next_news(&s.t, &steps));
        few_done(&f);
}

static void who_is_told_of_progress_may_leave_meanwhile(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l, *h;
        unsigned steps = 1;
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.b, 1, 0, &h), LEASE_PARKED);
        assert_int_equal(ask(&f, f.b, 3, 0, &h), LEASE_PARKED);
        assert_true(lease_progress(&s.t, l, 1, "x", 1));
        assert_int_equal(leases_next_news(&s.t, &steps)->number, 1);
        f.b = lease_party_free(&s.t, f.b, s.now, no_payload);
        steps = 10;
        assert_null(leases_next_news(&s.t, &steps));
        assert_int_equal(lease_party_new(&s.t, 2, &s, &f.b), 0);
        few_done(&f);
}

static void a_party_that_cannot_be_answered_waits_apart(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l;
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.b, 1, 0, &l), LEASE_PARKED);
        uint64_t first = s.request;
        assert_int_equal(ask(&f, f.a, 2, 0, &l), LEASE_PARKED);
        struct lease_where at = where(&s, 0);
        assert_int_equal(leases_stored(&s.t, &at, &s), 2);
        lease_waiter_block(leases_decided(&s.t));
        assert_int_equal(next_decided(&f, LEASE_GOT_VALUE), first + 1);
        assert_null(leases_decided(&s.t));
        lease_party_unblock(&s.t, f.b);
        assert_int_equal(next_decided(&f, LEASE_GOT_VALUE), first);
        few_done(&f);
}

static void nobody_waits_once_it_is_closed(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l;
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.b, 1, 0, &l), LEASE_PARKED);
        leases_close(&s.t);
        next_decided(&f, LEASE_GOT_CLOSED);
        assert_int_equal(ask(&f, f.b, 1, 0, &l), LEASE_CLOSED);
        assert_int_equal(ask(&f, f.b, 1, 1, &l), LEASE_GRANTED);
        leases_open(&s.t);
        assert_int_equal(ask(&f, f.b, 2, 0, &l), LEASE_PARKED);
        few_done(&f);
}

static void a_party_whose_process_has_ended_loses_all_in_time(void **state)
{
        static struct scene s;
        struct few f = few_new(&s);
        struct lease *l;
        (void)state;
        assert_int_equal(ask(&f, f.a, 0, 0, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.b, 1, 0, &l), LEASE_PARKED);
        assert_int_equal(ask(&f, f.b, 1, 1, &l), LEASE_GRANTED);
        assert_int_equal(ask(&f, f.a, 2, 1, &l), LEASE_PARKED);
        lease_party_expire(&s.t, f.a, s.now + 1000);
        assert_int_equal(leases_next_due(&s.t), s.now + 1000);
        leases_tick(&s.t, s.now + 999);
        assert_null(leases_decided(&s.t));
        leases_tick(&s.t, s.now + 1000);
        next_decided(&f, LEASE_GOT_NOTHING);
        next_decided(&f, LEASE_GOT_LEASE);
        few_done(&f);
}

/* The same story again and again, each time with another allocation failing: whatever fails,
 * nothing is lost or left over. */
static bool tell_story(struct scene *s)
{
        struct few f = {.s = s};
        struct lease *l;
        bool whole = false;
        if (lease_party_new(&s->t, 1, s, &f.a) == 0 && lease_party_new(&s->t, 2, s, &f.b) == 0 &&
            ask(&f, f.a, 0, 0, &l) == LEASE_GRANTED && lease_progress(&s->t, l, 1, "x", 1) &&
            ask(&f, f.b, 1, 0, &l) == LEASE_PARKED) {
                struct lease_where at = where(s, 1);
                struct lease_ask a = {.party = f.b,
                                      .number = 1,
                                      .wait_ms = 5,
                                      .hold_ms = 5,
                                      .want_failure = true};
                if (leases_ask(&s->t, &at, &a, s->now, &l) == LEASE_GRANTED) {
                        a.party = f.a;
                        whole = leases_ask(&s->t, &at, &a, s->now, &l) == LEASE_PARKED;
                }
                at = where(s, 0);
                leases_deleted(&s->t, &at, s->now);
                struct lease_waiter *w = leases_decided(&s->t);
                assert_non_null(w);
                whole &= w->outcome == LEASE_GOT_LEASE;
                lease_waiter_free(&s->t, w);
        }
        f.a = lease_party_free(&s->t, f.a, s->now, no_payload);
        f.b = lease_party_free(&s->t, f.b, s->now, no_payload);
        return whole;
}

static void memory_may_fail_anywhere(void **state)
{
        static struct scene s;
        bool whole = false;
        (void)state;
        for (long i = 1; !whole; i++) {
                assert_true(i < 100);
                scene_init(&s);
                fail_after = i;
                whole = tell_story(&s);
                fail_after = 0;
                scene_done(&s);
        }
}

static void pauses_double_up_to_a_minute(void **state)
{
        static struct backoff b;
        static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
        (void)state;
        for (unsigned i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++)
                assert_int_equal(backoff_next(&b, 1, 77), pauses[i]);
        assert_int_equal(backoff_next(&b, 1, 78), 1000);
        assert_int_equal(backoff_next(&b, 2, 77), 1000);
        /* More than are remembered: each is a pause, and the first one begins anew. */
        for (uint64_t i = 0; i < 100 * BACKOFF_SLOTS; i++)
                assert_int_equal(backoff_next(&b, 3, i), 1000);
        assert_int_equal(backoff_next(&b, 1, 77), 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(many_waiters_are_answered_in_their_order),
                cmocka_unit_test(a_chain_of_many_waits_ends),
                cmocka_unit_test(cleared_tags_are_remembered),
                cmocka_unit_test(progress_is_told_once_to_who_wants_it),
                cmocka_unit_test(who_is_told_of_progress_may_leave_meanwhile),
                cmocka_unit_test(a_party_that_cannot_be_answered_waits_apart),
                cmocka_unit_test(nobody_waits_once_it_is_closed),
                cmocka_unit_test(a_party_whose_process_has_ended_loses_all_in_time),
                cmocka_unit_test(memory_may_fail_anywhere),
                cmocka_unit_test(pauses_double_up_to_a_minute),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
