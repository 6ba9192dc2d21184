/* SPDX-License-Identifier: MIT */
/*
 * Session caches
 *
 * In the store of a hidden realm one cache has the sessions, an entry each, and one the records of
 * resources (services/resource-record.c). The others are caches of sessions: the name of such a one
 * is the session's key, and then what the session calls it. So whose it is lies in the store and
 * outlives the process; here is an index of that, a chain of cache ids for each hash of a key.
 *
 * When a session leaves the store its caches have to go. Why it left does not matter: that it
 * expired or was evicted is told by the store, in the middle of a change, so its caches are only
 * put into a line here, of those that are removed later. Nothing can get at them meanwhile, since
 * no key is used twice. A process that dies with such a line loses nothing: its successor finds
 * caches whose session is not there.
 */
#include "realm/session-caches.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "realm/realm.h"

#define N_CHAINS 4096u
#define GROWTH   256u /* ids */

struct session_caches {
        uint32_t home;
        uint32_t resources; /* 0: there was no room for it */
        uint32_t *next; /* by id: in its chain, or in the line of those that are to be removed */
        uint32_t n_next;
        uint32_t chains[N_CHAINS];
        uint32_t gone_first, gone_last;
        uint64_t due_ms;
};

/* Keys are digests: any of their bits will do. */
static uint32_t *chain_of(struct session_caches *c, const uint8_t *key)
{
        uint32_t h;
        memcpy(&h, key, sizeof(h));
        return &c->chains[h % N_CHAINS];
}

/* Whose cache it is; NULL: no session's. */
static const uint8_t *owner_of(const struct realm *r, uint32_t cache)
{
        size_t n;
        const char *name = store_cache_name(r->store, cache, &n);
        return name && n > SESSION_KEY_SIZE ? (const uint8_t *)name : NULL;
}

static bool is_of(const struct realm *r, uint32_t cache, const uint8_t *key)
{
        const uint8_t *owner = owner_of(r, cache);
        return owner && memcmp(owner, key, SESSION_KEY_SIZE) == 0;
}

const char *session_cache_name(const struct realm *r, uint32_t cache, const uint8_t *key,
                               size_t *ret_n)
{
        size_t n;
        const char *name = store_cache_name(r->store, cache, &n);
        if (!name || n <= SESSION_KEY_SIZE || memcmp(name, key, SESSION_KEY_SIZE) != 0)
                return NULL;
        *ret_n = n - SESSION_KEY_SIZE;
        return name + SESSION_KEY_SIZE;
}

static int reserve(struct session_caches *c, uint32_t id)
{
        if (id < c->n_next)
                return 0;
        uint32_t n = id + GROWTH;
        uint32_t *next = reallocarray(c->next, n, sizeof(*next));
        if (!next)
                return -ENOMEM;
        c->next = next;
        c->n_next = n;
        return 0;
}

static void add(struct realm *r, uint32_t cache)
{
        struct session_caches *c = r->caches;
        uint32_t *chain = chain_of(c, owner_of(r, cache));
        c->next[cache] = *chain;
        *chain = cache;
}

static void add_gone(struct session_caches *c, uint32_t cache)
{
        c->next[cache] = 0;
        if (c->gone_last != 0)
                c->next[c->gone_last] = cache;
        else
                c->gone_first = cache;
        c->gone_last = cache;
}

void session_ended(struct realm *r, const uint8_t *key)
{
        struct session_caches *c = r->caches;
        uint32_t *at = chain_of(c, key);
        while (*at != 0) {
                uint32_t cache = *at;
                if (!is_of(r, cache, key)) {
                        at = &c->next[cache];
                        continue;
                }
                *at = c->next[cache];
                add_gone(c, cache);
                c->due_ms = 0;
        }
}

static void on_departed(void *ctx, const struct store_departure *gone, uint64_t now_ms)
{
        struct realm *r = ctx;
        struct realms *rs = r->realms;
        if (gone->cache != r->caches->home || gone->n_key != SESSION_KEY_SIZE)
                return;
        session_ended(r, gone->key);
        if (rs->session_departed)
                rs->session_departed(rs->session_ctx, r, gone->key, gone->cause, now_ms);
}

bool session_is_there(struct realm *r, const uint8_t *key, uint64_t now_ms)
{
        struct store_entry e;
        return store_get(r->store, r->caches->home, key, SESSION_KEY_SIZE, now_ms, false, &e) == 0;
}

/* What lies in the store already. */
static void find_caches(struct realm *r, uint64_t now_ms)
{
        struct session_caches *c = r->caches;
        uint32_t n = store_n_caches(r->store);
        for (uint32_t cache = 1; cache <= n; cache++) {
                const uint8_t *owner = owner_of(r, cache);
                size_t n_name;
                if (owner && session_is_there(r, owner, now_ms))
                        add(r, cache);
                else if (cache != c->home && cache != c->resources &&
                         store_cache_name(r->store, cache, &n_name))
                        add_gone(c, cache);
        }
}

int session_caches_new(struct realm *r, uint64_t now_ms)
{
        struct session_caches *c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        int k = store_cache_create(r->store, SESSIONS_CACHE_NAME, strlen(SESSIONS_CACHE_NAME),
                                   &c->home);
        if (k == 0)
                k = reserve(c, store_n_caches(r->store));
        if (k != 0) {
                session_caches_free(c);
                return k < 0 ? k : -ENOMEM; /* a full table that is none of ours */
        }
        if (store_cache_create(r->store, RESOURCES_CACHE_NAME, strlen(RESOURCES_CACHE_NAME),
                               &c->resources) == 0)
                store_cache_stays(r->store, c->resources);
        r->caches = c;
        store_watch(r->store, on_departed, r);
        find_caches(r, now_ms);
        session_caches_reconfigure(r, now_ms);
        return 0;
}

struct session_caches *session_caches_free(struct session_caches *c)
{
        if (!c)
                return NULL;
        free(c->next);
        free(c);
        return NULL;
}

void session_caches_reconfigure(struct realm *r, uint64_t now_ms)
{
        const struct store_policy policy = {
                .ttl_ms = STORE_NEVER,
                .max_entries = r->realms->cfg->limits.sessions_per_realm,
                .max_bytes = STORE_UNLIMITED,
        };
        store_cache_set_policy(r->store, r->caches->home, &policy, &policy, false, now_ms);
}

uint32_t session_caches_home(const struct realm *r)
{
        return r->caches->home;
}

uint32_t session_caches_resources(const struct realm *r)
{
        return r->caches ? r->caches->resources : 0;
}

int session_caches_create(struct realm *r, const char *name, size_t n_name, uint32_t *ret_cache)
{
        int k = reserve(r->caches, store_n_caches(r->store) + 1);
        if (k == 0)
                k = store_cache_create(r->store, name, n_name, ret_cache);
        if (k == 0)
                add(r, *ret_cache);
        return k;
}

uint32_t session_caches_next(const struct realm *r, const uint8_t *key, uint32_t cache)
{
        struct session_caches *c = r->caches;
        uint32_t id = cache == 0 ? *chain_of(c, key) : c->next[cache];
        while (id != 0 && !is_of(r, id, key))
                id = c->next[id];
        return id;
}

uint64_t session_caches_count(const struct realm *r, const uint8_t *key)
{
        uint64_t n = 0;
        for (uint32_t cache = 0; (cache = session_caches_next(r, key, cache)) != 0;)
                n++;
        return n;
}

/* ---- caches of sessions that are gone */

uint64_t session_caches_due(const struct realm *r)
{
        return r->caches && r->caches->gone_first != 0 ? r->caches->due_ms : STORE_NEVER;
}

uint32_t session_caches_take_gone(struct realm *r, uint64_t now_ms)
{
        struct session_caches *c = r->caches;
        if (session_caches_due(r) > now_ms)
                return 0;
        uint32_t cache = c->gone_first;
        c->gone_first = c->next[cache];
        if (c->gone_first == 0)
                c->gone_last = 0;
        return cache;
}

void session_caches_put_back(struct realm *r, uint32_t cache, uint64_t due_ms)
{
        add_gone(r->caches, cache);
        r->caches->due_ms = due_ms;
}
