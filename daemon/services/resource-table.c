/* SPDX-License-Identifier: MIT */
/*
 * The memory of resources
 *
 * What is found by something is in a hash; all of it is bounded by what the uids may have at the
 * same time. Hashes have a seed, since keys are chosen by clients. There is room among the
 * deadlines for every timer there is, so that nothing fails half way. Nothing is decided here.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "services/resource-private.h"

uint64_t resource_hash(const struct resources *t, uint64_t a, uint64_t b)
{
        const uint64_t both[2] = {a, b};
        return XXH3_64bits_withSeed(both, sizeof(both), t->seed);
}

/* ---- deadlines */

int resource_timer_new(struct resources *t, struct timer *timer, uint8_t kind)
{
        timer_init(timer, kind);
        return timerheap_reserve(&t->deadlines);
}

void resource_timer_free(struct resources *t, struct timer *timer)
{
        timerheap_drop(&t->deadlines, timer);
        timerheap_unreserve(&t->deadlines);
}

void resource_timer_set(struct resources *t, struct timer *timer, uint64_t due)
{
        int r = timerheap_set(&t->deadlines, timer, due);
        assert(r == 0);
        (void)r;
}

uint64_t resources_next_due(const struct resources *t)
{
        return timerheap_next_due(&t->deadlines);
}

/* ---- uids */

struct resource_account *resource_account_get(struct resources *t, uid_t uid)
{
        struct resource_account *a = t->accounts;
        while (a && a->uid != uid)
                a = a->next;
        if (a)
                return a;
        a = calloc(1, sizeof(*a));
        if (!a)
                return NULL;
        a->uid = uid;
        a->next = t->accounts;
        t->accounts = a;
        return a;
}

void resource_account_settle(struct resources *t, struct resource_account *a)
{
        struct resource_account **at = &t->accounts;
        if (a->n_holders || a->n_waiters || a->n_resources)
                return;
        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        free(a);
}

/* ---- spaces, caches, slots */

struct resource_space *resource_space_find(const struct resources *t, const void *space)
{
        struct resource_space *p = t->spaces;
        while (p && p->space != space)
                p = p->next;
        return p;
}

static void space_settle(struct resources *t, struct resource_space *p)
{
        struct resource_space **at = &t->spaces;
        if (!list_is_empty(&p->caches))
                return;
        while (*at != p)
                at = &(*at)->next;
        *at = p->next;
        free(p);
}

static struct resource_space *space_get(struct resources *t, void *space)
{
        struct resource_space *p = resource_space_find(t, space);
        if (p)
                return p;
        p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->space = space;
        list_init(&p->caches);
        list_init(&p->unheld);
        p->next = t->spaces;
        t->spaces = p;
        return p;
}

struct resource_cache *resource_cache_find(const struct resources *t, const void *space,
                                           uint32_t cache)
{
        uint64_t hash = resource_hash(t, (uint64_t)(uintptr_t)space, cache);
        for (struct chain_link *l = chains_first(&t->caches, hash); l; l = l->next) {
                struct resource_cache *c = LIST_ENTRY(l, struct resource_cache, link);
                if (l->hash == hash && c->space->space == space && c->cache == cache)
                        return c;
        }
        return NULL;
}

static void cache_settle(struct resources *t, struct resource_cache *c)
{
        struct resource_space *p = c->space;
        if (c->keeps || !list_is_empty(&c->slots))
                return;
        list_unlink(&c->of_space);
        chains_remove(&t->caches, &c->link);
        free(c);
        space_settle(t, p);
}

void resource_cache_forget(struct resources *t, struct resource_cache *c)
{
        c->counters = (struct resource_counters){0};
        c->keeps = false;
        cache_settle(t, c);
}

static struct resource_cache *cache_get(struct resources *t, void *space, uint32_t cache)
{
        struct resource_cache *c = resource_cache_find(t, space, cache);
        if (c)
                return c;
        struct resource_space *p = space_get(t, space);
        if (!p)
                return NULL;
        c = calloc(1, sizeof(*c));
        if (!c || chains_add(&t->caches, &c->link,
                             resource_hash(t, (uint64_t)(uintptr_t)space, cache)) < 0) {
                free(c);
                space_settle(t, p);
                return NULL;
        }
        c->space = p;
        c->cache = cache;
        list_init(&c->slots);
        list_init(&c->held);
        list_init(&c->unheld);
        list_init(&c->of_space);
        list_append(&p->caches, &c->of_space);
        return c;
}

static uint64_t slot_hash(const struct resources *t, const struct resource_cache *c,
                          const struct resource_where *where)
{
        return XXH3_64bits_withSeed(where->key, where->n_key, t->seed ^ c->link.hash);
}

static struct resource_slot *find_in_cache(const struct resources *t,
                                           const struct resource_cache *c,
                                           const struct resource_where *where)
{
        uint64_t hash = slot_hash(t, c, where);
        for (struct chain_link *l = chains_first(&t->slots, hash); l; l = l->next) {
                struct resource_slot *s = LIST_ENTRY(l, struct resource_slot, link);
                if (l->hash == hash && s->cache == c && s->n_key == where->n_key &&
                    memcmp(s->key, where->key, where->n_key) == 0)
                        return s;
        }
        return NULL;
}

struct resource_slot *resource_slot_find(const struct resources *t,
                                         const struct resource_where *where)
{
        struct resource_cache *c = resource_cache_find(t, where->space, where->cache);
        return c ? find_in_cache(t, c, where) : NULL;
}

static void remember_no_more(struct resources *t, struct resource_slot *s)
{
        if (!list_is_empty(&s->of_failed))
                t->n_failed--;
        list_unlink(&s->of_failed);
}

struct resource_slot *resource_slot_get(struct resources *t, const struct resource_where *where)
{
        struct resource_cache *c = cache_get(t, where->space, where->cache);
        if (!c)
                return NULL;
        struct resource_slot *s = find_in_cache(t, c, where);
        if (s) {
                remember_no_more(t, s);
                resource_slot_touch(t, s);
                return s;
        }
        s = calloc(1, sizeof(*s));
        if (!s || resource_timer_new(t, &s->timer, RESOURCE_TIMER_SLOT) < 0)
                goto no_memory;
        if (chains_add(&t->slots, &s->link, slot_hash(t, c, where)) < 0) {
                resource_timer_free(t, &s->timer);
                goto no_memory;
        }
        s->cache = c;
        s->n_key = (uint8_t)where->n_key;
        memcpy(s->key, where->key, where->n_key);
        list_init(&s->of_failed);
        list_init(&s->loose);
        list_init(&s->instances);
        list_init(&s->creations);
        list_init(&s->waiting);
        list_init(&s->of_cache);
        list_append(&c->slots, &s->of_cache);
        resource_slot_touch(t, s);
        return s;
no_memory:
        free(s);
        cache_settle(t, c);
        return NULL;
}

void resource_slot_free(struct resources *t, struct resource_slot *s)
{
        struct resource_cache *c = s->cache;
        remember_no_more(t, s);
        list_unlink(&s->loose);
        list_unlink(&s->of_cache);
        resource_timer_free(t, &s->timer);
        chains_remove(&t->slots, &s->link);
        free(s->reason);
        free(s);
        cache_settle(t, c);
}

void resource_slot_touch(struct resources *t, struct resource_slot *s)
{
        if (list_is_empty(&s->loose))
                list_append(&t->loose, &s->loose);
}

void *resource_space_of(const struct resource_slot *s)
{
        return s->cache->space->space;
}

uint32_t resource_cache_of(const struct resource_slot *s)
{
        return s->cache->cache;
}

/* ---- life */

void resources_init(struct resources *t, uint64_t seed, uint64_t last,
                    const struct resource_hooks *hooks)
{
        *t = (struct resources){.seed = seed,
                                .last_instance = last,
                                .last_creation = last,
                                .last_number = (uint32_t)(seed % RESOURCE_NUMBER_MAX),
                                .hooks = *hooks};
        timer_init(&t->claims, RESOURCE_TIMER_CLAIMS);
        list_init(&t->all);
        list_init(&t->holders);
        list_init(&t->decided);
        list_init(&t->events);
        list_init(&t->failed);
        list_init(&t->loose);
        list_init(&t->unheld);
}

void resources_set_bounds(struct resources *t, const struct resource_bounds *bounds)
{
        t->bounds = *bounds;
}

static uint32_t no_word(void *ctx, void *payload)
{
        (void)ctx, (void)payload;
        return 0;
}

static void nothing(void *ctx, struct resource *r)
{
        (void)ctx, (void)r;
}

/* A successor may have all of this by now: no word is written, and nothing has left. */
void resources_done(struct resources *t)
{
        t->hooks.word_owner = no_word;
        t->hooks.left = nothing;
        t->hooks.changed = nothing;
        t->hooks.held = NULL;
        t->hooks.let_go = NULL;
        t->hooks.ended = NULL;
        while (!list_is_empty(&t->holders))
                resource_holder_end(t, LIST_ENTRY(t->holders.next, struct resource_holder, of_all),
                                    false, 0);
        while (t->spaces)
                resources_space_ends(t, t->spaces->space, 0);
        if (t->claims.due != RESOURCE_NEVER)
                resource_timer_free(t, &t->claims);
        assert(list_is_empty(&t->decided) && !t->accounts);
        chains_done(&t->slots);
        chains_done(&t->numbers);
        chains_done(&t->ids);
        chains_done(&t->holder_numbers);
        chains_done(&t->holds);
        chains_done(&t->creations);
        chains_done(&t->caches);
        timerheap_done(&t->deadlines);
        *t = (struct resources){0};
}
