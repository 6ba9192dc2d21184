/* SPDX-License-Identifier: MIT */
/*
 * Caches of resources: such as are apart, how they end, and what is counted of them
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/resource-steps.h"

static int acquire_in(struct scene *s, uint32_t cache, unsigned holder, const char *key,
                      uint64_t wait_ms, struct resource_reply *ret)
{
        struct resource_where where = scene_where(s, key);
        struct resource_ask ask = scene_ask(s, holder, RESOURCE_KIND_SEGMENT);
        where.cache = cache;
        ask.wait_ms = wait_ms;
        ask.note.request_id = holder;
        return resources_acquire(&s->t, &where, &ask, s->now, ret);
}

static void what_is_apart_is_meant_by_its_number_only(void **state)
{
        struct resource_reply reply;
        struct scene s;
        const uint32_t apart = 1 | RESOURCE_APART;
        (void)state;
        begin(&s, 2);
        s.t.bounds.space_resources = 2;
        struct resource *mine = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        assert_int_equal(acquire_in(&s, apart, 0, "k", 0, &reply), RESOURCE_IS_YOURS);
        struct resource *its = publish(&s, reply.creation, 7);
        assert_ptr_not_equal(mine, its);
        /* Its place counts. */
        assert_int_equal(acquire(&s, 1, "l", RESOURCE_KIND_SEGMENT, 0, &reply),
                         RESOURCE_E_RESOURCES);
        assert_int_equal(resources_room(&s.t, &s.spaces[0]).bytes, 107);
        assert_int_equal(resources_room(&s.t, &s.spaces[0]).holders, 2);
        assert_int_equal(resources_gauge(&s.t, &s.spaces[0], 0).bytes, 100);
        assert_int_equal(resources_gauge(&s.t, &s.spaces[0], apart).bytes, 7);
        assert_int_equal(resources_cleared(&s.t, &s.spaces[0], 0, NULL, 0, s.now, NULL), 1);
        assert_int_equal(mine->cause, RESOURCE_LEFT_CLEARED);
        assert_int_equal(its->cause, RESOURCE_LEFT_NOT);
        assert_int_equal(resources_gauge(&s.t, &s.spaces[0], 1).bytes, 0);
        assert_int_equal(resources_room(&s.t, &s.spaces[0]).bytes, 107);
        assert_int_equal(resources_cleared(&s.t, &s.spaces[0], apart, NULL, 0, s.now, NULL), 1);
        scene_done(&s);
}

static void a_cache_ends_with_all_that_is_under_way(void **state)
{
        struct resource_reply reply;
        struct scene s;
        const uint32_t apart = 1 | RESOURCE_APART;
        (void)state;
        begin(&s, 4);
        assert_int_equal(acquire_in(&s, apart, 0, "held", 0, &reply), RESOURCE_IS_YOURS);
        struct resource *r = publish(&s, reply.creation, 7);
        assert_int_equal(acquire_in(&s, apart, 1, "held", 0, &reply), RESOURCE_IS_HELD);
        assert_int_equal(acquire_in(&s, apart, 0, "new", 0, &reply), RESOURCE_IS_YOURS);
        uint64_t creation = reply.creation->id;
        assert_int_equal(acquire_in(&s, apart, 2, "new", RESOURCE_NEVER, &reply),
                         RESOURCE_IS_PARKED);
        assert_int_equal(acquire_in(&s, apart, 3, "bad", 0, &reply), RESOURCE_IS_YOURS);
        resource_creation_end(&s.t, reply.creation, "why", s.now);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);

        resources_cache_ends(&s.t, &s.spaces[0], apart, s.now);
        decided(&s, 2, RESOURCE_GOT_ENDED);
        nothing_decided(&s);
        assert_null(resource_creation_find(&s.t, creation));
        assert_int_equal(r->cause, RESOURCE_LEFT_SESSION_ENDED);
        told(&s, r, 1 << 0 | 1 << 1);
        assert_int_equal(s.left[RESOURCE_LEFT_SESSION_ENDED], 1);
        /* Who holds it has its lock on. */
        resource_unlock(&s.t, r, s.holders[0], s.now);
        decided(&s, 1, RESOURCE_GOT_HOLD);

        /* The next cache of that number has nothing of it: neither counts, nor pauses. */
        struct resource_gauge g = resources_gauge(&s.t, &s.spaces[0], apart);
        const struct resource_gauge none = {0};
        assert_memory_equal(&g, &none, sizeof(g));
        assert_int_equal(acquire_in(&s, apart, 3, "bad", 0, &reply), RESOURCE_IS_YOURS);
        assert_int_equal(acquire_in(&s, apart, 3, "held", 0, &reply), RESOURCE_IS_YOURS);
        resources_cache_ends(&s.t, &s.spaces[0], apart, s.now);
        resource_release(&s.t, r, s.holders[0], false, s.now);
        resource_release(&s.t, r, s.holders[1], false, s.now);
        assert_int_equal(s.t.caches.n, 0);
        scene_done(&s);
}

static void counts_stay_until_their_space_ends(void **state)
{
        struct resource_reply reply;
        struct scene s;
        (void)state;
        begin(&s, 2);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        joins(&s, 1, r);
        assert_int_equal(lock(&s, 1, r, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(acquire(&s, 0, "l", RESOURCE_KIND_LOCAL, 0, &reply), RESOURCE_IS_YOURS);
        resource_creation_end(&s.t, reply.creation, "why", s.now);
        struct resource_gauge g = resources_gauge(&s.t, &s.spaces[0], 1);
        assert_int_equal(g.held, 1);
        assert_int_equal(g.locked, 1);
        assert_int_equal(g.bytes, 100);
        resource_drop(&s.t, r, RESOURCE_LEFT_DROPPED, NULL, s.now);
        dies(&s, 0);
        dies(&s, 1);
        pass(&s, 200000);
        g = resources_gauge(&s.t, &s.spaces[0], 1);
        assert_int_equal(g.resources + g.held + g.locked + g.bytes + g.waiting + g.creating, 0);
        assert_int_equal(g.counters.created, 1);
        assert_int_equal(g.counters.acquired, 1);
        assert_int_equal(g.counters.failures, 1);
        assert_int_equal(g.counters.left[RESOURCE_LEFT_DROPPED], 1);
        resources_space_ends(&s.t, &s.spaces[0], s.now);
        assert_int_equal(resources_gauge(&s.t, &s.spaces[0], 1).counters.created, 0);
        assert_int_equal(s.t.caches.n, 0);
        assert_null(s.t.spaces);
        scene_done(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_apart_is_meant_by_its_number_only),
                cmocka_unit_test(a_cache_ends_with_all_that_is_under_way),
                cmocka_unit_test(counts_stay_until_their_space_ends),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
