/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_LOOK_H
#define CLIENT_MAP_LOOK_H

/*
 * One look-up in a mapping, as far as it concerns whether its answer counts
 *
 * Times: the clock may lag. So near to a deadline that this matters the precise one is asked, and
 * the remaining time to live is never told too long. The arena's number is compared
 * after the copy: see ARENA.md, "The epoch file".
 */

#include <cached.h>
#include <string.h>

#include "client/map-clock.h"

/* Longer ones are no names, and longer keys no keys: the daemon says so. */
#define LOOK_NAME_MAX 128u
#define LOOK_KEY_MAX  64u

/* What a look-up came to. */
enum seen {
        SEEN_HIT,
        SEEN_LONGER, /* a hit of ret->n_value bytes, but there was less room */
        SEEN_LARGE,  /* a hit whose value lies in a memory file */
        SEEN_MISS,
        SEEN_NO_CACHE,
        SEEN_NOTHING, /* the daemon has to be asked */
        SEEN_END,     /* likewise, and the mapping counts no more */
};

struct look {
        struct map *m;
        struct map_visit v;
        struct map_cache cache;
        uint64_t now_ms;
        uint64_t ttl_ms; /* of a hit */
};

/* Finds the cache; the visit has begun. False: it is not in the mapping. */
static inline bool look_cache(struct look *l, const char *cache)
{
        struct map_memo *memo = map_memo_of(l->m, &l->v, cache);

        if (__builtin_expect(memo && strcmp(memo->name, cache) == 0, 1)) {
                l->cache = memo->cache;
                return l->cache.id != 0;
        }
        return mapping_learn(l->v.mp, cache, memo, false, &l->cache);
}

/* Likewise, after what is remembered was found wrong. */
static inline bool look_cache_again(struct look *l, const char *cache)
{
        return mapping_learn(l->v.mp, cache, map_memo_of(l->m, &l->v, cache), true, &l->cache);
}

static inline void look_at_clock(struct look *l)
{
        l->now_ms = map_now_ms(l->m->w, l->v.mp);
}

/* All but the time and what arena_aim() sets. */
static inline void look_query(const struct look *l, const void *key, size_t n_key,
                              struct arena_query *ret)
{
        ret->cache = l->cache.id;
        ret->n_key = (uint32_t)n_key;
        ret->name_hash = l->cache.hash;
        ret->key = key;
        ret->want_messages = false;
}

/* A deadline is at hand: what does the precise clock say? */
uint64_t look_precise_ms(const struct mapping *mp);

/* Whether an entry's time is over; else how much of it is left, told too short rather than long. */
static inline bool look_has_passed(struct look *l, uint64_t deadline_ms)
{
        uint64_t left = deadline_ms - l->now_ms, lag = l->m->lag_ms, now;

        l->ttl_ms = left - lag;
        if (__builtin_expect(left > lag, 1))
                return false;
        now = look_precise_ms(l->v.mp);
        l->ttl_ms = deadline_ms - now;
        return now >= deadline_ms;
}

/*
 * The same for what an entry with a window is, since each of its moments is such a deadline. Its
 * `fresh.fresh` becomes what is left of that, 0 if it is stale; without the mark there is no time
 * in which it could be. False: it is not to be served.
 */
bool look_at_window(struct look *l, struct arena_hit *hit);

static inline enum seen look(struct look *l, const struct arena_query *q, void *buf, size_t n_buf,
                             struct arena_hit *ret)
{
        enum arena_result r = arena_read(&l->v.mp->arena, q, buf, n_buf, ret);

        if (!mapping_counts(l->v.mp))
                return SEEN_END;
        if (__builtin_expect(r == ARENA_HIT, 1) || r == ARENA_TOO_LONG || r == ARENA_LARGE_VALUE) {
                l->ttl_ms = CACHED_NEVER;
                if (ret->deadline_ms != ARENA_NEVER && look_has_passed(l, ret->deadline_ms))
                        return SEEN_MISS;
                if (__builtin_expect(ret->marks & ARENA_HIT_WINDOW, 0) && !look_at_window(l, ret))
                        return SEEN_MISS;
                if (r == ARENA_LARGE_VALUE)
                        return SEEN_LARGE;
                return r == ARENA_HIT ? SEEN_HIT : SEEN_LONGER;
        }
        switch (r) {
        case ARENA_MISS:
                return SEEN_MISS;
        case ARENA_NO_CACHE:
                return SEEN_NO_CACHE;
        case ARENA_RETIRED:
                return SEEN_END;
        default:
                return SEEN_NOTHING;
        }
}

#endif
