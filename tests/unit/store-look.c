/* SPDX-License-Identifier: MIT */
/*
 * A mapped reader over a torn file, see the header
 */

#include "store-look.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define LOOK_MAX (1u << 20)
/* A change brackets a bucket at a time. */
#define ODD_MAX 1u

void store_look_init(struct store_look *l, int arena_fd)
{
        struct stat st;

        assert_int_equal(fstat(arena_fd, &st), 0);
        l->size = (size_t)st.st_size;
        l->base = mmap(NULL, l->size, PROT_READ, MAP_SHARED, arena_fd, 0);
        assert_true(l->base != MAP_FAILED);
        assert_null(arena_map_init(l->base, l->size, &l->map));
}

void store_look_done(struct store_look *l)
{
        munmap(l->base, l->size);
}

static unsigned count_odd(const struct arena_map *m)
{
        uint64_t n = atomic_load(&m->h->n_buckets);
        unsigned odd = 0;

        for (uint64_t b = 0; b < n; b++)
                odd += atomic_load(&m->buckets[b].seq) & 1;
        return odd;
}

/* NULL: it is not there, or its time is over. */
static const struct seen_entry *live(const struct seen_sorted *v, const struct seen_entry *key,
                                     uint64_t now)
{
        const struct seen_entry *e = seen_find(v, key);

        if (!e || (e->deadline != STORE_NEVER && now >= e->deadline))
                return NULL;
        return e->fresh.fresh == 0 || now < e->fresh.serve ? e : NULL;
}

static bool is_hit(const struct seen_entry *e, enum arena_result r, const struct arena_hit *hit,
                   const uint8_t *value)
{
        uint64_t n = r == ARENA_LARGE_VALUE ? hit->large.size : hit->n_value;

        if (!e || e->version != hit->version || e->uid != hit->uid || e->flags != hit->flags ||
            e->deadline != hit->deadline_ms || e->cost_us != hit->cost_us || e->n_value != n)
                return false;
        if (e->n_messages != arena_hit_messages(hit) ||
            e->raw_size != (hit->encoding ? hit->raw_size : n - e->n_messages))
                return false;
        return r == ARENA_LARGE_VALUE || e->sum == world_sum(value, n);
}

struct looker {
        const struct store_look *l;
        struct store *names;
        uint64_t now;
        uint8_t *buf;
        unsigned n_busy; /* that should have been found */
};

static void look_for(struct looker *k, const struct seen_entry *key, const struct seen_entry *b,
                     const struct seen_entry *a)
{
        struct store_cache_info info;
        struct arena_query q = {.cache = key->cache,
                                .key = key->key,
                                .n_key = (uint32_t)key->n_key,
                                .now_ms = k->now,
                                .want_messages = true};
        struct arena_hit hit;
        enum arena_result r;

        assert_int_equal(store_cache_info(k->names, key->cache, &info), 0);
        q.name_hash = arena_name_hash(info.name, strlen(info.name));
        r = arena_read(&k->l->map, &q, k->buf, LOOK_MAX, &hit);
        switch (r) {
        case ARENA_HIT:
        case ARENA_LARGE_VALUE:
                assert_true(is_hit(b, r, &hit, k->buf) || is_hit(a, r, &hit, k->buf));
                break;
        case ARENA_MISS:
                assert_true(!b || !a);
                break;
        case ARENA_NO_CACHE: /* it was being made, or was removed */
                assert_true(!b || !a);
                break;
        default:
                assert_int_equal(r, ARENA_BUSY);
                k->n_busy += b && a;
        }
}

static void look_for_all(struct looker *k, const struct seen_sorted *keys,
                         const struct seen_sorted *before, const struct seen_sorted *after)
{
        for (size_t i = 0; i < keys->n; i++)
                look_for(k, keys->e[i], live(before, keys->e[i], k->now),
                         live(after, keys->e[i], k->now));
}

void store_look_torn(const struct store_look *l, struct store *names, uint64_t now,
                     const struct seen_sorted *before, const struct seen_sorted *after)
{
        struct looker k = {.l = l, .names = names, .now = now, .buf = malloc(LOOK_MAX)};
        unsigned odd = count_odd(&l->map);

        assert_true(odd <= ODD_MAX);
        look_for_all(&k, before, before, after);
        look_for_all(&k, after, before, after);
        /* Those that are in `before` and `after` were looked for twice. */
        assert_true(k.n_busy <= 2 * odd * ARENA_BUCKET_SLOTS);
        free(k.buf);
}

void store_look_whole(const struct store_look *l, struct store *names, uint64_t now,
                      const struct seen_sorted *found, const struct seen_sorted *keys)
{
        struct looker k = {.l = l, .names = names, .now = now, .buf = malloc(LOOK_MAX)};

        assert_int_equal(count_odd(&l->map), 0);
        look_for_all(&k, found, found, found);
        look_for_all(&k, keys, found, found);
        assert_int_equal(k.n_busy, 0);
        free(k.buf);
}
