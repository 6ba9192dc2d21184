/* SPDX-License-Identifier: MIT */
/*
 * How long an entry is as good as new, and what comes then
 *
 * A TTL becomes moments when the entry is stored: until `fresh` it is as good as new; until `serve`
 * it is served, as stale; until the deadline it is kept, in case that computing it anew fails; and
 * from `refresh` on one caller is to do that. Only caches whose policy has such windows give their
 * entries more than a deadline, so others pay nothing for it.
 *
 * The moments are the one thing that changes in a block that readers can reach: between two
 * increments of its bucket's counter, and announced in the intent record, so that whoever takes
 * over finds all of them old or all of them new.
 *
 * That somebody computes an entry anew is a moment, too: `refresh` is never. It holds as long as
 * the process that knows who; its successor makes the entry due again (recover-entries.c).
 */

#include <string.h>

#include "store/internal.h"

/* ---- from a TTL to moments */

static uint64_t after(uint64_t now, uint64_t ms)
{
        uint64_t at;

        return __builtin_add_overflow(now, ms, &at) || at >= ENTRY_NEVER ? ENTRY_NEVER - 1 : at;
}

/* Any number follows from the same one in the same store. */
static uint64_t chance(const struct store *s, uint64_t version)
{
        uint64_t x = (s->a.h->seed[0] ^ version) + UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

/* Entries that are stored together shall not all expire together. */
static uint64_t shortened(const struct store *s, uint64_t ttl, uint32_t jitter, uint64_t version)
{
        uint64_t most = ttl * jitter / 1000;

        if (most >= ttl)
                most = ttl - 1;
        return ttl - chance(s, version) % (most + 1);
}

struct moments moments_of(const struct store *s, const struct table_cache *c, uint64_t ttl_ms,
                          uint64_t version, uint64_t now)
{
        const struct table_policy *p = &c->policy;
        uint64_t longest =
                p->stale_for_ms > p->stale_if_error_ms ? p->stale_for_ms : p->stale_if_error_ms;
        struct moments m = {.deadline = ENTRY_NEVER};

        if (ttl_ms == STORE_TTL_POLICY)
                ttl_ms = p->ttl_ms;
        if (ttl_ms == STORE_NEVER)
                return m;
        if (ttl_ms > ENTRY_NEVER)
                ttl_ms = ENTRY_NEVER;
        if (p->expire_jitter)
                ttl_ms = shortened(s, ttl_ms, p->expire_jitter, version);
        m.deadline = after(now, ttl_ms);
        if (!cache_gives_window(c, ttl_ms))
                return m;
        m.fresh = (struct arena_fresh){
                .fresh = m.deadline,
                .serve = after(m.deadline, p->stale_for_ms),
                .refresh = p->refresh_ahead ? after(now, ttl_ms * p->refresh_ahead / 1000)
                                            : m.deadline,
        };
        m.deadline = after(m.deadline, longest);
        return m;
}

/* ---- changing them in place */

static void edit(struct store *s, const struct found *f, const struct moments *m)
{
        struct arena_entry *b = arena_block(&s->a, f->handle);

        index_edit_begin(s, f->slot, f->handle, m->deadline, &m->fresh);
        entry_set_deadline(b, m->deadline);
        if (m->fresh.fresh != 0)
                entry_set_fresh(b, &m->fresh);
        index_edit_end(s, f->slot);
}

/* What the block has room for: it keeps the shape that it was stored in. */
static struct moments fitting(const struct arena_entry *b, struct moments m)
{
        bool has_room = entry_fresh_at(b) != NULL;

        if (!has_room && m.fresh.fresh != 0) {
                m.deadline = m.fresh.fresh;
                m.fresh = (struct arena_fresh){0};
        } else if (has_room && m.fresh.fresh == 0) {
                uint64_t end = m.deadline == ENTRY_NEVER ? STORE_NEVER : m.deadline;

                m.fresh = (struct arena_fresh){end, end, end};
        }
        return m;
}

static int set_moments(struct store *s, const struct found *f, struct moments m)
{
        const struct arena_entry *b = arena_block(&s->a, f->handle);
        uint32_t gen = gen_index(b->gen);
        int r;

        m = fitting(b, m);
        if (m.deadline == ENTRY_NEVER) {
                expiry_remove(s, gen, f->handle);
        } else {
                r = expiry_reserve(s, gen);
                if (r < 0)
                        return r;
                expiry_set(s, gen, f->handle, m.deadline);
        }
        edit(s, f, &m);
        return 0;
}

static uint64_t version_of(const struct store *s, uint32_t handle)
{
        struct entry e;

        entry_read(arena_block(&s->a, handle), &e);
        return e.version;
}

int store_touch(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t ttl_ms,
                uint64_t now, struct store_entry *ret)
{
        struct table_cache *c = cache_at(s, cache);
        struct found f;
        int r;

        if (!c)
                return STORE_E_NO_CACHE;
        f = store_find_live(s, c, key, n_key, now);
        if (found_served(&f) == ARENA_NONE)
                return STORE_E_MISS;
        if (ttl_ms != STORE_TTL_POLICY) {
                r = set_moments(s, &f, moments_of(s, c, ttl_ms, version_of(s, f.handle), now));
                if (r < 0)
                        return r;
        }
        store_touch_lru(s, f.handle);
        store_entry_fill(s, f.handle, now, ret);
        return 0;
}

/* ---- computing anew */

/* The deadline stays. */
static void set_fresh(struct store *s, const struct found *f, struct arena_fresh fresh)
{
        struct moments m = {entry_deadline(arena_block(&s->a, f->handle)), fresh};

        edit(s, f, &m);
}

int store_refresh_begin(struct store *s, uint32_t cache, const void *key, size_t n_key,
                        uint64_t now, uint64_t *ret_version)
{
        struct table_cache *c = cache_at(s, cache);
        struct arena_fresh fresh;
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        f = store_find_live(s, c, key, n_key, now);
        if (f.handle == ARENA_NONE)
                return STORE_E_MISS;
        *ret_version = version_of(s, f.handle);
        fresh = entry_fresh(arena_block(&s->a, f.handle));
        if (fresh.fresh != 0 && fresh.refresh != STORE_NEVER) {
                fresh.refresh = STORE_NEVER;
                set_fresh(s, &f, fresh);
        }
        return 0;
}

int store_refresh_end(struct store *s, uint32_t cache, const void *key, size_t n_key,
                      uint64_t version, uint64_t next_ms, bool failed)
{
        struct table_cache *c = cache_at(s, cache);
        struct arena_fresh fresh;
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        index_key_init(s, &f.key, cache_gen(s, c)->id, key, (uint32_t)n_key);
        f.handle = index_find(s, &f.key, &f.slot);
        if (f.handle == ARENA_NONE || version_of(s, f.handle) != version)
                return STORE_E_MISS;
        fresh = entry_fresh(arena_block(&s->a, f.handle));
        if (fresh.fresh == 0)
                return 0;
        fresh.refresh = next_ms;
        if (failed && fresh.serve != STORE_NEVER)
                fresh.serve = entry_deadline(arena_block(&s->a, f.handle));
        set_fresh(s, &f, fresh);
        return 0;
}

int store_peek_kept(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                    struct store_entry *ret)
{
        struct table_cache *c = cache_at(s, cache);
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        f = store_find_live(s, c, key, n_key, now);
        if (!f.kept)
                return STORE_E_MISS;
        store_entry_fill(s, f.handle, now, ret);
        return 0;
}
