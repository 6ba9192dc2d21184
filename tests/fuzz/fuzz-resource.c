/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: resources of hostile holders
 *
 * Each two or three bytes of the input are something that one of four holders does: acquire,
 * publish or give up under a right that it has or makes up, lock, unlock, release, say that it is
 * bad, write anything into a lock word, go away and come again, die; or a cache is cleared, or time
 * passes, or the table moves to a successor. Whatever comes: what is decided names what is there,
 * bounds hold, each payload is released once, a killed holder is told nothing and a living one
 * once, and when nobody may wait any more nobody does.
 */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tests/unit/resource-scene.h"

#define N_HOLDERS 4u
#define STEPS_MAX 2000u
#define BYTES     10000u

struct fuzz {
        struct scene *s;
        const uint8_t *at, *end;
        uint64_t instances[8], creations[8]; /* known lately */
        unsigned n_instances, n_creations;
};

static uint8_t take(struct fuzz *f)
{
        return f->at < f->end ? *f->at++ : 0;
}

static void know(struct fuzz *f, uint64_t instance, uint64_t creation)
{
        if (instance)
                f->instances[f->n_instances++ % 8] = instance;
        if (creation)
                f->creations[f->n_creations++ % 8] = creation;
}

static void read_answers(struct fuzz *f)
{
        struct resource_waiter *w;
        struct resource_hold *d;
        while ((w = resources_decided(&f->s->t))) {
                assert(w->outcome != RESOURCE_WAITS);
                if (w->holder && w->outcome == RESOURCE_GOT_HOLD && w->instance) {
                        struct resource *r = resources_find(&f->s->t, w->instance);
                        assert(!r || r->number == w->instance);
                }
                know(f, w->instance, w->creation_id);
                resource_waiter_free(&f->s->t, w);
        }
        while ((d = resources_next_event(&f->s->t))) {
                assert(d->resource->cause != 0 && !d->holder->lost);
                resource_hold_told(d);
                assert(resources_next_event(&f->s->t) != d);
        }
}

#define APART (2 | RESOURCE_APART)

static void acquire(struct fuzz *f, unsigned holder, uint8_t what)
{
        static const char *const keys[] = {"a", "b", "c", "ab"};
        uint8_t how = take(f);
        struct resource_reply reply;
        struct resource_where where = scene_where(f->s, keys[what & 3]);
        struct resource_ask ask = scene_ask(f->s, holder, 1 + (what >> 2) % 3);
        where.space = &f->s->spaces[0];
        where.cache = what & 128 ? APART : 1;
        ask.pool = (what & 0x40) ? 1u + (how >> 6) : 0;
        ask.wait_ms = (how & 1) ? 0 : (how & 2) ? RESOURCE_NEVER : 100u * (how >> 4);
        ask.no_create = how & 4;
        ask.policy.max_entries = (how & 8) ? 1 + (how >> 6) : 0;
        ask.policy.ttl_ms = (how & 32) ? 50u * (how >> 4) : RESOURCE_NEVER;
        int r = resources_acquire(&f->s->t, &where, &ask, f->s->now, &reply);
        if (r == RESOURCE_IS_HELD)
                know(f, reply.resource->number, 0);
        if (r == RESOURCE_IS_YOURS)
                know(f, 0, reply.creation->id);
}

static void create(struct fuzz *f, uint8_t what)
{
        uint8_t how = take(f);
        struct resource_creation *c =
                resource_creation_find(&f->s->t, (what & 8) ? what : f->creations[what & 7]);
        struct resource *r = NULL;
        if (!c)
                return;
        if (how & 1) {
                resource_creation_end(&f->s->t, c, (how & 2) ? "why" : NULL, f->s->now);
                return;
        }
        enum resource_kind kind = (how & 2) ? 1 + (how >> 2) % 3 : c->kind;
        void *payload = kind == RESOURCE_KIND_LOCAL ? NULL : scene_payload(f->s);
        uint64_t size = kind == RESOURCE_KIND_SEGMENT ? (uint64_t)(how >> 4) * 1000 : 0;
        if (resource_publish(&f->s->t, c, kind, (how & 0xfc) == 0xfc ? UINT64_MAX : size,
                             how & 4 && how & 8, payload, f->s->now, &r) == RESOURCE_IS_HELD)
                know(f, r->number, 0);
        else if (payload)
                scene_release(f->s, payload);
}

static void use(struct fuzz *f, unsigned holder, uint8_t what)
{
        struct resource *r = resources_find(&f->s->t, f->instances[what & 7]);
        struct resource_holder *h = f->s->holders[holder];
        struct resource_ask ask = scene_ask(f->s, holder, 0);
        struct resource_reply reply;
        if (!r)
                return;
        switch (what >> 3 & 7) {
        case 0:
        case 1:
                ask.wait_ms = (what & 64) ? RESOURCE_NEVER : 10u * (what >> 6);
                resource_lock(&f->s->t, r, &ask, f->s->now, &reply);
                break;
        case 2:
                resource_unlock(&f->s->t, r, h, f->s->now);
                break;
        case 3:
                if (what & 64)
                        resource_release_all(&f->s->t, r, h, what & 128, f->s->now);
                else
                        resource_release(&f->s->t, r, h, what & 128, f->s->now);
                break;
        case 4:
                resource_invalidate(&f->s->t, r, h, "bad", f->s->now);
                break;
        case 5:
                resource_claim(&f->s->t, r, h, what & 64);
                break;
        case 6:
                resource_drop(&f->s->t, r, RESOURCE_LEFT_HUNG_UP, NULL, f->s->now);
                break;
        default: /* its memory is theirs */
                if (r->payload)
                        *scene_word(r) = (uint32_t)(what >> 6) << 30 | take(f) % 16;
        }
}

/* As a successor does: what can be is made anew, nobody is told. */
static void move(struct fuzz *f)
{
        struct scene *to = calloc(1, sizeof(*to));
        if (!to)
                abort();
        scene_init(to);
        to->now = f->s->now;
        to->next_id = f->s->next_id;
        to->t.bounds = f->s->t.bounds;
        to->t.last_instance = f->s->t.last_instance;
        to->t.last_creation = f->s->t.last_creation;
        for (unsigned i = 0; i < N_HOLDERS; i++) {
                const struct resource_holder *h = f->s->holders[i];
                if (resource_holder_restore(&to->t, &to->spaces[0], h->uid, h->pid, h->id,
                                            h->number, h->since, f->s->now, &to->holders[i]) < 0)
                        abort();
        }
        unsigned steps = 0;
        uint64_t at = 0;
        struct resource *r, *made;
        for (;; at = r ? r->number : at) {
                steps = 4;
                r = resources_next(&f->s->t, &f->s->spaces[0], at, &steps, &at);
                if (!r && at == 0)
                        break;
                if (!r)
                        continue;
                struct resource_record record = resource_export(&f->s->t, r);
                void *payload = r->payload ? scene_payload(to) : NULL;
                if (payload)
                        ((struct scene_payload *)payload)->word = *scene_word(r);
                record.where.space = &to->spaces[0];
                if (resource_restore(&to->t, &record, payload, f->s->now, &made) < 0)
                        abort();
                for (struct list *n = r->holds.next; n != &r->holds; n = n->next) {
                        const struct resource_hold *d =
                                LIST_ENTRY(n, struct resource_hold, of_resource);
                        if (d->holder->stands_in)
                                continue;
                        if (resource_hold_restore(&to->t, made, to->holders[d->holder->pid - 100],
                                                  d->count, record.lock_owner == d->holder->id,
                                                  d->since) < 0)
                                abort();
                }
        }
        resources_claim_until(&to->t, f->s->now + 3000);
        scene_done(f->s);
        free(f->s);
        f->s = to;
}

/* A local one, or a segment whose word names somebody. */
static void come_cold(struct fuzz *f, struct resource_holder *h, uint8_t what)
{
        struct resource_where where = scene_where(f->s, what & 8 ? "a" : "b");
        struct resource_policy policy = {.ttl_ms = 100};
        struct resource_anew anew = {.kind = RESOURCE_KIND_LOCAL};
        struct resource *r, *there;
        bool taken;
        if (!(what & 16)) {
                resources_register(&f->s->t, &where, h, &policy, &anew, f->s->now, &r);
                return;
        }
        there = resources_there(&f->s->t, &where, &taken);
        if (there)
                resource_join(&f->s->t, there, h, f->s->now);
        if (taken)
                return;
        anew = (struct resource_anew){.kind = RESOURCE_KIND_SEGMENT,
                                      .size = 10,
                                      .payload = scene_payload(f->s)};
        ((struct scene_payload *)anew.payload)->word = what >> 5;
        if (resources_register(&f->s->t, &where, h, &policy, &anew, f->s->now, &r) !=
            RESOURCE_IS_HELD) {
                scene_release(f->s, anew.payload);
                return;
        }
        know(f, r->number, 0);
        resource_stand_in(&f->s->t, r, ++f->s->next_id, f->s->now);
}

static void other(struct fuzz *f, unsigned holder, uint8_t what)
{
        struct resource_where where = scene_where(f->s, "a");
        struct resource_holder *h = f->s->holders[holder];
        switch (what & 7) {
        case 0:
                resource_holder_lost(&f->s->t, h, f->s->now);
                break;
        case 1:
                resource_holder_again(&f->s->t, h, f);
                break;
        case 2:
                resource_holder_end(&f->s->t, h, what & 8, f->s->now);
                scene_holder(f->s, holder);
                resource_holder_wants(&f->s->t, f->s->holders[holder], what >> 4, f->s->now);
                break;
        case 3:
                if (what >> 6 == 3)
                        resources_cache_ends(&f->s->t, &f->s->spaces[0], APART, f->s->now);
                else
                        resources_cleared(&f->s->t, &f->s->spaces[0],
                                          what & 128 ? APART : what >> 6, (const uint8_t *)"a",
                                          what >> 5 & 1, f->s->now, NULL);
                break;
        case 4:
                come_cold(f, h, what);
                break;
        case 5:
                resource_party_done(&f->s->t, &f->s->party, f->s->now);
                resource_party_init(&f->s->party, f->s);
                break;
        case 6:
                resources_dropped(&f->s->t, &where, RESOURCE_LEFT_DROPPED, f->s->now, NULL);
                break;
        default:
                f->s->now += 20u * what;
        }
}

/* A holder whose grace is over is gone: another one comes in its place. */
static void time_passes(struct fuzz *f)
{
        for (unsigned i = 0; i < N_HOLDERS; i++)
                if (f->s->holders[i]->lost && f->s->holders[i]->timer.due <= f->s->now) {
                        resource_holder_end(&f->s->t, f->s->holders[i], true, f->s->now);
                        scene_holder(f->s, i);
                }
        resources_tick(&f->s->t, f->s->now);
        assert(resources_next_due(&f->s->t) > f->s->now);
}

static void check(struct fuzz *f)
{
        struct resource_gauge g = resources_gauge(&f->s->t, &f->s->spaces[0], 0);
        struct resource_room room = resources_room(&f->s->t, &f->s->spaces[0]);
        assert(g.bytes <= room.bytes && room.bytes <= BYTES);
        assert(g.resources + g.creating <= room.resources && room.resources <= 6);
        for (struct list *n = f->s->t.all.next; n != &f->s->t.all; n = n->next) {
                const struct resource *r = LIST_ENTRY(n, struct resource, of_all);
                assert(r->cause == 0 || r->n_holders > 0);
                assert(!r->pooled || r->n_holders <= 1);
                assert((r->n_lock_waiting == 0) == list_is_empty(&r->lock_waiting));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct fuzz *f = calloc(1, sizeof(*f));
        if (!f)
                abort();
        f->at = data;
        f->end = data + n;
        f->s = calloc(1, sizeof(*f->s));
        if (!f->s)
                abort();
        scene_init(f->s);
        f->s->t.bounds.space_bytes = BYTES;
        f->s->t.bounds.space_resources = 6;
        f->s->t.bounds.waiters = 12;
        for (unsigned i = 0; i < N_HOLDERS; i++)
                scene_holder(f->s, i);
        for (unsigned i = 0; i < STEPS_MAX && f->at < f->end; i++) {
                uint8_t who = take(f), what = take(f);
                unsigned holder = who & 3;
                switch (who >> 2 & 7) {
                case 0:
                case 1:
                case 2:
                        acquire(f, holder, what);
                        break;
                case 3:
                        create(f, what);
                        break;
                case 4:
                case 5:
                        use(f, holder, what);
                        break;
                default:
                        if (who == 0xff && f->s->t.deadlines.n > 0)
                                move(f);
                        else
                                other(f, holder, what);
                }
                if (who & 128)
                        read_answers(f);
                time_passes(f);
                check(f);
        }
        resources_close(&f->s->t);
        read_answers(f);
        assert(resources_gauge(&f->s->t, &f->s->spaces[0], 0).waiting == 0);
        scene_done(f->s);
        free(f->s);
        free(f);
        return 0;
}
