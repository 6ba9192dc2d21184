/* SPDX-License-Identifier: MIT */
/*
 * Tags: entries by a name that their writers gave them
 *
 * A tag belongs to one generation of a cache and has an id, as small as possible: mapped readers
 * find out by a bit for each id whether it was cleared. An entry's tags stand in its extension
 * block, each with the entry's neighbours in a list of all entries that have the tag. So entries
 * without tags pay nothing, and those with tags pay in bytes that they are charged.
 *
 * Clear sets the bit and takes the name away: constant time. The tag then is dying: its entries are
 * reclaimed bit by bit, before anything else leaves (evict.c), and only when none is left the bit
 * is cleared and the id is free. Who stores under the same name meanwhile gets another id. Entries
 * of a cache that was cleared keep their tags, which nobody finds any more, until they are
 * reclaimed.
 *
 * What was cleared counts as being reclaimed, and no longer as entries of its cache, at once: for
 * that each tag has the sums of its entries. An entry with several tags must not be counted twice
 * when two of them are cleared. So a tag has sums of such entries apart; where some of its entries
 * may have gone with another tag that is dying still, those with several tags are not counted as
 * gone before they are reclaimed.
 *
 * What a variant belongs to is a tag, too, of another kind: see variant.c.
 */

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "store/internal.h"

/* As with generations: few entries leave at once, as long as the allowance lasts. */
#define CLEAR_AT_ONCE 64u

/* ---- names */

uint32_t tag_hash_of(const struct store *s, uint32_t gen, unsigned kind, const void *name, size_t n)
{
        return (uint32_t)XXH3_64bits_withSeed(name, n,
                                              arena_hash_seed(s->a.h->seed[1], gen) ^
                                                      (uint64_t)kind << 32);
}

uint32_t tag_find_in(const struct store *s, const struct idhash *h, uint32_t gen, unsigned kind,
                     const void *name, size_t n)
{
        uint32_t hash = tag_hash_of(s, gen, kind, name, n);

        for (uint32_t i = idhash_first(h, hash); i != IDHASH_NONE; i = idhash_next(h, i)) {
                const struct table_tag *tag = &s->a.tags[i];

                if (tag->gen == gen && tag->kind == kind && tag->n_name == n &&
                    memcmp(tag->name, name, n) == 0)
                        return i + 1;
        }
        return 0;
}

uint32_t tag_find(const struct store *s, uint32_t gen, unsigned kind, const void *name, size_t n)
{
        struct idhash h = tags_hash(s, &s->a.t->tag_high);

        return tag_find_in(s, &h, gen, kind, name, n);
}

const char *store_tag_name(const struct store *s, uint32_t id, size_t *ret_n)
{
        *ret_n = tag_at(s, id)->n_name;
        return tag_at(s, id)->name;
}

static struct table_gen *gen_of(const struct store *s, const struct table_tag *tag)
{
        return &s->a.gens[gen_index(tag->gen)];
}

/* It is not found any more. */
static void forget_name(struct store *s, uint32_t id)
{
        struct idhash h = tags_hash(s, &s->a.t->tag_high);
        const struct table_tag *tag = tag_at(s, id);
        struct table_gen *g = gen_of(s, tag);

        idhash_remove(&h, id - 1);
        if (g->state != GEN_LIVE)
                return;
        g->n_tags[tag->kind]--;
        s->a.t->n_tags--;
}

/* ---- records */

static int tag_new(struct store *s, uint32_t gen, unsigned kind, const struct store_text *name,
                   uint32_t *ret_id)
{
        struct table_header *t = s->a.t;
        struct idhash h = tags_hash(s, &t->tag_high);
        uint32_t id = t->tag_free;
        struct table_tag *tag;

        if (id != 0) {
                t->tag_free = tag_at(s, id)->next;
        } else {
                int r;

                id = t->tag_high + 1;
                r = arena_commit_element(&s->a.table, t->tags_off, id - 1, sizeof(*tag));
                if (r < 0)
                        return r;
                tag_at(s, id)->state = TAG_FREE;
                idhash_grow(&h);
        }
        tag = tag_at(s, id);
        *tag = (struct table_tag){.gen = gen,
                                  .kind = (uint8_t)kind,
                                  .n_name = (uint8_t)name->n,
                                  .head = ARENA_NONE,
                                  .slot = tag->slot};
        memcpy(tag->name, name->text, name->n);
        atomic_signal_fence(memory_order_release); /* it is there from here on */
        tag->state = TAG_LIVE;
        idhash_add(&h, id - 1, tag_hash_of(s, gen, kind, name->text, name->n));
        t->n_tag_ids++;
        t->n_tags++;
        s->a.gens[gen_index(gen)].n_tags[kind]++;
        *ret_id = id;
        return 0;
}

void tag_show(struct store *s, uint32_t id, bool dead)
{
        _Atomic uint32_t *word = &s->a.dead_tags[id / 32];
        uint32_t bit = UINT32_C(1) << id % 32, was;

        was = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, dead ? was | bit : was & ~bit, memory_order_release);
}

static void queue_add(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        struct table_tag *tag = tag_at(s, id);
        uint32_t *first = &gen_of(s, tag)->dying_tags;

        tag->prev = t->dying_tag_tail;
        tag->next = 0;
        if (tag->prev != 0)
                tag_at(s, tag->prev)->next = id;
        else
                t->dying_tag_head = id;
        t->dying_tag_tail = id;
        tag->gen_prev = 0;
        tag->gen_next = *first;
        if (*first != 0)
                tag_at(s, *first)->gen_prev = id;
        *first = id;
}

static void queue_remove(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        const struct table_tag *tag = tag_at(s, id);

        if (tag->prev != 0)
                tag_at(s, tag->prev)->next = tag->next;
        else
                t->dying_tag_head = tag->next;
        if (tag->next != 0)
                tag_at(s, tag->next)->prev = tag->prev;
        else
                t->dying_tag_tail = tag->prev;
        if (tag->gen_prev != 0)
                tag_at(s, tag->gen_prev)->gen_next = tag->gen_next;
        else
                gen_of(s, tag)->dying_tags = tag->gen_next;
        if (tag->gen_next != 0)
                tag_at(s, tag->gen_next)->gen_prev = tag->gen_prev;
}

/* Nothing has it any more: no slot of the index leads to an entry with this id. */
static void tag_free(struct store *s, uint32_t id)
{
        struct table_header *t = s->a.t;
        struct table_tag *tag = tag_at(s, id);

        if (tag->state == TAG_LIVE) {
                forget_name(s, id);
        } else {
                queue_remove(s, id);
                tag_show(s, id, false);
        }
        tag->state = TAG_FREE;
        tag->next = t->tag_free;
        t->tag_free = id;
        t->n_tag_ids--;
}

/* ---- lists */

struct arena_tag *tags_of(const struct store *s, uint32_t handle, unsigned *ret_n)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        uint8_t *p = (uint8_t *)(uintptr_t)(b + 1);
        struct arena_ext x;
        uint32_t n;

        *ret_n = 0;
        if (!(b->sizes & ENTRY_EXT))
                return NULL;
        memcpy(&x, p, sizeof(x));
        if (!(x.fields & EXT_TAGS))
                return NULL;
        p += entry_ext_size(x.fields, 0);
        memcpy(&n, p - sizeof(n), sizeof(n));
        *ret_n = n;
        return (struct arena_tag *)(void *)p;
}

static struct arena_tag *tag_in(const struct store *s, uint32_t handle, uint32_t id)
{
        unsigned n;
        struct arena_tag *tags = tags_of(s, handle, &n);

        for (unsigned i = 0; i < n; i++)
                if (tags[i].id == id)
                        return &tags[i];
        assert(!"what is in a tag's list has the tag");
        return NULL;
}

static void add(struct table_sums *to, const struct table_sums *one)
{
        to->n_entries += one->n_entries;
        to->held += one->held;
        to->raw += one->raw;
}

static void take_off(struct table_sums *from, const struct table_sums *one)
{
        from->n_entries -= one->n_entries;
        from->held -= one->held;
        from->raw -= one->raw;
}

void tags_link(struct store *s, uint32_t handle, struct table_sums one)
{
        unsigned n;
        struct arena_tag *tags = tags_of(s, handle, &n);

        for (unsigned i = 0; i < n; i++) {
                struct table_tag *tag = tag_at(s, tags[i].id);

                tags[i].prev = ARENA_NONE;
                tags[i].next = tag->head;
                if (tag->head != ARENA_NONE)
                        tag_in(s, tag->head, tags[i].id)->prev = handle;
                tag->head = handle;
                add(&tag->all, &one);
                if (n > 1)
                        add(&tag->shared, &one);
        }
}

static void unlink_from(struct store *s, struct table_tag *tag, const struct arena_tag *at)
{
        if (at->prev != ARENA_NONE)
                tag_in(s, at->prev, at->id)->next = at->next;
        else
                tag->head = at->next;
        if (at->next != ARENA_NONE)
                tag_in(s, at->next, at->id)->prev = at->prev;
}

bool tags_unlink(struct store *s, uint32_t handle, const struct table_sums *one)
{
        bool is_counted = false;
        unsigned n;
        const struct arena_tag *tags = tags_of(s, handle, &n);

        for (unsigned i = 0; i < n; i++) {
                struct table_tag *tag = tag_at(s, tags[i].id);

                unlink_from(s, tag, &tags[i]);
                take_off(&tag->all, one);
                if (n > 1)
                        take_off(&tag->shared, one);
                if (tag->state == TAG_DYING) {
                        is_counted |= tag->counted || n == 1;
                        gen_of(s, tag)->n_shared_dying -= n > 1;
                }
                if (tag->all.n_entries == 0)
                        tag_free(s, tags[i].id);
        }
        return is_counted;
}

void tags_moved(struct store *s, uint32_t to)
{
        unsigned n;
        const struct arena_tag *tags = tags_of(s, to, &n);

        for (unsigned i = 0; i < n; i++) {
                if (tags[i].prev != ARENA_NONE)
                        tag_in(s, tags[i].prev, tags[i].id)->next = to;
                else
                        tag_at(s, tags[i].id)->head = to;
                if (tags[i].next != ARENA_NONE)
                        tag_in(s, tags[i].next, tags[i].id)->prev = to;
        }
}

/* ---- of an entry that is stored */

static uint32_t max_tags(const struct store *s)
{
        uint32_t max = ARENA_TAGS_MAX - 1;

        return s->p.max_tags == 0 || s->p.max_tags > max ? max : s->p.max_tags;
}

static struct store_text name_of(const struct store_put *p, unsigned i, unsigned *ret_kind)
{
        *ret_kind = i < p->n_tags ? TAG_NAMED : TAG_NODE;
        return i < p->n_tags ? p->tags[i] : p->variant_of;
}

/* May there be those that are new, too? What has left its place, or should, is not counted: it goes
 * first, as far as the allowance lasts. */
static int make_ids(struct store *s, const struct store_put *p, uint32_t gen, unsigned n,
                    uint64_t now)
{
        const struct table_header *t = s->a.t;

        for (;;) {
                uint32_t n_new = 0;

                for (unsigned i = 0; i < n; i++) {
                        unsigned kind;
                        struct store_text name = name_of(p, i, &kind);

                        n_new += tag_find(s, gen, kind, name.text, name.n) == 0;
                }
                if (n_new == 0 || (t->n_tags + n_new <= max_tags(s) &&
                                   t->n_tag_ids + n_new <= ARENA_TAGS_MAX - 1))
                        return 0;
                if (!evict_take_extra(s) || !evict_leftover_one(s, now))
                        return STORE_E_TAGS;
        }
}

int tags_take(struct store *s, const struct store_put *p, uint32_t gen, uint64_t now,
              struct arena_tag *ret)
{
        unsigned n = p->n_tags + (p->variant_of.n > 0);
        int r;

        assert(n <= ARENA_ENTRY_TAGS);
        r = make_ids(s, p, gen, n, now);
        if (r == 0 && p->variant_of.n > 0 &&
            node_find(s, gen, p->variant_of.text, p->variant_of.n, now) == ARENA_NONE)
                r = STORE_E_NO_NODE;
        for (unsigned i = 0; r == 0 && i < n; i++) {
                unsigned kind;
                struct store_text name = name_of(p, i, &kind);

                ret[i] = (struct arena_tag){.id = tag_find(s, gen, kind, name.text, name.n)};
                if (ret[i].id == 0)
                        r = tag_new(s, gen, kind, &name, &ret[i].id);
                if (r != 0)
                        tags_put_back(s, ret, i);
        }
        return r;
}

void tags_put_back(struct store *s, const struct arena_tag *tags, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                if (tag_at(s, tags[i].id)->all.n_entries == 0)
                        tag_free(s, tags[i].id);
}

/* ---- clearing */

bool tags_are_dead(const struct store *s, uint32_t handle)
{
        unsigned n;
        const struct arena_tag *tags;

        if (s->a.t->dying_tag_head == 0)
                return false;
        tags = tags_of(s, handle, &n);
        for (unsigned i = 0; i < n; i++)
                if (tag_at(s, tags[i].id)->state == TAG_DYING)
                        return true;
        return false;
}

uint64_t tags_cleared_at(const struct store *s, uint32_t handle)
{
        uint64_t at = UINT64_MAX;
        unsigned n;
        const struct arena_tag *tags = tags_of(s, handle, &n);

        for (unsigned i = 0; i < n; i++) {
                const struct table_tag *tag = tag_at(s, tags[i].id);

                if (tag->state == TAG_DYING && tag->cleared_at < at)
                        at = tag->cleared_at;
        }
        return at;
}

/* The record decides; what readers see follows it, also where the process ends in between. */
void tag_die(struct store *s, uint32_t id, uint64_t now)
{
        struct table_header *t = s->a.t;
        struct table_tag *tag = tag_at(s, id);
        struct table_gen *g = gen_of(s, tag);
        struct table_sums sums = tag->all;

        forget_name(s, id);
        tag->cleared_at = now;
        tag->counted = g->n_shared_dying == 0 || tag->shared.n_entries == 0;
        if (!tag->counted)
                take_off(&sums, &tag->shared);
        if (g->state == GEN_LIVE) {
                add(&g->dead, &sums);
                t->reclaiming += sums.held;
                t->n_reclaiming += sums.n_entries;
        }
        g->n_shared_dying += tag->shared.n_entries;
        queue_add(s, id);
        atomic_signal_fence(memory_order_release); /* it is cleared from here on */
        tag->state = TAG_DYING;
        atomic_signal_fence(memory_order_release);
        tag_show(s, id, true);
        s->settled = false;
}

static bool drop_at_once(struct store *s, uint32_t id, uint64_t now, uint64_t *ret_entries)
{
        const struct table_tag *tag = tag_at(s, id);
        uint64_t n = tag->all.n_entries, n_live = 0;

        if (n > CLEAR_AT_ONCE || n > s->extra)
                return false;
        for (; n > 0; n--) {
                (void)evict_take_extra(s);
                n_live += !entry_is_dead(s, tag->head);
                entry_drop(s, tag->head, CAUSE_CLEARED, now);
        }
        *ret_entries = n_live;
        return true;
}

int store_clear_tag(struct store *s, uint32_t cache, const char *name, size_t n_name, uint64_t now,
                    uint64_t *ret_entries)
{
        struct table_cache *c = cache_at(s, cache);
        uint32_t id;

        if (!c)
                return STORE_E_NO_CACHE;
        *ret_entries = 0;
        cache_counters(c)->clears++;
        id = tag_find(s, cache_gen(s, c)->id, TAG_NAMED, name, n_name);
        if (id == 0)
                return 0;
        *ret_entries = tag_at(s, id)->all.n_entries;
        if (!drop_at_once(s, id, now, ret_entries))
                tag_die(s, id, now);
        return 0;
}

/* ---- what is dying */

static uint32_t first_of(const struct store *s, uint32_t id)
{
        uint32_t handle = tag_at(s, id)->head;

        if (handle != ARENA_NONE && handle == s->keep)
                handle = tag_in(s, handle, id)->next;
        return handle;
}

/* What is kept has few tags: after so many one with something else comes. */
uint32_t tags_first_dead(const struct store *s)
{
        for (uint32_t id = s->a.t->dying_tag_head; id != 0; id = tag_at(s, id)->next) {
                uint32_t handle = first_of(s, id);

                if (handle != ARENA_NONE)
                        return handle;
        }
        return ARENA_NONE;
}

uint32_t tags_first_dead_of_gen(const struct store *s, uint32_t gen)
{
        for (uint32_t id = s->a.gens[gen].dying_tags; id != 0; id = tag_at(s, id)->gen_next) {
                uint32_t handle = first_of(s, id);

                if (handle != ARENA_NONE)
                        return handle;
        }
        return ARENA_NONE;
}
