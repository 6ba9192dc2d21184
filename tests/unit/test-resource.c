/* SPDX-License-Identifier: MIT */
/*
 * Resources: random histories beside a model
 *
 * The model keeps what a reader of the protocol would: who holds what how often, who has which
 * lock, who waits in which order, what has left. Random operations are done to both, and after each
 * one what can be seen must be the same. The lock words of segments are real ones here, and lie
 * with the payloads, of which each is released once. Named cases are in test-resource-edges.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/resource-scene.h"

#define N_HOLDERS   5
#define N_KEYS      4
#define N_INSTANCES 512
#define N_WAITING   128
#define STEPS       4000
#define HISTORIES   40

/* Keys 0 to 3: a segment, a descriptor, a local one, a pool of two descriptors. */
static const uint8_t kind_of[N_KEYS] = {RESOURCE_KIND_SEGMENT, RESOURCE_KIND_DESCRIPTOR,
                                        RESOURCE_KIND_LOCAL, RESOURCE_KIND_DESCRIPTOR};
static const char *const text_of[N_KEYS] = {"segment", "descriptor", "local", "pool"};
#define POOL_KEY 3u
#define POOL     2u

struct m_instance {
        uint64_t number;
        unsigned key;
        bool in_cache;
        unsigned holds[N_HOLDERS];
        int owner; /* -1: nobody */
        bool told[N_HOLDERS];
};

struct m_waiter {
        uint64_t request;
        unsigned holder, key;
        uint64_t lock_of; /* 0: an acquire */
        uint64_t due;
};

struct model {
        struct m_instance instances[N_INSTANCES];
        unsigned n_instances;
        struct m_waiter waiting[N_WAITING];
        unsigned n_waiting;
        uint64_t creation[N_HOLDERS][N_KEYS]; /* 0: none */
};

struct history {
        struct scene s;
        struct model m;
        uint64_t random, request;
};

static unsigned rnd(struct history *h, unsigned n)
{
        h->random = h->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (unsigned)((h->random >> 33) % n);
}

static struct m_instance *m_find(struct model *m, uint64_t number)
{
        for (unsigned i = 0; i < m->n_instances; i++)
                if (m->instances[i].number == number)
                        return &m->instances[i];
        fail_msg("the model knows no instance %llu", (unsigned long long)number);
        return NULL;
}

static unsigned m_holders(const struct m_instance *i)
{
        unsigned n = 0;
        for (unsigned h = 0; h < N_HOLDERS; h++)
                n += i->holds[h] > 0;
        return n;
}

static unsigned m_creating(const struct model *m, unsigned key)
{
        unsigned n = 0;
        for (unsigned h = 0; h < N_HOLDERS; h++)
                n += m->creation[h][key] != 0;
        return n;
}

static unsigned m_count(const struct model *m, unsigned key)
{
        unsigned n = 0;
        for (unsigned i = 0; i < m->n_instances; i++)
                n += m->instances[i].in_cache && m->instances[i].key == key;
        return n;
}

/* Whoever asks now need not wait. */
static bool m_is_free(const struct model *m, unsigned key)
{
        for (unsigned i = 0; i < m->n_instances; i++)
                if (m->instances[i].in_cache && m->instances[i].key == key &&
                    (key != POOL_KEY || m_holders(&m->instances[i]) == 0))
                        return true;
        return m_count(m, key) + m_creating(m, key) < (key == POOL_KEY ? POOL : 1);
}

static void m_stop(struct model *m, unsigned at)
{
        m->n_waiting--;
        memmove(&m->waiting[at], &m->waiting[at + 1], (m->n_waiting - at) * sizeof(m->waiting[0]));
}

static void m_got(struct model *m, unsigned holder, uint64_t number, unsigned key)
{
        struct m_instance *i = m_find(m, number);
        assert_int_equal(i->key, key);
        if (key == POOL_KEY)
                assert_int_equal(m_holders(i), 0);
        i->holds[holder]++;
        if (key == POOL_KEY)
                i->owner = (int)holder;
}

/* The order of the line: nobody before it waits for the same. */
static unsigned m_turn(const struct model *m, uint64_t request, bool timeout)
{
        for (unsigned i = 0; i < m->n_waiting; i++) {
                const struct m_waiter *w = &m->waiting[i];
                if (w->request != request)
                        continue;
                for (unsigned j = 0; j < i && !timeout; j++)
                        assert_false(m->waiting[j].key == w->key &&
                                     m->waiting[j].lock_of == w->lock_of);
                return i;
        }
        fail_msg("nobody waits with %llu", (unsigned long long)request);
        return 0;
}

static void take_decision(struct history *h, const struct resource_waiter *w)
{
        bool out_of_turn = w->outcome == RESOURCE_GOT_TIMEOUT;
        unsigned at = m_turn(&h->m, w->note.request_id, out_of_turn);
        struct m_waiter was = h->m.waiting[at];
        m_stop(&h->m, at);
        switch (w->outcome) {
        case RESOURCE_GOT_HOLD:
                if (was.lock_of) {
                        struct m_instance *i = m_find(&h->m, was.lock_of);
                        assert_int_equal(w->instance, was.lock_of);
                        assert_int_equal(i->owner, -1);
                        assert_true(i->holds[was.holder] > 0);
                        i->owner = (int)was.holder;
                } else {
                        m_got(&h->m, was.holder, w->instance, was.key);
                }
                break;
        case RESOURCE_GOT_RIGHT:
                assert_int_equal(was.lock_of, 0);
                assert_true(m_count(&h->m, was.key) + m_creating(&h->m, was.key) <
                            (was.key == POOL_KEY ? POOL : 1));
                h->m.creation[was.holder][was.key] = w->creation_id;
                break;
        case RESOURCE_GOT_TIMEOUT:
                assert_true(was.due <= h->s.now);
                break;
        case RESOURCE_GOT_FAILURE:
                assert_int_equal(was.lock_of, 0);
                assert_true(w->retry_ms > 0);
                break;
        case RESOURCE_GOT_NOT_FOUND: /* the lock of what has left under it */
                assert_true(was.lock_of != 0);
                break;
        default:
                fail_msg("outcome %u", w->outcome);
        }
}

static void drain(struct history *h)
{
        struct resource_waiter *w;
        struct resource_hold *d;
        while ((w = resources_decided(&h->s.t))) {
                take_decision(h, w);
                resource_waiter_free(&h->s.t, w);
        }
        while ((d = resources_next_event(&h->s.t))) {
                struct m_instance *i = m_find(&h->m, d->resource->number);
                unsigned at = (unsigned)(d->holder->pid - 100);
                assert_false(i->in_cache);
                assert_true(i->holds[at] > 0);
                assert_false(i->told[at]);
                i->told[at] = true;
                resource_hold_told(d);
        }
}

/* ---- both must be the same */

/* A pool may wait for a free instance while nobody may create: how long, test-resource-edges.c
 * knows. */
static bool in_pause(const struct history *h, unsigned key)
{
        const struct resource_slot *s = NULL;
        for (unsigned i = 0; i < h->m.n_instances; i++)
                if (h->m.instances[i].in_cache && h->m.instances[i].key == key)
                        s = resources_find(&h->s.t, h->m.instances[i].number)->slot;
        for (unsigned i = 0; i < N_HOLDERS; i++)
                if (h->m.creation[i][key])
                        s = resource_creation_find(&h->s.t, h->m.creation[i][key])->slot;
        return s && h->s.now < s->retry_at;
}

static void check_instance(struct history *h, const struct m_instance *i)
{
        const struct resource *r = resources_find(&h->s.t, i->number);
        if (!i->in_cache && m_holders(i) == 0) {
                assert_null(r);
                return;
        }
        assert_non_null(r);
        assert_int_equal(r->cause == 0, i->in_cache);
        assert_int_equal(r->n_holders, m_holders(i));
        for (unsigned n = 0; n < N_HOLDERS; n++) {
                const struct resource_hold *d = resource_hold_find(&h->s.t, r, h->s.holders[n]);
                assert_int_equal(d ? d->count : 0, i->holds[n]);
                if (d && !i->in_cache)
                        assert_true(i->told[n]);
        }
        const struct resource_hold *owner = resource_lock_owner(&h->s.t, r);
        assert_int_equal(owner ? owner->holder->pid - 100 : -1, i->owner);
}

static void check_waiting(struct history *h)
{
        uint64_t waiting = 0, held = 0, locked = 0;
        for (unsigned i = 0; i < h->m.n_waiting; i++) {
                const struct m_waiter *w = &h->m.waiting[i];
                waiting += w->lock_of == 0 || m_find(&h->m, w->lock_of)->in_cache;
                if (w->lock_of)
                        assert_true(m_find(&h->m, w->lock_of)->owner >= 0);
                else
                        assert_true(!m_is_free(&h->m, w->key) || in_pause(h, w->key));
        }
        for (unsigned n = 0; n < h->m.n_instances; n++) {
                const struct m_instance *i = &h->m.instances[n];
                held += i->in_cache && m_holders(i) > 0;
                locked += i->in_cache && i->owner >= 0 && i->key != POOL_KEY;
        }
        struct resource_gauge g = resources_gauge(&h->s.t, &h->s.spaces[0], 0);
        uint64_t resources = 0, creating = 0;
        for (unsigned key = 0; key < N_KEYS; key++) {
                resources += m_count(&h->m, key);
                creating += m_creating(&h->m, key);
        }
        assert_int_equal(g.waiting, waiting);
        assert_int_equal(g.resources, resources);
        assert_int_equal(g.creating, creating);
        assert_int_equal(g.held, held);
        assert_int_equal(g.locked, locked);
}

/* What the table says has left has left: of the model, too. */
static void note_left(void *ctx, struct resource *r)
{
        struct history *h = ctx;
        struct m_instance *i = m_find(&h->m, r->number);
        assert_true(i->in_cache);
        i->in_cache = false;
}

/* ---- what is done */

static bool m_wants(const struct model *m, unsigned holder, unsigned key)
{
        for (unsigned i = 0; i < m->n_waiting; i++)
                if (m->waiting[i].holder == holder && m->waiting[i].key == key)
                        return true;
        return m->creation[holder][key] != 0;
}

static void acquire(struct history *h, unsigned holder, unsigned key)
{
        struct resource_reply reply;
        struct resource_where where = scene_where(&h->s, text_of[key]);
        struct resource_ask ask = scene_ask(&h->s, holder, kind_of[key]);
        bool is_free = m_is_free(&h->m, key), pause = in_pause(h, key);
        if (key == POOL_KEY && m_wants(&h->m, holder, key)) /* the model has one right of each */
                return;
        ask.pool = key == POOL_KEY ? POOL : 0;
        ask.wait_ms = rnd(h, 3) ? rnd(h, 20000) : 0;
        ask.note.request_id = ++h->request;
        int r = resources_acquire(&h->s.t, &where, &ask, h->s.now, &reply);
        switch (r) {
        case RESOURCE_IS_HELD:
                assert_true(is_free);
                m_got(&h->m, holder, reply.resource->number, key);
                break;
        case RESOURCE_IS_YOURS:
                assert_true(is_free);
                h->m.creation[holder][key] = reply.creation->id;
                break;
        case RESOURCE_IS_FAILED:
                assert_int_equal(m_count(&h->m, key) + m_creating(&h->m, key), 0);
                assert_true(reply.retry_ms > 0);
                break;
        case RESOURCE_IS_BUSY:
                assert_int_equal(ask.wait_ms, 0);
                assert_true(!is_free || pause);
                break;
        case RESOURCE_IS_PARKED:
                assert_true(!is_free || pause);
                assert_true(h->m.n_waiting < N_WAITING);
                h->m.waiting[h->m.n_waiting++] =
                        (struct m_waiter){h->request, holder, key, 0, h->s.now + ask.wait_ms};
                break;
        default:
                fail_msg("answer %d", r);
        }
}

static void publish(struct history *h, unsigned holder, unsigned key)
{
        struct resource_creation *c = resource_creation_find(&h->s.t, h->m.creation[holder][key]);
        struct resource *r;
        if (h->m.creation[holder][key] == 0)
                return;
        assert_non_null(c);
        void *payload = kind_of[key] == RESOURCE_KIND_LOCAL ? NULL : scene_payload(&h->s);
        if (rnd(h, 4) == 0)
                c->policy.ttl_ms = 1 + rnd(h, 30000);
        h->m.creation[holder][key] = 0;
        assert_true(h->m.n_instances < N_INSTANCES);
        struct m_instance *i = &h->m.instances[h->m.n_instances++];
        *i = (struct m_instance){.number = h->s.t.last_instance + 1,
                                 .key = key,
                                 .in_cache = true,
                                 .owner = -1};
        i->holds[holder] = 1;
        if (key == POOL_KEY)
                i->owner = (int)holder;
        assert_int_equal(resource_publish(&h->s.t, c, kind_of[key], 100, false, payload, h->s.now,
                                          &r),
                         RESOURCE_IS_HELD);
        assert_int_equal(r->number, i->number);
}

static struct m_instance *any_held(struct history *h, unsigned holder)
{
        for (unsigned n = 0; n < 8 && h->m.n_instances > 0; n++) {
                unsigned back = rnd(h, h->m.n_instances < 6 ? h->m.n_instances : 6);
                struct m_instance *i = &h->m.instances[h->m.n_instances - 1 - back];
                if (i->holds[holder] > 0)
                        return i;
        }
        return NULL;
}

/* A hold ends: of the model. */
static void m_unhold(struct history *h, struct m_instance *i, unsigned holder)
{
        i->holds[holder] = 0;
        i->told[holder] = false;
        if (i->owner == (int)holder)
                i->owner = -1;
        for (unsigned n = 0; n < h->m.n_waiting;) {
                /* Those are decided, and come first: nobody of them is in line any more. */
                const struct m_waiter *w = &h->m.waiting[n];
                if (w->lock_of == i->number && w->holder == holder)
                        m_stop(&h->m, n);
                else
                        n++;
        }
}

static void release(struct history *h, unsigned holder, bool broken)
{
        struct m_instance *i = any_held(h, holder);
        if (!i)
                return;
        for (unsigned n = 0; n < h->m.n_waiting; n++)
                if (h->m.waiting[n].holder == holder && h->m.waiting[n].lock_of == i->number)
                        return; /* see test-resource-edges.c */
        if (i->holds[holder] > 1)
                i->holds[holder]--;
        else
                m_unhold(h, i, holder);
        assert_int_equal(resource_release(&h->s.t, resources_find(&h->s.t, i->number),
                                          h->s.holders[holder], broken, h->s.now),
                         RESOURCE_IS_HELD);
        if (broken)
                assert_false(i->in_cache);
}

static void lock(struct history *h, unsigned holder)
{
        struct m_instance *i = any_held(h, holder);
        struct resource_reply reply;
        struct resource_ask ask = scene_ask(&h->s, holder, RESOURCE_KIND_NONE);
        if (!i)
                return;
        ask.wait_ms = rnd(h, 3) ? rnd(h, 20000) : 0;
        ask.note.request_id = ++h->request;
        int r = resource_lock(&h->s.t, resources_find(&h->s.t, i->number), &ask, h->s.now, &reply);
        if (i->key == POOL_KEY) {
                assert_int_equal(r, RESOURCE_E_POOL);
        } else if (i->owner == (int)holder) {
                assert_int_equal(r, RESOURCE_IS_YOURS);
        } else if (i->owner < 0) {
                assert_int_equal(r, RESOURCE_IS_HELD);
                i->owner = (int)holder;
        } else if (ask.wait_ms == 0) {
                assert_int_equal(r, RESOURCE_IS_BUSY);
                assert_int_equal(reply.pid, 100 + i->owner);
        } else {
                assert_int_equal(r, RESOURCE_IS_PARKED);
                assert_true(h->m.n_waiting < N_WAITING);
                h->m.waiting[h->m.n_waiting++] =
                        (struct m_waiter){h->request, holder, i->key, i->number,
                                          h->s.now + ask.wait_ms};
        }
}

static void unlock(struct history *h, unsigned holder)
{
        struct m_instance *i = any_held(h, holder);
        if (!i)
                return;
        bool has = i->owner == (int)holder && i->key != POOL_KEY;
        if (has)
                i->owner = -1;
        assert_int_equal(resource_unlock(&h->s.t, resources_find(&h->s.t, i->number),
                                         h->s.holders[holder], h->s.now),
                         has ? RESOURCE_IS_HELD : RESOURCE_E_NOT_HELD);
}

/* The holder ends, and another one comes in its place. */
static void end(struct history *h, unsigned holder, bool died)
{
        for (unsigned n = 0; n < h->m.n_waiting; n++)
                if (h->m.waiting[n].holder == holder)
                        return; /* see test-resource-edges.c */
        for (unsigned n = 0; n < h->m.n_instances; n++)
                if (h->m.instances[n].holds[holder] > 0)
                        m_unhold(h, &h->m.instances[n], holder);
        memset(h->m.creation[holder], 0, sizeof(h->m.creation[holder]));
        resource_holder_end(&h->s.t, h->s.holders[holder], died, h->s.now);
        scene_holder(&h->s, holder);
}

static void give_up(struct history *h, unsigned holder, unsigned key)
{
        struct resource_creation *c = resource_creation_find(&h->s.t, h->m.creation[holder][key]);
        if (h->m.creation[holder][key] == 0)
                return;
        assert_non_null(c);
        h->m.creation[holder][key] = 0;
        bool why = rnd(h, 2);
        uint64_t pause = resource_creation_end(&h->s.t, c, why ? "why" : NULL, h->s.now);
        assert_int_equal(pause > 0, why);
}

static void others(struct history *h, unsigned holder, unsigned key)
{
        struct resource_where where = scene_where(&h->s, text_of[key]);
        struct m_instance *i = any_held(h, holder);
        switch (rnd(h, 5)) {
        case 0:
                resources_dropped(&h->s.t, &where, RESOURCE_LEFT_DROPPED, h->s.now, NULL);
                assert_int_equal(m_count(&h->m, key), 0);
                break;
        case 1:
                if (rnd(h, 4) == 0)
                        resources_cleared(&h->s.t, &h->s.spaces[0], 1, NULL, 0, h->s.now, NULL);
                break;
        case 2:
                if (i)
                        resource_invalidate(&h->s.t, resources_find(&h->s.t, i->number),
                                            h->s.holders[holder], "bad", h->s.now);
                break;
        case 3:
                release(h, holder, true);
                break;
        default:
                end(h, holder, rnd(h, 2));
        }
}

static void step(struct history *h)
{
        unsigned holder = rnd(h, N_HOLDERS), key = rnd(h, N_KEYS);
        switch (rnd(h, 16)) {
        case 0:
        case 1:
        case 2:
        case 3:
                acquire(h, holder, key);
                break;
        case 4:
        case 5:
        case 6:
                publish(h, holder, key);
                break;
        case 7:
        case 8:
                release(h, holder, false);
                break;
        case 9:
        case 10:
                lock(h, holder);
                break;
        case 11:
        case 12:
                unlock(h, holder);
                break;
        case 13:
                give_up(h, holder, key);
                break;
        case 14:
                others(h, holder, key);
                break;
        default:
                h->s.now += rnd(h, 3000);
                resources_tick(&h->s.t, h->s.now);
        }
}

static void history(uint64_t seed)
{
        struct history *h = calloc(1, sizeof(*h));
        assert_non_null(h);
        h->random = seed;
        scene_init(&h->s);
        h->s.on_left = note_left;
        h->s.on_left_ctx = h;
        for (unsigned i = 0; i < N_HOLDERS; i++)
                scene_holder(&h->s, i);
        for (unsigned n = 0; n < STEPS && h->m.n_instances < N_INSTANCES; n++) {
                step(h);
                drain(h);
                for (unsigned i = 0; i < h->m.n_instances; i++)
                        check_instance(h, &h->m.instances[i]);
                check_waiting(h);
        }
        h->s.on_left = NULL;
        scene_done(&h->s);
        free(h);
}

static void same_as_the_model(void **state)
{
        (void)state;
        for (uint64_t seed = 1; seed <= HISTORIES; seed++)
                history(seed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_the_model)};
        return cmocka_run_group_tests(tests, NULL, NULL);
}
