/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_STEPS_H
#define RESOURCE_STEPS_H

/*
 * Steps of tests with names: what is done to a scene, and what must have come of it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/resource-scene.h"

static inline void begin(struct scene *s, unsigned holders)
{
        scene_init(s);
        for (unsigned i = 0; i < holders; i++)
                scene_holder(s, i);
}

static inline int acquire_pool(struct scene *s, unsigned holder, const char *key, uint8_t kind,
                               uint32_t pool, uint64_t wait_ms, struct resource_reply *ret)
{
        struct resource_where where = scene_where(s, key);
        struct resource_ask ask = scene_ask(s, holder, kind);
        ask.pool = pool;
        ask.wait_ms = wait_ms;
        ask.note.request_id = holder;
        return resources_acquire(&s->t, &where, &ask, s->now, ret);
}

static inline int acquire(struct scene *s, unsigned holder, const char *key, uint8_t kind,
                          uint64_t wait_ms, struct resource_reply *ret)
{
        return acquire_pool(s, holder, key, kind, 0, wait_ms, ret);
}

static inline struct resource *publish(struct scene *s, struct resource_creation *c, uint64_t size)
{
        struct resource *r = NULL;
        assert_int_equal(resource_publish(&s->t, c, c->kind, size, false, scene_payload(s), s->now,
                                          &r),
                         RESOURCE_IS_HELD);
        return r;
}

/* @holder has made it. */
static inline struct resource *made(struct scene *s, unsigned holder, const char *key, uint8_t kind)
{
        struct resource_reply reply;
        assert_int_equal(acquire(s, holder, key, kind, 0, &reply), RESOURCE_IS_YOURS);
        return publish(s, reply.creation, 100);
}

static inline void joins(struct scene *s, unsigned holder, const struct resource *r)
{
        struct resource_reply reply;
        char key[STORE_KEY_MAX + 1] = {0};
        memcpy(key, r->slot->key, r->slot->n_key);
        assert_int_equal(acquire(s, holder, key, r->kind, 0, &reply), RESOURCE_IS_HELD);
        assert_ptr_equal(reply.resource, r);
}

static inline int lock(struct scene *s, unsigned holder, struct resource *r, uint64_t wait_ms,
                       bool *died)
{
        struct resource_reply reply;
        struct resource_ask ask = scene_ask(s, holder, 0);
        ask.wait_ms = wait_ms;
        ask.note.request_id = holder;
        int answer = resource_lock(&s->t, r, &ask, s->now, &reply);
        if (died)
                *died = reply.owner_died;
        return answer;
}

/* The next decision is @holder's. */
static inline struct resource_waiter decided(struct scene *s, unsigned holder, uint8_t outcome)
{
        struct resource_waiter *w = resources_decided(&s->t), copy;
        assert_non_null(w);
        assert_int_equal(w->note.request_id, holder);
        assert_int_equal(w->outcome, outcome);
        copy = *w;
        resource_waiter_free(&s->t, w);
        return copy;
}

static inline void nothing_decided(struct scene *s)
{
        assert_null(resources_decided(&s->t));
}

static inline void pass(struct scene *s, uint64_t ms)
{
        s->now += ms;
        resources_tick(&s->t, s->now);
}

static inline void dies(struct scene *s, unsigned holder)
{
        resource_holder_end(&s->t, s->holders[holder], true, s->now);
        s->holders[holder] = NULL;
}

/* Events that come now, and no others: one bit for each holder. */
static inline void told(struct scene *s, const struct resource *r, unsigned holders)
{
        struct resource_hold *d;
        unsigned seen = 0;
        while ((d = resources_next_event(&s->t))) {
                unsigned bit = 1u << (d->holder->pid - 100);
                assert_ptr_equal(d->resource, r);
                assert_false(seen & bit);
                seen |= bit;
                resource_hold_told(d);
        }
        assert_int_equal(seen, holders);
}

#endif
