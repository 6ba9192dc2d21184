/* SPDX-License-Identifier: MIT */
/*
 * Resources
 *
 * Live objects that processes share. Whoever asks for a key first gets the right to create its
 * instance; who else asks waits in line, and when it is published all get it.
 *
 *   slot       a key: its instances, who creates one, who waits
 *   pool       a slot of up to N instances, each of one user at a time
 *   instance   what was published once; its number is never used twice
 *   holder     a process; it may hold an instance several times
 *   hold       that it does: what the instance's holders are told they are told by their holds
 *   party      a connection, over which a holder waits
 *
 * A failure, when who creates says why it gives up, or when an instance does not live up to its
 * holders' check soon after it was published, makes a pause in which nobody creates; it doubles
 * with each failure in a row. The first failed check makes none: an instance may have become bad by
 * age.
 */
#include "services/resource.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "services/resource-private.h"

#define PAUSE_DOUBLINGS 6u /* then it is the longest one */

/* ---- who may create */

bool resource_may_create(const struct resource_slot *s, uint64_t now)
{
        uint32_t places = s->pool > 0 ? s->pool : 1;
        return now >= s->retry_at && (uint64_t)s->n_instances + s->n_creations < places;
}

/* Free ones of a pool are at the end: the one that was used last comes first. */
struct resource *resource_available(const struct resource_slot *s)
{
        if (s->n_instances == 0)
                return NULL;
        struct resource *r = LIST_ENTRY(s->instances.prev, struct resource, of_slot);
        return s->pool == 0 || r->n_holders == 0 ? r : NULL;
}

/* One more of @a's, after making room for it. */
static bool has_room(struct resources *t, struct resource_space *p, struct resource_account *a)
{
        while (a->n_resources >= t->bounds.resources)
                if (!resource_evict_unheld(t, p, a))
                        return false;
        while (p->n_resources >= t->bounds.space_resources)
                if (!resource_evict_unheld(t, p, NULL))
                        return false;
        return true;
}

int resource_grant(struct resources *t, struct resource_slot *s, struct resource_holder *h,
                   const struct resource_policy *policy, uint64_t now,
                   struct resource_creation **ret)
{
        if (!has_room(t, s->cache->space, h->account))
                return RESOURCE_E_RESOURCES;
        struct resource_creation *c = calloc(1, sizeof(*c));
        if (!c || chains_add(&t->creations, &c->link, t->last_creation + 1) < 0) {
                free(c);
                return -ENOMEM;
        }
        c->id = ++t->last_creation;
        c->slot = s;
        c->holder = h;
        c->policy = *policy;
        c->since = now;
        c->kind = s->kind;
        list_init(&c->of_slot);
        list_init(&c->of_holder);
        list_append(&s->creations, &c->of_slot);
        list_append(&h->creations, &c->of_holder);
        s->n_creations++;
        s->cache->n_creating++;
        s->cache->space->n_resources++;
        h->account->n_resources++;
        *ret = c;
        return 0;
}

/* It is the next one's. */
void resource_creation_free(struct resources *t, struct resource_creation *c)
{
        struct resource_slot *s = c->slot;
        list_unlink(&c->of_slot);
        list_unlink(&c->of_holder);
        chains_remove(&t->creations, &c->link);
        s->n_creations--;
        s->cache->n_creating--;
        s->cache->space->n_resources--;
        c->holder->account->n_resources--;
        free(c);
        resource_slot_touch(t, s);
}

struct resource_creation *resource_creation_find(const struct resources *t, uint64_t id)
{
        struct chain_link *l = chains_first(&t->creations, id);
        while (l && l->hash != id)
                l = l->next;
        return l ? LIST_ENTRY(l, struct resource_creation, link) : NULL;
}

/* ---- failures */

uint64_t resource_failed(struct resource_slot *s, uint64_t since, const char *reason,
                         bool first_free, uint64_t now)
{
        uint64_t pause = 0;
        if (since >= s->calm_since + RESOURCE_CALM_MS)
                s->failures = 0;
        if (s->failures <= PAUSE_DOUBLINGS + 1)
                s->failures++;
        uint32_t counted = s->failures - first_free;
        if (counted > PAUSE_DOUBLINGS)
                pause = RESOURCE_PAUSE_MAX_MS;
        else if (counted > 0)
                pause = RESOURCE_PAUSE_FIRST_MS << (counted - 1);
        s->calm_since = s->retry_at = now + pause;
        s->cache->counters.failures++;
        s->cache->keeps = true;
        free(s->reason);
        s->reason = reason ? strdup(reason) : NULL;
        return pause;
}

uint64_t resource_creation_end(struct resources *t, struct resource_creation *c, const char *reason,
                               uint64_t now)
{
        uint64_t pause = reason ? resource_failed(c->slot, c->since, reason, false, now) : 0;
        resource_creation_free(t, c);
        resources_sweep(t, now);
        return pause;
}

int resource_invalidate(struct resources *t, struct resource *r, struct resource_holder *h,
                        const char *reason, uint64_t now)
{
        if (!resource_hold_find(t, r, h))
                return RESOURCE_E_NOT_HELD;
        if (!r->cause) {
                resource_failed(r->slot, now, reason, true, now);
                resource_leave(t, r, RESOURCE_LEFT_INVALID, reason);
        }
        resources_sweep(t, now);
        return RESOURCE_IS_HELD;
}

/* ---- asking */

static bool is_used(const struct resource_slot *s)
{
        return s->n_instances > 0 || s->n_creations > 0 || s->n_waiting > 0;
}

/* What is there must be what is asked for. 0 or an answer. */
static int fits(struct resource_slot *s, uint32_t kind, uint32_t pool, struct resource_reply *ret)
{
        if (kind == RESOURCE_KIND_LOCAL && pool > 0)
                return RESOURCE_E_POOL;
        if (is_used(s) && s->kind != kind) {
                ret->kind = s->kind;
                return RESOURCE_E_KIND;
        }
        if (is_used(s) && (s->pool > 0) != (pool > 0))
                return RESOURCE_E_POOL;
        s->kind = (uint8_t)kind;
        s->pool = pool;
        return 0;
}

static int join(struct resources *t, struct resource *r, struct resource_holder *h, uint64_t now,
                struct resource_reply *ret)
{
        if (!resource_hold_add(t, r, h, now))
                return -ENOMEM;
        r->slot->cache->counters.acquired++;
        ret->resource = r;
        if (r->pooled) {
                ret->owner_died = r->owner_died;
                r->owner_died = false;
                if (ret->owner_died)
                        t->hooks.changed(t->hooks.ctx, r);
        }
        return RESOURCE_IS_HELD;
}

static int ask_slot(struct resources *t, struct resource_slot *s, const struct resource_ask *ask,
                    uint64_t now, struct resource_reply *ret)
{
        int r = fits(s, ask->kind, ask->pool, ret);
        struct resource *there = resource_available(s);
        bool empty = s->n_instances == 0 && s->n_creations == 0;
        if (r != 0)
                return r;
        if (there)
                return join(t, there, ask->holder, now, ret);
        if (empty && ask->no_create)
                return RESOURCE_IS_NOT_FOUND;
        if (empty && now < s->retry_at) {
                ret->reason = s->reason;
                ret->retry_ms = s->retry_at - now;
                return RESOURCE_IS_FAILED;
        }
        if (!ask->no_create && resource_may_create(s, now)) {
                r = resource_grant(t, s, ask->holder, &ask->policy, now, &ret->creation);
                return r == 0 ? RESOURCE_IS_YOURS : r;
        }
        if (ask->wait_ms > 0)
                return resource_park(t, s, NULL, ask, now);
        resource_name_creator(s, &ret->uid, &ret->pid);
        return RESOURCE_IS_BUSY;
}

int resources_acquire(struct resources *t, const struct resource_where *where,
                      const struct resource_ask *ask, uint64_t now, struct resource_reply *ret)
{
        *ret = (struct resource_reply){.kind = (uint8_t)ask->kind};
        struct resource_slot *s = resource_slot_get(t, where);
        if (!s)
                return -ENOMEM;
        int r = ask_slot(t, s, ask, now, ret);
        resources_sweep(t, now);
        return r;
}

/* ---- publishing */

static bool has_bytes(struct resources *t, struct resource_space *p, uint64_t size)
{
        if (size > t->bounds.space_bytes)
                return false;
        while (p->bytes > t->bounds.space_bytes - size)
                if (!resource_evict_unheld(t, p, NULL))
                        return false;
        return true;
}

/* What there is by now, of the slot, with @h; NULL: no memory. */
static struct resource *new_held(struct resources *t, struct resource_slot *s,
                                 struct resource_holder *h, const struct resource_policy *policy,
                                 uint64_t now)
{
        struct resource *r = resource_new(t, s, t->last_instance + 1, h->uid);
        if (!r)
                return NULL;
        t->last_instance = r->number;
        r->kind = s->kind;
        r->pooled = s->pool > 0;
        r->pid = h->pid;
        r->since = r->used = now;
        if (!resource_hold_add(t, r, h, now)) {
                resource_unmake(t, r);
                return NULL;
        }
        if (policy->ttl_ms < RESOURCE_NEVER - now)
                resource_timer_set(t, &r->timer, now + policy->ttl_ms);
        s->calm_since = now;
        s->cache->counters.created++;
        s->cache->keeps = true;
        resource_slot_touch(t, s);
        resource_bound_cache(t, r, policy->max_entries);
        return r;
}

/* What it is, and what it is charged: now it is there. */
static void fill(struct resources *t, struct resource *r, uint64_t size, bool read_only,
                 void *payload)
{
        struct resource_cache *c = r->slot->cache;
        r->size = size;
        r->read_only = read_only;
        r->payload = payload;
        c->space->bytes += size;
        c->bytes += size;
        if (t->hooks.created)
                t->hooks.created(t->hooks.ctx, r);
}

static int publish(struct resources *t, struct resource_creation *c, enum resource_kind kind,
                   uint64_t size, bool read_only, void *payload, uint64_t now,
                   struct resource **ret)
{
        struct resource_slot *s = c->slot;
        struct resource *r = resource_available(s);
        if (kind != s->kind)
                return RESOURCE_E_KIND;
        if (s->pool == 0 && r) { /* a local one that was registered again meanwhile */
                if (!resource_hold_add(t, r, c->holder, now))
                        return -ENOMEM;
                if (payload)
                        t->hooks.release(t->hooks.ctx, payload);
                *ret = r;
                return RESOURCE_IS_HELD;
        }
        if (!has_bytes(t, s->cache->space, size))
                return RESOURCE_E_SPACE;
        r = new_held(t, s, c->holder, &c->policy, now);
        if (!r)
                return -ENOMEM;
        fill(t, r, size, read_only, payload);
        *ret = r;
        return RESOURCE_IS_HELD;
}

int resource_publish(struct resources *t, struct resource_creation *c, enum resource_kind kind,
                     uint64_t size, bool read_only, void *payload, uint64_t now,
                     struct resource **ret)
{
        int r = publish(t, c, kind, size, read_only, payload, now, ret);
        if (r == RESOURCE_IS_HELD)
                resource_creation_free(t, c);
        resources_sweep(t, now);
        return r;
}

static int register_new(struct resources *t, struct resource_slot *s, struct resource_holder *h,
                        const struct resource_policy *policy, const struct resource_anew *what,
                        uint64_t now, struct resource **ret)
{
        if (!has_room(t, s->cache->space, h->account))
                return RESOURCE_E_RESOURCES;
        if (!has_bytes(t, s->cache->space, what->size))
                return RESOURCE_E_SPACE;
        struct resource *r = new_held(t, s, h, policy, now);
        if (!r)
                return -ENOMEM;
        fill(t, r, what->size, what->read_only, what->payload);
        *ret = r;
        return RESOURCE_IS_HELD;
}

int resources_register(struct resources *t, const struct resource_where *where,
                       struct resource_holder *h, const struct resource_policy *policy,
                       const struct resource_anew *what, uint64_t now, struct resource **ret)
{
        struct resource_reply reply = {0};
        struct resource_slot *s = resource_slot_get(t, where);
        if (!s)
                return -ENOMEM;
        int r = fits(s, what->kind, 0, &reply);
        if (r == 0 && s->n_instances > 0 && what->kind == RESOURCE_KIND_LOCAL) {
                *ret = resource_available(s);
                r = resource_join(t, *ret, h, now);
        } else if (r == 0 && s->n_instances > 0) {
                r = RESOURCE_E_KIND;
        } else if (r == 0) {
                r = register_new(t, s, h, policy, what, now, ret);
        }
        resources_sweep(t, now);
        return r;
}
