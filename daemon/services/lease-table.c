/* SPDX-License-Identifier: MIT */
/*
 * The memory of leases
 *
 * What is found by something is in a hash: slots by key, leases by number, waiters by owner, groups
 * by cache; all of it is bounded by what the uids may have at the same time. Hashes have a seed,
 * since keys and owners' numbers are chosen by clients. Nothing is decided here.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "services/lease-private.h"

/* ---- uids */

struct lease_account *lease_account_get(struct leases *t, uid_t uid)
{
        struct lease_account *a = t->accounts;
        while (a && a->uid != uid)
                a = a->next;
        if (a)
                return a;
        a = calloc(1, sizeof(*a));
        if (!a)
                return NULL;
        a->uid = uid;
        list_init(&a->lates);
        a->next = t->accounts;
        t->accounts = a;
        return a;
}

void lease_account_settle(struct leases *t, struct lease_account *a)
{
        struct lease_account **at = &t->accounts;
        if (a->n_parties > 0)
                return;
        assert(a->n_leases == 0 && a->n_lates == 0 && a->n_waiters == 0);
        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        free(a);
}

uint64_t lease_owner_hash(const struct leases *t, const struct lease_party *p, uint64_t number)
{
        const uint64_t owner[2] = {(uint64_t)(uintptr_t)p, number};
        return XXH3_64bits_withSeed(owner, sizeof(owner), t->seed);
}

/* ---- groups and slots */

static uint64_t group_hash(const struct leases *t, const void *space, uint32_t cache)
{
        const uint64_t group[2] = {(uint64_t)(uintptr_t)space, cache};
        return XXH3_64bits_withSeed(group, sizeof(group), t->seed);
}

static uint64_t slot_hash(const struct leases *t, const struct lease_group *g, const uint8_t *key,
                          size_t n_key)
{
        return XXH3_64bits_withSeed(key, n_key, t->seed ^ g->link.hash);
}

struct lease_group *lease_group_find(const struct leases *t, const void *space, uint32_t cache)
{
        uint64_t hash = group_hash(t, space, cache);
        struct chain_link *l = chains_first(&t->groups, hash);
        for (; l; l = l->next) {
                struct lease_group *g = (struct lease_group *)l;
                if (l->hash == hash && g->space == space && g->cache == cache)
                        return g;
        }
        return NULL;
}

static struct lease_slot *find_in_group(const struct leases *t, const struct lease_group *g,
                                        const uint8_t *key, size_t n_key, uint64_t hash)
{
        struct chain_link *l = chains_first(&t->slots, hash);
        for (; l; l = l->next) {
                struct lease_slot *s = (struct lease_slot *)l;
                if (l->hash == hash && s->group == g && s->n_key == n_key &&
                    memcmp(s->key, key, n_key) == 0)
                        return s;
        }
        return NULL;
}

struct lease_slot *lease_slot_find(const struct leases *t, const struct lease_where *where)
{
        struct lease_group *g = t->slots.n ? lease_group_find(t, where->space, where->cache) : NULL;
        return g ? find_in_group(t, g, where->key, where->n_key,
                                 slot_hash(t, g, where->key, where->n_key))
                 : NULL;
}

static void group_settle(struct leases *t, struct lease_group *g)
{
        if (!list_is_empty(&g->slots))
                return;
        assert(g->computing == 0 && g->waiting == 0);
        chains_remove(&t->groups, &g->link);
        free(g);
}

static struct lease_group *group_get(struct leases *t, void *space, uint32_t cache)
{
        struct lease_group *g = lease_group_find(t, space, cache);
        if (g)
                return g;
        g = calloc(1, sizeof(*g));
        if (!g)
                return NULL;
        g->space = space;
        g->cache = cache;
        list_init(&g->slots);
        if (chains_add(&t->groups, &g->link, group_hash(t, space, cache)) < 0) {
                free(g);
                return NULL;
        }
        return g;
}

struct lease_slot *lease_slot_get(struct leases *t, const struct lease_where *where)
{
        struct lease_group *g = group_get(t, where->space, where->cache);
        if (!g)
                return NULL;
        uint64_t hash = slot_hash(t, g, where->key, where->n_key);
        struct lease_slot *s = find_in_group(t, g, where->key, where->n_key, hash);
        if (s)
                return s;
        s = calloc(1, sizeof(*s));
        if (!s || chains_add(&t->slots, &s->link, hash) < 0) {
                free(s);
                group_settle(t, g);
                return NULL;
        }
        s->group = g;
        s->n_key = (uint8_t)where->n_key;
        memcpy(s->key, where->key, where->n_key);
        list_init(&s->of_group);
        list_init(&s->news);
        list_init(&s->lates);
        list_init(&s->waiting);
        list_append(&g->slots, &s->of_group);
        return s;
}

void lease_slot_settle(struct leases *t, struct lease_slot *s)
{
        struct lease_group *g = s->group;
        if (s->holder || s->n_waiters > 0 || !list_is_empty(&s->lates))
                return;
        list_unlink(&s->news);
        list_unlink(&s->of_group);
        chains_remove(&t->slots, &s->link);
        free(s);
        group_settle(t, g);
}

/* ---- life */

void leases_init(struct leases *t, uint64_t seed, uint64_t last_id, const struct lease_hooks *hooks)
{
        *t = (struct leases){.seed = seed, .last_id = last_id, .hooks = *hooks};
        list_init(&t->all);
        list_init(&t->decided);
        list_init(&t->news);
}

void leases_set_bounds(struct leases *t, uint64_t max_leases, uint64_t max_waiters)
{
        t->max_leases = max_leases;
        t->max_waiters = max_waiters;
}

void leases_done(struct leases *t)
{
        assert(!t->accounts);
        chains_done(&t->slots);
        chains_done(&t->ids);
        chains_done(&t->owners);
        chains_done(&t->groups);
        timerheap_done(&t->deadlines);
        *t = (struct leases){0};
}
