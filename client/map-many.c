/* SPDX-License-Identifier: MIT */
/*
 * A get of many that is answered from the mapping
 *
 * Keys are looked up in batches: what a batch will touch is asked for before the first of it is
 * read, so that the waits for memory overlap. Values are copied one behind the other into one body,
 * as in the daemon's reply. Keys that the mapping cannot decide about are asked for on the socket
 * together, and what comes is put among the others.
 *
 * A reply has a bound, as the daemon's has: a value that does not fit is TOO_LARGE, with its size.
 */

#include <stdlib.h>

#include "client/call.h"
#include "client/entries.h"
#include "client/map-drain.h"
#include "client/map-get.h"
#include "client/map-look.h"
#include "client/map-touch.h"
#include "client/reply.h"

/* The values of one reply; the first always fits. */
#define BODY_MAX ((size_t)64 << 20)
/* What is asked for at once when the body grows. */
#define BODY_MIN ((size_t)4096)
#define TRIES    4

struct many {
        cached *c;
        const char *cache;
        const Cached__V1__GetMany *m;
        struct look look;
        struct cached_reply *r;
        uint8_t *body;
        size_t n_body, n_room;
        uint32_t *left; /* keys for the socket */
        size_t n_left;
        bool is_inside;  /* the visit goes on */
        uint64_t serial; /* of the mapping in which everything was looked up so far */
};

/* ------------------------------------------------------------------------------------------ memory
 */

static bool many_begin(struct many *g)
{
        g->r = reply_new_many(g->m->n_keys);
        g->left = calloc(g->m->n_keys, sizeof(*g->left));
        return g->r && g->left;
}

/* Whatever it has and has not handed out. */
static void many_end(struct many *g)
{
        cached_reply_free(g->r);
        free(g->body);
        free(g->left);
}

static bool body_reserve(struct many *g, size_t n)
{
        size_t size = g->n_room < BODY_MIN ? BODY_MIN : g->n_room;
        uint8_t *body;

        if (g->n_room - g->n_body >= n)
                return true;
        while (size - g->n_body < n)
                size *= 2;
        body = realloc(g->body, size);
        if (!body)
                return false;
        g->body = body;
        g->n_room = size;
        return true;
}

/* ------------------------------------------------------------------------------------------- items
 */

static void item_too_large(struct many *g, size_t i, const struct arena_hit *hit)
{
        reply_set_item(g->r, i, hit, g->look.ttl_ms, 0);
        g->r->message->get_many->items[i]->status = CACHED__V1__STATUS__TOO_LARGE;
}

/* That there is no value, which has none. */
static void item_negative(struct many *g, size_t i, const struct arena_hit *hit)
{
        reply_set_item(g->r, i, hit, g->look.ttl_ms, 0);
        g->r->message->get_many->items[i]->status = CACHED__V1__STATUS__NEGATIVE;
}

/* Back inside after a wait for the daemon, which takes time. False: in another mapping, or none. */
static bool visit_again(struct many *g)
{
        g->is_inside = map_enter(g->look.m, &g->look.v);
        if (!g->is_inside || g->look.v.mp->serial != g->serial)
                return false;
        look_at_clock(&g->look);
        return true;
}

/* A use. False: the mapping is another one now. */
static bool item_touch(struct many *g, const struct arena_hit *hit)
{
        struct map_use use = {hit->handle, hit->version, g->look.now_ms};
        enum map_touched t = map_touch(&g->look.v, use.handle, use.version, use.now_ms);

        if (t == MAP_TOUCHED || t == MAP_TOUCH_LOST)
                return true;
        map_drain(g->c, &g->look.v, t, &use);
        return visit_again(g);
}

/* One look-up, its value at the end of the body. */
static enum seen item_look(struct many *g, const struct arena_query *q, struct arena_hit *hit)
{
        enum seen s = SEEN_LONGER;

        for (int tries = 0; s == SEEN_LONGER && tries < TRIES; tries++) {
                uint8_t *to = g->body ? g->body + g->n_body : NULL;

                s = look(&g->look, q, to, g->n_room - g->n_body, hit);
                if (s != SEEN_LONGER || (hit->n_value > BODY_MAX - g->n_body && g->n_body > 0))
                        return s;
                if (!body_reserve(g, hit->n_value))
                        return SEEN_NOTHING;
        }
        return SEEN_NOTHING;
}

/* False: the mapping ended. */
static bool item_get(struct many *g, size_t i, const struct arena_query *q)
{
        struct arena_hit hit;
        enum seen s = item_look(g, q, &hit);

        switch (s) {
        case SEEN_HIT:
                if (hit.marks & ARENA_HIT_NEGATIVE) {
                        item_negative(g, i, &hit);
                        break;
                }
                reply_set_item(g->r, i, &hit, g->look.ttl_ms, g->n_body);
                g->n_body += hit.n_value;
                break;
        case SEEN_LONGER:
                item_too_large(g, i, &hit);
                break;
        case SEEN_MISS:
                map_count_miss(&g->look.v, g->look.cache.counter);
                return true;
        case SEEN_LARGE:
        case SEEN_NOTHING:
                g->left[g->n_left++] = (uint32_t)i;
                return true;
        default:
                return false;
        }
        map_count_hit(&g->look.v, g->look.cache.counter);
        return item_touch(g, &hit);
}

/* All of them. False: the daemon has to be asked for everything. */
static bool many_look(struct many *g)
{
        struct arena_query q[ARENA_AHEAD_MAX];

        for (size_t i = 0; i < g->m->n_keys; i += ARENA_AHEAD_MAX) {
                unsigned n = ARENA_AHEAD_MAX;

                if (n > g->m->n_keys - i)
                        n = (unsigned)(g->m->n_keys - i);
                for (unsigned k = 0; k < n; k++)
                        look_query(&g->look, g->m->keys[i + k].data, g->m->keys[i + k].len, &q[k]);
                arena_ahead(&g->look.v.mp->arena, q, n);
                for (unsigned k = 0; k < n; k++) {
                        q[k].now_ms = g->look.now_ms;
                        if (!item_get(g, i + k, &q[k]))
                                return false;
                }
        }
        return true;
}

/* --------------------------------------------------------------------------------------- the rest
 */

/* One of the daemon's items among ours. */
static bool item_take(struct many *g, size_t i, const struct cached_reply *from, size_t k)
{
        const Cached__V1__GetManyItem *item = from->message->get_many->items[k];
        Cached__V1__GetManyItem *to = g->r->message->get_many->items[i];
        size_t n = 0;
        const void *value = cached_reply_item_value(from, k, &n);

        if (item->entry) {
                const struct arena_hit none = {0};

                reply_set_item(g->r, i, &none, CACHED_NEVER, g->n_body);
                *to->entry = *item->entry;
                /* They lie in the other reply. */
                to->entry->base.n_unknown_fields = 0;
                to->entry->base.unknown_fields = NULL;
        }
        to->status = item->status;
        if (!value)
                return true;
        if (!body_reserve(g, n))
                return false;
        memcpy(g->body + g->n_body, value, n);
        g->n_body += n;
        return true;
}

/* What is left, in one request. *ret: the daemon's reply, if it is what the call comes to. */
static int many_ask(struct many *g, cached_reply **ret)
{
        Cached__V1__GetMany m = *g->m;
        struct cached_reply *r = NULL;
        struct failure f;
        int code;

        m.n_keys = g->n_left;
        m.keys = calloc(g->n_left, sizeof(*m.keys));
        if (!m.keys)
                return call_fail(failure_nomem(&f), &f, ret);
        for (size_t k = 0; k < g->n_left; k++)
                m.keys[k] = g->m->keys[g->left[k]];
        code = entries_get_many(g->c, g->cache, &m, &r);
        free(m.keys);
        if (code != CACHED_OK) {
                *ret = r;
                return code;
        }
        for (size_t k = 0; k < g->n_left; k++)
                if (!item_take(g, g->left[k], r, k))
                        code = failure_nomem(&f);
        cached_reply_free(r);
        return code == CACHED_OK ? code : call_fail(code, &f, ret);
}

static int many_finish(struct many *g, bool keep_encoded, cached_reply **ret)
{
        struct failure f;

        reply_set_body(g->r, g->body, g->n_body);
        g->body = NULL;
        if (!keep_encoded && reply_decode(g->r, &f) != CACHED_OK)
                return call_fail(f.code, &f, ret);
        *ret = g->r;
        g->r = NULL;
        return CACHED_OK;
}

/* ------------------------------------------------------------------------------------------- entry
 */

static bool keys_are_valid(const Cached__V1__GetMany *m, uint32_t max)
{
        if (m->n_keys == 0 || m->n_keys > max)
                return false;
        for (size_t i = 0; i < m->n_keys; i++)
                if (m->keys[i].len == 0 || m->keys[i].len > LOOK_KEY_MAX)
                        return false;
        return true;
}

static void many_leave(struct many *g, bool is_answered)
{
        const struct mapping *mp = g->look.v.mp;
        bool counts = is_answered || mapping_counts(mp);

        map_leave(g->look.m, &g->look.v);
        if (!counts)
                pool_end_mapping(g->c->pool, mp);
}

bool map_get_many(cached *c, const char *cache, const Cached__V1__GetMany *m, cached_reply **ret,
                  int *ret_code)
{
        struct many g = {.c = c, .cache = cache, .m = m, .look = {.m = &c->pool->map}};
        bool keep_encoded = c->options.keep_encoded, ok = false;
        int code = CACHED_OK;

        if (!ret || !map_enter(g.look.m, &g.look.v))
                return false;
        g.is_inside = true;
        g.serial = g.look.v.mp->serial;
        if (keys_are_valid(m, g.look.v.mp->max_keys) && many_begin(&g) &&
            look_cache(&g.look, cache)) {
                look_at_clock(&g.look);
                ok = many_look(&g);
        }
        if (g.is_inside)
                many_leave(&g, ok);
        if (ok && g.n_left > 0)
                code = many_ask(&g, ret);
        if (ok)
                *ret_code = code == CACHED_OK ? many_finish(&g, keep_encoded, ret) : code;
        many_end(&g);
        return ok;
}
