/* SPDX-License-Identifier: MIT */
/*
 * A get that is answered from the mapping
 *
 * The order of things: enter, find out where the key would be and have the processor fetch that,
 * meanwhile read the clock and take memory for a reply, look up and copy straight into that memory,
 * see that the arena still counts, note the use, leave. A miss is an answer, too. Whatever the
 * arena cannot decide is left to the socket: values in files of their own, a writer that is always
 * quicker, nonsense, a cache that is not in the directory.
 *
 * A reply's memory is taken before the value's length is known: room for a small value, which
 * serves most, and exact room in a second try.
 *
 * A plain hit is map_get() from top to bottom, with calls for the reader, the clock and malloc
 * alone. All else is in functions that are not part of it.
 */

#include "client/map-get.h"

#include "client/call.h"
#include "client/map-drain.h"
#include "client/map-look.h"
#include "client/map-touch.h"
#include "client/reply.h"

/* What does not belong among the instructions of a hit, nor its memory into that stack frame. */
#define COLD      __attribute__((noinline, cold))
#define likely(x) __builtin_expect(!!(x), 1)

/* A value may be replaced by a longer one between the tries. */
#define TRIES 4

COLD uint64_t look_precise_ms(const struct mapping *mp)
{
        return map_precise_ms(mp);
}

static bool is_ahead(const struct look *l, uint64_t moment_ms)
{
        return moment_ms > l->now_ms && moment_ms - l->now_ms <= l->m->lag_ms;
}

COLD bool look_at_window(struct look *l, struct arena_hit *hit)
{
        struct arena_fresh *f = &hit->fresh;
        uint64_t now = l->now_ms, lag = l->m->lag_ms;

        if (is_ahead(l, f->fresh) || is_ahead(l, f->serve) || is_ahead(l, f->refresh)) {
                now = look_precise_ms(l->v.mp);
                lag = 0;
        }
        if (now >= f->serve)
                return false;
        if (now >= f->refresh)
                hit->marks |= ARENA_HIT_DUE;
        if (now >= f->fresh)
                hit->marks |= ARENA_HIT_STALE;
        if (f->fresh >= hit->deadline_ms)
                hit->marks &= (uint16_t)~ARENA_HIT_WINDOW;
        f->fresh = now >= f->fresh ? 0 : f->fresh - now - lag;
        return true;
}

/* Never zeroed as a whole: that would take a good part of a hit's time. */
struct get {
        cached *c;
        const char *cache;
        struct get_how how;
        bool keep_encoded, is_nomem;
        struct look look;
        struct arena_query q;
        size_t room;
        struct cached_reply *r; /* memory for a hit; NULL: only whether there is one is asked */
        struct arena_hit *hit;  /* in `r`, or `bare` */
        struct arena_hit bare;
};

/* ------------------------------------------------------------------------------------- what it is
 */

/* Its value made plain, and what the hit came to then. */
static COLD int get_plain(struct cached_reply *r, cached_reply **ret)
{
        struct failure f;

        if (reply_decode(r, &f) != CACHED_OK) {
                cached_reply_free(r);
                return call_fail(f.code, &f, ret);
        }
        *ret = r;
        return r->code;
}

static COLD int get_negative(struct cached_reply *r, cached_reply **ret)
{
        struct failure f;

        r = reply_hit_to_negative(r);
        if (!r)
                return call_fail(failure_nomem(&f), &f, ret);
        *ret = r;
        return r->code;
}

static COLD int get_nomem(cached_reply **ret)
{
        struct failure f;

        return call_fail(failure_nomem(&f), &f, ret);
}

/* A hit that is not a plain one. */
static COLD int get_special(struct get *g, cached_reply **ret)
{
        if (g->how.with_messages && !reply_hit_split_messages(g->r)) {
                cached_reply_free(g->r);
                return get_nomem(ret);
        }
        if (g->hit->marks & ARENA_HIT_NEGATIVE)
                return get_negative(g->r, ret);
        if (!g->keep_encoded && reply_hit_is_encoded(g->r))
                return get_plain(g->r, ret);
        *ret = g->r;
        return CACHED_OK;
}

/* Leaves a visit whose touch wants more than a store. */
static COLD void get_drain(struct get *g, enum map_touched t)
{
        struct map_use use = {g->hit->handle, g->hit->version, g->look.now_ms};

        map_drain(g->c, &g->look.v, t, &use);
}

/* There is more to do than can be done at once: another look-up counts, and does it. */
static COLD int get_leave(struct get *g, cached_reply **ret)
{
        map_leave(g->look.m, &g->look.v);
        cached_reply_free(g->r);
        if (ret)
                *ret = NULL;
        return CACHED_ERR_AGAIN;
}

/* Notes the hit, leaves, and hands it out. From then on the handle may be gone. */
static inline int get_hit(struct get *g, cached_reply **ret)
{
        enum map_touched t = MAP_TOUCHED;

        if (g->how.at_once && g->hit->marks & ARENA_HIT_DUE)
                return get_leave(g, ret);
        if (!g->how.no_touch) {
                t = map_touch(&g->look.v, g->hit->handle, g->hit->version, g->look.now_ms);
                if (g->how.at_once && t != MAP_TOUCHED && t != MAP_TOUCH_LOST)
                        return get_leave(g, ret);
                map_count_hit(&g->look.v, g->look.cache.counter);
        }
        if (likely(t == MAP_TOUCHED))
                map_leave(g->look.m, &g->look.v);
        else
                get_drain(g, t);
        if (!ret)
                return g->hit->marks & ARENA_HIT_NEGATIVE ? CACHED_NEGATIVE : CACHED_OK;
        reply_set_hit(g->r, g->hit->n_value, g->look.ttl_ms);
        if (!likely((g->hit->encoding | g->hit->marks) == 0))
                return get_special(g, ret);
        *ret = g->r;
        return CACHED_OK;
}

/* Without a hit. */
static int get_in_vain(struct get *g, enum seen s, cached_reply **ret)
{
        const struct mapping *mp = g->look.v.mp;

        /* Where the daemon is asked as well, it counts. */
        if (s == SEEN_MISS && !g->how.no_touch && !g->how.only_mapped)
                map_count_miss(&g->look.v, g->look.cache.counter);
        map_leave(g->look.m, &g->look.v);
        if (s == SEEN_MISS) {
                if (ret) {
                        reply_set_miss(g->r);
                        *ret = g->r;
                }
                return CACHED_NOT_FOUND;
        }
        cached_reply_free(g->r);
        if (s == SEEN_END)
                pool_end_mapping(g->c->pool, mp);
        if (g->is_nomem)
                return get_nomem(ret);
        /* There is a value, and it is not copied through a socket. */
        if (s == SEEN_LARGE && !g->how.at_once)
                g->how.only_mapped = false;
        return entries_get_sent(g->c, g->cache, g->q.key, g->q.n_key, g->how, ret);
}

/* ---------------------------------------------------------------------------------------- looking
 */

/* Room for a value and what is told of it. False: there is no memory. */
static inline bool get_reserve(struct get *g, size_t room)
{
        g->room = room;
        g->r = reply_new_hit(room, &g->hit);
        g->is_nomem = !g->r;
        return g->r != NULL;
}

static inline enum seen get_look(struct get *g)
{
        return look(&g->look, &g->q, g->r ? reply_hit_value(g->r) : NULL, g->room, g->hit);
}

/* Begins the look-up; the cache is known. */
static inline void get_aim(struct get *g, const void *key, size_t n_key)
{
        look_query(&g->look, key, n_key, &g->q);
        g->q.want_messages = g->how.with_messages;
        arena_aim(&g->look.v.mp->arena, &g->q);
        look_at_clock(&g->look);
        g->q.now_ms = g->look.now_ms;
}

/* A value that did not fit may do so in a reply of its own size. */
static enum seen get_longer(struct get *g)
{
        struct mapping *mp = g->look.v.mp;
        enum seen s = SEEN_LONGER;

        for (int tries = 0; s == SEEN_LONGER && tries < TRIES; tries++) {
                size_t room = g->hit->n_value;

                if (room <= MAP_GUESS_LARGE)
                        atomic_store_explicit(&mp->guess, MAP_GUESS_LARGE, memory_order_relaxed);
                cached_reply_free(g->r);
                if (!get_reserve(g, room))
                        return SEEN_NOTHING;
                s = get_look(g);
        }
        return s == SEEN_LONGER ? SEEN_NOTHING : s;
}

/* Goes on after a first look, and leaves. */
static __attribute__((noinline)) int get_slowly(struct get *g, enum seen s, cached_reply **ret)
{
        if (s == SEEN_NO_CACHE && look_cache_again(&g->look, g->cache)) {
                get_aim(g, g->q.key, g->q.n_key);
                s = get_look(g);
        }
        if (s == SEEN_LONGER && ret)
                s = get_longer(g);
        return s == SEEN_HIT || s == SEEN_LONGER ? get_hit(g, ret) : get_in_vain(g, s, ret);
}

/* Whether there is a hit, and nothing of it. */
static COLD int get_bare(struct get *g)
{
        g->room = 0;
        g->r = NULL;
        g->hit = &g->bare;
        g->is_nomem = false;
        return get_slowly(g, get_look(g), NULL);
}

int map_get(cached *c, const char *cache, const void *key, size_t n_key, struct get_how how,
            cached_reply **ret)
{
        struct get g;
        enum seen s = SEEN_NOTHING;

        g.look.m = &c->pool->map;
        if (n_key == 0 || n_key > LOOK_KEY_MAX || !map_enter(g.look.m, &g.look.v))
                return entries_get_sent(c, cache, key, n_key, how, ret);
        if (!look_cache(&g.look, cache)) {
                map_leave(g.look.m, &g.look.v);
                return entries_get_sent(c, cache, key, n_key, how, ret);
        }
        g.c = c;
        g.cache = cache;
        g.how = how;
        g.keep_encoded = c->options.keep_encoded;
        get_aim(&g, key, n_key);
        if (!ret)
                return get_bare(&g);
        if (likely(get_reserve(&g,
                               atomic_load_explicit(&g.look.v.mp->guess, memory_order_relaxed))))
                s = get_look(&g);
        return likely(s == SEEN_HIT) ? get_hit(&g, ret) : get_slowly(&g, s, ret);
}
