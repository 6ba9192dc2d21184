/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: taking over a store whose files hold nonsense
 *
 * The input changes bytes of the two files of a real store: records of region, place, length and
 * bytes. Whatever comes out, taking it over ends, reads nothing outside, and either refuses or
 * yields a store that is consistent and goes on.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/store-check.h"
#include "../unit/store-copy.h"
#include "fuzz.h"
#include "store/internal.h"
#include "store/recover.h"

#define NOW       UINT64_C(1000000)
#define N_BASES   4u
#define N_REGIONS 18u

/* The same few stores for all inputs. */
static struct store *bases[N_BASES];

static const struct store_params params = {.arena_size = 1,
                                           .budget = 8u << 20,
                                           .uid_share = STORE_UNLIMITED,
                                           .large_threshold = 20000,
                                           .extent_min = 8000,
                                           .max_caches = 6,
                                           .max_entries = 1 << 16,
                                           .seed = {3, 4}};

static void put(struct store *s, uint32_t cache, unsigned n, uint64_t now)
{
        static const uint8_t value[12000];
        uint8_t key[16];
        struct store_put p = {.cache = cache,
                              .key = key,
                              .n_key = (size_t)snprintf((char *)key, sizeof(key), "k%u", n),
                              .value = value,
                              .n_value = n % 5 * 120,
                              .ttl_ms = n % 3 ? STORE_NEVER : 1000 + n,
                              .flags = n % 2,
                              .n_messages = n % 7 ? 0 : n % 5 * 60,
                              .negative = n % 13 == 0,
                              .uid = 1 + n % 4};
        struct store_refusal why;
        struct store_entry e;

        if (n % 16 == 9)
                p.n_value = 8000 + n % 4000;
        if (n % 16 == 7) {
                if (large_new(20000, &p.large) < 0 || large_seal(p.large) < 0)
                        abort();
        }
        (void)store_put(s, &p, now, &e, &why);
        large_unref(p.large);
}

/* Tags, some of them dying, and variants. */
static void put_related(struct store *s, unsigned n)
{
        static const struct store_text tags[] = {{"red", 3}, {"green", 5}, {"blue", 4}};
        uint8_t key[16];
        struct store_put p = {.cache = 1,
                              .key = key,
                              .n_key = (size_t)snprintf((char *)key, sizeof(key), "t%u", n),
                              .value = "input",
                              .n_value = 5,
                              .ttl_ms = STORE_NEVER,
                              .vary = n % 9 == 0,
                              .tags = &tags[n % 2],
                              .n_tags = n % 3,
                              .uid = 1};
        struct store_refusal why;
        struct store_entry e;

        if (n % 4 == 3)
                p.variant_of = (struct store_text){"t0", 2};
        (void)store_put(s, &p, NOW, &e, &why);
}

static struct store *make(unsigned variant)
{
        static const char *const names[] = {"one", "two", "three"};
        static const struct store_policy windows = {.ttl_ms = STORE_NEVER,
                                                    .max_entries = STORE_UNLIMITED,
                                                    .max_bytes = STORE_UNLIMITED,
                                                    .stale_for_ms = 100,
                                                    .stale_if_error_ms = 300,
                                                    .refresh_ahead = 500};
        struct store *s;
        uint32_t id;
        uint64_t n;

        if (store_new(&params, &s) < 0)
                abort();
        for (unsigned i = 0; i < 3; i++)
                if (store_cache_create(s, names[i], strlen(names[i]), &id) != 0)
                        abort();
        store_cache_set_policy(s, 2, &windows, &windows, false, NOW);
        for (unsigned i = 0; i < (variant == 1 ? 700u : 120u); i++)
                put(s, 1 + i % 3, i, NOW);
        if (variant == 2) /* something that is dying, something that is free */
                for (unsigned i = 0; i < 90; i++) {
                        if (i == 80)
                                (void)store_clear(s, 2, NOW, &n);
                        put(s, 2, 1000 + i, NOW);
                }
        for (unsigned i = 0; variant == 3 && i < 300; i++) {
                put_related(s, i);
                if (i == 200)
                        (void)store_clear_tag(s, 1, "green", 5, NOW, &n);
        }
        for (unsigned i = 0; i < 40; i++) {
                char key[16];

                (void)store_delete(s, 1 + i % 3, key, (size_t)snprintf(key, sizeof(key), "k%u", i),
                                   NOW);
        }
        return s;
}

/* The span in which entries are whose values lie in extents. */
static uint64_t extent_span(const struct store *s)
{
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                for (uint32_t c = 0; s->a.spans[i].state != SPAN_UNUSED && c < s->a.spans[i].high;
                     c++)
                        if (alloc_is_live(&s->a, handle_make(i, c)) &&
                            arena_block(&s->a, handle_make(i, c))->sizes & ENTRY_EXTENT)
                                return i;
        return 1;
}

static uint64_t tagged_span(const struct store *s)
{
        return s->a.t->tag_high > 0 && tag_at(s, 1)->head ? handle_span(tag_at(s, 1)->head) : 1;
}

struct region {
        int fd;
        uint64_t off, n;
};

/* Where it is worth changing something. */
static struct region region_of(const struct store *s, const struct store_copies *c, unsigned i)
{
        const struct arena_header *h = s->a.h;
        const struct table_header *t = s->a.t;
        const struct region regions[N_REGIONS] = {
                {c->arena, 0, sizeof(*h)},
                {c->table, 0, sizeof(*t)},
                {c->table, offsetof(struct table_header, intent),
                 sizeof(t->intent) + sizeof(t->staged)},
                {c->arena, h->cache_dir_off, 5 * sizeof(struct arena_cache)},
                {c->arena, h->owners_off, 5 * sizeof(uint32_t)},
                {c->arena, h->span_table_off, t->span_high * sizeof(uint32_t)},
                {c->arena, h->index_off, t->index_bytes},
                {c->arena, h->spans_off + ARENA_SPAN_SIZE, 8192},
                {c->arena, h->spans_off + 2 * (uint64_t)ARENA_SPAN_SIZE, 8192},
                {c->table, t->recs_off + RECS_PER_SPAN_BYTES, 4096},
                {c->table, t->gens_off, t->gen_high * sizeof(struct table_gen)},
                {c->table, t->caches_off, 4 * sizeof(struct table_cache)},
                {c->table, t->spans_off, t->span_high * sizeof(struct table_span)},
                {c->arena, h->spans_off + extent_span(s) * ARENA_SPAN_SIZE, 4096},
                {c->table, t->large_off,
                 ((uint64_t)t->large_high + 1) * sizeof(struct table_large)},
                {c->table, t->tags_off, ((uint64_t)t->tag_high + 1) * sizeof(struct table_tag)},
                {c->arena, h->dead_tags_off, 8},
                {c->arena, h->spans_off + tagged_span(s) * ARENA_SPAN_SIZE, 8192},
        };

        return regions[i % N_REGIONS];
}

/* A record: region, place (2 bytes), number of bytes, bytes. */
static void change(const struct store *s, const struct store_copies *c, const uint8_t *data,
                   size_t n)
{
        while (n >= 5) {
                struct region r = region_of(s, c, data[0]);
                uint64_t at = (data[1] | (uint64_t)data[2] << 8) % r.n;
                size_t len = 1 + data[3] % 32;

                data += 4;
                n -= 4;
                if (len > n)
                        len = n;
                if (pwrite(r.fd, data, len, (off_t)(r.off + at)) != (ssize_t)len)
                        abort();
                data += len;
                n -= len;
        }
}

static void go_on(struct store *s)
{
        uint64_t n;

        store_check(s);
        for (unsigned i = 0; i < 60; i++)
                put(s, 1 + i % 3, i, NOW);
        for (uint32_t c = 1; c <= store_n_caches(s); c++) {
                struct store_cache_info info;
                struct store_fate fate;

                (void)store_cache_info(s, c, &info);
                (void)store_explain(s, c, "k3", 2, NOW, &fate);
        }
        for (unsigned i = 0; i < 40; i++)
                put_related(s, i);
        (void)store_clear_tag(s, 1, "red", 3, NOW, &n);
        (void)store_delete(s, 1, "t0", 2, NOW);
        store_check(s);
        (void)store_clear(s, 1, NOW, &n);
        while (store_maintain(s, NOW + 1100, 100))
                ;
        store_check(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct store_adopted report;
        struct store_copies c;
        struct store_files f;
        const struct store *base;
        struct store *s = NULL;
        int large[64], fd;
        uint32_t cursor = 0;
        unsigned variant;

        if (n == 0)
                return 0;
        variant = data[0] % N_BASES;
        if (!bases[variant])
                bases[variant] = make(variant);
        base = bases[variant];
        store_copies_init(&c, base);
        change(base, &c, data + 1, n - 1);
        f = (struct store_files){.arena = c.arena, .table = c.table, .large = large};
        while (f.n_large < 64 && (fd = store_large_next(base, &cursor)) >= 0)
                large[f.n_large++] = dup(fd);
        if (store_adopt(&params, &f, NOW, &s, &report) == 0) {
                go_on(s);
                store_free(s);
        }
        return 0;
}
