/* SPDX-License-Identifier: MIT */
/*
 * The search for an order (Wing and Gong's, with a memory)
 *
 * What has been put in order so far is a set of operations and the values that the keys have then;
 * next may come any operation before which all others that ended before it began have come. Two
 * ways that lead to the same set and the same values have the same future: it is looked at once.
 * Reads that fit are taken at once where that excludes nothing, so only what writes, and reads that
 * do not fit yet, make branches.
 *
 * An operation that may or may not have happened need not come. If it comes, it comes within its
 * interval: not after an operation that began when it had ended.
 */

#include "order-check.h"

#include <stdlib.h>
#include <string.h>

#define STATES_MAX (1u << 20)

/* A set of operations, and what the keys are when they have come. */
struct state {
        uint64_t done;
        uint32_t value[ORDER_KEYS_MAX];
};

struct search {
        const struct order_op *ops;
        unsigned n;
        uint64_t all, must;               /* all of them; those that did happen */
        uint64_t before[ORDER_OPS_MAX];   /* those that ended before it began, and did happen */
        uint64_t too_late[ORDER_OPS_MAX]; /* those after a maybe had ended */
        uint64_t excluded[ORDER_OPS_MAX]; /* the maybes that this one is too late for */
        uint64_t reads;                   /* what changes nothing, and did happen */
        struct state *seen;               /* open addressing; done == 0: free */
        uint32_t n_slots, n_seen;
        bool full;
};

static uint64_t mix(uint64_t x)
{
        x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
        return x ^ x >> 32;
}

static uint32_t slot_of(const struct search *s, const struct state *st)
{
        uint64_t h = mix(st->done);

        for (unsigned k = 0; k < ORDER_KEYS_MAX; k++)
                h = mix(h ^ st->value[k]);
        return (uint32_t)h & (s->n_slots - 1);
}

static bool same(const struct state *a, const struct state *b)
{
        return a->done == b->done && memcmp(a->value, b->value, sizeof(a->value)) == 0;
}

static struct state *place_of(const struct search *s, const struct state *st)
{
        uint32_t i = slot_of(s, st);

        while (s->seen[i].done != 0 && !same(&s->seen[i], st))
                i = (i + 1) & (s->n_slots - 1);
        return &s->seen[i];
}

static bool grow(struct search *s)
{
        struct state *old = s->seen;
        uint32_t n_old = s->n_slots;

        s->n_slots = n_old ? 4 * n_old : 1024;
        s->seen = calloc(s->n_slots, sizeof(*s->seen));
        if (!s->seen) {
                s->seen = old;
                s->n_slots = n_old;
                return false;
        }
        for (uint32_t i = 0; i < n_old; i++)
                if (old[i].done != 0)
                        *place_of(s, &old[i]) = old[i];
        free(old);
        return true;
}

/* Whether a state is a new one; remembers it. */
static bool is_new(struct search *s, const struct state *st)
{
        struct state *place;

        if (st->done == 0)
                return true;
        if (2 * s->n_seen >= s->n_slots && (s->n_seen >= STATES_MAX || !grow(s))) {
                s->full = true;
                return false;
        }
        place = place_of(s, st);
        if (place->done != 0)
                return false;
        *place = *st;
        s->n_seen++;
        return true;
}

static bool may_come(const struct search *s, const struct state *st, unsigned i)
{
        uint64_t bit = UINT64_C(1) << i;

        return !(st->done & bit) && !(s->before[i] & ~st->done) && !(s->too_late[i] & st->done);
}

/* Whether it makes sense now. A maybe was told nothing. */
static bool fits(const struct order_op *o, const struct state *st)
{
        switch ((enum order_kind)o->kind) {
        case ORDER_READ:
                return st->value[o->key] == o->value;
        case ORDER_DELETE:
                return o->maybe || st->value[o->key] != ORDER_NOTHING;
        case ORDER_ABSENT:
                return st->value[o->key] == ORDER_NOTHING;
        case ORDER_SET:
        case ORDER_CLEAR:
        case ORDER_LOSS:
                break;
        }
        return true;
}

static void carry_out(const struct order_op *o, struct state *st)
{
        switch ((enum order_kind)o->kind) {
        case ORDER_SET:
                st->value[o->key] = o->value;
                break;
        case ORDER_DELETE:
        case ORDER_CLEAR:
                st->value[o->key] = ORDER_NOTHING;
                break;
        case ORDER_LOSS:
                memset(st->value, 0, sizeof(st->value));
                break;
        case ORDER_READ:
        case ORDER_ABSENT:
                break;
        }
}

static bool changes_nothing(const struct order_op *o)
{
        return o->kind == ORDER_READ || o->kind == ORDER_ABSENT;
}

/* What fits, changes nothing and makes no maybe impossible comes at once. */
static void take_reads(const struct search *s, struct state *st)
{
        bool again = true;

        while (again) {
                again = false;
                for (uint64_t left = s->reads & ~st->done; left != 0; left &= left - 1) {
                        unsigned i = (unsigned)__builtin_ctzll(left);

                        if (s->excluded[i] & ~st->done || !may_come(s, st, i) ||
                            !fits(&s->ops[i], st))
                                continue;
                        st->done |= UINT64_C(1) << i;
                        again = true;
                }
        }
}

/* At most n deep: each step takes at least one operation. */
static bool search(struct search *s, struct state st)
{
        take_reads(s, &st);
        if ((s->must & ~st.done) == 0)
                return true;
        if (!is_new(s, &st))
                return false;
        for (uint64_t left = s->all & ~st.done; left != 0 && !s->full; left &= left - 1) {
                unsigned i = (unsigned)__builtin_ctzll(left);
                struct state next = st;

                if (!may_come(s, &st, i) || !fits(&s->ops[i], &st))
                        continue;
                carry_out(&s->ops[i], &next);
                next.done |= UINT64_C(1) << i;
                if (search(s, next))
                        return true;
        }
        return false;
}

enum order_verdict order_check(const struct order_op *ops, unsigned n)
{
        struct search s = {.ops = ops, .n = n};
        bool found;

        if (n > ORDER_OPS_MAX || !grow(&s))
                return ORDER_UNDECIDED;
        for (unsigned i = 0; i < n; i++) {
                s.all |= UINT64_C(1) << i;
                s.must |= ops[i].maybe ? 0 : UINT64_C(1) << i;
                s.reads |= !ops[i].maybe && changes_nothing(&ops[i]) ? UINT64_C(1) << i : 0;
                for (unsigned j = 0; j < n; j++) {
                        if (!ops[j].maybe && ops[j].returned < ops[i].invoked)
                                s.before[i] |= UINT64_C(1) << j;
                        if (!ops[i].maybe || ops[i].returned >= ops[j].invoked)
                                continue;
                        s.too_late[i] |= UINT64_C(1) << j;
                        s.excluded[j] |= UINT64_C(1) << i;
                }
        }
        found = search(&s, (struct state){0});
        free(s.seen);
        return found ? ORDER_FINE : s.full ? ORDER_UNDECIDED : ORDER_WRONG;
}
