/* SPDX-License-Identifier: MIT */
/*
 * The reference store, see the header. Written from PROTOCOL.md and store.h, not from the store.
 */

#include "model-store.h"

#include <assert.h>
#include <string.h>

void model_init(struct model *m, uint64_t budget, uint64_t uid_share, uint64_t global,
                uint64_t apart_min)
{
        memset(m, 0, sizeof(*m));
        m->budget = budget;
        m->uid_share = uid_share;
        m->global = global;
        m->apart_min = apart_min;
        for (unsigned i = 0; i <= MODEL_CACHES; i++)
                m->policy[i] = (struct store_policy){.ttl_ms = STORE_NEVER,
                                                     .max_entries = STORE_UNLIMITED,
                                                     .max_bytes = STORE_UNLIMITED};
}

static uint64_t charge_of(const struct model *m, const struct store_put *p)
{
        uint64_t size = p->large ? p->large->size : p->n_value;
        const struct store_policy *pol = &m->policy[p->cache];
        uint64_t ttl = p->ttl_ms == STORE_TTL_POLICY ? pol->ttl_ms : p->ttl_ms;
        uint64_t ext = (p->flags ? 4 : 0) + (p->cost_us ? 8 : 0) + (p->encoding ? 12 : 0) +
                       (p->negative || p->vary ? 4 : 0) + (p->n_messages ? 8 : 0);
        bool apart = p->large || size >= m->apart_min;
        uint64_t n;

        if (ttl != STORE_NEVER &&
            (pol->stale_for_ms || pol->stale_if_error_ms || pol->refresh_ahead))
                ext += 24;
        ext += ext ? 4 : 0;
        n = 20 + p->n_key + ext + (apart ? 16 : size);
        n = n < 64 ? 64 : n;
        return n + n / 8 + 56 + (apart ? (size + 4095) / 4096 * 4096 : 0);
}

static void drop(struct model *m, unsigned i, enum store_cause cause)
{
        m->counters[m->e[i].cache].departed[cause]++;
        m->e[i] = m->e[--m->n];
}

void model_settle(struct model *m, uint64_t now)
{
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].deadline <= now)
                        drop(m, i, CAUSE_EXPIRED);
                else
                        i++;
}

static struct model_entry *find(struct model *m, uint32_t cache, const void *key, size_t n_key)
{
        for (unsigned i = 0; i < m->n; i++)
                if (m->e[i].cache == cache && m->e[i].n_key == n_key &&
                    memcmp(m->e[i].key, key, n_key) == 0)
                        return &m->e[i];
        return NULL;
}

struct sums {
        uint64_t entries, bytes, owner, realm;
};

static struct sums sum(const struct model *m, uint32_t cache, uint32_t uid,
                       const struct model_entry *without)
{
        struct sums s = {0};

        for (unsigned i = 0; i < m->n; i++) {
                if (&m->e[i] == without)
                        continue;
                s.realm += m->e[i].charge;
                if (m->e[i].cache == cache) {
                        s.entries++;
                        s.bytes += m->e[i].charge;
                }
                if (m->e[i].uid == uid)
                        s.owner += m->e[i].charge;
        }
        return s;
}

/* The least recently used in the scope; 0 or UINT32_MAX mean any. */
static bool evict(struct model *m, uint32_t cache, uint32_t uid, const struct model_entry *keep,
                  enum store_cause cause)
{
        unsigned best = MODEL_MAX;

        for (unsigned i = 0; i < m->n; i++) {
                if (&m->e[i] == keep || (cache && m->e[i].cache != cache) ||
                    (uid != UINT32_MAX && m->e[i].uid != uid))
                        continue;
                if (best == MODEL_MAX || m->e[i].used < m->e[best].used)
                        best = i;
        }
        if (best == MODEL_MAX)
                return false;
        drop(m, best, cause);
        return true;
}

/* Sets its moments. @has_place: an entry that was stored without a window gets none later. */
static void set_moments(const struct model *m, struct model_entry *e, uint64_t ttl, uint64_t now,
                        bool has_place)
{
        const struct store_policy *p = &m->policy[e->cache];
        uint64_t longest = p->stale_for_ms, least;
        bool windows = p->stale_for_ms || p->stale_if_error_ms || p->refresh_ahead;

        if (p->stale_if_error_ms > longest)
                longest = p->stale_if_error_ms;
        if (ttl == STORE_TTL_POLICY)
                ttl = p->ttl_ms;
        e->deadline = STORE_NEVER;
        e->fresh = (struct arena_fresh){0};
        if (ttl == STORE_NEVER) {
                if (has_place && windows)
                        e->fresh = (struct arena_fresh){STORE_NEVER, STORE_NEVER, STORE_NEVER};
                return;
        }
        least = ttl - ttl * p->expire_jitter / 1000;
        if (p->expire_jitter) {
                assert(m->drawn > now && m->drawn - now <= ttl && m->drawn - now >= least);
                ttl = m->drawn - now;
        }
        e->deadline = now + ttl;
        if (!has_place)
                return;
        e->fresh = (struct arena_fresh){now + ttl, now + ttl, now + ttl};
        if (!windows)
                return;
        e->fresh.serve += p->stale_for_ms;
        if (p->refresh_ahead)
                e->fresh.refresh = now + ttl * p->refresh_ahead / 1000;
        e->deadline += longest;
}

static bool is_kept(const struct model_entry *e, uint64_t now)
{
        return e->fresh.fresh != 0 && e->fresh.serve <= now;
}

static struct model_entry *find_served(struct model *m, uint32_t cache, const void *key,
                                       size_t n_key, uint64_t now)
{
        struct model_entry *e;

        model_settle(m, now);
        e = find(m, cache, key, n_key);
        return e && !is_kept(e, now) ? e : NULL;
}

int model_get(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now,
              bool touch, struct model_entry *ret)
{
        struct model_entry *e = find_served(m, cache, key, n_key, now);

        if (!e) {
                m->counters[cache].misses += touch;
                return STORE_E_MISS;
        }
        if (touch) {
                e->used = ++m->clock;
                m->counters[cache].hits++;
                m->counters[cache].time_saved_us += e->cost_us;
        }
        *ret = *e;
        return 0;
}

static int too_large(const struct model *m, const struct store_put *p, uint64_t charge)
{
        return charge > m->policy[p->cache].max_bytes || charge > m->uid_share ||
               charge > m->budget;
}

/* Copies of the kept entry keep its identity while others are dropped around it. */
static int make_room(struct model *m, const struct store_put *p, uint64_t charge,
                     const uint8_t *keep_key)
{
        const struct store_policy *pol = &m->policy[p->cache];

        for (;;) {
                struct model_entry *keep = keep_key ? find(m, p->cache, p->key, p->n_key) : NULL;
                struct sums s = sum(m, p->cache, p->uid, keep);
                bool ok;

                if (s.entries + 1 > pol->max_entries)
                        ok = evict(m, p->cache, UINT32_MAX, keep, CAUSE_MAX_ENTRIES);
                else if (s.bytes + charge > pol->max_bytes)
                        ok = evict(m, p->cache, UINT32_MAX, keep, CAUSE_MAX_BYTES);
                /* A share of everything is no limit of its own. */
                else if (m->uid_share < m->budget && s.owner + charge > m->uid_share)
                        ok = evict(m, 0, p->uid, keep, CAUSE_UID_SHARE);
                else if (s.realm + charge > m->budget)
                        ok = evict(m, 0, UINT32_MAX, keep, CAUSE_REALM_BUDGET);
                else if (s.realm + charge > m->global && (!keep || charge > keep->charge))
                        ok = evict(m, 0, UINT32_MAX, keep, CAUSE_GLOBAL_BUDGET);
                else
                        return 0;
                if (!ok)
                        return STORE_E_NO_SPACE;
        }
}

int model_put(struct model *m, const struct store_put *p, uint32_t fill, uint64_t now,
              struct model_entry *ret, struct store_refusal *refusal)
{
        uint64_t charge = charge_of(m, p);
        uint64_t ttl = p->ttl_ms == STORE_TTL_POLICY ? m->policy[p->cache].ttl_ms : p->ttl_ms;
        struct model_entry *e, *at;
        bool is_free;
        int r;

        (void)refusal;
        model_settle(m, now);
        if (too_large(m, p, charge)) {
                m->counters[p->cache].refused++;
                return STORE_E_TOO_LARGE;
        }
        e = find(m, p->cache, p->key, p->n_key);
        is_free = !e || is_kept(e, now);
        if (is_free && (p->compare || p->mode == STORE_REPLACE_ONLY))
                return STORE_E_MISS;
        if (!is_free && p->mode == STORE_ADD_ONLY)
                return STORE_E_EXISTS;
        if (!is_free && p->compare && e->version != p->expected_version)
                return STORE_E_VERSION;
        if (e)
                e->used = ++m->clock;
        r = make_room(m, p, charge, e ? e->key : NULL);
        if (r != 0) {
                m->counters[p->cache].refused++;
                return r;
        }
        at = find(m, p->cache, p->key, p->n_key);
        if (!at) {
                assert(m->n < MODEL_MAX);
                at = &m->e[m->n++];
        }
        *at = (struct model_entry){
                .cache = p->cache,
                .uid = p->uid,
                .n_key = p->n_key,
                .version = ++m->version,
                .charge = charge,
                .used = ++m->clock,
                .n_value = p->large ? p->large->size : p->n_value,
                .raw_size = p->encoding ? p->raw_size
                                        : (p->large ? p->large->size : p->n_value) - p->n_messages,
                .cost_us = p->cost_us,
                .n_messages = p->n_messages,
                .negative = p->negative,
                .vary = p->vary,
                .flags = p->flags,
                .encoding = p->encoding,
                .fill = fill,
        };
        set_moments(m, at, p->ttl_ms, now,
                    ttl != STORE_NEVER && (m->policy[p->cache].stale_for_ms ||
                                           m->policy[p->cache].stale_if_error_ms ||
                                           m->policy[p->cache].refresh_ahead));
        memcpy(at->key, p->key, p->n_key);
        m->counters[p->cache].stores++;
        *ret = *at;
        return 0;
}

int model_touch(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t ttl_ms,
                uint64_t now, struct model_entry *ret)
{
        struct model_entry *e = find_served(m, cache, key, n_key, now);

        if (!e)
                return STORE_E_MISS;
        if (ttl_ms != STORE_TTL_POLICY)
                set_moments(m, e, ttl_ms, now, e->fresh.fresh != 0);
        e->used = ++m->clock;
        *ret = *e;
        return 0;
}

int model_refresh_begin(struct model *m, uint32_t cache, const void *key, size_t n_key,
                        uint64_t now, uint64_t *ret_version)
{
        struct model_entry *e;

        model_settle(m, now);
        e = find(m, cache, key, n_key);
        if (!e)
                return STORE_E_MISS;
        *ret_version = e->version;
        if (e->fresh.fresh != 0)
                e->fresh.refresh = STORE_NEVER;
        return 0;
}

int model_refresh_end(struct model *m, uint32_t cache, const void *key, size_t n_key,
                      uint64_t version, uint64_t next_ms, bool failed)
{
        struct model_entry *e = find(m, cache, key, n_key);

        if (!e || e->version != version)
                return STORE_E_MISS;
        if (e->fresh.fresh == 0)
                return 0;
        e->fresh.refresh = next_ms;
        if (failed && e->fresh.serve != STORE_NEVER)
                e->fresh.serve = e->deadline;
        return 0;
}

int model_peek_kept(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                    struct model_entry *ret)
{
        struct model_entry *e;

        model_settle(m, now);
        e = find(m, cache, key, n_key);
        if (!e || !is_kept(e, now))
                return STORE_E_MISS;
        *ret = *e;
        return 0;
}

int model_delete(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now)
{
        struct model_entry *e;

        model_settle(m, now);
        e = find(m, cache, key, n_key);
        if (!e)
                return STORE_E_MISS;
        m->counters[cache].deletes++;
        drop(m, (unsigned)(e - m->e), CAUSE_DELETED);
        return 0;
}

uint64_t model_clear(struct model *m, uint32_t cache, uint64_t now)
{
        uint64_t n = 0;

        model_settle(m, now);
        m->counters[cache].clears++;
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].cache == cache) {
                        drop(m, i, CAUSE_CLEARED);
                        n++;
                } else {
                        i++;
                }
        return n;
}

void model_set_policy(struct model *m, uint32_t cache, const struct store_policy *p, uint64_t now)
{
        model_settle(m, now);
        m->policy[cache] = *p;
        while (sum(m, cache, 0, NULL).entries > p->max_entries)
                evict(m, cache, UINT32_MAX, NULL, CAUSE_MAX_ENTRIES);
        while (sum(m, cache, 0, NULL).bytes > p->max_bytes)
                evict(m, cache, UINT32_MAX, NULL, CAUSE_MAX_BYTES);
}

void model_set_budget(struct model *m, uint64_t budget, uint64_t now)
{
        model_settle(m, now);
        m->budget = budget;
        while (model_charged(m) > budget)
                evict(m, 0, UINT32_MAX, NULL, CAUSE_REALM_BUDGET);
}

uint64_t model_charged(const struct model *m)
{
        return sum(m, 0, 0, NULL).realm;
}

uint64_t model_count(const struct model *m, uint32_t cache)
{
        return sum(m, cache, 0, NULL).entries;
}
