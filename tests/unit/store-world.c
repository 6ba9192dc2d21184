/* SPDX-License-Identifier: MIT */
/*
 * Random operations on store and model, see the header
 *
 * Put in all modes, TTLs, large values, several writers, get, peek, touch, delete, clear, policy
 * and budget changes, the passing of time and upkeep in random portions.
 */

#include "store-world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store-check.h"
#include "store/internal.h"

static uint64_t rnd(struct world *w)
{
        w->rng ^= w->rng << 13;
        w->rng ^= w->rng >> 7;
        w->rng ^= w->rng << 17;
        return w->rng * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

uint64_t world_random(struct world *w, uint64_t n)
{
        return rnd(w) % n;
}

void world_fill(uint8_t *p, uint64_t n, uint32_t fill)
{
        for (uint64_t i = 0; i < n; i++)
                p[i] = (uint8_t)(fill + i * 7 + (i >> 8));
}

static int global_room(void *ctx, struct store *s, const struct store_want *want, uint64_t now,
                       struct store_refusal *ret)
{
        const struct world *w = ctx;

        *ret = (struct store_refusal){.cause = CAUSE_GLOBAL_BUDGET, .limit = w->global};
        while (store_charged(s) + want->bytes > w->global)
                if (store_evict_one(s, CAUSE_GLOBAL_BUDGET, now) == 0)
                        return -28;
        return 0;
}

static void key_of(uint64_t k, uint8_t *key, size_t *ret_n)
{
        *ret_n = 1 + k % STORE_KEY_MAX;
        memset(key, (int)(k % 251), *ret_n);
        memcpy(key, &k, *ret_n < 2 ? 1 : 2);
}

static uint64_t make_key(struct world *w, uint8_t *key, size_t *ret_n)
{
        uint64_t k = world_random(w, w->n_keys);

        key_of(k, key, ret_n);
        return k;
}

/* Which of the model's tags. */
static uint32_t tags_of_entry(const struct world *w, const struct store_entry *e)
{
        uint32_t mask = 0;

        for (unsigned j = 0; j < e->n_tags; j++) {
                size_t n;
                const char *name = store_tag_name(w->s, e->tags[j].id, &n);

                for (unsigned i = 0; i < MODEL_TAGS; i++)
                        if (n == model_tag(i).n && memcmp(name, model_tag(i).text, n) == 0)
                                mask |= 1u << i;
        }
        return mask;
}

#define NODE_EACH 8u /* every eighth key may lead to others, and is no variant itself */

/* A node, or a variant: neither expires. Cleared by tag are others than nodes: what those led to
 * goes a moment later, which the model does not know. */
static void make_related(struct world *w, uint64_t k, struct store_put *p, struct store_text *tags,
                         uint8_t *parent)
{
        if (k % NODE_EACH == 0) {
                p->vary = world_random(w, 2) != 0;
        } else if (world_random(w, 4) == 0) {
                key_of(world_random(w, (w->n_keys + NODE_EACH - 1) / NODE_EACH) * NODE_EACH, parent,
                       &p->variant_of.n);
                p->variant_of.text = (const char *)parent;
        }
        if (p->vary || p->variant_of.n > 0)
                p->ttl_ms = STORE_NEVER;
        for (unsigned i = 0; !p->vary && i + 1 < ARENA_ENTRY_TAGS && world_random(w, 3) == 0; i++)
                tags[p->n_tags++] = model_tag((unsigned)(k + i * 5) % MODEL_TAGS);
        p->tags = tags;
}

static void compare(struct world *w, const struct store_entry *got, const struct model_entry *want)
{
        assert_int_equal(got->version, want->version);
        assert_int_equal(got->n_value, want->n_value);
        assert_int_equal(got->deadline, want->deadline);
        assert_int_equal(got->flags, want->flags);
        assert_int_equal(got->encoding, want->encoding);
        assert_int_equal(got->raw_size, want->raw_size);
        assert_int_equal(got->cost_us, want->cost_us);
        assert_int_equal(got->uid, want->uid);
        assert_int_equal(got->charge, want->charge);
        assert_int_equal(got->n_messages, want->n_messages);
        assert_true(got->negative == want->negative && got->vary == want->vary);
        assert_memory_equal(&got->fresh, &want->fresh, sizeof(got->fresh));
        assert_true(got->stale == (want->fresh.fresh && want->fresh.fresh <= w->now));
        assert_true(got->due == (want->fresh.fresh && want->fresh.refresh <= w->now));
        assert_int_equal(tags_of_entry(w, got), want->tags);
        assert_int_equal(got->n_key, want->n_key);
        assert_memory_equal(got->key, want->key, want->n_key);
        world_fill(w->buf, want->n_value, want->fill);
        assert_memory_equal(got->value, w->buf, want->n_value);
}

static uint64_t random_ttl(struct world *w)
{
        switch (world_random(w, 4)) {
        case 0:
                return STORE_TTL_POLICY;
        case 1:
                return STORE_NEVER;
        case 2:
                return 1 + world_random(w, 50);
        default:
                return 1 + world_random(w, 5000);
        }
}

static struct large *make_large(const struct world *w, uint64_t n)
{
        struct large *l;

        assert_int_equal(large_new(n, &l), 0);
        memcpy(l->map, w->buf, n);
        assert_int_equal(large_seal(l), 0);
        return l;
}

/* What chance made of the TTL. */
static uint64_t drawn(const struct store_entry *e)
{
        return e->fresh.fresh ? e->fresh.fresh : e->deadline;
}

static void do_put(struct world *w)
{
        uint8_t key[STORE_KEY_MAX], parent[STORE_KEY_MAX];
        struct store_text tags[MODEL_TAGS];
        uint32_t fill = (uint32_t)rnd(w);
        struct store_put p = {
                .cache = 1 + (uint32_t)world_random(w, MODEL_CACHES),
                .key = key,
                .ttl_ms = random_ttl(w),
                .mode = world_random(w, 8) ? STORE_ANY : (enum store_mode)(1 + world_random(w, 2)),
                .flags = world_random(w, 2) ? (uint32_t)rnd(w) : 0,
                .cost_us = world_random(w, 2) ? world_random(w, 1000000) : 0,
                .uid = 1000 + (uint32_t)world_random(w, 3),
        };
        struct store_refusal why;
        struct model_entry want;
        struct store_entry got;
        int r;

        make_related(w, make_key(w, key, &p.n_key), &p, tags, parent);
        p.n_value = world_random(w, 4) ? world_random(w, 200) : world_random(w, w->value_max);
        if (p.vary) {
                p.n_value = 4;
                fill &= 1;
        } else if (world_random(w, 8) == 0) {
                p.encoding = 1;
                p.raw_size = p.n_value * 3;
        }
        if (!p.vary && world_random(w, 6) == 0)
                p.n_messages = world_random(w, p.n_value + 1);
        else if (!p.vary && world_random(w, 16) == 0 && p.n_value <= 1024)
                p.negative = true;
        if (world_random(w, 10) == 0) {
                struct model_entry old;

                p.compare = true;
                p.expected_version = 1;
                if (model_get(w->m, p.cache, key, p.n_key, w->now, false, &old) == 0)
                        p.expected_version = old.version + (world_random(w, 4) == 0);
        }
        world_fill(w->buf, p.n_value, fill);
        p.value = w->buf;
        if (p.n_value >= WORLD_LARGE_THRESHOLD)
                p.large = make_large(w, p.n_value);
        r = store_put(w->s, &p, w->now, &got, &why);
        if (r == STORE_E_NO_PLACE) {
                assert_true(p.n_value >= WORLD_EXTENT_MIN);
                w->n_places_short++;
                p.large = make_large(w, p.n_value);
                r = store_put(w->s, &p, w->now, &got, &why);
        }
        w->m->drawn = r == 0 ? drawn(&got) : 0;
        assert_int_equal(r, model_put(w->m, &p, fill, w->now, &want, &why));
        if (r == 0)
                compare(w, &got, &want);
        w->n_variants += r == 0 && p.variant_of.n > 0;
        w->n_no_node += r == STORE_E_NO_NODE;
        w->n_tags_short += r == STORE_E_TAGS;
        large_unref(p.large);
}

static void do_lookup(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        uint8_t key[STORE_KEY_MAX];
        struct model_entry want;
        struct store_entry got;
        size_t n;
        int r;

        make_key(w, key, &n);
        if (world_random(w, 8) == 0) {
                uint64_t ttl = random_ttl(w);

                if (model_get(w->m, cache, key, n, w->now, false, &want) == 0 &&
                    (want.vary || want.n_parent > 0))
                        ttl = STORE_TTL_POLICY;
                r = store_touch(w->s, cache, key, n, ttl, w->now, &got);
                w->m->drawn = r == 0 ? drawn(&got) : 0;
                assert_int_equal(r, model_touch(w->m, cache, key, n, ttl, w->now, &want));
        } else {
                bool touch = world_random(w, 8) != 0;

                r = store_get(w->s, cache, key, n, w->now, touch, &got);
                assert_int_equal(r, model_get(w->m, cache, key, n, w->now, touch, &want));
        }
        if (r == 0)
                compare(w, &got, &want);
}

/* As who has a lease on it, and as the service that gives these out. */
static void do_refresh(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        uint64_t version = 1, same = 2, next;
        uint8_t key[STORE_KEY_MAX];
        struct model_entry want;
        struct store_entry got;
        bool failed;
        size_t n;
        int r;

        make_key(w, key, &n);
        r = store_peek_kept(w->s, cache, key, n, w->now, &got);
        assert_int_equal(r, model_peek_kept(w->m, cache, key, n, w->now, &want));
        if (r == 0)
                compare(w, &got, &want);
        r = store_refresh_begin(w->s, cache, key, n, w->now, &version);
        assert_int_equal(r, model_refresh_begin(w->m, cache, key, n, w->now, &same));
        if (r != 0 || world_random(w, 2) == 0)
                return;
        assert_int_equal(version, same);
        version += world_random(w, 8) == 0;
        next = world_random(w, 4) ? w->now + world_random(w, 300) : STORE_NEVER;
        failed = world_random(w, 2) == 0;
        assert_int_equal(store_refresh_end(w->s, cache, key, n, version, next, failed),
                         model_refresh_end(w->m, cache, key, n, version, next, failed));
}

static void do_delete(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        uint8_t key[STORE_KEY_MAX];
        struct store_fate fate;
        size_t n;
        int r;

        make_key(w, key, &n);
        r = store_delete(w->s, cache, key, n, w->now);
        assert_int_equal(r, model_delete(w->m, cache, key, n, w->now));
        assert_int_equal(store_explain(w->s, cache, key, n, w->now, &fate), 0);
        assert_false(fate.live);
        if (r == 0) {
                assert_true(fate.known);
                assert_int_equal(fate.cause, CAUSE_DELETED);
        }
}

static void do_policy(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        struct store_policy p = {
                .ttl_ms = world_random(w, 2) ? STORE_NEVER : 1 + world_random(w, 3000),
                .max_entries = world_random(w, 2) ? STORE_UNLIMITED : 1 + world_random(w, 150),
                .max_bytes = world_random(w, 2) ? STORE_UNLIMITED : 1000 + world_random(w, 100000),
        };

        if (world_random(w, 2)) {
                p.stale_for_ms = world_random(w, 2) * world_random(w, 1000);
                p.stale_if_error_ms = world_random(w, 2) * world_random(w, 2000);
                p.refresh_ahead = (uint32_t)(world_random(w, 2) * world_random(w, 1000));
        }
        p.expire_jitter = (uint32_t)(world_random(w, 2) * world_random(w, 1001));
        store_cache_set_policy(w->s, cache, &p, &p, false, w->now);
        model_set_policy(w->m, cache, &p, w->now);
}

static void do_clear(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        uint64_t n;

        while (store_maintain(w->s, w->now, 100)) /* so that the counts agree */
                ;
        assert_int_equal(store_clear(w->s, cache, w->now, &n), 0);
        assert_int_equal(n, model_clear(w->m, cache, w->now));
}

/* Sometimes two that have entries in common, and nothing of the first is reclaimed before. */
static void do_clear_tag(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        unsigned n_tags = 1 + (unsigned)world_random(w, 3);

        while (store_maintain(w->s, w->now, 100)) /* so that the counts agree */
                ;
        for (unsigned i = 0; i < n_tags; i++) {
                unsigned tag = (unsigned)world_random(w, MODEL_TAGS);
                uint64_t n, had;

                assert_int_equal(store_clear_tag(w->s, cache, model_tag(tag).text, model_tag(tag).n,
                                                 w->now, &n),
                                 0);
                had = model_clear_tag(w->m, cache, tag, w->now);
                if (i == 0) {
                        struct store_cache_info info;

                        assert_int_equal(n, had);
                        assert_int_equal(store_cache_info(w->s, cache, &info), 0);
                        assert_int_equal(info.entries, model_count(w->m, cache));
                }
                assert_true(n >= had);
        }
}

static void do_clear_prefix(struct world *w)
{
        uint32_t cache = 1 + (uint32_t)world_random(w, MODEL_CACHES);
        uint8_t first = (uint8_t)world_random(w, w->n_keys);
        struct store_sweep sweep;
        uint64_t had;

        assert_int_equal(store_sweep_begin(w->s, cache, &first, 1, &sweep), 0);
        while (store_sweep_step(&sweep, w->now, 1 + (unsigned)world_random(w, 200)))
                store_maintain(w->s, w->now, (unsigned)world_random(w, 20));
        store_sweep_end(&sweep);
        if (model_clear_prefix(w->m, cache, first, w->now, &had))
                assert_int_equal(sweep.entries, had);
        assert_true(sweep.entries <= had);
}

static void do_budget(struct world *w)
{
        uint64_t budget = 60000 + world_random(w, w->budget_more);

        store_set_budget(w->s, budget, w->m->uid_share);
        while (store_maintain(w->s, w->now, 100))
                ;
        model_set_budget(w->m, budget, w->now);
}

void world_settle(struct world *w)
{
        while (store_maintain(w->s, w->now, 1 + (unsigned)world_random(w, 100)))
                ;
        model_settle(w->m, w->now);
        store_check(w->s);
        assert_int_equal(store_charged(w->s), model_charged(w->m));
        for (uint32_t c = 1; c <= MODEL_CACHES; c++) {
                struct store_cache_info i;

                assert_int_equal(store_cache_info(w->s, c, &i), 0);
                assert_int_equal(i.entries, model_count(w->m, c));
                assert_memory_equal(&i.counters, &w->m->counters[c], sizeof(i.counters));
        }
}

void world_step(struct world *w)
{
        uint64_t dice = world_random(w, 1000);

        store_maintain(w->s, w->now, 0); /* each operation has a turn of its own */
        if (dice < 400)
                do_put(w);
        else if (dice < 820)
                do_lookup(w);
        else if (dice < 850)
                do_refresh(w);
        else if (dice < 900)
                do_delete(w);
        else if (dice < 980)
                w->now += world_random(w, 3) ? world_random(w, 20) : world_random(w, 500);
        else if (dice < 984)
                do_clear_tag(w);
        else if (dice < 986)
                do_clear_prefix(w);
        else if (dice < 995)
                store_maintain(w->s, w->now, (unsigned)world_random(w, 20));
        else if (dice < 997)
                do_policy(w);
        else if (dice < 999)
                do_clear(w);
        else
                do_budget(w);
}

/* ---- life */

struct store_params world_store_params(struct world *w)
{
        return (struct store_params){
                .arena_size = w->arena_size,
                .budget = w->m->budget,
                .uid_share = w->m->uid_share,
                .large_threshold = WORLD_LARGE_THRESHOLD,
                .extent_min = WORLD_EXTENT_MIN,
                .max_caches = 16,
                .max_entries = 1 << 20,
                .max_tags = WORLD_TAGS,
                .seed = {w->rng, 2},
                .make_room = global_room,
                .ctx = w,
        };
}

void world_init(struct world *w, const struct world_params *p)
{
        const char *seed = getenv("CACHED_SEED");
        struct store_params sp;

        *w = (struct world){
                .rng = seed ? strtoull(seed, NULL, 10) : 20240917,
                .now = 1000,
                .n_keys = p->n_keys,
                .value_max = p->value_max,
                .global = p->global,
                .budget_more = p->budget > 400000 ? p->budget : 300000,
                .arena_size = p->arena_size,
                .m = malloc(sizeof(struct model)),
                .buf = malloc(WORLD_VALUE_MAX),
        };
        model_init(w->m, p->budget, p->uid_share, p->global, WORLD_EXTENT_MIN);
        w->m->max_tags = WORLD_TAGS;
        sp = world_store_params(w);
        assert_int_equal(store_new(&sp, &w->s), 0);
        for (uint32_t i = 1; i <= MODEL_CACHES; i++) {
                char name[8];
                uint32_t id;

                snprintf(name, sizeof(name), "c%u", i);
                assert_int_equal(store_cache_create(w->s, name, strlen(name), &id), 0);
                assert_int_equal(id, i);
        }
}

void world_done(struct world *w)
{
        store_free(w->s);
        free(w->m);
        free(w->buf);
}

/* ---- what a store holds */

uint64_t world_sum(const uint8_t *p, uint64_t n)
{
        uint64_t h = 14695981039346656037u;

        for (uint64_t i = 0; i < n; i++)
                h = (h ^ p[i]) * 1099511628211u;
        return h;
}

static int by_stamp(const void *a, const void *b)
{
        const struct seen_entry *x = a, *y = b;

        return x->stamp < y->stamp ? -1 : x->stamp > y->stamp;
}

/* The key of what the entry is a variant of. */
static uint32_t parent_of(const struct store *s, uint32_t handle, uint8_t *parent)
{
        unsigned n;
        const struct arena_tag *tags = tags_of(s, handle, &n);
        const struct table_tag *tag = n > 0 ? tag_at(s, tags[n - 1].id) : NULL;

        if (!tag || tag->kind != TAG_NODE)
                return 0;
        memcpy(parent, tag->name, tag->n_name);
        return tag->n_name;
}

static void see(struct seen *v, struct store *s, uint32_t handle)
{
        const struct table_gen *g = &s->a.gens[gen_index(arena_block(&s->a, handle)->gen)];
        struct seen_entry *to = &v->e[v->n];
        struct store_entry e;

        if (g->state != GEN_LIVE || entry_is_dead(s, handle))
                return;
        store_entry_fill(s, handle, 0, &e);
        memset(to, 0, sizeof(*to));
        to->cache = g->cache;
        to->uid = e.uid;
        to->flags = e.flags;
        to->n_key = e.n_key;
        to->n_value = e.n_value;
        to->version = e.version;
        to->deadline = e.deadline;
        to->raw_size = e.raw_size;
        to->cost_us = e.cost_us;
        to->n_messages = e.n_messages;
        to->marks = (e.negative ? MARK_NEGATIVE : 0) | (e.vary ? MARK_VARY : 0);
        to->fresh = e.fresh;
        if (to->fresh.refresh == STORE_NEVER) /* a successor does not know who is at it */
                to->fresh.refresh = to->fresh.fresh;
        to->charge = e.charge;
        to->sum = world_sum(e.value, e.n_value);
        to->stamp = rec_stamp(arena_rec(&s->a, handle));
        to->vary = e.vary;
        to->tags = tags_of_entry(&(struct world){.s = s}, &e);
        to->n_parent = parent_of(s, handle, to->parent);
        memcpy(to->key, e.key, e.n_key);
        v->n++;
}

void seen_init(struct seen *v, struct store *s)
{
        *v = (struct seen){.e = calloc(s->a.t->n_entries + 1, sizeof(*v->e))};
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                for (uint32_t c = 0; s->a.spans[i].state != SPAN_UNUSED && c < s->a.spans[i].high;
                     c++)
                        if (alloc_is_live(&s->a, handle_make(i, c)))
                                see(v, s, handle_make(i, c));
        qsort(v->e, v->n, sizeof(*v->e), by_stamp);
}

void seen_done(struct seen *v)
{
        free(v->e);
}

static int by_key(const void *a, const void *b)
{
        const struct seen_entry *x = *(const struct seen_entry *const *)a,
                                *y = *(const struct seen_entry *const *)b;

        if (x->cache != y->cache)
                return x->cache < y->cache ? -1 : 1;
        if (x->n_key != y->n_key)
                return x->n_key < y->n_key ? -1 : 1;
        return memcmp(x->key, y->key, x->n_key);
}

struct seen_sorted seen_sort(const struct seen *v)
{
        struct seen_sorted s = {calloc(v->n + 1, sizeof(*s.e)), v->n};

        for (size_t i = 0; i < v->n; i++)
                s.e[i] = &v->e[i];
        qsort(s.e, s.n, sizeof(*s.e), by_key);
        return s;
}

const struct seen_entry *seen_find(const struct seen_sorted *s, const struct seen_entry *key)
{
        const struct seen_entry **at = bsearch(&key, s->e, s->n, sizeof(*s->e), by_key);

        return at ? *at : NULL;
}

void world_model_of(struct world *w)
{
        struct model *m = w->m;
        struct seen v;

        seen_init(&v, w->s);
        m->n = 0;
        m->clock = 0;
        m->version = w->s->a.t->version;
        for (size_t i = 0; i < v.n; i++) {
                const struct seen_entry *e = &v.e[i];
                struct model_entry *to = &m->e[m->n];
                struct store_entry now;

                if (e->cache > MODEL_CACHES)
                        continue;
                assert_int_equal(store_get(w->s, e->cache, e->key, e->n_key, 0, false, &now), 0);
                *to = (struct model_entry){
                        .cache = e->cache,
                        .uid = e->uid,
                        .n_key = e->n_key,
                        .version = e->version,
                        .deadline = e->deadline,
                        .charge = e->charge,
                        .used = ++m->clock,
                        .n_value = e->n_value,
                        .raw_size = e->raw_size,
                        .cost_us = e->cost_us,
                        .flags = e->flags,
                        .encoding = now.encoding,
                        .n_messages = e->n_messages,
                        .negative = now.negative,
                        .vary = now.vary,
                        .fresh = now.fresh,
                        .fill = e->n_value ? now.value[0] : 0,
                        .tags = e->tags,
                        .n_parent = e->n_parent,
                };
                memcpy(to->parent, e->parent, e->n_parent);
                memcpy(to->key, e->key, e->n_key);
                m->n++;
        }
        seen_done(&v);
        for (uint32_t c = 1; c <= MODEL_CACHES; c++) {
                struct store_cache_info i;

                assert_int_equal(store_cache_info(w->s, c, &i), 0);
                m->policy[c] = i.policy;
                m->counters[c] = i.counters;
        }
}
