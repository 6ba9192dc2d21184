/* SPDX-License-Identifier: MIT */
/*
 * Views that the mapping decides
 *
 * The arena tells which version an entry has, wherever its value lies. If that version is at hand,
 * it is the value: versions are never used twice. So a repeated look costs a look-up and a count,
 * whatever the size. What lies in the arena itself and is not at hand is copied out of it.
 */

#include <stdlib.h>

#include "client/call.h"
#include "client/map-drain.h"
#include "client/map-look.h"
#include "client/map-touch.h"
#include "client/pack.h"
#include "client/pool-views.h"
#include "client/reply.h"
#include "client/view.h"

/* A value may be replaced by a longer one between the tries. */
#define TRIES 4
/* Where nobody can tell whether a value still is the entry's, it is kept so long without a look. */
#define IDLE_NS UINT64_C(30000000000)

struct view_looker {
        struct look look;
        struct arena_query q;
        struct arena_hit hit;
        const struct view_want *want;
        struct view_found found;
        bool is_away; /* it is there, and not at hand: the daemon is asked for it */
};

/* Copies the value out. */
static enum seen take_copy(struct view_looker *l)
{
        enum seen s = SEEN_LONGER;

        for (int tries = 0; s == SEEN_LONGER && tries < TRIES; tries++) {
                uint32_t room = l->hit.n_value;

                free(l->found.heap);
                l->found.heap = malloc((size_t)room + 1);
                if (!l->found.heap)
                        return SEEN_NOTHING;
                s = look(&l->look, &l->q, l->found.heap, room, &l->hit);
        }
        l->found.n = l->hit.n_value;
        if (s == SEEN_HIT)
                return s;
        free(l->found.heap);
        l->found.heap = NULL;
        return s == SEEN_LONGER || s == SEEN_LARGE ? SEEN_NOTHING : s;
}

/* What is at hand of the version that was seen. */
static bool take_kept(struct view_looker *l, cached *c)
{
        l->found.file = pool_find_view(c->pool, l->look.v.mp->arena.instance, l->hit.version);
        if (l->found.file)
                l->found.n = l->found.file->n;
        return l->found.file != NULL;
}

static enum seen find(struct view_looker *l, cached *c)
{
        enum seen s = look(&l->look, &l->q, NULL, 0, &l->hit);

        if (s == SEEN_LARGE) {
                l->is_away = !take_kept(l, c);
                return l->is_away ? SEEN_NOTHING : SEEN_HIT;
        }
        if (s != SEEN_HIT && s != SEEN_LONGER)
                return s;
        if (l->want->only_large || l->hit.marks & ARENA_HIT_NEGATIVE)
                return SEEN_NOTHING;
        if ((l->hit.n_value >= VIEW_COPY_MIN || l->hit.raw_size >= VIEW_COPY_MIN) &&
            take_kept(l, c))
                return SEEN_HIT;
        return take_copy(l);
}

/* Notes what was seen, and leaves. */
static void leave(cached *c, struct view_looker *l, enum seen s)
{
        const struct map_visit *v = &l->look.v;
        struct map_use use = {l->hit.handle, l->hit.version, l->q.now_ms};
        enum map_touched t = MAP_TOUCHED;
        struct mapping *mp = v->mp;

        if (s == SEEN_HIT && !l->want->no_touch) {
                map_count_hit(v, l->look.cache.counter);
                t = map_touch(v, use.handle, use.version, use.now_ms);
        } else if (s == SEEN_MISS && !l->want->no_touch) {
                map_count_miss(v, l->look.cache.counter);
        } else if (l->is_away) {
                map_touch_ahead(v); /* the next look may be the first that notes something */
        }
        if (t != MAP_TOUCHED)
                map_drain(c, v, t, &use);
        else
                map_leave(&c->pool->map, v);
        if (s == SEEN_END)
                pool_end_mapping(c->pool, mp);
}

static bool begin(struct view_looker *l, cached *c, const struct view_want *w)
{
        l->look.m = &c->pool->map;
        l->want = w;
        return w->n_key > 0 && w->n_key <= LOOK_KEY_MAX && map_enter(l->look.m, &l->look.v);
}

/* Finds the cache, and where the key would be. False: it is not in the mapping. */
static bool aim(struct view_looker *l, const char *cache, const void *key, size_t n_key, bool again)
{
        if (again ? !look_cache_again(&l->look, cache) : !look_cache(&l->look, cache))
                return false;
        look_query(&l->look, key, n_key, &l->q);
        arena_aim(&l->look.v.mp->arena, &l->q);
        look_at_clock(&l->look);
        l->q.now_ms = l->look.now_ms;
        return true;
}

static enum seen look_twice(struct view_looker *l, cached *c)
{
        const struct view_want *w = l->want;
        enum seen s = SEEN_NO_CACHE;

        for (int again = 0; again < 2 && s == SEEN_NO_CACHE; again++) {
                if (!aim(l, w->cache, w->key, w->n_key, again))
                        return SEEN_NOTHING;
                s = find(l, c);
        }
        return s == SEEN_NO_CACHE ? SEEN_NOTHING : s;
}

/* A copy of a packed value made plain. False: there is no memory, or it is damaged. */
static bool unpack(struct view_looker *l, bool *ret_damaged)
{
        uint64_t n = l->hit.raw_size;
        uint8_t *plain;

        *ret_damaged = !pack_is_possible(l->found.n, n);
        if (*ret_damaged)
                return false;
        plain = malloc((size_t)n + 1);
        if (!plain)
                return false;
        *ret_damaged = !pack_undo(l->found.heap, l->found.n, plain, n);
        if (*ret_damaged) {
                free(plain);
                return false;
        }
        free(l->found.heap);
        l->found.heap = plain;
        l->found.n = n;
        return true;
}

/* A copy that is long enough becomes a value that views share, and is kept. */
static void keep_copy(struct view_looker *l, struct pool *p, uint64_t instance)
{
        struct view_file *v;

        if (!l->want->keeps || l->found.n < VIEW_COPY_MIN)
                return;
        v = view_file_copy(l->found.heap, l->found.n);
        l->found.heap = NULL;
        if (!v)
                return;
        v->instance = instance;
        v->version = l->hit.version;
        pool_keep_view(p, v, l->want->cache, l->want->key, l->want->n_key);
        l->found.file = v;
}

static struct cached_reply *reply_of(const struct view_looker *l, bool is_plain)
{
        struct arena_hit *hit;
        struct cached_reply *r = reply_new_hit(0, &hit);

        if (!r)
                return NULL;
        *hit = l->hit;
        reply_set_hit_apart(r, l->found.n, is_plain, l->look.ttl_ms);
        return r;
}

/* What was copied, in the form in which it is handed out. The pool is still there. */
static bool finish_copy(struct view_looker *l, struct pool *p, uint64_t instance, bool is_plain,
                        bool *ret_damaged)
{
        if (is_plain && l->hit.encoding == CACHED__V1__ENCODING__ENCODING_LZ4 &&
            !unpack(l, ret_damaged)) {
                free(l->found.heap);
                l->found.heap = NULL;
                return false;
        }
        keep_copy(l, p, instance);
        return l->found.heap || l->found.file;
}

static int finish(struct view_looker *l, struct pool *p, uint64_t instance, bool is_plain,
                  struct view_found *ret, struct cached_reply **ret_reply)
{
        bool is_damaged = false;
        struct failure f;

        if (l->found.heap && !finish_copy(l, p, instance, is_plain, &is_damaged)) {
                if (!is_damaged)
                        return call_fail(failure_nomem(&f), &f, ret_reply);
                *ret_reply = reply_new_miss();
                return CACHED_NOT_FOUND;
        }
        *ret_reply = reply_of(l, is_plain);
        if (!*ret_reply) {
                view_file_unref(l->found.file);
                free(l->found.heap);
                return CACHED_ERR_NOMEM;
        }
        *ret = l->found;
        ret->version = l->hit.version;
        return CACHED_OK;
}

bool view_look(cached *c, const struct view_want *w, struct view_found *ret,
               struct cached_reply **ret_reply, int *ret_code)
{
        struct view_looker l = {0};
        struct pool *p = c->pool;
        bool is_plain = !c->options.keep_encoded;
        uint64_t instance;
        enum seen s;

        if (!begin(&l, c, w))
                return false;
        s = look_twice(&l, c);
        instance = l.look.v.mp->arena.instance;
        if (l.found.heap)
                pool_ref(p); /* the handle may go as soon as we leave */
        leave(c, &l, s);
        if (s == SEEN_HIT) {
                bool has_ref = l.found.heap != NULL;

                *ret_code = finish(&l, p, instance, is_plain, ret, ret_reply);
                if (has_ref)
                        pool_unref(p);
                return true;
        }
        if (s != SEEN_MISS)
                return false;
        *ret_reply = reply_new_miss();
        *ret_code = *ret_reply ? CACHED_NOT_FOUND : CACHED_ERR_NOMEM;
        return true;
}

/* ---------------------------------------------------------------------------- what is kept */

/* Whether the entry has another version by now, as far as can be told. */
static bool is_stale(cached *c, const struct view_slot *slot)
{
        struct view_want w = {.cache = slot->cache, .key = slot->key, .n_key = slot->n_key};
        struct view_looker l = {0};
        bool stale;
        enum seen s;

        if (!begin(&l, c, &w))
                return deadline_now_ns() - slot->used_ns > IDLE_NS;
        s = SEEN_NOTHING;
        if (aim(&l, w.cache, w.key, w.n_key, false))
                s = look(&l.look, &l.q, NULL, 0, &l.hit);
        stale = s == SEEN_MISS || l.look.v.mp->arena.instance != slot->file->instance ||
                ((s == SEEN_HIT || s == SEEN_LONGER || s == SEEN_LARGE) &&
                 l.hit.version != slot->file->version);
        map_leave(l.look.m, &l.look.v);
        return stale;
}

void view_tend(cached *c)
{
        struct view_slot slot;

        if (!pool_next_view(c->pool, &slot))
                return;
        if (is_stale(c, &slot))
                pool_drop_view(c->pool, slot.file->instance, slot.file->version);
        view_file_unref(slot.file);
}
