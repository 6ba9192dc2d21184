/* SPDX-License-Identifier: MIT */
/*
 * Resources: cases with names
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/resource-steps.h"

/* ---- locks */

static void owner_of_a_segments_lock_is_killed(void **state)
{
        struct scene s;
        bool died = true;
        (void)state;
        begin(&s, 3);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        joins(&s, 1, r);
        joins(&s, 2, r);
        *scene_word(r) = s.holders[0]->number; /* in its process, unseen here */
        assert_int_equal(lock(&s, 1, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);
        assert_true(*scene_word(r) & WORD_WAITERS);
        dies(&s, 0);
        assert_true(decided(&s, 1, RESOURCE_GOT_HOLD).owner_died);
        assert_int_equal(*scene_word(r), s.holders[1]->number);
        /* And without anybody who waits: the word says so. */
        dies(&s, 1);
        assert_int_equal(*scene_word(r), WORD_DIED);
        assert_int_equal(lock(&s, 2, r, 0, &died), RESOURCE_IS_HELD);
        assert_true(died);
        assert_int_equal(resource_unlock(&s.t, r, s.holders[2], s.now), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 2, r, 0, &died), RESOURCE_IS_HELD);
        assert_false(died);
        assert_int_equal(r->cause, 0);
        scene_done(&s);
}

static void owner_of_a_descriptors_lock_is_killed(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 3);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR);
        joins(&s, 1, r);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, r, 0, NULL), RESOURCE_IS_BUSY);
        assert_int_equal(lock(&s, 1, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);
        dies(&s, 0);
        decided(&s, 1, RESOURCE_GOT_NOT_FOUND);
        assert_int_equal(r->cause, RESOURCE_LEFT_OWNER_DIED);
        told(&s, r, 1u << 1);
        assert_int_equal(acquire(&s, 2, "k", RESOURCE_KIND_DESCRIPTOR, 0, &reply),
                         RESOURCE_IS_YOURS);
        scene_done(&s);
}

static void a_lock_given_up_in_order_is_clean(void **state)
{
        struct scene s;
        bool died = true;
        (void)state;
        begin(&s, 2);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR);
        joins(&s, 1, r);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(resource_release(&s.t, r, s.holders[0], false, s.now), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, r, 0, &died), RESOURCE_IS_HELD);
        assert_false(died);
        assert_int_equal(r->cause, 0);
        scene_done(&s);
}

static void a_word_that_names_nobody(void **state)
{
        struct scene s;
        bool died = false;
        (void)state;
        begin(&s, 3);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        joins(&s, 1, r);
        *scene_word(r) = s.holders[2]->number; /* lives, and does not hold it */
        assert_int_equal(lock(&s, 0, r, 0, &died), RESOURCE_IS_HELD);
        assert_true(died);
        /* The owner wipes it while somebody waits: whoever asks next finds the line, not the word.
         */
        assert_int_equal(lock(&s, 1, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);
        *scene_word(r) = 0;
        assert_int_equal(resource_unlock(&s.t, r, s.holders[0], s.now), RESOURCE_E_NOT_HELD);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_BUSY);
        decided(&s, 1, RESOURCE_GOT_HOLD);
        assert_int_equal(*scene_word(r) & RESOURCE_NUMBER_MAX, s.holders[1]->number);
        *scene_word(r) = UINT32_MAX;
        assert_int_equal(resource_unlock(&s.t, r, s.holders[1], s.now), RESOURCE_E_NOT_HELD);
        assert_int_equal(lock(&s, 0, r, 0, &died), RESOURCE_IS_HELD);
        assert_true(died);
        scene_done(&s);
}

static void two_locks_in_a_circle_end_by_deadline(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 2);
        struct resource *a = made(&s, 0, "a", RESOURCE_KIND_DESCRIPTOR);
        struct resource *b = made(&s, 1, "b", RESOURCE_KIND_DESCRIPTOR);
        joins(&s, 1, a);
        joins(&s, 0, b);
        assert_int_equal(lock(&s, 0, a, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, b, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 0, b, 500, NULL), RESOURCE_IS_PARKED);
        assert_int_equal(lock(&s, 1, a, 800, NULL), RESOURCE_IS_PARKED);
        pass(&s, 499);
        nothing_decided(&s);
        pass(&s, 1);
        struct resource_waiter w = decided(&s, 0, RESOURCE_GOT_TIMEOUT);
        assert_int_equal(w.pid, 101);
        assert_int_equal(w.instance, b->number);
        assert_int_equal(resource_unlock(&s.t, a, s.holders[0], s.now), RESOURCE_IS_HELD);
        decided(&s, 1, RESOURCE_GOT_HOLD);
        pass(&s, 1000);
        nothing_decided(&s);
        scene_done(&s);
}

static void locks_are_fair(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 5);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        for (unsigned i = 1; i < 5; i++)
                joins(&s, i, r);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_HELD);
        for (unsigned i = 1; i < 5; i++)
                assert_int_equal(lock(&s, i, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(resource_unlock(&s.t, r, s.holders[i], s.now), RESOURCE_IS_HELD);
                /* Who has just had it gets behind the others. */
                assert_int_equal(lock(&s, i, r, 0, NULL), RESOURCE_IS_BUSY);
                decided(&s, i + 1, RESOURCE_GOT_HOLD);
                nothing_decided(&s);
        }
        scene_done(&s);
}

/* ---- creating */

static void creator_dies(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 4);
        assert_int_equal(acquire(&s, 0, "k", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        uint64_t first = reply.creation->id;
        for (unsigned i = 1; i < 4; i++)
                assert_int_equal(acquire(&s, i, "k", RESOURCE_KIND_SEGMENT, RESOURCE_NEVER, &reply),
                                 RESOURCE_IS_PARKED);
        dies(&s, 0);
        assert_null(resource_creation_find(&s.t, first));
        struct resource_waiter w = decided(&s, 1, RESOURCE_GOT_RIGHT);
        nothing_decided(&s);
        /* Its connection is lost: likewise, though it lives. */
        resource_holder_lost(&s.t, s.holders[1], s.now);
        assert_null(resource_creation_find(&s.t, w.creation_id));
        w = decided(&s, 2, RESOURCE_GOT_RIGHT);
        struct resource *r = publish(&s, resource_creation_find(&s.t, w.creation_id), 10);
        assert_int_equal(decided(&s, 3, RESOURCE_GOT_HOLD).instance, r->number);
        assert_int_equal(r->n_holders, 2);
        scene_done(&s);
}

static void creation_that_fails_makes_longer_pauses(void **state)
{
        static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 2);
        for (unsigned i = 0; i < 8; i++) {
                assert_int_equal(acquire(&s, 0, "k", RESOURCE_KIND_LOCAL, 0, &reply),
                                 RESOURCE_IS_YOURS);
                struct resource_creation *c = reply.creation;
                assert_int_equal(acquire(&s, 1, "k", RESOURCE_KIND_LOCAL, 5000, &reply),
                                 RESOURCE_IS_PARKED);
                assert_int_equal(resource_creation_end(&s.t, c, "no", s.now), pauses[i]);
                assert_int_equal(decided(&s, 1, RESOURCE_GOT_FAILURE).retry_ms, pauses[i]);
                pass(&s, pauses[i] - 1);
                assert_int_equal(acquire(&s, 1, "k", RESOURCE_KIND_LOCAL, 5000, &reply),
                                 RESOURCE_IS_FAILED);
                assert_int_equal(reply.retry_ms, 1);
                assert_string_equal(reply.reason, "no");
                pass(&s, 1);
        }
        pass(&s, RESOURCE_CALM_MS); /* forgotten */
        assert_int_equal(s.t.slots.n, 0);
        scene_done(&s);
}

static void check_that_always_fails(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 1);
        /* The first time at once, then after pauses. */
        for (unsigned i = 0; i < 4; i++) {
                struct resource *r = made(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR);
                assert_int_equal(resource_invalidate(&s.t, r, s.holders[0], "bad", s.now),
                                 RESOURCE_IS_HELD);
                assert_int_equal(r->cause, RESOURCE_LEFT_INVALID);
                assert_int_equal(resource_release(&s.t, r, s.holders[0], false, s.now),
                                 RESOURCE_IS_HELD);
                if (i == 0)
                        continue;
                assert_int_equal(acquire(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR, 0, &reply),
                                 RESOURCE_IS_FAILED);
                assert_int_equal(reply.retry_ms, UINT64_C(500) << i);
                assert_string_equal(reply.reason, "bad");
                pass(&s, reply.retry_ms);
        }
        /* One that was good for long is not a row. */
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR);
        pass(&s, RESOURCE_CALM_MS);
        assert_int_equal(resource_invalidate(&s.t, r, s.holders[0], "bad", s.now),
                         RESOURCE_IS_HELD);
        made(&s, 0, "k", RESOURCE_KIND_DESCRIPTOR);
        scene_done(&s);
}

static void whoever_is_answered_too_late_gives_back(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 2);
        assert_int_equal(acquire(&s, 0, "k", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        struct resource_creation *c = reply.creation;
        assert_int_equal(acquire(&s, 1, "k", RESOURCE_KIND_SEGMENT, 1000, &reply),
                         RESOURCE_IS_PARKED);
        struct resource *r = publish(&s, c, 10);
        assert_int_equal(r->n_holders, 2);
        resource_party_done(&s.t, &s.party, s.now); /* before it was told */
        assert_int_equal(r->n_holders, 1);
        scene_done(&s);
}

/* ---- policy */

static void too_many_entries_and_all_are_held(void **state)
{
        struct scene s;
        struct resource_reply reply;
        struct resource *r[3];
        static const char *const keys[] = {"a", "b", "c"};
        (void)state;
        begin(&s, 2);
        for (unsigned i = 0; i < 2; i++) {
                r[i] = made(&s, 0, keys[i], RESOURCE_KIND_SEGMENT);
                s.now++;
        }
        joins(&s, 1, r[0]); /* "b" was used least recently */
        assert_int_equal(acquire(&s, 1, "c", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        reply.creation->policy.max_entries = 2;
        r[2] = publish(&s, reply.creation, 1);
        assert_int_equal(r[1]->cause, RESOURCE_LEFT_EVICTED);
        assert_int_equal(r[0]->cause, 0);
        told(&s, r[1], 1u << 0);
        /* What nobody holds leaves first, though it was used last. */
        assert_int_equal(resource_release(&s.t, r[2], s.holders[1], false, s.now),
                         RESOURCE_IS_HELD);
        assert_int_equal(acquire(&s, 1, "d", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        reply.creation->policy.max_entries = 2;
        publish(&s, reply.creation, 1);
        assert_int_equal(s.left[RESOURCE_LEFT_EVICTED], 2);
        assert_int_equal(s.created, 4); /* and not by who joined */
        assert_int_equal(r[0]->cause, 0);
        told(&s, NULL, 0);
        scene_done(&s);
}

static void bytes_are_won_from_what_nobody_holds(void **state)
{
        struct scene s;
        struct resource_reply reply;
        struct resource *r;
        (void)state;
        begin(&s, 2);
        assert_int_equal(acquire(&s, 0, "a", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        struct resource *a = publish(&s, reply.creation, 600000);
        assert_int_equal(acquire(&s, 1, "b", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        void *payload = scene_payload(&s);
        struct resource_creation *c = reply.creation;
        assert_int_equal(resource_publish(&s.t, c, RESOURCE_KIND_SEGMENT, 400001, false, payload,
                                          s.now, &r),
                         RESOURCE_E_SPACE);
        assert_ptr_equal(resources_biggest(&s.t, &s.spaces[0]), a);
        assert_int_equal(resource_publish(&s.t, c, RESOURCE_KIND_SEGMENT, UINT64_MAX, false,
                                          payload, s.now, &r),
                         RESOURCE_E_SPACE);
        /* Dropped and held, it is memory that is used. */
        resource_drop(&s.t, a, RESOURCE_LEFT_DROPPED, NULL, s.now);
        assert_int_equal(resource_publish(&s.t, c, RESOURCE_KIND_SEGMENT, 400001, false, payload,
                                          s.now, &r),
                         RESOURCE_E_SPACE);
        resource_release(&s.t, a, s.holders[0], false, s.now);
        assert_int_equal(resource_publish(&s.t, c, RESOURCE_KIND_SEGMENT, 400001, false, payload,
                                          s.now, &r),
                         RESOURCE_IS_HELD);
        resource_release(&s.t, r, s.holders[1], false, s.now);
        assert_int_equal(acquire(&s, 0, "c", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        publish(&s, reply.creation, 1000000);
        assert_int_equal(s.left[RESOURCE_LEFT_EVICTED], 1);
        assert_int_equal(resources_room(&s.t, &s.spaces[0]).bytes, 1000000);
        scene_done(&s);
}

static void each_living_holder_is_told_once(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 5);
        assert_int_equal(acquire(&s, 0, "k", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        reply.creation->policy.ttl_ms = 1000;
        struct resource *r = publish(&s, reply.creation, 1);
        for (unsigned i = 1; i < 5; i++)
                joins(&s, i, r);
        joins(&s, 1, r); /* twice, and is told once */
        resource_release(&s.t, r, s.holders[2], false, s.now);
        resource_holder_lost(&s.t, s.holders[3], s.now);
        pass(&s, 1000);
        assert_int_equal(r->cause, RESOURCE_LEFT_EXPIRED);
        dies(&s, 4);
        told(&s, r, 1u << 0 | 1u << 1);
        resource_drop(&s.t, r, RESOURCE_LEFT_CLEARED, NULL, s.now);
        told(&s, r, 0);
        assert_int_equal(r->cause, RESOURCE_LEFT_EXPIRED);
        /* Who was away is told when it is back. */
        resource_holder_again(&s.t, s.holders[3], &s);
        told(&s, r, 1u << 3);
        /* One who was told, and goes and comes, is not told again. */
        resource_holder_lost(&s.t, s.holders[0], s.now);
        resource_holder_again(&s.t, s.holders[0], &s);
        told(&s, r, 0);
        scene_done(&s);
}

static void grace_of_a_lost_holder(void **state)
{
        struct scene s;
        (void)state;
        begin(&s, 2);
        struct resource *r = made(&s, 0, "k", RESOURCE_KIND_SEGMENT);
        joins(&s, 1, r);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, r, RESOURCE_NEVER, NULL), RESOURCE_IS_PARKED);
        resource_holder_lost(&s.t, s.holders[0], s.now);
        pass(&s, 9999);
        nothing_decided(&s);
        assert_int_equal(resources_next_due(&s.t), s.now + 1);
        pass(&s, 1);
        assert_true(decided(&s, 1, RESOURCE_GOT_HOLD).owner_died);
        assert_int_equal(r->n_holders, 1);
        assert_null(resource_holder_find(&s.t, &s.spaces[0], 1000, 1));
        scene_done(&s);
}

/* ---- pools */

static void pool_with_a_user_that_dies(void **state)
{
        struct scene s;
        struct resource_reply reply;
        struct resource *r[2];
        (void)state;
        begin(&s, 4);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(acquire_pool(&s, i, "p", RESOURCE_KIND_DESCRIPTOR, 2, 0, &reply),
                                 RESOURCE_IS_YOURS);
                r[i] = publish(&s, reply.creation, 0);
        }
        assert_int_equal(acquire_pool(&s, 2, "p", RESOURCE_KIND_DESCRIPTOR, 2, 0, &reply),
                         RESOURCE_IS_BUSY);
        for (unsigned i = 2; i < 4; i++)
                assert_int_equal(acquire_pool(&s, i, "p", RESOURCE_KIND_DESCRIPTOR, 2, 1000,
                                              &reply),
                                 RESOURCE_IS_PARKED);
        uint64_t gone = r[0]->number;
        dies(&s, 0); /* its stream may be in the middle of a message */
        decided(&s, 2, RESOURCE_GOT_RIGHT);
        assert_null(resources_find(&s.t, gone));
        told(&s, NULL, 0);
        resource_release(&s.t, r[1], s.holders[1], false, s.now);
        assert_int_equal(decided(&s, 3, RESOURCE_GOT_HOLD).instance, r[1]->number);
        assert_int_equal(acquire_pool(&s, 1, "p", RESOURCE_KIND_DESCRIPTOR, 0, 0, &reply),
                         RESOURCE_E_POOL);
        assert_int_equal(acquire_pool(&s, 1, "p", RESOURCE_KIND_SEGMENT, 2, 0, &reply),
                         RESOURCE_E_KIND);
        assert_int_equal(reply.kind, RESOURCE_KIND_DESCRIPTOR);
        scene_done(&s);
}

static void pool_of_segments_tells_the_next_user(void **state)
{
        struct scene s;
        struct resource_reply reply;
        (void)state;
        begin(&s, 3);
        assert_int_equal(acquire_pool(&s, 0, "p", RESOURCE_KIND_SEGMENT, 1, 0, &reply),
                         RESOURCE_IS_YOURS);
        struct resource *r = publish(&s, reply.creation, 0);
        assert_int_equal(lock(&s, 0, r, 0, NULL), RESOURCE_E_POOL);
        dies(&s, 0);
        assert_int_equal(acquire_pool(&s, 1, "p", RESOURCE_KIND_SEGMENT, 1, 0, &reply),
                         RESOURCE_IS_HELD);
        assert_true(reply.owner_died);
        resource_release(&s.t, r, s.holders[1], false, s.now);
        assert_int_equal(acquire_pool(&s, 2, "p", RESOURCE_KIND_SEGMENT, 1, 0, &reply),
                         RESOURCE_IS_HELD);
        assert_false(reply.owner_died);
        scene_done(&s);
}

/* ---- a successor */

struct moved {
        struct resource_record record;
        uint8_t key[STORE_KEY_MAX];
        struct resource *r;
        void *payload;
};

static void move(struct scene *from, struct scene *to, struct resource *r, struct moved *m)
{
        m->record = resource_export(&from->t, r);
        memcpy(m->key, m->record.where.key, m->record.where.n_key);
        m->record.where.key = m->key;
        m->record.where.space = &to->spaces[0];
        m->payload = scene_payload(to);
        ((struct scene_payload *)m->payload)->word = *scene_word(r);
        assert_int_equal(resource_restore(&to->t, &m->record, m->payload, to->now, &m->r), 0);
}

static void a_successor_knows_what_is_claimed(void **state)
{
        struct scene s, next;
        struct moved locked, free_one, other;
        (void)state;
        begin(&s, 2);
        begin(&next, 0);
        struct resource *a = made(&s, 0, "a", RESOURCE_KIND_DESCRIPTOR);
        struct resource *b = made(&s, 0, "b", RESOURCE_KIND_DESCRIPTOR);
        struct resource *c = made(&s, 1, "c", RESOURCE_KIND_SEGMENT);
        assert_int_equal(lock(&s, 0, a, 0, NULL), RESOURCE_IS_HELD);
        assert_int_equal(lock(&s, 1, c, 0, NULL), RESOURCE_IS_HELD);
        move(&s, &next, a, &locked);
        move(&s, &next, b, &free_one);
        move(&s, &next, c, &other);
        assert_int_equal(locked.record.lock_owner, s.holders[0]->id);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(resource_holder_restore(&next.t, &next.spaces[0], 1000,
                                                         (pid_t)(100 + i), s.holders[i]->id,
                                                         s.holders[i]->number, 1, next.now,
                                                         &next.holders[i]),
                                 0);
        }
        assert_int_equal(resource_hold_restore(&next.t, locked.r, next.holders[0], 2, true, 1), 0);
        assert_int_equal(resource_hold_restore(&next.t, free_one.r, next.holders[0], 1, false, 1),
                         0);
        assert_int_equal(resource_hold_restore(&next.t, other.r, next.holders[1], 1, true, 1), 0);
        assert_int_equal(resource_hold_restore(&next.t, other.r, next.holders[1], 1, false, 1),
                         -EEXIST);
        assert_int_equal(resources_claim_until(&next.t, next.now + 5000), 0);
        scene_done(&s);

        assert_ptr_equal(resource_holder_find(&next.t, &next.spaces[0], 1000, 1), next.holders[0]);
        resource_holder_again(&next.t, next.holders[0], &next);
        assert_int_equal(resource_claim(&next.t, locked.r, next.holders[0], false),
                         RESOURCE_IS_HELD); /* and not its lock */
        assert_int_equal(resource_claim(&next.t, free_one.r, next.holders[0], true),
                         RESOURCE_E_NOT_HELD);
        assert_int_equal(resource_claim(&next.t, free_one.r, next.holders[0], false),
                         RESOURCE_IS_HELD);
        uint64_t lost = other.r->number;
        pass(&next, 5000);
        assert_int_equal(locked.r->cause, RESOURCE_LEFT_UNCLAIMED);
        told(&next, locked.r, 1u << 0);
        assert_int_equal(free_one.r->cause, 0);
        assert_null(resources_find(&next.t, lost)); /* nobody came for it */
        assert_int_equal(next.left[RESOURCE_LEFT_UNCLAIMED], 2);
        assert_int_equal(next.created, 0); /* what was restored is not new */
        /* Numbers go on. */
        assert_true(made(&next, 0, "a", RESOURCE_KIND_SEGMENT)->number > lost);
        scene_done(&next);
}

static void a_local_one_is_registered_again(void **state)
{
        struct scene s;
        struct resource *r, *again;
        struct resource_reply reply;
        const struct resource_policy policy = {.ttl_ms = RESOURCE_NEVER};
        (void)state;
        begin(&s, 3);
        struct resource_where where = scene_where(&s, "k");
        const struct resource_anew local = {.kind = RESOURCE_KIND_LOCAL};
        assert_int_equal(acquire(&s, 2, "k", RESOURCE_KIND_LOCAL, 0, &reply), RESOURCE_IS_YOURS);
        assert_int_equal(resources_register(&s.t, &where, s.holders[0], &policy, &local, s.now, &r),
                         RESOURCE_IS_HELD);
        assert_int_equal(resources_register(&s.t, &where, s.holders[1], &policy, &local, s.now,
                                            &again),
                         RESOURCE_IS_HELD);
        assert_ptr_equal(r, again);
        /* Who began before joins. */
        assert_int_equal(resource_publish(&s.t, reply.creation, RESOURCE_KIND_LOCAL, 0, false, NULL,
                                          s.now, &again),
                         RESOURCE_IS_HELD);
        assert_ptr_equal(r, again);
        assert_int_equal(r->n_holders, 3);
        scene_done(&s);
}

/* ---- bounds */

static void no_more_than_there_may_be(void **state)
{
        struct scene s;
        struct resource_reply reply;
        struct resource_holder *h;
        (void)state;
        begin(&s, 2);
        struct resource_bounds bounds = s.t.bounds;
        bounds.holders = 2;
        bounds.resources = 2;
        bounds.waiters = 1;
        resources_set_bounds(&s.t, &bounds);
        assert_int_equal(resource_holder_open(&s.t, &s.spaces[0], 1000, 1, 99, s.now, NULL, &h),
                         -EDQUOT);
        assert_int_equal(resource_holder_open(&s.t, &s.spaces[0], 1001, 1, 1, s.now, NULL, &h),
                         -EEXIST);
        assert_null(resource_holder_find(&s.t, &s.spaces[1], 1000, 1));
        assert_null(resource_holder_find(&s.t, &s.spaces[0], 1001, 1));
        struct resource *a = made(&s, 0, "a", RESOURCE_KIND_SEGMENT);
        assert_int_equal(acquire(&s, 0, "b", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        assert_int_equal(acquire(&s, 0, "c", RESOURCE_KIND_SEGMENT, 0, &reply),
                         RESOURCE_E_RESOURCES);
        assert_int_equal(acquire(&s, 1, "b", RESOURCE_KIND_SEGMENT, 9, &reply), RESOURCE_IS_PARKED);
        assert_int_equal(acquire(&s, 1, "b", RESOURCE_KIND_SEGMENT, 9, &reply), RESOURCE_E_WAITERS);
        resource_release(&s.t, a, s.holders[0], false, s.now);
        assert_int_equal(acquire(&s, 0, "c", RESOURCE_KIND_SEGMENT, 0, &reply), RESOURCE_IS_YOURS);
        assert_int_equal(s.left[RESOURCE_LEFT_EVICTED], 1);
        resources_close(&s.t);
        decided(&s, 1, RESOURCE_GOT_CLOSED);
        assert_int_equal(acquire(&s, 1, "b", RESOURCE_KIND_SEGMENT, 9, &reply), RESOURCE_IS_CLOSED);
        scene_done(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(owner_of_a_segments_lock_is_killed),
                cmocka_unit_test(owner_of_a_descriptors_lock_is_killed),
                cmocka_unit_test(a_lock_given_up_in_order_is_clean),
                cmocka_unit_test(a_word_that_names_nobody),
                cmocka_unit_test(two_locks_in_a_circle_end_by_deadline),
                cmocka_unit_test(locks_are_fair),
                cmocka_unit_test(creator_dies),
                cmocka_unit_test(creation_that_fails_makes_longer_pauses),
                cmocka_unit_test(check_that_always_fails),
                cmocka_unit_test(whoever_is_answered_too_late_gives_back),
                cmocka_unit_test(too_many_entries_and_all_are_held),
                cmocka_unit_test(bytes_are_won_from_what_nobody_holds),
                cmocka_unit_test(each_living_holder_is_told_once),
                cmocka_unit_test(grace_of_a_lost_holder),
                cmocka_unit_test(pool_with_a_user_that_dies),
                cmocka_unit_test(pool_of_segments_tells_the_next_user),
                cmocka_unit_test(a_successor_knows_what_is_claimed),
                cmocka_unit_test(a_local_one_is_registered_again),
                cmocka_unit_test(no_more_than_there_may_be),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
