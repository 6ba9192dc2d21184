/* SPDX-License-Identifier: MIT */
/*
 * The memory of resources
 *
 * What is found by something is in a hash with chains, which doubles when it has as many members as
 * buckets, and never shrinks: it is bounded by what the uids may have at the same time. Hashes have
 * a seed, since keys are chosen by clients. Deadlines are in one binary heap that has room for
 * every timer there is, so that nothing fails half way. Nothing is decided here.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "services/resource-private.h"

#define BUCKETS_FIRST ((size_t)64)
#define HEAP_FIRST    ((size_t)64)

/* ---- hashes */

static void link_add(struct resource_link **bucket, struct resource_link *l)
{
        l->next = *bucket;
        if (l->next)
                l->next->at = &l->next;
        l->at = bucket;
        *bucket = l;
}

/* Longer chains do where there is no memory for more buckets. */
static int map_grow(struct resource_map *m)
{
        size_t n = m->n_buckets ? 2 * m->n_buckets : BUCKETS_FIRST;
        if (m->n < m->n_buckets)
                return 0;
        struct resource_link **buckets = calloc(n, sizeof(*buckets));
        if (!buckets)
                return m->n_buckets ? 0 : -ENOMEM;
        for (size_t i = 0; i < m->n_buckets; i++) {
                struct resource_link *next;
                for (struct resource_link *l = m->buckets[i]; l; l = next) {
                        next = l->next;
                        link_add(&buckets[l->hash & (n - 1)], l);
                }
        }
        free(m->buckets);
        m->buckets = buckets;
        m->n_buckets = n;
        return 0;
}

int resource_map_add(struct resource_map *m, struct resource_link *l, uint64_t hash)
{
        if (map_grow(m) < 0)
                return -ENOMEM;
        l->hash = hash;
        link_add(&m->buckets[hash & (m->n_buckets - 1)], l);
        m->n++;
        return 0;
}

void resource_map_remove(struct resource_map *m, struct resource_link *l)
{
        *l->at = l->next;
        if (l->next)
                l->next->at = l->at;
        m->n--;
}

uint64_t resource_hash(const struct resources *t, uint64_t a, uint64_t b)
{
        const uint64_t both[2] = {a, b};
        return XXH3_64bits_withSeed(both, sizeof(both), t->seed);
}

/* ---- deadlines */

static void heap_place(struct resources *t, struct resource_timer *timer, size_t pos)
{
        t->heap[pos] = timer;
        timer->pos = (uint32_t)pos;
}

static void heap_up(struct resources *t, struct resource_timer *timer, size_t pos)
{
        while (pos > 0 && t->heap[(pos - 1) / 2]->due > timer->due) {
                heap_place(t, t->heap[(pos - 1) / 2], pos);
                pos = (pos - 1) / 2;
        }
        heap_place(t, timer, pos);
}

static void heap_down(struct resources *t, struct resource_timer *timer, size_t pos)
{
        for (size_t child = 2 * pos + 1; child < t->n_heap; child = 2 * pos + 1) {
                if (child + 1 < t->n_heap && t->heap[child + 1]->due < t->heap[child]->due)
                        child++;
                if (t->heap[child]->due >= timer->due)
                        break;
                heap_place(t, t->heap[child], pos);
                pos = child;
        }
        heap_place(t, timer, pos);
}

int resource_timer_new(struct resources *t, struct resource_timer *timer, uint8_t kind)
{
        *timer = (struct resource_timer){.due = RESOURCE_NEVER, .pos = UINT32_MAX, .kind = kind};
        if (t->n_timers == t->n_allocated) {
                size_t n = t->n_allocated ? 2 * t->n_allocated : HEAP_FIRST;
                struct resource_timer **heap = reallocarray(t->heap, n, sizeof(*heap));
                if (!heap)
                        return -ENOMEM;
                t->heap = heap;
                t->n_allocated = n;
        }
        t->n_timers++;
        return 0;
}

void resource_timer_free(struct resources *t, struct resource_timer *timer)
{
        resource_timer_drop(t, timer);
        t->n_timers--;
}

void resource_timer_drop(struct resources *t, struct resource_timer *timer)
{
        size_t pos = timer->pos;
        if (pos == UINT32_MAX)
                return;
        struct resource_timer *last = t->heap[--t->n_heap];
        timer->pos = UINT32_MAX;
        timer->due = RESOURCE_NEVER;
        if (last == timer)
                return;
        if (pos > 0 && t->heap[(pos - 1) / 2]->due > last->due)
                heap_up(t, last, pos);
        else
                heap_down(t, last, pos);
}

void resource_timer_set(struct resources *t, struct resource_timer *timer, uint64_t due)
{
        resource_timer_drop(t, timer);
        if (due == RESOURCE_NEVER)
                return;
        assert(t->n_heap < t->n_allocated);
        timer->due = due;
        heap_up(t, timer, t->n_heap++);
}

uint64_t resources_next_due(const struct resources *t)
{
        return t->n_heap > 0 ? t->heap[0]->due : RESOURCE_NEVER;
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
        for (struct resource_link *l = resource_map_first(&t->caches, hash); l; l = l->next) {
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
        resource_map_remove(&t->caches, &c->link);
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
        if (!c || resource_map_add(&t->caches, &c->link,
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
        for (struct resource_link *l = resource_map_first(&t->slots, hash); l; l = l->next) {
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
        if (resource_map_add(&t->slots, &s->link, slot_hash(t, c, where)) < 0) {
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
        resource_map_remove(&t->slots, &s->link);
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
        t->claims = (struct resource_timer){.due = RESOURCE_NEVER,
                                            .pos = UINT32_MAX,
                                            .kind = RESOURCE_TIMER_CLAIMS};
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

static void map_done(struct resource_map *m)
{
        assert(m->n == 0);
        free(m->buckets);
        *m = (struct resource_map){0};
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
        assert(list_is_empty(&t->decided) && !t->accounts && t->n_heap == 0);
        map_done(&t->slots);
        map_done(&t->numbers);
        map_done(&t->ids);
        map_done(&t->holder_numbers);
        map_done(&t->holds);
        map_done(&t->creations);
        map_done(&t->caches);
        free(t->heap);
        *t = (struct resources){0};
}
