/* SPDX-License-Identifier: MIT */
/*
 * Leases beside a model
 *
 * The model is lists that are searched from end to end: who holds what, who waits in which order,
 * who was told what. Random operations are done to both, and after each one all that can be seen
 * must be the same: answers, the order and outcome of what was decided, holders, numbers, gauges,
 * the next deadline. What the model does not reach is test-lease-edges.c's.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/lease.h"

#define N_PARTIES  4
#define N_OWNERS   3
#define N_KEYS     6
#define MAX_LEASES 3
#define MAX_WAIT   4
#define N_LEASES   256
#define N_WAITERS  256
#define NEVER      UINT64_MAX

/* ---- the model */

struct m_lease {
        bool used, late, refresh;
        uint64_t id, since_seq, hold_due;
        unsigned party, owner, key;
};

struct m_waiter {
        bool used;
        uint64_t request, wait_due;
        unsigned party, owner, key;
        uint32_t hold_ms;
        bool want_failure;
};

struct m_decided {
        uint64_t request;
        enum lease_outcome outcome;
        uint64_t lease_id;
};

struct model {
        bool party[N_PARTIES];
        struct m_lease leases[N_LEASES];
        struct m_waiter waiters[N_WAITERS]; /* in the order of their coming */
        unsigned n_waiters;
        struct m_decided decided[N_WAITERS];
        unsigned n_decided;
        uint64_t last_id, seq;
        unsigned counts[5], over;
};

/* What the table has told. */
struct told {
        unsigned counts[5], over;
};

struct scene {
        struct leases t;
        struct lease_party *party[N_PARTIES];
        struct model m;
        struct told told;
        uint64_t now, request;
        int spaces[2]; /* of which only the addresses count */
        uint64_t random;
};

static uint64_t rnd(struct scene *s, uint64_t n)
{
        s->random = s->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (s->random >> 33) % n;
}

/* Keys 0 to 5: space, cache, and a text; two of them begin alike. */
static void *space_of(struct scene *s, unsigned key)
{
        return &s->spaces[key == 5];
}

static uint32_t cache_of(unsigned key)
{
        return key == 4 ? 2 : 1;
}

static const char *text_of(unsigned key)
{
        static const char *const texts[N_KEYS] = {"aa", "ab", "b", "c", "aa", "aa"};
        return texts[key];
}

static unsigned uid_of(unsigned party)
{
        return party / 2;
}

static struct lease_where where(struct scene *s, unsigned key)
{
        return (struct lease_where){.space = space_of(s, key),
                                    .cache = cache_of(key),
                                    .key = (const uint8_t *)text_of(key),
                                    .n_key = strlen(text_of(key))};
}

static struct m_lease *m_holder(struct model *m, unsigned key)
{
        for (unsigned i = 0; i < N_LEASES; i++)
                if (m->leases[i].used && !m->leases[i].late && m->leases[i].key == key)
                        return &m->leases[i];
        return NULL;
}

static unsigned m_count(const struct model *m, unsigned uid, bool late)
{
        unsigned n = 0;
        for (unsigned i = 0; i < N_LEASES; i++)
                n += m->leases[i].used && m->leases[i].late == late &&
                     uid_of(m->leases[i].party) == uid;
        return n;
}

static unsigned m_waiting(const struct model *m, unsigned uid)
{
        unsigned n = 0;
        for (unsigned i = 0; i < m->n_waiters; i++)
                n += uid_of(m->waiters[i].party) == uid;
        return n;
}

static void m_forget(struct model *m, struct m_lease *l)
{
        m->over += l->refresh && !l->late;
        l->used = false;
}

static struct m_lease *m_grant(struct model *m, unsigned key, unsigned party, unsigned owner,
                               uint32_t hold_ms, uint64_t now)
{
        if (m_count(m, uid_of(party), false) >= MAX_LEASES)
                return NULL;
        for (unsigned i = 0; i < N_LEASES; i++) {
                struct m_lease *l = &m->leases[i];
                if (l->used)
                        continue;
                *l = (struct m_lease){.used = true,
                                      .id = ++m->last_id,
                                      .hold_due = hold_ms ? now + hold_ms : NEVER,
                                      .party = party,
                                      .owner = owner,
                                      .key = key};
                m->counts[LEASE_COUNT_GRANTED]++;
                return l;
        }
        fail_msg("the model has no room");
        return NULL;
}

static void m_decide(struct model *m, unsigned i, enum lease_outcome outcome, uint64_t id)
{
        m->decided[m->n_decided++] = (struct m_decided){m->waiters[i].request, outcome, id};
        m->n_waiters--;
        memmove(&m->waiters[i], &m->waiters[i + 1], (m->n_waiters - i) * sizeof(m->waiters[0]));
}

static void m_pass_on(struct model *m, unsigned key, uint64_t now)
{
        for (unsigned i = 0; i < m->n_waiters && !m_holder(m, key);) {
                const struct m_waiter *w = &m->waiters[i];
                if (w->key != key) {
                        i++;
                        continue;
                }
                struct m_lease *l = m_grant(m, key, w->party, w->owner, w->hold_ms, now);
                m_decide(m, i, l ? LEASE_GOT_LEASE : LEASE_GOT_LIMIT, l ? l->id : 0);
        }
}

static void m_decide_all(struct model *m, unsigned key, enum lease_outcome outcome)
{
        for (unsigned i = 0; i < m->n_waiters;) {
                if (m->waiters[i].key == key)
                        m_decide(m, i, outcome, 0);
                else
                        i++;
        }
}

static void m_forget_key(struct model *m, unsigned key)
{
        for (unsigned i = 0; i < N_LEASES; i++)
                if (m->leases[i].used && m->leases[i].key == key)
                        m_forget(m, &m->leases[i]);
}

/* Does @party's @owner wait, directly or not, for the other one? */
static bool m_waits_for(struct model *m, unsigned party, unsigned owner, unsigned to_party,
                        unsigned to_owner, bool seen[N_PARTIES][N_OWNERS])
{
        if (seen[party][owner])
                return false;
        seen[party][owner] = true;
        for (unsigned i = 0; i < m->n_waiters; i++) {
                const struct m_waiter *w = &m->waiters[i];
                if (w->party != party || w->owner != owner)
                        continue;
                const struct m_lease *h = m_holder(m, w->key);
                if ((h->party == to_party && h->owner == to_owner) ||
                    m_waits_for(m, h->party, h->owner, to_party, to_owner, seen))
                        return true;
        }
        return false;
}

static int m_ask(struct model *m, unsigned key, unsigned party, unsigned owner,
                 const struct lease_ask *a, uint64_t now)
{
        const struct m_lease *h = m_holder(m, key);
        if (!h)
                return m_grant(m, key, party, owner, a->hold_ms, now) ? LEASE_GRANTED
                                                                      : LEASE_E_LEASES;
        if (h->party == party && h->owner == owner)
                return LEASE_YOURS;
        if (a->wait_ms == 0)
                return LEASE_BUSY;
        bool seen[N_PARTIES][N_OWNERS] = {0};
        if (m_waits_for(m, h->party, h->owner, party, owner, seen))
                return LEASE_CYCLE;
        if (m_waiting(m, uid_of(party)) >= MAX_WAIT)
                return LEASE_E_WAITERS;
        m->waiters[m->n_waiters++] =
                (struct m_waiter){.used = true,
                                  .request = a->note.request_id,
                                  .wait_due = a->wait_ms == NEVER ? NEVER : now + a->wait_ms,
                                  .party = party,
                                  .owner = owner,
                                  .key = key,
                                  .hold_ms = a->hold_ms,
                                  .want_failure = a->want_failure};
        m->counts[LEASE_COUNT_WAIT]++;
        return LEASE_PARKED;
}

static void m_lose(struct model *m, unsigned party, uint64_t now)
{
        /* In the order in which they were granted. */
        for (;;) {
                struct m_lease *first = NULL;
                for (unsigned i = 0; i < N_LEASES; i++) {
                        struct m_lease *l = &m->leases[i];
                        if (l->used && l->party == party && (!first || l->id < first->id))
                                first = l;
                }
                if (!first)
                        return;
                m->counts[LEASE_COUNT_LOST] += !first->late;
                m_forget(m, first);
                m_pass_on(m, first->key, now);
        }
}

static void m_end(struct model *m, unsigned party, uint64_t now)
{
        for (unsigned i = 0; i < m->n_waiters;) {
                if (m->waiters[i].party != party) {
                        i++;
                        continue;
                }
                m->n_waiters--;
                memmove(&m->waiters[i], &m->waiters[i + 1],
                        (m->n_waiters - i) * sizeof(m->waiters[0]));
        }
        m_lose(m, party, now);
        m->party[party] = false;
}

static uint64_t m_next_due(const struct model *m)
{
        uint64_t due = NEVER;
        for (unsigned i = 0; i < N_LEASES; i++)
                if (m->leases[i].used && !m->leases[i].late && m->leases[i].hold_due < due)
                        due = m->leases[i].hold_due;
        for (unsigned i = 0; i < m->n_waiters; i++)
                if (m->waiters[i].wait_due < due)
                        due = m->waiters[i].wait_due;
        return due;
}

static void m_hold_ends(struct model *m, struct m_lease *l, uint64_t now)
{
        if (m_count(m, uid_of(l->party), true) >= MAX_LEASES) {
                struct m_lease *oldest = NULL;
                for (unsigned i = 0; i < N_LEASES; i++) {
                        struct m_lease *o = &m->leases[i];
                        if (o->used && o->late && uid_of(o->party) == uid_of(l->party) &&
                            (!oldest || o->since_seq < oldest->since_seq))
                                oldest = o;
                }
                m_forget(m, oldest);
        }
        m->over += l->refresh;
        l->late = true;
        l->since_seq = ++m->seq;
        m->counts[LEASE_COUNT_LOST]++;
        m_pass_on(m, l->key, now);
}

/* Only one thing is due at a time: deadlines are all different here. */
static void m_tick(struct model *m, uint64_t now)
{
        uint64_t due;
        while ((due = m_next_due(m)) <= now) {
                struct m_lease *l = NULL;
                for (unsigned i = 0; i < N_LEASES; i++)
                        if (m->leases[i].used && !m->leases[i].late && m->leases[i].hold_due == due)
                                l = &m->leases[i];
                if (l) {
                        m_hold_ends(m, l, now);
                        continue;
                }
                for (unsigned i = 0; i < m->n_waiters; i++)
                        if (m->waiters[i].wait_due == due) {
                                m_decide(m, i, LEASE_GOT_TIMEOUT, 0);
                                break;
                        }
        }
}

/* ---- both */

static void count(void *ctx, void *space, uint32_t cache, enum lease_count what)
{
        struct scene *s = ctx;
        assert_true(space == &s->spaces[0] || space == &s->spaces[1]);
        assert_true(cache == 1 || cache == 2);
        s->told.counts[what]++;
}

static void over(void *ctx, const struct lease *l)
{
        struct scene *s = ctx;
        assert_true(l->refresh);
        s->told.over++;
}

static void check_decided(struct scene *s)
{
        struct lease_waiter *w;
        unsigned i = 0;
        while ((w = leases_decided(&s->t))) {
                assert_true(i < s->m.n_decided);
                assert_int_equal(w->note.request_id, s->m.decided[i].request);
                assert_int_equal(w->outcome, s->m.decided[i].outcome);
                assert_int_equal(w->lease_id, s->m.decided[i].lease_id);
                lease_waiter_free(&s->t, w);
                i++;
        }
        assert_int_equal(i, s->m.n_decided);
        s->m.n_decided = 0;
}

static void check_gauges(struct scene *s)
{
        struct lease_gauge want[2][3] = {0};
        for (unsigned i = 0; i < N_LEASES; i++) {
                const struct m_lease *l = &s->m.leases[i];
                if (!l->used || l->late)
                        continue;
                want[l->key == 5][cache_of(l->key)].computing++;
                want[l->key == 5][0].computing++;
        }
        for (unsigned i = 0; i < s->m.n_waiters; i++) {
                unsigned key = s->m.waiters[i].key;
                want[key == 5][cache_of(key)].waiting++;
                want[key == 5][0].waiting++;
        }
        for (unsigned space = 0; space < 2; space++)
                for (uint32_t cache = 0; cache < 3; cache++) {
                        struct lease_gauge g = leases_gauge(&s->t, &s->spaces[space], cache);
                        assert_int_equal(g.computing, want[space][cache].computing);
                        assert_int_equal(g.waiting, want[space][cache].waiting);
                }
}

static void check_leases(struct scene *s)
{
        for (unsigned key = 0; key < N_KEYS; key++) {
                struct lease_where at = where(s, key);
                const struct lease *h = leases_holder(&s->t, &at);
                const struct m_lease *l = m_holder(&s->m, key);
                assert_int_equal(h != NULL, l != NULL);
                if (h && l)
                        assert_int_equal(h->id, l->id);
                size_t waiting = 0;
                for (unsigned i = 0; i < s->m.n_waiters; i++)
                        waiting += s->m.waiters[i].key == key;
                assert_int_equal(leases_waiting_for(&s->t, &at), waiting);
        }
        /* In pages of any size. */
        for (unsigned space = 0; space < 2; space++) {
                uint64_t at = 0, last = 0;
                unsigned n = 0, want = 0;
                for (;;) {
                        unsigned steps = 1 + (unsigned)rnd(s, 3);
                        const struct lease *l =
                                leases_next(&s->t, &s->spaces[space], at, &steps, &at);
                        if (!l && at == 0)
                                break;
                        if (!l)
                                continue;
                        assert_true(l->id > last);
                        at = last = l->id;
                        n++;
                }
                for (unsigned i = 0; i < N_LEASES; i++)
                        want += s->m.leases[i].used && !s->m.leases[i].late &&
                                (s->m.leases[i].key == 5) == (space == 1);
                assert_int_equal(n, want);
        }
        for (unsigned i = 0; i < N_LEASES; i++) {
                const struct lease *l = leases_find(&s->t, s->m.leases[i].id);
                assert_int_equal(l != NULL, s->m.leases[i].used);
                if (l)
                        assert_int_equal(l->late, s->m.leases[i].late);
        }
}

static void check(struct scene *s)
{
        check_decided(s);
        check_gauges(s);
        check_leases(s);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(s->told.counts[i], s->m.counts[i]);
        assert_int_equal(s->told.over, s->m.over);
        assert_int_equal(leases_next_due(&s->t), m_next_due(&s->m));
}

/* ---- operations */

/* Until when no other one waits. (The time is always a multiple of 4, waits end 1 after one, and
 * leases 2.) */
static uint64_t wait_ms(struct scene *s)
{
        for (;;) {
                uint64_t ms = 4 * rnd(s, 100) + 1;
                unsigned i = 0;
                while (i < s->m.n_waiters && s->m.waiters[i].wait_due != s->now + ms)
                        i++;
                if (i == s->m.n_waiters)
                        return ms;
        }
}

static void do_ask(struct scene *s)
{
        unsigned party = (unsigned)rnd(s, N_PARTIES), owner = (unsigned)rnd(s, N_OWNERS);
        unsigned key = (unsigned)rnd(s, N_KEYS);
        struct lease_where at = where(s, key);
        struct lease_ask a = {.party = s->party[party],
                              .number = owner,
                              .wait_ms = rnd(s, 4) == 0 ? 0
                                         : rnd(s, 2)    ? NEVER
                                                        : wait_ms(s),
                              .hold_ms = rnd(s, 2) ? 0 : (uint32_t)(4 * rnd(s, 20) + 2),
                              .want_failure = rnd(s, 2),
                              .note = {.request_id = ++s->request}};
        struct lease *l = NULL;
        if (!s->party[party])
                return;
        if (rnd(s, 5) == 0) {
                int want;
                a.wait_ms = 0;
                want = m_ask(&s->m, key, party, owner, &a, s->now);
                assert_int_equal(leases_ask_refresh(&s->t, &at, &a, s->now, &l), want);
                if (want == LEASE_GRANTED) {
                        m_holder(&s->m, key)->refresh = true;
                        s->m.counts[LEASE_COUNT_REFRESH]++;
                }
                return;
        }
        int want = m_ask(&s->m, key, party, owner, &a, s->now);
        assert_int_equal(leases_ask(&s->t, &at, &a, s->now, &l), want);
        assert_int_equal(l != NULL, want < LEASE_E_LEASES);
        if (l)
                assert_int_equal(l->id, m_holder(&s->m, key)->id);
}

/* A lease that is known, or none. */
static struct m_lease *any_lease(struct scene *s)
{
        unsigned from = (unsigned)rnd(s, N_LEASES);
        for (unsigned i = 0; i < N_LEASES; i++) {
                struct m_lease *l = &s->m.leases[(from + i) % N_LEASES];
                if (l->used)
                        return l;
        }
        return NULL;
}

static void do_give_up(struct scene *s)
{
        struct m_lease *l = any_lease(s);
        void *payload = rnd(s, 2) ? s : NULL;
        if (!l)
                return;
        struct m_lease was = *l;
        size_t n = lease_give_up(&s->t, leases_find(&s->t, l->id), payload, s->now);
        m_forget(&s->m, l);
        unsigned before = s->m.n_decided;
        if (payload && !was.late) {
                s->m.counts[LEASE_COUNT_FAILED]++;
                for (unsigned i = 0; i < s->m.n_waiters;) {
                        if (s->m.waiters[i].key == was.key && s->m.waiters[i].want_failure)
                                m_decide(&s->m, i, LEASE_GOT_FAILURE, 0);
                        else
                                i++;
                }
        }
        assert_int_equal(n, s->m.n_decided - before);
        m_pass_on(&s->m, was.key, s->now);
}

static void do_share(struct scene *s)
{
        struct m_lease *l = any_lease(s);
        enum lease_outcome outcome = rnd(s, 2) ? LEASE_GOT_VALUE : LEASE_GOT_UNSTORABLE;
        if (!l)
                return;
        lease_share(&s->t, leases_find(&s->t, l->id), outcome, s);
        if (!l->late || outcome == LEASE_GOT_VALUE)
                m_decide_all(&s->m, l->key, outcome);
        m_forget(&s->m, l);
}

static void supersede(struct scene *s, struct m_lease *l)
{
        lease_supersede(&s->t, leases_find(&s->t, l->id), s->now);
        m_forget(&s->m, l);
        m_pass_on(&s->m, l->key, s->now);
}

static void do_supersede(struct scene *s)
{
        struct m_lease *l = any_lease(s);
        if (l)
                supersede(s, l);
}

static void do_store(struct scene *s)
{
        unsigned key = (unsigned)rnd(s, N_KEYS);
        struct lease_where at = where(s, key);
        void *payload = rnd(s, 4) ? s : NULL;
        leases_stored(&s->t, &at, payload);
        m_forget_key(&s->m, key);
        m_decide_all(&s->m, key, payload ? LEASE_GOT_VALUE : LEASE_GOT_UNSTORABLE);
}

static void do_delete(struct scene *s)
{
        unsigned key = (unsigned)rnd(s, N_KEYS);
        struct lease_where at = where(s, key);
        leases_deleted(&s->t, &at, s->now);
        m_forget_key(&s->m, key);
        m_pass_on(&s->m, key, s->now);
}

/* One key at a time: in which order several are gone through is nobody's business, but who is
 * decided on first is seen. So only keys with at most one waiter between them, whom no limit keeps
 * from a lease. */
static void do_clear(struct scene *s)
{
        unsigned kind = (unsigned)rnd(s, 3);
        bool hit[N_KEYS] = {0};
        unsigned n_waiting = 0;
        for (unsigned key = 0; key < N_KEYS; key++) {
                bool same = key < 4;
                hit[key] = kind == 0 ? same : kind == 1 ? key < 5 : same && text_of(key)[0] == 'a';
                for (unsigned i = 0; i < s->m.n_waiters; i++) {
                        unsigned uid = uid_of(s->m.waiters[i].party);
                        if (hit[key] && s->m.waiters[i].key == key)
                                n_waiting += m_count(&s->m, uid, false) < MAX_LEASES ? 1 : 2;
                }
        }
        if (n_waiting > 1)
                return;
        struct lease_where prefix = where(s, 0);
        prefix.n_key = 1;
        if (kind == 0)
                leases_cleared(&s->t, &s->spaces[0], 1, s->now);
        else if (kind == 1)
                leases_cleared(&s->t, &s->spaces[0], 0, s->now);
        else
                leases_cleared_prefix(&s->t, &prefix, s->now);
        for (unsigned key = 0; key < N_KEYS; key++)
                if (hit[key])
                        m_forget_key(&s->m, key);
        for (unsigned key = 0; key < N_KEYS; key++)
                if (hit[key])
                        m_pass_on(&s->m, key, s->now);
}

static void no_payload(void *payload)
{
        (void)payload;
}

static void do_party(struct scene *s)
{
        unsigned i = (unsigned)rnd(s, N_PARTIES);
        if (!s->party[i]) {
                assert_int_equal(lease_party_new(&s->t, uid_of(i), s, &s->party[i]), 0);
                s->m.party[i] = true;
        } else if (rnd(s, 3) == 0) {
                s->party[i] = lease_party_free(&s->t, s->party[i], s->now, no_payload);
                m_end(&s->m, i, s->now);
        } else if (rnd(s, 3) == 0) {
                lease_party_refuse(&s->t, s->party[i], LEASE_GOT_NOTHING, s->now);
                for (unsigned k = 0; k < s->m.n_waiters;) {
                        if (s->m.waiters[k].party == i)
                                m_decide(&s->m, k, LEASE_GOT_NOTHING, 0);
                        else
                                k++;
                }
                m_lose(&s->m, i, s->now);
        }
}

/* Which of two that are due at the same time comes first nobody says: one of them leaves. */
static void untie(struct scene *s)
{
        for (unsigned i = 0; i < N_LEASES; i++)
                for (unsigned k = 0; k < i; k++) {
                        struct m_lease *a = &s->m.leases[i], *b = &s->m.leases[k];
                        if (!a->used || !b->used || a->late || b->late || a->hold_due == NEVER ||
                            a->hold_due != b->hold_due)
                                continue;
                        supersede(s, a);
                        i = k = 0;
                }
}

static void do_tick(struct scene *s)
{
        untie(s);
        s->now += 4 * rnd(s, 10);
        leases_tick(&s->t, s->now);
        m_tick(&s->m, s->now);
}

static void scene_init(struct scene *s, uint64_t seed)
{
        *s = (struct scene){.now = 1000, .random = seed};
        const struct lease_hooks hooks = {.count = count, .over = over, .ctx = s};
        leases_init(&s->t, seed, 0, &hooks);
        leases_set_bounds(&s->t, MAX_LEASES, MAX_WAIT);
}

static void scene_done(struct scene *s)
{
        for (unsigned i = 0; i < N_PARTIES; i++)
                s->party[i] = lease_party_free(&s->t, s->party[i], s->now, no_payload);
        assert_null(leases_decided(&s->t));
        leases_done(&s->t);
}

static void whatever_happens_the_model_says_the_same(void **state)
{
        static void (*const operations[])(struct scene * s) = {
                do_ask,    do_ask,     do_ask,   do_ask,       do_ask,
                do_ask,    do_give_up, do_share, do_supersede, do_store,
                do_delete, do_clear,   do_party, do_tick,      do_tick,
        };
        unsigned rounds = getenv("CACHED_LONG") ? 2000 : 20;
        static struct scene s;
        (void)state;
        for (unsigned round = 0; round < rounds; round++) {
                scene_init(&s, round + 1);
                for (unsigned i = 0; i < 2000; i++) {
                        operations[rnd(&s, sizeof(operations) / sizeof(operations[0]))](&s);
                        check(&s);
                }
                scene_done(&s);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whatever_happens_the_model_says_the_same),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
