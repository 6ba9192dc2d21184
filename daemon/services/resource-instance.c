/* SPDX-License-Identifier: MIT */
/*
 * Instances: how they come, and how they leave
 *
 * In its cache an instance is in the list of those that somebody holds, or of the others, each in
 * the order of their last use. One that nobody holds is also in the space's list, by which bytes
 * and places are won. What has left stays until its last hold ends.
 */
#include <stdlib.h>
#include <string.h>

#include "services/resource-private.h"

/* NULL: no memory. It is in no list of use yet. */
struct resource *resource_new(struct resources *t, struct resource_slot *s, uint64_t number,
                              uid_t uid)
{
        struct resource_account *a = resource_account_get(t, uid);
        struct resource *r = a ? calloc(1, sizeof(*r)) : NULL;
        if (!r || resource_timer_new(t, &r->timer, RESOURCE_TIMER_TTL) < 0)
                goto no_memory;
        if (chains_add(&t->numbers, &r->link, number) < 0) {
                resource_timer_free(t, &r->timer);
                goto no_memory;
        }
        r->number = number;
        r->slot = s;
        r->account = a;
        r->uid = uid;
        list_init(&r->of_all);
        list_init(&r->of_slot);
        list_init(&r->of_use);
        list_init(&r->of_space);
        list_init(&r->holds);
        list_init(&r->lock_waiting);
        /* By number; a restored one may come out of order. */
        struct list *pos = &t->all;
        while (pos->prev != &t->all &&
               LIST_ENTRY(pos->prev, struct resource, of_all)->number > number)
                pos = pos->prev;
        list_append(pos, &r->of_all);
        list_append(&s->instances, &r->of_slot);
        list_append(&s->cache->unheld, &r->of_use);
        list_append(&s->cache->space->unheld, &r->of_space);
        s->n_instances++;
        s->cache->n_resources++;
        s->cache->space->n_resources++;
        a->n_resources++;
        return r;
no_memory:
        free(r);
        if (a)
                resource_account_settle(t, a);
        return NULL;
}

/* It has left, and nobody holds it. */
void resource_free(struct resources *t, struct resource *r)
{
        struct resource_slot *s = r->slot;
        list_unlink(&r->of_slot);
        list_unlink(&r->of_all);
        chains_remove(&t->numbers, &r->link);
        resource_timer_free(t, &r->timer);
        s->cache->space->n_resources--;
        s->cache->space->bytes -= r->size;
        s->n_gone--;
        r->account->n_resources--;
        resource_account_settle(t, r->account);
        if (r->payload)
                t->hooks.release(t->hooks.ctx, r->payload);
        free(r->reason);
        free(r);
        resource_slot_touch(t, s);
}

void resource_unmake(struct resources *t, struct resource *r)
{
        list_unlink(&r->of_use);
        list_unlink(&r->of_space);
        r->slot->n_instances--;
        r->slot->n_gone++;
        r->slot->cache->n_resources--;
        resource_free(t, r);
}

void resource_leave(struct resources *t, struct resource *r, enum resource_cause cause,
                    const char *reason)
{
        struct resource_slot *s = r->slot;
        if (r->cause)
                return;
        r->cause = (uint8_t)cause;
        r->reason = reason ? strdup(reason) : NULL;
        s->cache->counters.left[cause]++;
        t->hooks.left(t->hooks.ctx, r);
        list_unlink(&r->of_slot);
        list_unlink(&r->of_use);
        list_unlink(&r->of_space);
        timerheap_drop(&t->deadlines, &r->timer);
        s->n_instances--;
        s->n_gone++;
        s->cache->n_resources--;
        s->cache->bytes -= r->size;
        if (r->n_holders == 0)
                list_append(&t->unheld, &r->of_slot);
        else
                resource_tell(t, r);
        resource_slot_touch(t, s);
}

bool resource_evict_unheld(struct resources *t, struct resource_space *p,
                           const struct resource_account *of)
{
        for (struct list *n = p->unheld.next; n != &p->unheld; n = n->next) {
                struct resource *r = LIST_ENTRY(n, struct resource, of_space);
                if (of && r->account != of)
                        continue;
                resource_leave(t, r, RESOURCE_LEFT_EVICTED, NULL);
                resource_free(t, r);
                return true;
        }
        return false;
}

bool resources_evict(struct resources *t, const void *space, uint64_t now)
{
        struct resource_space *p = resource_space_find(t, space);
        bool some = p && resource_evict_unheld(t, p, NULL);
        resources_sweep(t, now);
        return some;
}

void resource_bound_cache(struct resources *t, const struct resource *newest, uint64_t max_entries)
{
        struct resource_cache *c = newest->slot->cache;
        while (max_entries > 0 && c->n_resources > max_entries) {
                struct list *n = list_is_empty(&c->unheld) ? c->held.next : c->unheld.next;
                struct resource *r = LIST_ENTRY(n, struct resource, of_use);
                if (r == newest)
                        return;
                resource_leave(t, r, RESOURCE_LEFT_EVICTED, NULL);
        }
}

void resource_drop(struct resources *t, struct resource *r, enum resource_cause cause,
                   const char *reason, uint64_t now)
{
        resource_leave(t, r, cause, reason);
        resources_sweep(t, now);
}

/* Somebody who knows better: what failed may be tried again. */
static size_t slot_leaves(struct resources *t, struct resource_slot *s, enum resource_cause cause,
                          size_t *told)
{
        size_t n = 0;
        while (!list_is_empty(&s->instances)) {
                struct resource *r = LIST_ENTRY(s->instances.next, struct resource, of_slot);
                if (told)
                        *told += r->n_holders;
                resource_leave(t, r, cause, NULL);
                n++;
        }
        s->failures = 0;
        s->retry_at = s->calm_since = 0;
        resource_slot_touch(t, s);
        return n;
}

size_t resources_dropped(struct resources *t, const struct resource_where *where,
                         enum resource_cause cause, uint64_t now, size_t *ret_told)
{
        struct resource_slot *s = resource_slot_find(t, where);
        if (ret_told)
                *ret_told = 0;
        size_t n = s ? slot_leaves(t, s, cause, ret_told) : 0;
        resources_sweep(t, now);
        return n;
}

size_t resources_cleared(struct resources *t, void *space, uint32_t cache, const uint8_t *prefix,
                         size_t n_prefix, uint64_t now, size_t *ret_told)
{
        struct resource_space *p = resource_space_find(t, space);
        size_t n = 0;
        if (ret_told)
                *ret_told = 0;
        for (struct list *i = p ? p->caches.next : NULL; i && i != &p->caches; i = i->next) {
                struct resource_cache *c = LIST_ENTRY(i, struct resource_cache, of_space);
                if (cache != 0 ? c->cache != cache : c->cache & RESOURCE_APART)
                        continue;
                for (struct list *j = c->slots.next; j != &c->slots; j = j->next) {
                        struct resource_slot *s = LIST_ENTRY(j, struct resource_slot, of_cache);
                        if (n_prefix == 0 ||
                            (s->n_key >= n_prefix && memcmp(s->key, prefix, n_prefix) == 0))
                                n += slot_leaves(t, s, RESOURCE_LEFT_CLEARED, ret_told);
                }
        }
        resources_sweep(t, now);
        return n;
}

static void cache_ends(struct resources *t, struct resource_cache *c, enum resource_cause cause)
{
        for (struct list *i = c->slots.next; i != &c->slots; i = i->next) {
                struct resource_slot *s = LIST_ENTRY(i, struct resource_slot, of_cache);
                while (!list_is_empty(&s->waiting))
                        resource_decide(t,
                                        LIST_ENTRY(s->waiting.next, struct resource_waiter,
                                                   of_slot),
                                        RESOURCE_GOT_ENDED);
                while (!list_is_empty(&s->creations))
                        resource_creation_free(t, LIST_ENTRY(s->creations.next,
                                                             struct resource_creation, of_slot));
                (void)slot_leaves(t, s, cause, NULL);
        }
        resource_cache_forget(t, c);
}

void resources_cache_ends(struct resources *t, void *space, uint32_t cache, uint64_t now)
{
        struct resource_cache *c = resource_cache_find(t, space, cache);
        if (c)
                cache_ends(t, c, RESOURCE_LEFT_SESSION_ENDED);
        resources_sweep(t, now);
}

void resources_space_ends(struct resources *t, void *space, uint64_t now)
{
        struct list *next;
        for (struct list *i = t->holders.next; i != &t->holders; i = next) {
                struct resource_holder *h = LIST_ENTRY(i, struct resource_holder, of_all);
                next = i->next;
                if (h->space == space)
                        resource_holder_close(t, h, true, now);
        }
        const struct resource_space *p = resource_space_find(t, space);
        const struct list *last = p ? p->caches.prev : NULL; /* with which the space may go */
        struct list *n = p ? p->caches.next : NULL;
        while (n) {
                next = n == last ? NULL : n->next;
                cache_ends(t, LIST_ENTRY(n, struct resource_cache, of_space),
                           RESOURCE_LEFT_CLEARED);
                n = next;
        }
        resources_sweep(t, now);
}
