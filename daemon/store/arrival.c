/* SPDX-License-Identifier: MIT */
/*
 * A long value on its way in
 *
 * Room for it is made as its bytes arrive: a piece at a time, charged to realm and writer. Who
 * announces a value and does not send it takes no room from others; what has arrived cannot be
 * evicted until the value is stored or given up. A value as large as a million entries makes each
 * piece evict some of them, and when many have left in a turn the next piece waits for another.
 *
 * The extent of a value that belongs into one is its own from the beginning, and unreachable until
 * the put. That takes virtual space alone; pages come with the room, or are there already.
 *
 * What it will replace stays until then, and is not counted on: several may be on their way to one
 * key. Only where both can never be there at the same time the old one leaves first, and not before
 * room is short.
 */

#include <string.h>

#include "store/internal.h"

#define PIECE     (UINT64_C(16) << 10)
#define DROPS_MAX 512u /* entries that leave in a turn before pieces wait: some 300 µs */

static void take(struct store_arrival *a, uint64_t charge)
{
        struct store *s = a->store;

        a->taken += charge;
        s->arriving += charge;
        s->a.owners[a->owner].arriving += charge;
        s->a.owners[a->owner].charged += charge;
        s->a.t->charged += charge;
}

static int refused(struct table_cache *c, int r)
{
        if (c)
                cache_counters(c)->refused += r == STORE_E_NO_SPACE || r == STORE_E_TOO_LARGE;
        return r;
}

/* The cache that it is for; NULL: there was none, or it is there no more. */
static struct table_cache *cache_of(const struct store_arrival *a)
{
        struct store *s = a->store;
        struct table_cache *c = cache_at(s, a->cache);

        return c && s->a.cache_dir[a->cache].name_hash == a->name_hash ? c : NULL;
}

int store_arrival_begin(struct store *s, const struct store_put *p, uint64_t size, uint64_t now,
                        struct store_arrival *ret, struct store_refusal *refusal)
{
        const struct table_cache *c = cache_at(s, p->cache);
        bool window = c && cache_gives_window(c, p->ttl_ms);
        uint64_t charge = store_charge(p->n_key, size, store_ext_fields(p, window),
                                       p->n_tags + (p->variant_of.n > 0), store_is_apart(s, size));
        bool extent = extent_is_for(s, size) && extents_has_room(&s->a, size);
        bool large = store_is_apart(s, size) && !extent;
        struct room room = {.later = charge, .files = large};
        int r = room_check_size(s, c, charge, refusal);

        if (r == 0 && c) {
                struct found f = store_find_live(s, c, p->key, p->n_key, now);

                r = store_check_mode(s, p, found_served(&f));
                if (r == 0 && f.handle != ARENA_NONE)
                        store_touch_lru(s, f.handle);
        }
        if (r == 0)
                r = owner_get(s, p->uid, &room.owner);
        if (r == 0)
                r = room_make(s, &room, now, refusal);
        if (r != 0)
                return refused(cache_at(s, p->cache), r);
        *ret = (struct store_arrival){.store = s,
                                      .cache = p->cache,
                                      .owner = room.owner,
                                      .large = large,
                                      .size = size,
                                      .total = charge,
                                      .n_key = (uint32_t)p->n_key};
        if (c)
                ret->name_hash = s->a.cache_dir[p->cache].name_hash;
        memcpy(ret->key, p->key, p->n_key);
        s->n_files += large;
        if (extent &&
            extents_take(&s->a, size, &ret->place) == 0) /* room was there, and still is */
                ret->extent = true;
        return 0;
}

/* The old value under the key goes first where it and the new one cannot both be there. */
static void drop_old(struct store_arrival *a, uint64_t more, uint64_t now)
{
        struct store *s = a->store;
        const struct table_owner *o = &s->a.owners[a->owner];
        const struct table_cache *c = cache_of(a);
        uint64_t later = a->total - a->taken, old;
        enum store_cause cause = N_CAUSES;
        struct found f;
        struct entry e;

        if (!c)
                return;
        f = store_find_live(s, c, a->key, a->n_key, now);
        if (f.handle == ARENA_NONE)
                return;
        old = store_block_frees(s, f.handle);
        if (s->a.t->charged + more > s->p.budget &&
            s->held + s->arriving + later + old > s->p.budget)
                cause = CAUSE_REALM_BUDGET;
        else if (s->p.uid_share < s->p.budget && o->charged + more > s->p.uid_share &&
                 entry_owner(arena_block(&s->a, f.handle)) == a->owner &&
                 o->held + o->arriving + later + old > s->p.uid_share)
                cause = CAUSE_UID_SHARE;
        if (cause == N_CAUSES)
                return;
        entry_read(arena_block(&s->a, f.handle), &e);
        a->dropped_version = f.kept ? 0 : e.version;
        a->dropped_gen = e.gen;
        entry_drop(s, f.handle, cause, now);
}

/* What the first @n bytes are charged. */
static uint64_t charge_of(const struct store_arrival *a, uint64_t n)
{
        uint64_t rest = a->size - n;

        return a->total - (a->large || a->extent ? rest & ~UINT64_C(4095) : rest + rest / 8);
}

static int take_until(struct store_arrival *a, uint64_t n, uint64_t now,
                      struct store_refusal *refusal)
{
        struct store *s = a->store;
        struct room room = {.owner = a->owner};
        uint64_t want = charge_of(a, n);
        int r;

        if (want <= a->taken)
                return 0;
        room.charge = want - a->taken;
        room.later = a->total - want;
        drop_old(a, room.charge, now);
        r = room_make(s, &room, now, refusal);
        if (r == 0)
                take(a, room.charge);
        return r;
}

int store_arrival_more(struct store_arrival *a, uint64_t least, uint64_t most, uint64_t now,
                       uint64_t *ret_room, struct store_refusal *refusal)
{
        uint64_t n = least;

        if (most > a->size)
                most = a->size;
        for (;; n += PIECE) {
                int r;

                if (n > most)
                        n = most;
                r = take_until(a, n, now, refusal);
                if (r != 0)
                        return refused(cache_of(a), r);
                if (n == most || a->store->drops >= DROPS_MAX)
                        break;
        }
        if (a->extent) {
                int r = extents_commit(&a->store->a, a->place, n);

                if (r < 0)
                        return refused(cache_of(a), r);
        }
        *ret_room = n;
        return 0;
}

uint8_t *store_arrival_dst(const struct store_arrival *a)
{
        return a->extent ? extents_at(&a->store->a, a->place) : NULL;
}

void store_arrival_ready(struct store_arrival *a)
{
        if (!a->store || a->ready)
                return;
        take(a, -a->taken);
        a->store->n_files -= a->large;
        a->store->settled = false;
        a->ready = true;
}

void store_arrival_end(struct store_arrival *a)
{
        if (!a->store)
                return;
        store_arrival_ready(a);
        if (a->extent)
                extents_free(&a->store->a, a->place);
        a->extent = false;
        a->store = NULL;
}
