/* SPDX-License-Identifier: MIT */
/*
 * Holds
 *
 * What frames that are not complete occupy lies on the heap, beside the budgets of the realms. So
 * it has a bound of its own, for each uid and for all together. Who gets no room is not read from
 * until there is some: back-pressure, not an error.
 *
 * Nobody waits for ever. A connection takes room for its message first, then, when the message says
 * so, for the body; each kind has a bound of its own. Who has room for a body waits for its own
 * peer only, and that has a deadline; so bodies end, hence messages do. A frame that alone is
 * larger than the bound gets room when nobody else of its uid (or nobody at all) holds any of the
 * kind: the bound is then that one frame.
 *
 * Who waits is served in order, but for those of a uid behind one that did not fit, and nobody of
 * the uid overtakes.
 *
 * Counts only; the memory is the connections'.
 */

#include "transport/holds.h"

#include <assert.h>

void holds_init(struct holds *s, uint64_t max, uint64_t max_per_uid)
{
        *s = (struct holds){.max = max, .max_per_uid = max_per_uid};
        list_init(&s->waiting);
}

void holds_set_limits(struct holds *s, uint64_t max, uint64_t max_per_uid)
{
        s->max = max;
        s->max_per_uid = max_per_uid;
        s->freed = !list_is_empty(&s->waiting);
}

void hold_init(struct hold *h, struct holds_account *a)
{
        *h = (struct hold){.account = a};
        list_init(&h->node);
}

static bool has_room(uint64_t max, uint64_t held, uint64_t n)
{
        return held == 0 || (held <= max && n <= max - held);
}

static bool fits(const struct holds *s, const struct hold *h, enum hold_kind kind, uint64_t n)
{
        return has_room(s->max_per_uid, h->account->bytes[kind], n) &&
               has_room(s->max, s->bytes[kind], n);
}

static void add(struct holds *s, struct hold *h, enum hold_kind kind, uint64_t n)
{
        h->bytes[kind] += n;
        h->account->bytes[kind] += n;
        s->bytes[kind] += n;
}

static void stop_waiting(struct hold *h)
{
        if (!hold_waits(h))
                return;
        list_unlink(&h->node);
        h->account->n_waiting[h->wanted_kind]--;
}

bool hold_take(struct holds *s, struct hold *h, enum hold_kind kind, uint64_t n)
{
        assert(h->bytes[kind] == 0);
        if (hold_waits(h))
                return false;
        if (h->account->n_waiting[kind] == 0 && fits(s, h, kind, n)) {
                add(s, h, kind, n);
                return true;
        }
        list_append(&s->waiting, &h->node);
        h->account->n_waiting[kind]++;
        h->wanted = n;
        h->wanted_kind = kind;
        return false;
}

void hold_drop(struct holds *s, struct hold *h)
{
        stop_waiting(h);
        for (int k = 0; k < N_HOLDS; k++) {
                uint64_t n = h->bytes[k];

                assert(h->account->bytes[k] >= n && s->bytes[k] >= n);
                h->account->bytes[k] -= n;
                s->bytes[k] -= n;
                h->bytes[k] = 0;
                s->freed |= n > 0 && !list_is_empty(&s->waiting);
        }
}

/* Before all that wait are looked at. */
static void forget_passed(struct holds *s)
{
        for (struct list *n = s->waiting.next; n != &s->waiting; n = n->next)
                for (int k = 0; k < N_HOLDS; k++)
                        LIST_ENTRY(n, struct hold, node)->account->passed[k] = false;
}

struct hold *hold_next(struct holds *s)
{
        if (!s->freed)
                return NULL;
        forget_passed(s);
        for (struct list *n = s->waiting.next; n != &s->waiting; n = n->next) {
                struct hold *h = LIST_ENTRY(n, struct hold, node);
                bool *passed = &h->account->passed[h->wanted_kind];

                if (!*passed && fits(s, h, h->wanted_kind, h->wanted)) {
                        stop_waiting(h);
                        add(s, h, h->wanted_kind, h->wanted);
                        return h;
                }
                *passed = true;
        }
        s->freed = false;
        return NULL;
}
