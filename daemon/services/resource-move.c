/* SPDX-License-Identifier: MIT */
/*
 * Resources for a successor, and for whoever looks at them
 *
 * A successor makes instances, holders and holds as they were. All that is restored is to be
 * claimed: each holder comes again and says what it has. Whatever nobody claims in time ends, and
 * an instance whose lock nobody claims leaves, since nobody knows in what state it is.
 */
#include <errno.h>
#include <string.h>

#include "services/resource-private.h"

/* ---- looking */

struct resource *resources_find(const struct resources *t, uint64_t number)
{
        struct chain_link *l = chains_first(&t->numbers, number);
        while (l && l->hash != number)
                l = l->next;
        return l ? LIST_ENTRY(l, struct resource, link) : NULL;
}

bool resource_is_of(const struct resource *r, const void *space)
{
        return r->slot->cache->space->space == space;
}

uint64_t resource_ttl_left(const struct resource *r, uint64_t now)
{
        if (r->timer.due == RESOURCE_NEVER)
                return RESOURCE_NEVER;
        return r->timer.due > now ? r->timer.due - now : 0;
}

static void add_cache(const struct resources *t, const struct resource_cache *c,
                      struct resource_gauge *sum)
{
        const struct resource_counters *n = &c->counters;
        sum->resources += c->n_resources;
        sum->bytes += c->bytes;
        sum->creating += c->n_creating;
        sum->waiting += c->n_waiting;
        sum->counters.created += n->created;
        sum->counters.acquired += n->acquired;
        sum->counters.failures += n->failures;
        for (unsigned i = 0; i < N_RESOURCE_CAUSES; i++)
                sum->counters.left[i] += n->left[i];
        for (struct list *i = c->held.next; i != &c->held; i = i->next) {
                const struct resource *r = LIST_ENTRY(i, struct resource, of_use);
                sum->held++;
                sum->locked += !r->pooled && resource_lock_owner(t, r);
                sum->waiting += r->n_lock_waiting;
        }
}

struct resource_gauge resources_gauge(const struct resources *t, const void *space, uint32_t cache)
{
        struct resource_gauge sum = {0};
        if (cache != 0) {
                const struct resource_cache *c = resource_cache_find(t, space, cache);
                if (c)
                        add_cache(t, c, &sum);
                return sum;
        }
        const struct resource_space *p = resource_space_find(t, space);
        for (struct list *i = p ? p->caches.next : NULL; i && i != &p->caches; i = i->next) {
                const struct resource_cache *c = LIST_ENTRY(i, struct resource_cache, of_space);
                if (!(c->cache & RESOURCE_APART))
                        add_cache(t, c, &sum);
        }
        return sum;
}

struct resource_room resources_room(const struct resources *t, const void *space)
{
        const struct resource_space *p = resource_space_find(t, space);
        struct resource_room sum = {0};
        if (p)
                sum = (struct resource_room){.resources = p->n_resources, .bytes = p->bytes};
        for (struct list *i = t->holders.next; i != &t->holders; i = i->next)
                sum.holders += LIST_ENTRY(i, struct resource_holder, of_all)->space == space;
        return sum;
}

struct resource *resources_biggest(const struct resources *t, const void *space)
{
        struct resource *biggest = NULL;
        for (struct list *n = t->all.next; n != &t->all; n = n->next) {
                struct resource *r = LIST_ENTRY(n, struct resource, of_all);
                if (resource_is_of(r, space) && r->n_holders > 0 &&
                    (!biggest || r->size > biggest->size))
                        biggest = r;
        }
        return biggest;
}

struct resource *resources_next(const struct resources *t, const void *space, uint64_t after,
                                unsigned *steps, uint64_t *ret_at)
{
        const struct resource *from = resources_find(t, after);
        const struct list *n = from ? from->of_all.next : t->all.next;
        for (; n != &t->all; n = n->next) {
                struct resource *r = LIST_ENTRY(n, struct resource, of_all);
                if (r->number <= after)
                        continue;
                if (!r->cause && (!space || resource_is_of(r, space)))
                        return r;
                if (*steps == 0)
                        return NULL;
                --*steps;
                *ret_at = r->number;
        }
        *ret_at = 0;
        return NULL;
}

/* ---- moving */

struct resource_record resource_export(const struct resources *t, const struct resource *r)
{
        const struct resource_slot *s = r->slot;
        const struct resource_hold *owner = r->pooled ? NULL : resource_lock_owner(t, r);
        return (struct resource_record){
                .where = {.space = resource_space_of(s),
                          .cache = resource_cache_of(s),
                          .key = s->key,
                          .n_key = s->n_key},
                .number = r->number,
                .size = r->size,
                .since = r->since,
                .used = r->used,
                .expires = r->timer.due,
                .pool = s->pool,
                .uid = r->uid,
                .pid = r->pid,
                .kind = r->kind,
                .read_only = r->read_only,
                .owner_died = r->owner_died,
                .lock_owner = owner ? owner->holder->id : 0,
        };
}

static int restore(struct resources *t, struct resource_slot *s,
                   const struct resource_record *record, void *payload, struct resource **ret)
{
        if (s->n_instances > 0 && (s->kind != record->kind || s->pool == 0 || record->pool == 0))
                return -EEXIST;
        if (s->n_instances == 0 && (s->n_creations > 0 || s->n_waiting > 0))
                return -EEXIST;
        struct resource *r = resource_new(t, s, record->number, record->uid);
        if (!r)
                return -ENOMEM;
        s->kind = record->kind;
        s->pool = record->pool;
        /* What the predecessor gave out behind that is gone, or comes yet. */
        if (t->last_instance < record->number + RESOURCE_NUMBERS_GAP)
                t->last_instance = record->number + RESOURCE_NUMBERS_GAP;
        r->kind = record->kind;
        r->pooled = record->pool > 0;
        r->size = record->size;
        r->since = record->since;
        r->used = record->used;
        r->pid = record->pid;
        r->read_only = record->read_only;
        r->owner_died = record->owner_died;
        r->payload = payload;
        s->cache->space->bytes += r->size;
        s->cache->bytes += r->size;
        s->cache->keeps = true;
        resource_timer_set(t, &r->timer, record->expires);
        *ret = r;
        return 0;
}

int resource_restore(struct resources *t, const struct resource_record *record, void *payload,
                     uint64_t now, struct resource **ret)
{
        if (record->number == 0 || record->number >= UINT64_MAX - RESOURCE_NUMBERS_GAP ||
            record->kind == RESOURCE_KIND_NONE || record->kind > RESOURCE_KIND_LOCAL ||
            (record->kind == RESOURCE_KIND_LOCAL && record->pool > 0) || record->where.cache == 0 ||
            record->where.n_key > STORE_KEY_MAX)
                return -EINVAL;
        if (resources_find(t, record->number))
                return -EEXIST;
        const struct resource_space *p = resource_space_find(t, record->where.space);
        if (record->size > UINT64_MAX / 2 || (p && p->bytes > UINT64_MAX / 2))
                return -EINVAL;
        struct resource_slot *s = resource_slot_get(t, &record->where);
        int r = s ? restore(t, s, record, payload, ret) : -ENOMEM;
        resources_sweep(t, now);
        return r;
}

int resource_hold_restore(struct resources *t, struct resource *r, struct resource_holder *h,
                          uint64_t count, bool locked, uint64_t since)
{
        if (count == 0 || count > UINT32_MAX || (r->pooled && (r->n_holders > 0 || count > 1)) ||
            (locked && (r->pooled || r->owner)))
                return -EINVAL;
        if (resource_hold_find(t, r, h))
                return -EEXIST;
        struct resource_hold *d = resource_hold_add(t, r, h, r->used);
        if (!d)
                return -ENOMEM;
        d->since = since;
        d->unclaimed = true;
        r->holds_total += count - d->count;
        d->count = count;
        if (locked) {
                r->owner = d;
                r->lock_unclaimed = true;
        }
        return 0;
}

int resources_claim_until(struct resources *t, uint64_t due)
{
        if (t->claims.due == RESOURCE_NEVER &&
            resource_timer_new(t, &t->claims, RESOURCE_TIMER_CLAIMS) < 0)
                return -ENOMEM;
        resource_timer_set(t, &t->claims, due == RESOURCE_NEVER ? due - 1 : due);
        return 0;
}

int resource_claim(struct resources *t, struct resource *r, struct resource_holder *h, bool locked)
{
        struct resource_hold *d = resource_hold_find(t, r, h);
        if (!d || (locked && resource_lock_owner(t, r) != d))
                return RESOURCE_E_NOT_HELD;
        d->unclaimed = false;
        if (locked)
                r->lock_unclaimed = false;
        return RESOURCE_IS_HELD;
}
