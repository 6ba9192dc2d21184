/* SPDX-License-Identifier: MIT */
/*
 * What readers of the arena did without asking
 *
 * They tell afterwards, by handle and version, and nothing of what they tell is trusted: a use
 * counts if the handle is that of a live entry of this version, in a cache that was not cleared
 * since. Else the entry has left, was replaced or moved, and its use means nothing any more; so
 * does an invented one.
 *
 * Readers use the same entries again and again, and only the last use of each decides the order of
 * use. So uses are put by in a small hash, in which a further use of the same entry is one look,
 * and applied when something depends on them: before any list of entries in the order of use is
 * looked at or changed (which includes that an entry comes, moves or goes), before a cache is
 * cleared, and before the counts are told. Nothing that an entry is can change meanwhile; so
 * afterwards all is as if each had been applied when it was told. While readers only read, that is
 * when the hash is full, or when realm/mapping.c says that it is time.
 *
 * Where there are few repetitions, since entries are many or requests come in between, that is not
 * worth the hash: then uses are applied at once for a while, longer each time.
 */

#include <stdlib.h>
#include <string.h>

#include "arena/holes.h"
#include "store/internal.h"

/* The handle of a chunk in use, which need not be that of an entry that can be found. */
static bool is_block(const struct store *s, uint32_t handle)
{
        uint32_t span = handle_span(handle);
        const struct table_span *sp;

        if (span == 0 || span >= s->a.t->span_high)
                return false;
        sp = &s->a.spans[span];
        return sp->state != SPAN_UNUSED && handle_chunk(handle) < sp->high;
}

static bool is_entry(const struct store *s, uint32_t handle, uint32_t version_lo)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        const struct table_gen *g;

        if (!alloc_is_live(&s->a, handle) || b->version_lo != version_lo)
                return false;
        g = &s->a.gens[gen_index(b->gen)];
        return g->state == GEN_LIVE && g->id == b->gen;
}

#define TOLD_MAX   12288u
#define LOOKS_MAX  64u                 /* anybody can note uses that all want the same place */
#define TIMES_MAX  (UINT32_C(1) << 24) /* in all */
#define APPLY_MAX  32u                 /* waits for memory overlap among so many, */
#define PUT_MAX    128u                /* and among so many */
#define FEW        32u
#define JUDGED_MIN 256u
#define DIRECT_MIN 16384u
#define DIRECT_MAX 1048576u

/* Uses of one entry, as somebody says. */
struct told {
        uint32_t handle, version_lo;
        uint32_t times;
        uint32_t last; /* of all uses that were told, the how-manieth */
};

struct store_told {
        uint32_t n_direct; /* uses to come that are not put by */
        uint32_t n_direct_next;
        uint32_t n_times;             /* in all */
        uint16_t places[TOLD_PLACES]; /* a hash: numbers in at[], from 1 on; 0: free */
        struct told at[TOLD_MAX];     /* store.n_told of them */
        uint16_t place[TOLD_MAX];     /* where each stands in the hash */
        uint16_t order[2][TOLD_MAX];  /* for a moment */
};

static void use(struct store *s, uint32_t handle, uint32_t times)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        struct entry e;

        store_touch_lru(s, handle);
        if (!(b->sizes & ENTRY_EXT))
                return;
        entry_read(b, &e);
        if (e.x.cost_us > 0) {
                uint32_t cache = s->a.gens[gen_index(b->gen)].cache;

                cache_counters(&s->a.caches[cache])->time_saved_us += e.x.cost_us * times;
        }
}

/* In this order. As in store_ahead(): the same step for all of them before the next one. */
static void apply(struct store *s, const struct told *const *told, unsigned n)
{
        bool is_good[APPLY_MAX];

        for (unsigned i = 0; i < n; i++) {
                is_good[i] = is_block(s, told[i]->handle);
                if (!is_good[i])
                        continue;
                __builtin_prefetch(arena_block(&s->a, told[i]->handle));
                __builtin_prefetch(arena_rec(&s->a, told[i]->handle), 1);
        }
        for (unsigned i = 0; i < n; i++) {
                const struct table_rec *rec;

                is_good[i] = is_good[i] && is_entry(s, told[i]->handle, told[i]->version_lo);
                if (!is_good[i])
                        continue;
                rec = arena_rec(&s->a, told[i]->handle);
                __builtin_prefetch(arena_rec(&s->a, rec->prev), 1);
                __builtin_prefetch(arena_rec(&s->a, rec->next), 1);
        }
        for (unsigned i = 0; i < n; i++) {
                *(is_good[i] ? &s->uses.counted : &s->uses.stale) += told[i]->times;
                if (is_good[i])
                        use(s, told[i]->handle, told[i]->times);
        }
}

/* By their last uses. Few are nearly in order. */
static const uint16_t *sort_few(struct store_told *t, uint32_t n)
{
        uint16_t *order = t->order[0];

        for (uint32_t i = 0; i < n; i++) {
                uint32_t k = i;

                for (; k > 0 && t->at[order[k - 1]].last > t->at[i].last; k--)
                        order[k] = order[k - 1];
                order[k] = (uint16_t)i;
        }
        return order;
}

/* A byte of the number after another. */
static const uint16_t *sort(struct store_told *t, uint32_t n)
{
        uint16_t *from = t->order[0], *to = t->order[1];

        if (n <= FEW)
                return sort_few(t, n);
        for (uint32_t i = 0; i < n; i++)
                from[i] = (uint16_t)i;
        for (unsigned shift = 0; (t->n_times - 1) >> shift != 0; shift += 8) {
                uint32_t at[257] = {0};
                uint16_t *swap = from;

                for (uint32_t i = 0; i < n; i++)
                        at[(t->at[i].last >> shift & 0xff) + 1]++;
                for (unsigned k = 0; k < 256; k++)
                        at[k + 1] += at[k];
                for (uint32_t i = 0; i < n; i++)
                        to[at[t->at[from[i]].last >> shift & 0xff]++] = from[i];
                from = to;
                to = swap;
        }
        return from;
}

/* Was it worth it? Few uses do not say. */
static void judge(struct store_told *t, uint32_t n)
{
        if (t->n_times < JUDGED_MIN)
                return;
        if (t->n_times >= n + n / 2) {
                t->n_direct_next = DIRECT_MIN;
                return;
        }
        t->n_direct = t->n_direct_next > DIRECT_MIN ? t->n_direct_next : DIRECT_MIN;
        t->n_direct_next = t->n_direct < DIRECT_MAX ? t->n_direct * 2 : DIRECT_MAX;
}

void store_apply_told(struct store *s)
{
        struct store_told *t = s->told;
        uint32_t n = s->n_told;
        const uint16_t *order;

        if (n == 0)
                return;
        s->n_told = 0; /* what follows asks for this, too */
        order = sort(t, n);
        for (uint32_t i = 0, k; i < n; i += k) {
                const struct told *told[APPLY_MAX];

                for (k = 0; k < APPLY_MAX && i + k < n; k++)
                        told[k] = &t->at[order[i + k]];
                apply(s, told, k);
        }
        for (uint32_t i = 0; i < n; i++)
                t->places[t->place[i]] = 0;
        judge(t, n);
        t->n_times = 0;
}

bool store_has_told(const struct store *s)
{
        return s->n_told > 0;
}

/* Where it is told of, or is to be, from this place on; NULL: there is no room. */
static struct told *find_told(struct store *s, const struct store_use *u, uint32_t place)
{
        struct store_told *t = s->told;
        struct told *new;

        for (unsigned i = 0; t->places[place] != 0; place = (place + 1) % TOLD_PLACES) {
                struct told *told = &t->at[t->places[place] - 1];

                if (told->handle == u->handle && told->version_lo == u->version_lo)
                        return told;
                if (++i == LOOKS_MAX)
                        return NULL;
        }
        if (s->n_told == TOLD_MAX)
                return NULL;
        t->place[s->n_told] = (uint16_t)place;
        new = &t->at[s->n_told++];
        *new = (struct told){.handle = u->handle, .version_lo = u->version_lo};
        t->places[place] = (uint16_t)s->n_told;
        return new;
}

static void put_by(struct store *s, const struct store_use *u, uint32_t place)
{
        struct store_told *t = s->told;
        struct told *told = t->n_times < TIMES_MAX ? find_told(s, u, place) : NULL;

        if (!told) {
                store_apply_told(s);
                told = find_told(s, u, place);
        }
        told->times++;
        told->last = t->n_times++;
}

/* Again a step for all of them before the next one. */
static void put_all_by(struct store *s, const struct store_use *uses, unsigned n)
{
        struct store_told *t = s->told;
        uint16_t places[PUT_MAX];

        for (unsigned i = 0; i < n; i++) {
                places[i] = (uint16_t)told_place(&uses[i]);
                __builtin_prefetch(&t->places[places[i]], 1);
        }
        for (unsigned i = 0; i < n; i++) {
                uint16_t at = t->places[places[i]];

                if (at != 0)
                        __builtin_prefetch(&t->at[at - 1], 1);
        }
        for (unsigned i = 0; i < n; i++)
                put_by(s, &uses[i], places[i]);
}

static void apply_directly(struct store *s, const struct store_use *uses, unsigned n)
{
        struct told one[APPLY_MAX];
        const struct told *told[APPLY_MAX];

        for (unsigned i = 0; i < n; i++) {
                one[i] = (struct told){uses[i].handle, uses[i].version_lo, 1, 0};
                told[i] = &one[i];
        }
        apply(s, told, n);
}

void store_used(struct store *s, const struct store_use *uses, unsigned n)
{
        struct store_told *t = s->told ? s->told : (s->told = calloc(1, sizeof(*t)));

        for (unsigned i = 0, k; i < n; i += k) {
                k = n - i < APPLY_MAX ? n - i : APPLY_MAX;
                if (t && t->n_direct == 0) {
                        k = n - i < PUT_MAX ? n - i : PUT_MAX;
                        put_all_by(s, uses + i, k);
                        continue;
                }
                apply_directly(s, uses + i, k);
                if (t)
                        t->n_direct -= k < t->n_direct ? k : t->n_direct;
        }
}

void store_uses(struct store *s, struct store_uses *ret)
{
        store_apply_told(s);
        *ret = s->uses;
}

void store_count_mapped(struct store *s, uint32_t cache, uint64_t hits, uint64_t misses)
{
        struct table_cache *c = cache_at(s, cache);
        struct store_counters *k;

        if (!c)
                return;
        k = cache_counters(c);
        k->hits += hits;
        k->mapped_hits += hits;
        k->misses += misses;
        k->mapped_misses += misses;
}

uint64_t store_holes_filled(const struct store *s)
{
        return holes_filled(&s->a);
}

bool store_has_readers(const struct store *s)
{
        return holes_have_readers(&s->a);
}

bool store_punch_holes(struct store *s, uint64_t *cursor, unsigned steps)
{
        return holes_punch(&s->a, cursor, steps);
}
