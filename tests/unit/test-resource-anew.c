/* SPDX-License-Identifier: MIT */
/*
 * Resources anew: numbers of holders that come again, who stands in for the owner of a word, what a
 * successor's records are told, and all holds at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "resource-scene.h"

static void begin(struct scene *s, unsigned holders)
{
        scene_init(s);
        for (unsigned i = 0; i < holders; i++)
                scene_holder(s, i);
}

/* What @holder has had, with this word. */
static struct resource *registered(struct scene *s, unsigned holder, const char *key, uint32_t word)
{
        struct resource_where where = scene_where(s, key);
        const struct resource_policy policy = {.ttl_ms = RESOURCE_NEVER};
        const struct resource_anew what = {.kind = RESOURCE_KIND_SEGMENT,
                                           .size = 100,
                                           .payload = scene_payload(s)};
        struct resource *r = NULL;
        ((struct scene_payload *)what.payload)->word = word;
        assert_int_equal(resources_register(&s->t, &where, s->holders[holder], &policy, &what,
                                            s->now, &r),
                         RESOURCE_IS_HELD);
        assert_int_equal(resource_stand_in(&s->t, r, 4711, s->now), 0);
        return r;
}

static void its_bytes_are_in_its_cache(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 1);
        struct resource_where where = scene_where(&s, "k");
        struct resource *r = registered(&s, 0, "k", 0);
        assert_int_equal(resources_gauge(&s.t, where.space, where.cache).bytes, 100);
        assert_int_equal(resources_room(&s.t, where.space).bytes, 100);
        assert_int_equal(s.created, 1);
        resource_drop(&s.t, r, RESOURCE_LEFT_DROPPED, NULL, s.now);
        assert_int_equal(resources_gauge(&s.t, where.space, where.cache).bytes, 0);
        assert_int_equal(resources_room(&s.t, where.space).bytes, 100);
        assert_int_equal(resource_release(&s.t, r, s.holders[0], false, s.now), RESOURCE_IS_HELD);
        assert_int_equal(resources_room(&s.t, where.space).bytes, 0);
        scene_done(&s);
}

static int lock(struct scene *s, unsigned holder, struct resource *r, uint64_t wait_ms,
                struct resource_reply *ret)
{
        struct resource_ask ask = scene_ask(s, holder, 0);
        ask.wait_ms = wait_ms;
        return resource_lock(&s->t, r, &ask, s->now, ret);
}

static void a_number_is_had_again(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 2);
        uint32_t first = s.holders[0]->number, second = s.holders[1]->number;
        resource_holder_wants(&s.t, s.holders[0], 77, s.now);
        assert_int_equal(s.holders[0]->number, 77);
        resource_holder_wants(&s.t, s.holders[1], 77, s.now); /* it is taken */
        assert_int_equal(s.holders[1]->number, second);
        resource_holder_wants(&s.t, s.holders[1], 0, s.now);
        resource_holder_wants(&s.t, s.holders[1], RESOURCE_NUMBER_MAX + 1, s.now);
        resource_holder_wants(&s.t, s.holders[1], UINT32_MAX, s.now);
        assert_int_equal(s.holders[1]->number, second);
        resource_holder_wants(&s.t, s.holders[1], first, s.now); /* that one is free now */
        assert_int_equal(s.holders[1]->number, first);
        resource_holder_wants(&s.t, s.holders[1], RESOURCE_NUMBER_MAX, s.now);
        assert_int_equal(s.holders[1]->number, RESOURCE_NUMBER_MAX);
        scene_done(&s);
}

static void the_owner_comes_and_has_its_lock(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 2);
        struct resource *r = registered(&s, 0, "k", 77);
        assert_int_equal(r->n_holders, 2);
        assert_int_equal(lock(&s, 0, r, 0, &reply), RESOURCE_IS_BUSY);
        assert_int_equal(lock(&s, 0, r, RESOURCE_NEVER, &reply), RESOURCE_IS_PARKED);
        resource_holder_wants(&s.t, s.holders[1], 77, s.now);
        assert_int_equal(s.holders[1]->number, 77);
        assert_null(resource_holder_of(&s.t, 4711));
        assert_int_equal(r->n_holders, 2);
        assert_ptr_equal(resource_lock_owner(&s.t, r)->holder, s.holders[1]);
        assert_int_equal(resource_join(&s.t, r, s.holders[1], s.now), RESOURCE_IS_HELD);
        assert_int_equal(resource_hold_find(&s.t, r, s.holders[1])->count, 1);
        s.now += 10000;
        resources_tick(&s.t, s.now);
        assert_int_equal(r->cause, 0);
        assert_int_equal(resource_unlock(&s.t, r, s.holders[1], s.now), RESOURCE_IS_HELD);
        struct resource_waiter *w = resources_decided(&s.t);
        assert_int_equal(w->outcome, RESOURCE_GOT_HOLD);
        assert_false(w->owner_died);
        resource_waiter_free(&s.t, w);
        assert_int_equal(*scene_word(r), s.holders[0]->number);
        scene_done(&s);
}

static void nobody_comes_for_it(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 1);
        struct resource *r = registered(&s, 0, "k", 77);
        assert_int_equal(lock(&s, 0, r, 0, &reply), RESOURCE_IS_BUSY);
        s.now += 9999;
        resources_tick(&s.t, s.now);
        assert_int_equal(r->cause, RESOURCE_LEFT_UNCLAIMED);
        assert_ptr_equal(resources_next_event(&s.t)->holder, s.holders[0]);
        scene_done(&s);
}

/* It left the lock by its word, and needs nobody for that. */
static void it_was_unlocked_meanwhile(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 1);
        struct resource *r = registered(&s, 0, "k", 77);
        *scene_word(r) = 0;
        s.now += 10000;
        resources_tick(&s.t, s.now);
        assert_int_equal(r->cause, 0);
        assert_int_equal(r->n_holders, 1);
        assert_int_equal(lock(&s, 0, r, 0, &reply), RESOURCE_IS_HELD);
        assert_false(reply.owner_died);
        scene_done(&s);
}

static void a_number_of_another_realm_is_not_passed_on(void **state)
{
        struct scene s;
        struct resource_holder *h;
        (void)state;
        begin(&s, 1);
        struct resource *r = registered(&s, 0, "k", 77);
        assert_int_equal(resource_holder_open(&s.t, &s.spaces[1], 1000, 5, 99, s.now, &s, &h), 0);
        resource_holder_wants(&s.t, h, 77, s.now);
        /* It has the number there, and nothing here. */
        assert_int_equal(h->number, 77);
        assert_int_equal(r->n_holders, 2);
        assert_null(resource_hold_find(&s.t, r, h));
        struct resource_holder *owner = resource_lock_owner(&s.t, r)->holder;
        assert_true(owner->stands_in && owner->number == 77);
        /* Nor that of a holder who is there, whatever a word says. */
        struct resource *other = registered(&s, 0, "other", s.holders[0]->number);
        assert_int_equal(other->n_holders, 1);
        /* One stands in for several. */
        struct resource *third = registered(&s, 0, "third", 77);
        assert_int_equal(third->n_holders, 2);
        scene_done(&s);
}

static void what_is_there_is_not_registered_over(void **state)
{
        struct scene s;
        bool taken;
        (void)state;
        begin(&s, 2);
        struct resource_where where = scene_where(&s, "k");
        const struct resource_policy policy = {.ttl_ms = RESOURCE_NEVER};
        struct resource_anew what = {.kind = RESOURCE_KIND_SEGMENT, .size = 1};
        struct resource *r = registered(&s, 0, "k", 0), *again;
        assert_ptr_equal(resources_there(&s.t, &where, &taken), r);
        assert_true(taken);
        assert_int_equal(resources_register(&s.t, &where, s.holders[1], &policy, &what, s.now,
                                            &again),
                         RESOURCE_E_KIND);
        what.kind = RESOURCE_KIND_LOCAL;
        what.size = 0;
        assert_int_equal(resources_register(&s.t, &where, s.holders[1], &policy, &what, s.now,
                                            &again),
                         RESOURCE_E_KIND);
        where = scene_where(&s, "too large");
        what = (struct resource_anew){.kind = RESOURCE_KIND_SEGMENT, .size = UINT64_MAX / 4};
        assert_int_equal(resources_register(&s.t, &where, s.holders[1], &policy, &what, s.now,
                                            &again),
                         RESOURCE_E_SPACE);
        assert_null(resources_there(&s.t, &where, &taken));
        assert_false(taken);
        scene_done(&s);
}

static void all_holds_at_once(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 2);
        struct resource *r = registered(&s, 0, "k", 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(resource_join(&s.t, r, s.holders[1], s.now), RESOURCE_IS_HELD);
        assert_int_equal(r->holds_total, 4);
        assert_int_equal(resource_release_all(&s.t, r, s.holders[1], false, s.now),
                         RESOURCE_IS_HELD);
        assert_int_equal(r->holds_total, 1);
        assert_int_equal(resource_release_all(&s.t, r, s.holders[1], false, s.now),
                         RESOURCE_E_NOT_HELD);
        assert_int_equal(resource_release_all(&s.t, r, s.holders[0], true, s.now),
                         RESOURCE_IS_HELD);
        assert_int_equal(s.left[RESOURCE_LEFT_INVALID], 1);
        scene_done(&s);
}

/* Who asks for it without a claim has what he asks for, and no more. */
static void asking_anew_is_a_claim_of_that(void **state)
{
        struct scene s;
        struct resource *r;
        struct resource_holder *h;
        struct resource_reply reply;
        (void)state;
        begin(&s, 0);
        const struct resource_record record = {.where = scene_where(&s, "k"),
                                               .number = 5,
                                               .expires = RESOURCE_NEVER,
                                               .kind = RESOURCE_KIND_LOCAL};
        assert_int_equal(resource_restore(&s.t, &record, scene_payload(&s), s.now, &r), 0);
        assert_int_equal(resource_holder_restore(&s.t, &s.spaces[0], 1000, 7, 99, 3, 1, s.now, &h),
                         0);
        assert_int_equal(resource_hold_restore(&s.t, r, h, 3, false, 1), 0);
        assert_int_equal(resources_claim_until(&s.t, s.now + 9999), 0);
        resource_holder_again(&s.t, h, &s);
        s.holders[0] = h;
        struct resource_ask ask = scene_ask(&s, 0, RESOURCE_KIND_LOCAL);
        struct resource_where where = scene_where(&s, "k");
        assert_int_equal(resources_acquire(&s.t, &where, &ask, s.now, &reply), RESOURCE_IS_HELD);
        assert_int_equal(r->holds_total, 1);
        s.now += 10000;
        resources_tick(&s.t, s.now);
        assert_int_equal(r->holds_total, 1);
        assert_int_equal(resource_release(&s.t, r, h, false, s.now), RESOURCE_IS_HELD);
        assert_int_equal(r->n_holders, 0);
        assert_true(s.t.last_instance >= 5 + RESOURCE_NUMBERS_GAP);
        scene_done(&s);
}

/* ---- what records are told */

struct heard {
        char text[200];
        size_t n;
};

static struct heard heard; /* of the hooks, which have the scene as their context */

static void hear(char what)
{
        if (heard.n < sizeof(heard.text) - 1)
                heard.text[heard.n++] = what;
}

static void on_changed(void *ctx, struct resource *r)
{
        (void)ctx;
        hear(r->owner_died ? 'D' : 'c');
}

static void on_held(void *ctx, struct resource_hold *d)
{
        (void)ctx;
        assert_int_equal(d->resource->cause, 0);
        hear((char)('0' + d->count));
}

static void on_let_go(void *ctx, const struct resource_hold *d)
{
        (void)ctx;
        assert_int_equal(d->resource->cause, 0);
        hear('-');
}

static void on_ended(void *ctx, const struct resource_holder *h)
{
        (void)ctx;
        (void)h;
        hear('e');
}

static bool is_heard(const char *what)
{
        heard.text[heard.n] = '\0';
        bool same = strcmp(heard.text, what) == 0;
        if (!same)
                print_message("%s\n", heard.text);
        heard.n = 0;
        return same;
}

/* The last change of an instance comes before the end of the hold by which it is somebody's. */
static void records_are_told_in_order(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 2);
        heard.n = 0;
        s.t.hooks.changed = on_changed;
        s.t.hooks.held = on_held;
        s.t.hooks.let_go = on_let_go;
        s.t.hooks.ended = on_ended;
        struct resource *r = registered(&s, 0, "k", 0);
        assert_true(is_heard("c1"));
        assert_int_equal(resource_join(&s.t, r, s.holders[0], s.now), RESOURCE_IS_HELD);
        assert_true(is_heard("c2"));
        assert_int_equal(resource_release(&s.t, r, s.holders[0], false, s.now), RESOURCE_IS_HELD);
        assert_true(is_heard("1"));
        assert_int_equal(resource_release(&s.t, r, s.holders[0], false, s.now), RESOURCE_IS_HELD);
        assert_true(is_heard("-c"));
        struct resource_ask ask = scene_ask(&s, 0, RESOURCE_KIND_SEGMENT);
        struct resource_where where = scene_where(&s, "pool");
        struct resource_reply reply;
        ask.pool = 1;
        assert_int_equal(resources_acquire(&s.t, &where, &ask, s.now, &reply), RESOURCE_IS_YOURS);
        assert_int_equal(resource_publish(&s.t, reply.creation, RESOURCE_KIND_SEGMENT, 1, false,
                                          scene_payload(&s), s.now, &r),
                         RESOURCE_IS_HELD);
        assert_true(is_heard("c1"));
        resource_holder_end(&s.t, s.holders[0], true, s.now);
        assert_true(is_heard("D-De"));
        scene_done(&s);
        assert_true(is_heard("")); /* nothing of the end of the process */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_number_is_had_again),
                cmocka_unit_test(its_bytes_are_in_its_cache),
                cmocka_unit_test(the_owner_comes_and_has_its_lock),
                cmocka_unit_test(nobody_comes_for_it),
                cmocka_unit_test(it_was_unlocked_meanwhile),
                cmocka_unit_test(a_number_of_another_realm_is_not_passed_on),
                cmocka_unit_test(what_is_there_is_not_registered_over),
                cmocka_unit_test(all_holds_at_once),
                cmocka_unit_test(asking_anew_is_a_claim_of_that),
                cmocka_unit_test(records_are_told_in_order),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
