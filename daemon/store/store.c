/* SPDX-License-Identifier: MIT */
/*
 * Store operations: get, put, delete, list, explain (touch: fresh.c)
 *
 * Every change keeps one order: decide and make room first (nothing that fails later has changed
 * anything but recency), allocate, fill the block while nobody can reach it, publish it in the
 * index, and only then take apart what it replaced. A reader therefore finds the old value or the
 * new one at every instant.
 */

#include "store/store.h"

#include <string.h>

#include "store/internal.h"

#define LIST_STEPS_MAX 20000u /* records looked at in one page: about half a millisecond */

/* ---- entries as callers see them */

uint64_t store_charge(size_t n_key, uint64_t n_stored, unsigned ext_fields, unsigned n_tags,
                      bool apart)
{
        uint32_t n_ext = entry_ext_size(ext_fields, n_tags);

        static_assert(sizeof(struct arena_large) == sizeof(struct arena_extent), "one charge");
        if (apart)
                return entry_charge(entry_size(n_key, sizeof(struct arena_large), n_ext), n_stored);
        return entry_charge(entry_size(n_key, n_stored, n_ext), 0);
}

unsigned store_ext_fields(const struct store_put *p, bool window)
{
        return (p->flags ? EXT_FLAGS : 0) | (p->cost_us ? EXT_COST : 0) |
               (p->encoding ? EXT_ENCODING : 0) | (window ? EXT_FRESH : 0) |
               (p->negative || p->vary ? EXT_MARKS : 0) | (p->n_messages ? EXT_MESSAGES : 0) |
               (p->n_tags || p->variant_of.n ? EXT_TAGS : 0);
}

void entry_resolve(const struct store *s, struct entry *e)
{
        (void)s;
        if (e->x.encoding == 0)
                e->x.raw_size =
                        (e->large || e->extent ? entry_apart(e) : e->n_stored) - e->x.n_messages;
}

uint64_t store_block_charge(const struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        struct entry e;

        if (!(b->sizes & (ENTRY_LARGE | ENTRY_EXTENT)))
                return entry_charge(entry_total(b), 0);
        entry_read(b, &e);
        return entry_charge(entry_total(b), entry_apart(&e));
}

uint64_t store_block_frees(const struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        struct entry e;

        bool is_held;

        if (!(b->sizes & (ENTRY_LARGE | ENTRY_EXTENT)))
                return store_block_charge(s, handle);
        entry_read(b, &e);
        is_held = e.large ? s->large[entry_large(&e).id]->held : extent_is_held(s, &e);
        return entry_charge(entry_total(b), is_held ? 0 : entry_apart(&e));
}

static uint64_t deadline_out(uint64_t deadline)
{
        return deadline == ENTRY_NEVER ? STORE_NEVER : deadline;
}

void store_entry_fill(const struct store *s, uint32_t handle, uint64_t now, struct store_entry *ret)
{
        struct entry e;

        entry_read(arena_block(&s->a, handle), &e);
        entry_resolve(s, &e);
        *ret = (struct store_entry){
                .value = e.stored,
                .n_value = e.n_stored,
                .large = NULL,
                .key = e.key,
                .n_key = e.n_key,
                .version = e.version,
                .deadline = deadline_out(e.deadline),
                .flags = e.x.flags,
                .encoding = e.x.encoding,
                .raw_size = e.x.raw_size,
                .cost_us = e.x.cost_us,
                .n_messages = e.x.n_messages,
                .negative = e.x.marks & MARK_NEGATIVE,
                .vary = e.x.marks & MARK_VARY,
                .fresh = e.x.fresh,
                .stale = e.x.fresh.fresh != 0 && e.x.fresh.fresh <= now,
                .due = e.x.fresh.fresh != 0 && e.x.fresh.refresh <= now,
                .n_tags = e.x.n_tags,
                .tags = e.x.tags, /* the one of a variant is the last */
                .uid = s->a.owner_uids[e.owner],
                .owner = e.owner,
                .extent = e.extent,
                .charge = store_block_charge(s, handle),
        };
        if (e.x.n_tags > 0 && tag_at(s, e.x.tags[e.x.n_tags - 1].id)->kind == TAG_NODE)
                ret->n_tags--;
        if (e.large) {
                struct arena_large l = entry_large(&e);

                ret->large = s->large[l.id];
                ret->value = ret->large->map;
                ret->n_value = l.size;
        } else if (e.extent) {
                struct arena_extent x = entry_extent(&e);

                ret->value = s->a.mem.base + s->a.h->extents_off + x.offset;
                ret->n_value = x.size;
        }
}

/* ---- looking up */

struct found store_find_live(struct store *s, const struct table_cache *c, const void *key,
                             size_t n_key, uint64_t now)
{
        const struct arena_entry *b;
        struct found f;

        index_key_init(s, &f.key, cache_gen(s, c)->id, key, (uint32_t)n_key);
        f.handle = index_find(s, &f.key, &f.slot);
        f.kept = false;
        if (f.handle == ARENA_NONE)
                return f;
        b = arena_block(&s->a, f.handle);
        if (entry_deadline(b) <= now || entry_is_dead(s, f.handle)) {
                entry_drop(s, f.handle, CAUSE_EXPIRED, now);
                f.handle = ARENA_NONE;
        } else if (b->sizes & ENTRY_EXT) {
                struct arena_fresh fresh = entry_fresh(b);

                f.kept = fresh.fresh != 0 && fresh.serve <= now;
        }
        return f;
}

void store_touch_lru(struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);

        lru_touch(s, lru_list_find(s, gen_index(b->gen), entry_owner(b)), handle);
        if (b->sizes & ENTRY_LARGE) {
                struct entry e;

                entry_read(b, &e);
                large_table_touch(s, entry_large(&e).id);
        }
}

int store_get(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
              bool touch, struct store_entry *ret)
{
        struct table_cache *c = cache_at(s, cache);
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        f = store_find_live(s, c, key, n_key, now);
        if (found_served(&f) == ARENA_NONE) {
                cache_counters(c)->misses += touch;
                return STORE_E_MISS;
        }
        if (touch)
                store_touch_lru(s, f.handle);
        store_entry_fill(s, f.handle, now, ret);
        if (touch) {
                cache_counters(c)->hits++;
                cache_counters(c)->time_saved_us += ret->cost_us;
        }
        return 0;
}

/*
 * A look-up in a large store waits for memory half a dozen times, each time for an address that the
 * access before yielded. Doing the same step for many keys before the next step lets the waits
 * overlap: at ten million entries a pipelined get costs little more than at ten thousand.
 */
void store_ahead(const struct store *s, const struct store_ahead *a, unsigned n)
{
        struct index_key keys[STORE_AHEAD_MAX];
        uint32_t handles[STORE_AHEAD_MAX];
        unsigned n_keys = 0;

        for (unsigned i = 0; i < n && i < STORE_AHEAD_MAX; i++) {
                const struct table_cache *c = cache_at(s, a[i].cache);

                if (!c)
                        continue;
                index_key_init(s, &keys[n_keys], cache_gen(s, c)->id, a[i].key, a[i].n_key);
                index_prefetch(s, &keys[n_keys++]);
        }
        for (unsigned i = 0; i < n_keys; i++) {
                handles[i] = index_guess(s, &keys[i]);
                if (handles[i] == ARENA_NONE)
                        continue;
                __builtin_prefetch(arena_block(&s->a, handles[i]));
                __builtin_prefetch((const uint8_t *)arena_block(&s->a, handles[i]) + 64);
                __builtin_prefetch(arena_rec(&s->a, handles[i]));
        }
        for (unsigned i = 0; i < n_keys; i++) {
                const struct table_rec *rec;

                if (handles[i] == ARENA_NONE)
                        continue;
                rec = arena_rec(&s->a, handles[i]);
                __builtin_prefetch(arena_rec(&s->a, rec->prev), 1);
                __builtin_prefetch(arena_rec(&s->a, rec->next), 1);
        }
}

/* ---- storing */

/* Did the old entry leave for this one, in the cache as it is? */
static bool was_dropped(const struct store *s, const struct store_put *p)
{
        const struct table_cache *c = cache_at(s, p->cache);

        return p->arrived && p->arrived->dropped_version != 0 && c &&
               cache_gen(s, c)->id == p->arrived->dropped_gen;
}

int store_check_mode(const struct store *s, const struct store_put *p, uint32_t handle)
{
        struct entry e;

        if (handle == ARENA_NONE && was_dropped(s, p))
                return p->compare && p->arrived->dropped_version != p->expected_version
                               ? STORE_E_VERSION
                               : 0;
        if (handle == ARENA_NONE)
                return p->compare || p->mode == STORE_REPLACE_ONLY ? STORE_E_MISS : 0;
        if (p->mode == STORE_ADD_ONLY)
                return STORE_E_EXISTS;
        if (!p->compare)
                return 0;
        entry_read(arena_block(&s->a, handle), &e);
        return e.version == p->expected_version ? 0 : STORE_E_VERSION;
}

/* What the block of an entry holds whose value lies elsewhere. */
union apart {
        struct arena_large large;
        struct arena_extent extent;
};

/* The value's bytes come from outside, while nobody can reach the block. */
static int read_source(struct store *s, const struct store_put *p, struct entry *e, uint32_t handle)
{
        uint8_t *b = (uint8_t *)(arena_block(&s->a, handle) + 1);
        uint32_t n_ext = entry_ext_size(entry_ext_fields(&e->x), e->x.n_tags);

        e->stored = NULL; /* it is there already */
        return memfile_read(p->source->fd, p->source->offset, b + n_ext + e->n_key, e->n_stored);
}

/* The value gets its place, if it lies apart. */
static int prepare_apart(struct store *s, const struct store_put *p, struct entry *e,
                         uint32_t handle, union apart *ret)
{
        int r = 0;

        if (p->large) {
                r = large_table_add(s, p->large, e->owner, handle, &ret->large.id);
                ret->large.size = p->large->size;
        } else if (e->extent) {
                r = extent_add(s, p, &ret->extent);
        } else {
                return p->source ? read_source(s, p, e, handle) : 0;
        }
        if (r == 0)
                e->stored = (const uint8_t *)ret;
        return r;
}

/* Takes everything that publishing will need, so that it cannot fail. */
static int prepare(struct store *s, const struct store_put *p, struct entry *e, uint32_t *ret_list,
                   uint32_t *ret_handle, union apart *ret_apart)
{
        uint32_t n_ext = entry_ext_size(entry_ext_fields(&e->x), e->x.n_tags);
        int r;

        r = alloc_block(&s->a, (uint32_t)entry_size(e->n_key, e->n_stored, n_ext), ret_handle);
        if (r < 0)
                return r;
        if (e->deadline != ENTRY_NEVER) {
                r = expiry_reserve(s, gen_index(e->gen));
                if (r < 0)
                        goto fail;
        }
        r = lru_list_get(s, gen_index(e->gen), e->owner, ret_list);
        if (r != 0)
                goto fail;
        r = prepare_apart(s, p, e, *ret_handle, ret_apart);
        if (r == 0)
                return 0;
        lru_list_put(s, *ret_list);
fail:
        alloc_free(&s->a, *ret_handle);
        return r;
}

/* The index takes a new key, whatever it costs: only keys made to collide cost anything. */
static void index_add(struct store *s, const struct index_key *k, uint32_t handle, uint64_t now)
{
        index_grow(s);
        while (index_insert(s, k, handle) < 0)
                entry_drop(s, index_victim(s, k), CAUSE_INDEX, now);
}

void store_count(struct store *s, const struct entry *e, uint64_t charge)
{
        struct table_header *t = s->a.t;
        struct table_gen *g = &s->a.gens[gen_index(e->gen)];

        g->n_entries++;
        g->bytes_held += charge;
        g->bytes_raw += e->n_key + e->x.raw_size + e->x.n_messages;
        s->a.owners[e->owner].charged += charge;
        t->charged += charge;
        t->n_entries++;
}

static void publish(struct store *s, const struct found *f, const struct entry *e, uint32_t list,
                    uint32_t handle, uint64_t charge, uint64_t now)
{
        entry_write(arena_block(&s->a, handle), e);
        lru_push(s, list, handle);
        store_count(s, e, charge);
        if (e->x.n_tags > 0)
                tags_link(s, handle, entry_sums(e, charge));
        if (e->deadline != ENTRY_NEVER)
                expiry_set(s, gen_index(e->gen), handle, e->deadline);
        if (f->handle == ARENA_NONE) {
                index_add(s, &f->key, handle, now);
        } else {
                node_replaced(s, f->handle, handle, now);
                index_replace(s, f->slot, handle, INTENT_REPLACE);
                entry_release(s, f->handle);
        }
}

/* The entry that is being replaced stays while room is made, and counts as gone. */
static void room_credit(struct store *s, struct room *room, uint32_t old)
{
        s->keep = old;
        if (old == ARENA_NONE)
                return;
        store_touch_lru(s, old);
        room->old_charge = store_block_charge(s, old);
        room->old_frees = store_block_frees(s, old);
        room->old_owner = entry_owner(arena_block(&s->a, old));
        /* The descriptor of a large value that nobody holds goes to the new one. */
        if (arena_block(&s->a, old)->sizes & ENTRY_LARGE && room->old_frees == room->old_charge)
                room->files = 0;
}

/* Ids for the tags. An old entry that died while room was made leaves. */
static int take_tags(struct store *s, const struct store_put *p, struct found *f, struct entry *e,
                     uint64_t now, struct arena_tag *tags)
{
        if (f->handle != ARENA_NONE && entry_is_dead(s, f->handle)) {
                s->keep = ARENA_NONE;
                entry_drop(s, f->handle, CAUSE_CLEARED, now);
                f->handle = ARENA_NONE;
        }
        e->x.tags = tags;
        return e->x.n_tags > 0 ? tags_take(s, p, e->gen, now, tags) : 0;
}

static int put_found(struct store *s, const struct store_put *p, struct found *f, struct entry *e,
                     uint64_t charge, uint64_t now, uint32_t *ret_handle,
                     struct store_refusal *refusal)
{
        union apart apart = {0};
        struct room room = {
                .cache = p->cache,
                .gen = gen_index(e->gen),
                .owner = e->owner,
                .charge = charge,
                .files = p->large != NULL,
        };
        struct arena_tag tags[ARENA_ENTRY_TAGS];
        uint32_t list;
        int r;

        room_credit(s, &room, f->handle);
        r = room_make(s, &room, now, refusal);
        if (r == 0)
                r = take_tags(s, p, f, e, now, tags);
        s->keep = ARENA_NONE;
        if (r == 0) {
                r = prepare(s, p, e, &list, ret_handle, &apart);
                if (r == 0 && p->large)
                        p->large->stored_ms = now;
                if (r == 0)
                        publish(s, f, e, list, *ret_handle, charge, now);
                else
                        tags_put_back(s, tags, e->x.n_tags);
        }
        e->stored = NULL; /* it was `apart`, here, as the tags are */
        e->x.tags = NULL;
        return r;
}

static struct entry entry_of(const struct store *s, const struct table_cache *c,
                             const struct store_put *p, uint64_t now)
{
        bool extent = !p->large && (extent_has_arrived(p) || extent_is_for(s, p->n_value));
        uint64_t version = s->a.t->version + 1;
        struct moments m = moments_of(s, c, p->ttl_ms, version, now);

        return (struct entry){
                .gen = cache_gen(s, c)->id,
                .version = version,
                .deadline = m.deadline,
                .n_key = (uint32_t)p->n_key,
                .n_stored = p->large ? sizeof(struct arena_large)
                            : extent ? sizeof(struct arena_extent)
                                     : (uint32_t)p->n_value,
                .large = p->large != NULL,
                .extent = extent,
                .x =
                        {
                                .flags = p->flags,
                                .marks = (p->negative ? MARK_NEGATIVE : 0) |
                                         (p->vary ? MARK_VARY : 0),
                                .encoding = p->encoding,
                                .raw_size = p->encoding ? p->raw_size
                                                        : (p->large ? p->large->size : p->n_value) -
                                                                  p->n_messages,
                                .cost_us = p->cost_us,
                                .n_messages = p->n_messages,
                                .fresh = m.fresh,
                                .n_tags = (uint8_t)(p->n_tags + (p->variant_of.n > 0)),
                        },
                .key = p->key,
                .stored = p->value,
        };
}

/* The store of a variant is a use of what leads to it, which has to be there. */
static bool use_node(struct store *s, const struct table_cache *c, const struct store_put *p,
                     uint64_t now)
{
        uint32_t handle =
                node_find(s, cache_gen(s, c)->id, p->variant_of.text, p->variant_of.n, now);

        if (handle != ARENA_NONE)
                store_touch_lru(s, handle);
        return handle != ARENA_NONE;
}

int store_put(struct store *s, const struct store_put *p, uint64_t now, struct store_entry *ret,
              struct store_refusal *refusal)
{
        struct table_cache *c = cache_at(s, p->cache);
        uint64_t charge;
        struct entry e;
        struct found f;
        uint32_t handle;
        int r;

        if (!c)
                return STORE_E_NO_CACHE;
        e = entry_of(s, c, p, now);
        charge = store_charge(p->n_key, p->large ? p->large->size : p->n_value,
                              entry_ext_fields(&e.x), e.x.n_tags, e.large || e.extent);
        r = room_check_size(s, c, charge, refusal);
        if (r != 0) {
                cache_counters(c)->refused++;
                return r;
        }
        if (e.extent && !extent_has_arrived(p) && !extents_has_room(&s->a, p->n_value))
                return STORE_E_NO_PLACE;
        upkeep_pay(s, e.extent ? p->n_value : e.n_stored, now);
        if (p->variant_of.n > 0 && !use_node(s, c, p, now))
                return STORE_E_NO_NODE;
        f = store_find_live(s, c, p->key, p->n_key, now);
        r = store_check_mode(s, p, found_served(&f));
        if (r == 0)
                r = owner_get(s, p->uid, &e.owner);
        if (r == 0)
                r = put_found(s, p, &f, &e, charge, now, &handle, refusal);
        if (r != 0) {
                cache_counters(c)->refused += r == STORE_E_NO_SPACE || r < 0;
                return r;
        }
        s->a.t->version++;
        cache_counters(c)->stores++;
        store_entry_fill(s, handle, now, ret);
        return 0;
}

int store_check_size(struct store *s, uint32_t cache, size_t n_key, uint64_t n_value, bool as_large,
                     struct store_refusal *refusal)
{
        bool apart = as_large || store_is_apart(s, n_value);

        return room_check_size(s, cache_at(s, cache), store_charge(n_key, n_value, 0, 0, apart),
                               refusal);
}

/* ---- deleting */

int store_delete(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now)
{
        struct table_cache *c = cache_at(s, cache);
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        f = store_find_live(s, c, key, n_key, now);
        if (f.handle == ARENA_NONE)
                return STORE_E_MISS;
        entry_drop(s, f.handle, CAUSE_DELETED, now);
        cache_counters(c)->deletes++;
        return 0;
}

/* ---- inspection */

/* The cursor is the handle to look at next: entries stay where they are unless they are stored
 * again, or moved by compaction, which waits for listings (upkeep.c). */
int store_list(struct store *s, uint32_t cache, uint64_t now, uint32_t max, uint64_t *cursor,
               bool (*visit)(void *ctx, const struct store_entry *e), void *ctx)
{
        const struct table_cache *c = cache_at(s, cache);
        uint32_t span, chunk, n = 0, steps = 0;
        uint32_t gen;

        if (!c)
                return STORE_E_NO_CACHE;
        gen = cache_gen(s, c)->id;
        s->listing_until = now + LISTING_MS;
        span = *cursor > UINT32_MAX ? s->a.t->span_high : handle_span((uint32_t)*cursor);
        chunk = handle_chunk((uint32_t)*cursor);
        for (; span < s->a.t->span_high; span++, chunk = 0) {
                const struct table_span *sp = &s->a.spans[span];

                if (span == 0 || sp->state == SPAN_UNUSED)
                        continue;
                for (; chunk < sp->high; chunk++) {
                        uint32_t handle = handle_make(span, chunk);
                        const struct arena_entry *b = arena_block(&s->a, handle);
                        struct store_entry e;

                        *cursor = handle;
                        if (steps++ == LIST_STEPS_MAX || n == max)
                                return 0;
                        if (!alloc_is_live(&s->a, handle) || b->gen != gen ||
                            entry_deadline(b) <= now || entry_is_dead(s, handle))
                                continue;
                        store_entry_fill(s, handle, now, &e);
                        if (!visit(ctx, &e))
                                return 0;
                        n++;
                }
        }
        *cursor = 0;
        return 0;
}

/* Cleared, but not reclaimed yet? The latest clears are looked at; what was cleared first is
 * reclaimed first. */
#define DYING_LOOK 16u
static void in_dying(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                     struct store_fate *ret)
{
        uint32_t id = cache_gen(s, cache_at(s, cache))->before;

        for (unsigned i = 0; id != 0 && i < DYING_LOOK && !ret->known; i++) {
                const struct table_gen *g = &s->a.gens[gen_index(id)];
                struct index_key k;
                struct index_slot slot;

                if (g->id != id || g->state != GEN_DYING)
                        return;
                index_key_init(s, &k, id, key, (uint32_t)n_key);
                if (index_find(s, &k, &slot) != ARENA_NONE)
                        *ret = (struct store_fate){.known = true,
                                                   .cause = CAUSE_CLEARED,
                                                   .age_ms = now - g->cleared_at};
                id = g->before;
        }
}

int store_explain(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                  struct store_fate *ret)
{
        const struct table_cache *c = cache_at(s, cache);
        struct store_fate departed = {0};
        struct found f;

        if (!c)
                return STORE_E_NO_CACHE;
        *ret = (struct store_fate){0};
        f = store_find_live(s, c, key, n_key, now);
        if (f.handle != ARENA_NONE) {
                ret->live = ret->known = true;
                store_entry_fill(s, f.handle, now, &ret->entry);
                return 0;
        }
        in_dying(s, cache, key, n_key, now, ret);
        if (departed_find(s, cache, key, (uint32_t)n_key, now, &departed.cause, &departed.age_ms) &&
            (!ret->known || departed.age_ms <= ret->age_ms)) {
                *ret = departed;
                ret->known = true;
        }
        return 0;
}
