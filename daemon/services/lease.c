/* SPDX-License-Identifier: MIT */
/*
 * Leases
 *
 * The right to compute the value of a key. At most one is held for a key; who else asks for it
 * waits in line, or is told who holds it. Whoever is first in the line gets the lease when it ends
 * without a value; with one, all get that.
 *
 *   party    a connection: what it holds ends with it, and what it waits for
 *   owner    a number within a party: one computation, which may hold many and wait for one
 *   slot     a key that somebody computes, or may still store late
 *   late     a lease that took longer than it was given: somebody else may hold one by now, and
 *            what this one stores is as good, unless the key has changed since
 *
 * Where somebody waits somebody holds: each end decides at once who is next.
 *
 * A lease that its key's change made worthless is forgotten; so who stores under a number that is
 * not known is too late. That needs no history of keys. Tags are different, since what tags a value
 * has is known when it is stored: each lease remembers which were cleared since it was granted.
 *
 * A wait that closes a circle would never end, so asking for it is answered at once. Circles arise
 * only by asking: who gets a lease waits no more. An owner that waits in several places at once
 * makes the search longer, and beyond its bound the answer is "a circle", too, which costs a
 * computation and holds up nobody.
 */
#include "services/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "services/lease-private.h"

#define CYCLE_STEPS 64 /* owners that are looked at; real chains have a few */

/* ---- leases */

static void count(const struct leases *t, const struct lease_slot *s, enum lease_count what)
{
        t->hooks.count(t->hooks.ctx, s->group->space, s->group->cache, what);
}

static bool is_held(const struct lease *l)
{
        return l->slot->holder == l;
}

/* Of its slot, which stays, and of nobody else. */
static void unhold(struct leases *t, struct lease *l)
{
        struct lease_account *a = l->party->account;
        if (l->late) {
                a->n_lates--;
        } else {
                a->n_leases--;
                l->slot->holder = NULL;
                l->slot->group->computing--;
                if (l->refresh)
                        t->hooks.over(t->hooks.ctx, l);
        }
        list_unlink(&l->of_slot);
        list_unlink(&l->of_late);
        timerheap_drop(&t->deadlines, &l->timer);
}

/* Nothing knows it any more. The slot stays. */
static void forget(struct leases *t, struct lease *l)
{
        unhold(t, l);
        list_unlink(&l->of_all);
        list_unlink(&l->of_party);
        chains_remove(&t->ids, &l->link);
        free(l->progress);
        free(l);
}

static void forget_all(struct leases *t, struct lease_slot *s)
{
        if (s->holder)
                forget(t, s->holder);
        struct list *next;
        for (struct list *n = s->lates.next; n != &s->lates; n = next) {
                next = n->next;
                forget(t, LIST_ENTRY(n, struct lease, of_slot));
        }
}

/* 0, LEASE_E_LEASES, -ENOMEM. */
static int grant(struct leases *t, struct lease_slot *s, struct lease_party *p, uint64_t number,
                 uint32_t hold_ms, uint64_t now)
{
        if (p->account->n_leases >= t->max_leases)
                return LEASE_E_LEASES;
        struct lease *l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        *l = (struct lease){.slot = s, .party = p, .number = number, .since = now};
        l->id = t->last_id + 1 ? t->last_id + 1 : 1;
        list_init(&l->of_late);
        list_init(&l->of_slot);
        timer_init(&l->timer, LEASE_TIMER_HOLD);
        if (timerheap_set(&t->deadlines, &l->timer, hold_ms ? now + hold_ms : LEASE_NEVER) < 0 ||
            chains_add(&t->ids, &l->link, l->id) < 0) {
                timerheap_drop(&t->deadlines, &l->timer);
                free(l);
                return -ENOMEM;
        }
        t->last_id = l->id;
        list_append(&t->all, &l->of_all);
        list_append(&p->leases, &l->of_party);
        s->holder = l;
        s->group->computing++;
        p->account->n_leases++;
        count(t, s, LEASE_COUNT_GRANTED);
        return 0;
}

/* ---- waiters */

/* It waits no more; nobody is told. */
static void stop_waiting(struct leases *t, struct lease_waiter *w)
{
        struct lease_slot *s = w->slot;
        if (s->news_at == &w->of_slot)
                s->news_at = w->of_slot.next;
        list_unlink(&w->of_slot);
        chains_remove(&t->owners, &w->link);
        timerheap_drop(&t->deadlines, &w->timer);
        s->group->waiting--;
        if (--s->n_waiting == 0)
                list_unlink(&s->news);
}

static void decide(struct leases *t, struct lease_waiter *w, enum lease_outcome outcome,
                   void *payload)
{
        stop_waiting(t, w);
        w->outcome = (uint8_t)outcome;
        w->payload = payload;
        list_append(&t->decided, &w->turn);
}

static struct lease_waiter *first_waiting(const struct lease_slot *s)
{
        return LIST_ENTRY(s->waiting.next, struct lease_waiter, of_slot);
}

static size_t decide_all(struct leases *t, struct lease_slot *s, enum lease_outcome outcome,
                         void *payload)
{
        size_t n = s->n_waiting;
        while (!list_is_empty(&s->waiting))
                decide(t, first_waiting(s), outcome, payload);
        return n;
}

/* Nobody holds it: whoever has waited longest does now. The slot may be gone then. */
static void pass_on(struct leases *t, struct lease_slot *s, uint64_t now)
{
        while (!s->holder && !list_is_empty(&s->waiting)) {
                struct lease_waiter *w = first_waiting(s);
                int r = grant(t, s, w->party, w->number, w->hold_ms, now);
                if (r == 0)
                        w->lease_id = s->holder->id;
                decide(t, w,
                       r == 0  ? LEASE_GOT_LEASE
                       : r < 0 ? LEASE_GOT_NO_MEMORY
                               : LEASE_GOT_LIMIT,
                       NULL);
        }
        lease_slot_settle(t, s);
}

void lease_waiter_free(struct leases *t, struct lease_waiter *w)
{
        struct lease_slot *s = w->slot;
        if (w->outcome == LEASE_WAITS)
                stop_waiting(t, w);
        list_unlink(&w->turn);
        list_unlink(&w->of_party);
        w->party->account->n_waiters--;
        free(w);
        s->n_waiters--;
        lease_slot_settle(t, s);
}

struct lease_waiter *leases_decided(struct leases *t)
{
        return list_is_empty(&t->decided) ? NULL
                                          : LIST_ENTRY(t->decided.next, struct lease_waiter, turn);
}

void lease_waiter_block(struct lease_waiter *w)
{
        list_unlink(&w->turn);
        list_append(&w->party->blocked, &w->turn);
}

void lease_party_unblock(struct leases *t, struct lease_party *p)
{
        while (!list_is_empty(&p->blocked)) {
                struct list *n = p->blocked.next;
                list_unlink(n);
                list_append(&t->decided, n);
        }
}

/* ---- connections */

int lease_party_new(struct leases *t, uid_t uid, void *ctx, struct lease_party **ret)
{
        struct lease_account *a = lease_account_get(t, uid);
        struct lease_party *p = a ? calloc(1, sizeof(*p)) : NULL;
        if (!p) {
                if (a)
                        lease_account_settle(t, a);
                return -ENOMEM;
        }
        *p = (struct lease_party){.account = a, .ctx = ctx};
        list_init(&p->leases);
        list_init(&p->waiters);
        list_init(&p->blocked);
        timer_init(&p->timer, LEASE_TIMER_PARTY);
        a->n_parties++;
        *ret = p;
        return 0;
}

static void lose_leases(struct leases *t, struct lease_party *p, uint64_t now)
{
        struct list *next;
        /* It gets none meanwhile: nothing of it waits. */
        for (struct list *n = p->leases.next; n != &p->leases; n = next) {
                struct lease *l = LIST_ENTRY(n, struct lease, of_party);
                next = n->next;
                struct lease_slot *s = l->slot;
                if (is_held(l))
                        count(t, s, LEASE_COUNT_LOST);
                forget(t, l);
                pass_on(t, s, now);
        }
}

struct lease_party *lease_party_free(struct leases *t, struct lease_party *p, uint64_t now,
                                     void (*drop)(void *payload))
{
        if (!p)
                return NULL;
        struct list *next;
        for (struct list *n = p->waiters.next; n != &p->waiters; n = next) {
                struct lease_waiter *w = LIST_ENTRY(n, struct lease_waiter, of_party);
                next = n->next;
                if (w->payload)
                        drop(w->payload);
                lease_waiter_free(t, w);
        }
        lose_leases(t, p, now);
        timerheap_drop(&t->deadlines, &p->timer);
        p->account->n_parties--;
        lease_account_settle(t, p->account);
        free(p);
        return NULL;
}

void lease_party_refuse(struct leases *t, struct lease_party *p, enum lease_outcome outcome,
                        uint64_t now)
{
        for (struct list *n = p->waiters.next; n != &p->waiters; n = n->next) {
                struct lease_waiter *w = LIST_ENTRY(n, struct lease_waiter, of_party);
                if (w->outcome == LEASE_WAITS)
                        decide(t, w, outcome, NULL);
        }
        lose_leases(t, p, now);
}

void lease_party_expire(struct leases *t, struct lease_party *p, uint64_t due)
{
        if (timerheap_set(&t->deadlines, &p->timer, due) < 0)
                lease_party_refuse(t, p, LEASE_GOT_NOTHING, due);
}

uid_t lease_party_uid(const struct lease_party *p)
{
        return p->account->uid;
}

/* ---- asking */

/* Owners that were found on the way. */
struct trail {
        unsigned n;
        struct {
                const struct lease_party *party;
                uint64_t number;
        } owners[CYCLE_STEPS];
};

/* False: it is full. */
static bool trail_add(struct trail *trail, const struct lease *h)
{
        for (unsigned i = 0; i < trail->n; i++)
                if (trail->owners[i].party == h->party && trail->owners[i].number == h->number)
                        return true;
        if (trail->n == CYCLE_STEPS)
                return false;
        trail->owners[trail->n].party = h->party;
        trail->owners[trail->n++].number = h->number;
        return true;
}

/* Does whoever @from is wait for @to, directly or not? */
static bool waits_for(const struct leases *t, const struct lease *from, const struct lease_ask *to)
{
        struct trail trail;
        trail.n = 0;
        (void)trail_add(&trail, from);
        for (unsigned i = 0; i < trail.n; i++) {
                const struct lease_party *party = trail.owners[i].party;
                uint64_t number = trail.owners[i].number, hash = lease_owner_hash(t, party, number);
                struct chain_link *l = chains_first(&t->owners, hash);
                for (; l; l = l->next) {
                        const struct lease_waiter *w = (struct lease_waiter *)l;
                        if (l->hash != hash || w->party != party || w->number != number)
                                continue;
                        const struct lease *h = w->slot->holder;
                        if ((h->party == to->party && h->number == to->number) ||
                            !trail_add(&trail, h))
                                return true;
                }
        }
        return false;
}

static uint64_t due_after(uint64_t now, uint64_t ms)
{
        uint64_t due;
        return __builtin_add_overflow(now, ms, &due) ? LEASE_NEVER : due;
}

static int park(struct leases *t, struct lease_slot *s, const struct lease_ask *ask, uint64_t now)
{
        struct lease_party *p = ask->party;
        if (p->account->n_waiters >= t->max_waiters)
                return LEASE_E_WAITERS;
        struct lease_waiter *w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct lease_waiter){
                .slot = s,
                .party = p,
                .number = ask->number,
                .since = now,
                .hold_ms = ask->hold_ms,
                .want_failure = ask->want_failure,
                .want_progress = ask->want_progress,
                .note = ask->note,
        };
        timer_init(&w->timer, LEASE_TIMER_WAIT);
        if (timerheap_set(&t->deadlines, &w->timer, due_after(now, ask->wait_ms)) < 0 ||
            chains_add(&t->owners, &w->link, lease_owner_hash(t, p, ask->number)) < 0) {
                timerheap_drop(&t->deadlines, &w->timer);
                free(w);
                return -ENOMEM;
        }
        list_init(&w->turn);
        list_append(&s->waiting, &w->of_slot);
        list_append(&p->waiters, &w->of_party);
        p->account->n_waiters++;
        s->n_waiters++;
        s->n_waiting++;
        s->group->waiting++;
        count(t, s, LEASE_COUNT_WAIT);
        return LEASE_PARKED;
}

/* Somebody holds it. */
static int ask_held(struct leases *t, struct lease_slot *s, const struct lease_ask *ask,
                    uint64_t now)
{
        const struct lease *h = s->holder;
        if (h->party == ask->party && h->number == ask->number)
                return LEASE_YOURS;
        if (ask->wait_ms == 0)
                return LEASE_BUSY;
        if (t->closed)
                return LEASE_CLOSED;
        if (waits_for(t, h, ask))
                return LEASE_CYCLE;
        return park(t, s, ask, now);
}

static int ask_free(struct leases *t, const struct lease_where *where, const struct lease_ask *ask,
                    uint64_t now, struct lease **ret)
{
        struct lease_slot *s = lease_slot_get(t, where);
        if (!s)
                return -ENOMEM;
        int r = grant(t, s, ask->party, ask->number, ask->hold_ms, now);
        if (r == 0)
                *ret = s->holder;
        else
                lease_slot_settle(t, s);
        return r == 0 ? LEASE_GRANTED : r;
}

int leases_ask(struct leases *t, const struct lease_where *where, const struct lease_ask *ask,
               uint64_t now, struct lease **ret)
{
        struct lease_slot *s = lease_slot_find(t, where);
        if (!s || !s->holder)
                return ask_free(t, where, ask, now, ret);
        int r = ask_held(t, s, ask, now);
        if (r >= 0 && r < LEASE_E_LEASES)
                *ret = s->holder;
        return r;
}

int leases_ask_refresh(struct leases *t, const struct lease_where *where,
                       const struct lease_ask *ask, uint64_t now, struct lease **ret)
{
        struct lease_ask at_once = *ask;
        at_once.wait_ms = 0;
        int r = leases_ask(t, where, &at_once, now, ret);
        if (r != LEASE_GRANTED)
                return r;
        (*ret)->refresh = true;
        count(t, (*ret)->slot, LEASE_COUNT_REFRESH);
        return r;
}

struct lease *leases_find(const struct leases *t, uint64_t id)
{
        struct chain_link *l = chains_first(&t->ids, id);
        while (l && ((struct lease *)l)->id != id)
                l = l->next;
        return (struct lease *)l;
}

bool lease_is_of(const struct lease *l, const struct lease_where *where)
{
        const struct lease_slot *s = l->slot;
        return s->group->space == where->space && s->group->cache == where->cache &&
               s->n_key == where->n_key && memcmp(s->key, where->key, where->n_key) == 0;
}

struct lease *leases_holder(const struct leases *t, const struct lease_where *where)
{
        const struct lease_slot *s = lease_slot_find(t, where);
        return s ? s->holder : NULL;
}

void *lease_space(const struct lease_slot *s)
{
        return s->group->space;
}

uint32_t lease_cache(const struct lease_slot *s)
{
        return s->group->cache;
}

/* ---- ends */

size_t leases_waiting_for(const struct leases *t, const struct lease_where *where)
{
        const struct lease_slot *s = lease_slot_find(t, where);
        return s ? s->n_waiting : 0;
}

size_t leases_stored(struct leases *t, const struct lease_where *where, void *payload)
{
        struct lease_slot *s = lease_slot_find(t, where);
        if (!s)
                return 0;
        forget_all(t, s);
        size_t n = decide_all(t, s, payload ? LEASE_GOT_VALUE : LEASE_GOT_UNSTORABLE, payload);
        lease_slot_settle(t, s);
        return n;
}

static void begin_anew(struct leases *t, struct lease_slot *s, uint64_t now)
{
        forget_all(t, s);
        pass_on(t, s, now);
}

void leases_deleted(struct leases *t, const struct lease_where *where, uint64_t now)
{
        struct lease_slot *s = lease_slot_find(t, where);
        if (s)
                begin_anew(t, s, now);
}

/* Those whose key begins so. The group may be gone then. */
static void clear_group(struct leases *t, struct lease_group *g, const uint8_t *prefix,
                        size_t n_prefix, uint64_t now)
{
        struct list *next = g->slots.next;
        bool more = next != &g->slots;
        while (more) {
                struct lease_slot *s = LIST_ENTRY(next, struct lease_slot, of_group);
                next = next->next;
                more = next != &g->slots;
                if (n_prefix == 0 ||
                    (s->n_key >= n_prefix && memcmp(s->key, prefix, n_prefix) == 0))
                        begin_anew(t, s, now);
        }
}

void leases_cleared(struct leases *t, void *space, uint32_t cache, uint64_t now)
{
        if (cache != 0) {
                struct lease_group *g = t->groups.n ? lease_group_find(t, space, cache) : NULL;
                if (g)
                        clear_group(t, g, NULL, 0, now);
                return;
        }
        for (size_t i = 0; i < t->groups.n_buckets && t->groups.n > 0; i++) {
                struct chain_link *next;
                for (struct chain_link *l = t->groups.buckets[i]; l; l = next) {
                        struct lease_group *g = (struct lease_group *)l;
                        next = l->next;
                        if (g->space == space)
                                clear_group(t, g, NULL, 0, now);
                }
        }
}

void leases_cleared_prefix(struct leases *t, const struct lease_where *where, uint64_t now)
{
        struct lease_group *g =
                t->groups.n ? lease_group_find(t, where->space, where->cache) : NULL;
        if (g)
                clear_group(t, g, where->key, where->n_key, now);
}

static uint64_t tag_hash(const struct leases *t, const char *tag, size_t n)
{
        return XXH3_64bits_withSeed(tag, n, t->seed);
}

static void note_tag(struct lease *l, uint64_t hash)
{
        for (unsigned i = 0; i < l->n_tags && i < LEASE_TAGS_MAX; i++)
                if (l->tags[i] == hash)
                        return;
        if (l->n_tags < LEASE_TAGS_MAX)
                l->tags[l->n_tags] = hash;
        if (l->n_tags <= LEASE_TAGS_MAX)
                l->n_tags++;
}

void leases_cleared_tag(struct leases *t, void *space, uint32_t cache, const char *tag,
                        size_t n_tag)
{
        struct lease_group *g = t->groups.n ? lease_group_find(t, space, cache) : NULL;
        uint64_t hash = tag_hash(t, tag, n_tag);
        for (struct list *n = g ? g->slots.next : NULL; n && n != &g->slots; n = n->next) {
                struct lease_slot *s = LIST_ENTRY(n, struct lease_slot, of_group);
                if (s->holder)
                        note_tag(s->holder, hash);
                for (struct list *m = s->lates.next; m != &s->lates; m = m->next)
                        note_tag(LIST_ENTRY(m, struct lease, of_slot), hash);
        }
}

bool lease_tag_was_cleared(const struct leases *t, const struct lease *l, const char *tag,
                           size_t n_tag)
{
        uint64_t hash = tag_hash(t, tag, n_tag);
        if (l->n_tags > LEASE_TAGS_MAX)
                return true;
        for (unsigned i = 0; i < l->n_tags; i++)
                if (l->tags[i] == hash)
                        return true;
        return false;
}

size_t lease_give_up(struct leases *t, struct lease *l, void *payload, uint64_t now)
{
        struct lease_slot *s = l->slot;
        bool held = is_held(l);
        size_t n = 0;
        forget(t, l);
        if (held && payload) {
                struct list *next;
                count(t, s, LEASE_COUNT_FAILED);
                for (struct list *m = s->waiting.next; m != &s->waiting; m = next) {
                        struct lease_waiter *w = LIST_ENTRY(m, struct lease_waiter, of_slot);
                        next = m->next;
                        if (!w->want_failure)
                                continue;
                        decide(t, w, LEASE_GOT_FAILURE, payload);
                        n++;
                }
        }
        pass_on(t, s, now);
        return n;
}

size_t lease_share(struct leases *t, struct lease *l, enum lease_outcome outcome, void *payload)
{
        struct lease_slot *s = l->slot;
        size_t n =
                is_held(l) || outcome == LEASE_GOT_VALUE ? decide_all(t, s, outcome, payload) : 0;
        forget(t, l);
        lease_slot_settle(t, s);
        return n;
}

void lease_supersede(struct leases *t, struct lease *l, uint64_t now)
{
        struct lease_slot *s = l->slot;
        forget(t, l);
        pass_on(t, s, now);
}

void leases_close(struct leases *t)
{
        t->closed = true;
        for (size_t i = 0; i < t->slots.n_buckets; i++)
                for (struct chain_link *l = t->slots.buckets[i]; l; l = l->next)
                        decide_all(t, (struct lease_slot *)l, LEASE_GOT_CLOSED, NULL);
}

void leases_open(struct leases *t)
{
        t->closed = false;
}

/* ---- progress */

bool lease_progress(struct leases *t, struct lease *l, unsigned permille, const char *text,
                    size_t n)
{
        char *copy = n > 0 ? strndup(text, n) : NULL;
        struct lease_slot *s = l->slot;
        if (n > 0 && !copy)
                return false;
        free(l->progress);
        l->progress = copy;
        l->permille = (uint16_t)permille;
        if (!is_held(l) || s->n_waiting == 0)
                return true;
        if (!list_is_empty(&s->news)) {
                s->news_again = true;
                return true;
        }
        s->news_at = s->waiting.next;
        s->news_again = false;
        list_append(&t->news, &s->news);
        return true;
}

struct lease_waiter *leases_next_news(struct leases *t, unsigned *steps)
{
        while (!list_is_empty(&t->news)) {
                struct lease_slot *s = LIST_ENTRY(t->news.next, struct lease_slot, news);
                while (s->news_at != &s->waiting) {
                        if (*steps == 0)
                                return NULL;
                        --*steps;
                        struct lease_waiter *w =
                                LIST_ENTRY(s->news_at, struct lease_waiter, of_slot);
                        s->news_at = s->news_at->next;
                        if (w->want_progress)
                                return w;
                }
                list_unlink(&s->news);
                if (s->news_again)
                        list_append(&t->news, &s->news);
                s->news_again = false;
                s->news_at = s->waiting.next;
        }
        return NULL;
}

/* ---- time */

static void hold_ends(struct leases *t, struct lease *l, uint64_t now)
{
        struct lease_slot *s = l->slot;
        struct lease_account *a = l->party->account;
        if (a->n_lates >= t->max_leases) { /* the oldest will be too late */
                struct lease *oldest = LIST_ENTRY(a->lates.next, struct lease, of_late);
                struct lease_slot *other = oldest->slot;
                forget(t, oldest);
                if (other != s)
                        lease_slot_settle(t, other);
        }
        unhold(t, l);
        l->late = true;
        a->n_lates++;
        list_append(&s->lates, &l->of_slot);
        list_append(&a->lates, &l->of_late);
        count(t, s, LEASE_COUNT_LOST);
        pass_on(t, s, now);
}

void leases_tick(struct leases *t, uint64_t now)
{
        struct timer *timer;
        while ((timer = timerheap_first(&t->deadlines)) && timer->due <= now) {
                timerheap_drop(&t->deadlines, timer);
                switch (timer->kind) {
                case LEASE_TIMER_WAIT:
                        decide(t, LIST_ENTRY(timer, struct lease_waiter, timer), LEASE_GOT_TIMEOUT,
                               NULL);
                        break;
                case LEASE_TIMER_HOLD:
                        hold_ends(t, LIST_ENTRY(timer, struct lease, timer), now);
                        break;
                default:
                        lease_party_refuse(t, LIST_ENTRY(timer, struct lease_party, timer),
                                           LEASE_GOT_NOTHING, now);
                }
        }
}

uint64_t leases_next_due(const struct leases *t)
{
        return timerheap_next_due(&t->deadlines);
}

/* ---- looking */

struct lease_gauge leases_gauge(const struct leases *t, const void *space, uint32_t cache)
{
        struct lease_gauge sum = {0};
        if (cache != 0) {
                const struct lease_group *g =
                        t->groups.n ? lease_group_find(t, space, cache) : NULL;
                return g ? (struct lease_gauge){g->computing, g->waiting} : sum;
        }
        for (size_t i = 0; i < t->groups.n_buckets && t->groups.n > 0; i++) {
                for (struct chain_link *l = t->groups.buckets[i]; l; l = l->next) {
                        const struct lease_group *g = (struct lease_group *)l;
                        if (g->space != space)
                                continue;
                        sum.computing += g->computing;
                        sum.waiting += g->waiting;
                }
        }
        return sum;
}

struct lease *leases_next(const struct leases *t, const void *space, uint64_t after,
                          unsigned *steps, uint64_t *ret_at)
{
        const struct lease *from = leases_find(t, after);
        const struct list *n = from ? from->of_all.next : t->all.next;
        for (; n != &t->all; n = n->next) {
                struct lease *l = LIST_ENTRY(n, struct lease, of_all);
                if (l->id <= after)
                        continue;
                if (is_held(l) && l->slot->group->space == space)
                        return l;
                if (*steps == 0)
                        return NULL;
                --*steps;
                *ret_at = l->id;
        }
        *ret_at = 0;
        return NULL;
}
