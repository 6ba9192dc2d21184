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

struct store_text model_tag(unsigned i)
{
        static const char names[] = "t0t1t2t3t4t5t6t7t8t9tatb";

        return (struct store_text){&names[2 * i], 2};
}

static uint64_t charge_of(const struct model *m, const struct store_put *p)
{
        uint64_t size = p->large ? p->large->size : p->n_value;
        const struct store_policy *pol = &m->policy[p->cache];
        uint64_t ttl = p->ttl_ms == STORE_TTL_POLICY ? pol->ttl_ms : p->ttl_ms;
        uint64_t ext = (p->flags ? 4 : 0) + (p->cost_us ? 8 : 0) + (p->encoding ? 12 : 0) +
                       (p->negative || p->vary ? 4 : 0) + (p->n_messages ? 8 : 0);
        uint64_t n_tags = p->n_tags + (p->variant_of.n > 0);
        bool apart = p->large || size >= m->apart_min;
        uint64_t n;

        if (ttl != STORE_NEVER &&
            (pol->stale_for_ms || pol->stale_if_error_ms || pol->refresh_ahead))
                ext += 24;
        ext += n_tags ? 4 + 12 * n_tags : 0;
        ext += ext ? 4 : 0;
        n = 20 + p->n_key + ext + (apart ? 16 : size);
        n = n < 64 ? 64 : n;
        return n + n / 8 + 56 + (apart ? (size + 4095) / 4096 * 4096 : 0);
}

static void drop(struct model *m, unsigned i, enum store_cause cause);

/* What the entry led to goes with it. */
static void drop_variants(struct model *m, const struct model_entry *of)
{
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].cache == of->cache && m->e[i].n_parent == of->n_key &&
                    memcmp(m->e[i].parent, of->key, of->n_key) == 0) {
                        drop(m, i, CAUSE_CLEARED);
                        i = 0;
                } else {
                        i++;
                }
}

static void drop(struct model *m, unsigned i, enum store_cause cause)
{
        struct model_entry e = m->e[i];

        m->counters[e.cache].departed[cause]++;
        m->e[i] = m->e[--m->n];
        if (e.vary)
                drop_variants(m, &e);
}

void model_settle(struct model *m, uint64_t now)
{
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].deadline <= now) {
                        drop(m, i, CAUSE_EXPIRED);
                        i = 0; /* others may have gone with it */
                } else {
                        i++;
                }
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
                if (has_place)
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

/* The kept entry is found anew while others are dropped around it; it goes if what led to it goes.
 */
static int make_room(struct model *m, const struct store_put *p, uint64_t charge,
                     const struct model_entry *old)
{
        uint64_t old_charge = old ? old->charge : 0;

        const struct store_policy *pol = &m->policy[p->cache];

        for (;;) {
                struct model_entry *keep = old ? find(m, p->cache, p->key, p->n_key) : NULL;
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
                else if (s.realm + charge > m->global && (!old || charge > old_charge))
                        ok = evict(m, 0, UINT32_MAX, keep, CAUSE_GLOBAL_BUDGET);
                else
                        return 0;
                if (!ok)
                        return STORE_E_NO_SPACE;
        }
}

static bool has_tag(const struct model *m, uint32_t cache, unsigned tag)
{
        for (unsigned i = 0; i < m->n; i++)
                if (m->e[i].cache == cache && m->e[i].tags >> tag & 1)
                        return true;
        return false;
}

static bool has_variants(const struct model *m, uint32_t cache, const void *key, size_t n_key,
                         unsigned before)
{
        for (unsigned i = 0; i < before; i++)
                if (m->e[i].cache == cache && m->e[i].n_parent == n_key &&
                    memcmp(m->e[i].parent, key, n_key) == 0)
                        return true;
        return false;
}

static uint32_t mask_of(const struct store_put *p)
{
        uint32_t mask = 0;

        for (unsigned j = 0; j < p->n_tags; j++)
                for (unsigned i = 0; i < MODEL_TAGS; i++)
                        if (memcmp(p->tags[j].text, model_tag(i).text, 2) == 0)
                                mask |= 1u << i;
        return mask;
}

static int check_tags(const struct model *m, const struct store_put *p)
{
        uint32_t n = 0, n_new = 0, mask = mask_of(p);

        for (uint32_t c = 1; c <= MODEL_CACHES; c++)
                for (unsigned i = 0; i < MODEL_TAGS; i++)
                        n += has_tag(m, c, i);
        for (unsigned i = 0; i < m->n; i++)
                n += m->e[i].n_parent > 0 &&
                     !has_variants(m, m->e[i].cache, m->e[i].parent, m->e[i].n_parent, i);
        for (unsigned i = 0; i < MODEL_TAGS; i++)
                n_new += (mask >> i & 1) && !has_tag(m, p->cache, i);
        n_new += p->variant_of.n > 0 &&
                 !has_variants(m, p->cache, p->variant_of.text, p->variant_of.n, m->n);
        return n_new > 0 && n + n_new > m->max_tags ? STORE_E_TAGS : 0;
}

/* What leads to the variant; NULL: it is not there. */
static struct model_entry *node_of(struct model *m, const struct store_put *p)
{
        struct model_entry *e = find(m, p->cache, p->variant_of.text, p->variant_of.n);

        return e && e->vary ? e : NULL;
}

static void replace_variants(struct model *m, const struct store_put *p, uint32_t fill)
{
        struct model_entry *old = find(m, p->cache, p->key, p->n_key), copy;

        if (!old || !old->vary)
                return;
        /* Values are alike if their first bytes are. */
        if (p->vary && p->n_value == old->n_value && (fill & 0xff) == (old->fill & 0xff))
                return;
        copy = *old;
        drop_variants(m, &copy);
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
        if (p->variant_of.n > 0) {
                e = node_of(m, p);
                if (!e)
                        return STORE_E_NO_NODE;
                e->used = ++m->clock;
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
        r = make_room(m, p, charge, e);
        if (r != 0) {
                m->counters[p->cache].refused++;
                return r;
        }
        r = p->n_tags + p->variant_of.n > 0 ? check_tags(m, p) : 0;
        if (r == 0 && p->variant_of.n > 0 && !node_of(m, p))
                r = STORE_E_NO_NODE;
        if (r != 0)
                return r;
        replace_variants(m, p, fill);
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
                .tags = mask_of(p),
                .n_parent = p->variant_of.n,
        };
        set_moments(m, at, p->ttl_ms, now,
                    ttl != STORE_NEVER && (m->policy[p->cache].stale_for_ms ||
                                           m->policy[p->cache].stale_if_error_ms ||
                                           m->policy[p->cache].refresh_ahead));
        memcpy(at->key, p->key, p->n_key);
        if (p->variant_of.n > 0)
                memcpy(at->parent, p->variant_of.text, p->variant_of.n);
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
        uint64_t n;

        model_settle(m, now);
        n = model_count(m, cache);
        m->counters[cache].clears++;
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].cache == cache) {
                        drop(m, i, CAUSE_CLEARED);
                        i = 0;
                } else {
                        i++;
                }
        return n;
}

uint64_t model_clear_tag(struct model *m, uint32_t cache, unsigned tag, uint64_t now)
{
        uint64_t n = 0;

        model_settle(m, now);
        m->counters[cache].clears++;
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].cache == cache && m->e[i].tags >> tag & 1) {
                        drop(m, i, CAUSE_CLEARED);
                        n++;
                        i = 0;
                } else {
                        i++;
                }
        return n;
}

bool model_clear_prefix(struct model *m, uint32_t cache, uint8_t first, uint64_t now,
                        uint64_t *ret_n)
{
        bool is_exact = true;

        *ret_n = 0;
        model_settle(m, now);
        m->counters[cache].clears++;
        for (unsigned i = 0; i < m->n; i++)
                if (m->e[i].cache == cache && m->e[i].key[0] == first) {
                        is_exact &= !m->e[i].vary;
                        ++*ret_n;
                }
        for (unsigned i = 0; i < m->n;)
                if (m->e[i].cache == cache && m->e[i].key[0] == first) {
                        drop(m, i, CAUSE_CLEARED);
                        i = 0;
                } else {
                        i++;
                }
        return is_exact;
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
