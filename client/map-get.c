/* SPDX-License-Identifier: MIT */
/*
 * A get that is answered from the mapping
 *
 * The order of things: enter, look up and copy straight into the reply's own memory, see that the
 * arena still counts, note the use, leave. A miss is an answer, too. Whatever the arena cannot
 * decide is left to the socket: values in files of their own, a writer that is always quicker,
 * nonsense, a cache that is not in the directory.
 *
 * A reply's memory is taken before the value's length is known: room for a small value, which
 * serves most, and exact room in a second try.
 */

#include "client/map-get.h"

#include "client/call.h"
#include "client/map-drain.h"
#include "client/map-look.h"
#include "client/map-touch.h"
#include "client/reply.h"

/* What does not belong among the instructions of a hit, nor its memory into that stack frame. */
#define COLD __attribute__((noinline, cold))

/* A value may be replaced by a longer one between the tries. */
#define TRIES 4
/* Room for values in the first try; the second where values turned out to be longer. A reply with
 * either is small enough for malloc's fast path. */
#define GUESS_SMALL 256u
#define GUESS_LARGE 560u

bool look_has_passed(struct look *l, uint64_t deadline_ms)
{
        uint64_t now = map_precise_ms(l->v.mp);

        l->ttl_ms = deadline_ms - now;
        return now >= deadline_ms;
}

struct get {
        struct look look;
        struct arena_query q;
        bool wants_reply;
        struct cached_reply *r; /* of a hit; else NULL */
        struct map_use use;
};

/* A hit's value goes into a new reply. SEEN_NOTHING with `ret_nomem`: there is no memory for it. */
static enum seen get_reply(struct get *g, bool *ret_nomem)
{
        struct mapping *mp = g->look.v.mp;
        size_t room = GUESS_SMALL;
        enum seen s = SEEN_LONGER;

        if (atomic_load_explicit(&mp->has_longer, memory_order_relaxed))
                room = GUESS_LARGE;
        for (int tries = 0; s == SEEN_LONGER && tries < TRIES; tries++) {
                struct arena_hit *hit;
                struct cached_reply *r = reply_new_hit(room, &hit);

                if (!r) {
                        *ret_nomem = true;
                        return SEEN_NOTHING;
                }
                s = look(&g->look, &g->q, reply_hit_value(r), room, hit);
                if (s == SEEN_HIT) {
                        g->use = (struct map_use){hit->handle, hit->version, g->q.now_ms};
                        reply_set_hit(r, hit->n_value, g->look.ttl_ms);
                        g->r = r;
                        return s;
                }
                if (s == SEEN_LONGER) {
                        room = hit->n_value;
                        if (room <= GUESS_LARGE)
                                atomic_store_explicit(&mp->has_longer, true, memory_order_relaxed);
                }
                cached_reply_free(r);
        }
        return s == SEEN_LONGER ? SEEN_NOTHING : s;
}

static enum seen get_look(struct get *g, bool *ret_nomem)
{
        struct arena_hit hit;
        enum seen s;

        if (g->wants_reply)
                return get_reply(g, ret_nomem);
        s = look(&g->look, &g->q, NULL, 0, &hit);
        if (s != SEEN_HIT && s != SEEN_LONGER)
                return s;
        g->use = (struct map_use){hit.handle, hit.version, g->q.now_ms};
        return SEEN_HIT;
}

/* The cache's id is not what it was. */
static COLD enum seen get_again(struct get *g, const char *cache, bool *ret_nomem)
{
        if (!look_begin(&g->look, cache, true))
                return SEEN_NOTHING;
        g->q = look_query(&g->look, g->q.key, g->q.n_key);
        return get_look(g, ret_nomem);
}

/* Notes what was seen, and leaves. */
static void get_leave(cached *c, struct get *g, enum seen s, bool no_touch)
{
        const struct map_visit *v = &g->look.v;
        struct mapping *mp = v->mp;
        enum map_touched t = MAP_TOUCHED;

        if (s == SEEN_HIT && !no_touch) {
                map_count_hit(v, g->look.cache.counter);
                t = map_touch(v, g->use.handle, g->use.version, g->use.now_ms);
        } else if (s == SEEN_MISS && !no_touch) {
                map_count_miss(v, g->look.cache.counter);
        }
        if (t != MAP_TOUCHED)
                map_drain(c, v, t, &g->use);
        else
                map_leave(&c->pool->map, v);
        if (s == SEEN_END)
                pool_end_mapping(c->pool, mp);
}

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

static int get_hit(struct cached_reply *r, bool keep_encoded, cached_reply **ret)
{
        if (!r || !ret) /* without the one there is not the other */
                return CACHED_OK;
        if (!keep_encoded && reply_hit_is_encoded(r))
                return get_plain(r, ret);
        *ret = r;
        return CACHED_OK;
}

static int get_miss(cached_reply **ret)
{
        if (!ret)
                return CACHED_NOT_FOUND;
        *ret = reply_new_miss();
        return *ret ? CACHED_NOT_FOUND : CACHED_ERR_NOMEM;
}

static COLD int get_nomem(cached_reply **ret)
{
        struct failure f;

        return call_fail(failure_nomem(&f), &f, ret);
}

bool map_get(cached *c, const char *cache, const void *key, size_t n_key, bool no_touch,
             cached_reply **ret, int *ret_code)
{
        struct get g; /* not zeroed: that would be a tenth of a hit */
        bool keep_encoded, is_nomem = false;
        enum seen s = SEEN_NOTHING;

        g.look.m = &c->pool->map;
        g.wants_reply = ret != NULL;
        g.r = NULL;
        if (n_key == 0 || n_key > LOOK_KEY_MAX || !map_enter(g.look.m, &g.look.v))
                return false;
        keep_encoded = c->options.keep_encoded;
        if (look_begin(&g.look, cache, false)) {
                g.q = look_query(&g.look, key, n_key);
                s = get_look(&g, &is_nomem);
                if (s == SEEN_NO_CACHE)
                        s = get_again(&g, cache, &is_nomem);
        }
        get_leave(c, &g, s, no_touch);
        /* From here on the handle may be gone, unless the daemon is to be asked. */
        if (s == SEEN_HIT)
                *ret_code = get_hit(g.r, keep_encoded, ret);
        else if (s == SEEN_MISS)
                *ret_code = get_miss(ret);
        else if (is_nomem)
                *ret_code = get_nomem(ret);
        else
                return false;
        return true;
}
