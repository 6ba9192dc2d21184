/* SPDX-License-Identifier: MIT */
/*
 * Taking over the entries of a store
 *
 * The index decides: an entry is what a slot names, in a bucket where its key belongs. Its block
 * says what it is and its record when it was last used. Everything else that the table says of it
 * (lists, heaps, free chunks, sums) follows from these and is made anew; so it does not matter how
 * far the predecessor had come with it.
 *
 * Blocks are gone through in the order of their places, which memory likes best; for some at a time
 * the buckets are asked for ahead. A block that is not confirmed by a slot is free. A slot that
 * names something else is emptied, in brackets of its bucket's counter: readers may be looking on.
 * A change that was under way leaves at most the same block in two slots, or a slot half emptied.
 *
 * Nothing that was read is used before it was checked: the files may hold anything.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket.h"
#include "store/recovery.h"

#define AHEAD        16u /* keys whose buckets are asked for at a time */
#define AHEAD_BLOCKS 12u /* blocks that are asked for before they are looked at */

static uint64_t n_buckets(const struct store *s)
{
        return atomic_load_explicit(&s->a.h->n_buckets, memory_order_relaxed);
}

/* ---- one entry */

/* Does what the extension says fit into it? */
static bool ext_fits(const struct arena_entry *b, uint32_t size)
{
        struct arena_ext x;
        uint32_t n, n_tags = 0;

        memcpy(&x, b + 1, sizeof(x));
        if (x.n_bytes < sizeof(x) || x.n_bytes > EXT_SIZE_MAX || (x.fields & ~EXT_KNOWN) ||
            (uint32_t)ENTRY_HEADER_SIZE + x.n_bytes > size)
                return false;
        n = entry_ext_size(x.fields, 0);
        if (n > x.n_bytes)
                return false;
        if (x.fields & EXT_TAGS)
                memcpy(&n_tags, (const uint8_t *)(b + 1) + n - sizeof(n_tags), sizeof(n_tags));
        return n_tags <= ARENA_ENTRY_TAGS && entry_ext_size(x.fields, n_tags) == x.n_bytes;
}

/* Of a block that fits, what the extension says of the value: are there so many bytes of messages,
 * and a moment until which it is fresh? */
static bool extra_fits(const struct arena_entry *b)
{
        struct entry e;

        if (!(b->sizes & ENTRY_EXT))
                return true;
        entry_read(b, &e);
        return e.x.n_messages <= (e.large || e.extent ? entry_apart(&e) : e.n_stored) &&
               (e.x.fresh.fresh != 0 || entry_fresh_at(b) == NULL);
}

/* The block is there; does what its header says fit into it? */
static bool entry_fits(const struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        uint32_t size = s->a.span_chunk[handle_span(handle)];

        uint32_t apart = b->sizes & (ENTRY_LARGE | ENTRY_EXTENT);

        if (b->sizes & ENTRY_EXT && !ext_fits(b, size))
                return false;
        if (apart == (ENTRY_LARGE | ENTRY_EXTENT) ||
            (apart == ENTRY_LARGE && entry_n_stored(b) != sizeof(struct arena_large)) ||
            (apart == ENTRY_EXTENT && entry_n_stored(b) != sizeof(struct arena_extent)))
                return false;
        return entry_total(b) <= size;
}

/* Is there such a block, in memory? */
static bool is_there(struct recovery *r, uint32_t handle)
{
        if (!alloc_has(&r->s->a, handle))
                return false;
        if (r->unmapped == 0)
                r->unmapped = ahead_need(&r->ahead, handle_span(handle));
        return r->unmapped == 0;
}

/* Is the block an entry of this store? Not asked: where the index has it. */
static bool entry_is_sound(struct recovery *r, uint32_t handle, enum store_dropped *ret_why)
{
        const struct store *s = r->s;
        const struct arena_entry *b;
        uint32_t gen;

        *ret_why = DROPPED_BLOCK;
        if (!is_there(r, handle))
                return false;
        *ret_why = DROPPED_ENTRY;
        if (!entry_fits(s, handle))
                return false;
        b = arena_block(&s->a, handle);
        if (!extra_fits(b))
                return false;
        gen = gen_index(b->gen);
        *ret_why = DROPPED_GENERATION;
        if (gen >= s->a.t->gen_high || s->a.gens[gen].id != b->gen ||
            s->a.gens[gen].state == GEN_FREE)
                return false;
        *ret_why = DROPPED_OWNER;
        return entry_owner(b) < s->a.t->n_owners && !r->bad_owner[entry_owner(b)];
}

/* @why N_DROPPED: it is no loss. */
static void drop(struct recovery *r, enum store_dropped why)
{
        if (why < N_DROPPED)
                r->report->dropped[why]++;
}

/* ---- the index confirms blocks */

/* The slot of the block, if it is the first one that a look-up of its key would find. */
static bool find_slot(struct recovery *r, const struct index_key *k, uint32_t handle,
                      struct index_slot *ret)
{
        uint64_t n = n_buckets(r->s);
        uint64_t at[2] = {arena_bucket_of(k->h1, n), arena_bucket_of(k->h2, n)};
        enum store_dropped why;

        for (unsigned j = 0; j < 2; j++) {
                const bucket_t *b = &r->s->a.buckets[at[j]];

                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                        uint32_t h = slot_handle(b, i);

                        if (slot_tag(b, i) != k->tag || h == ARENA_NONE)
                                continue;
                        if (h == handle) {
                                *ret = (struct index_slot){at[j], i};
                                return true;
                        }
                        if (entry_is_sound(r, h, &why) && index_matches(r->s, k, h))
                                return false;
                }
        }
        return false;
}

static void slot_clear(struct store *s, struct index_slot slot)
{
        bucket_t *b = &s->a.buckets[slot.bucket];
        bool is_open = atomic_load_explicit(&b->seq, memory_order_relaxed) & 1;

        if (!is_open)
                write_begin(b);
        slot_set(b, slot.i, 0, ARENA_NONE);
        if (!is_open)
                write_end(b);
}

/* ---- keeping one */

static int keep_list(struct recovery *r, uint32_t gen, uint32_t owner, uint32_t *ret_list)
{
        int e;

        if (r->n_kept == 0 || gen != r->last_gen || owner != r->last_owner) {
                e = lru_list_get(r->s, gen, owner, &r->last_list);
                if (e != 0)
                        return e;
                r->last_gen = gen;
                r->last_owner = owner;
        }
        *ret_list = r->last_list;
        return 0;
}

static int by_ino(const void *a, const void *b)
{
        const struct given_file *x = a, *y = b;

        return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* One of those that were given and not taken: a client may have handed over one file for several
 * values. */
static struct given_file *find_file(const struct recovery *r, uint64_t ino)
{
        struct given_file key = {.ino = ino}, *end = r->files + r->n_files, *f;

        f = r->n_files ? bsearch(&key, r->files, r->n_files, sizeof(*f), by_ino) : NULL;
        if (!f)
                return NULL;
        while (f > r->files && f[-1].ino == ino)
                f--;
        while (f < end && f->ino == ino && f->fd < 0)
                f++;
        return f < end && f->ino == ino ? f : NULL;
}

/* The memory file of the entry's large value. 0, -ENOMEM; -EINVAL: it was not given. */
static int keep_large(struct recovery *r, const struct entry *e, uint32_t handle)
{
        struct store *s = r->s;
        struct arena_large l = entry_large(e);
        struct given_file *f;
        int n;

        if (l.id >= s->a.t->large_high || s->a.large[l.id].size != l.size || s->large[l.id])
                return -EINVAL;
        f = find_file(r, s->a.large[l.id].ino);
        if (!f)
                return -EINVAL;
        n = large_table_adopt(s, l.id, f->fd, e->owner, handle);
        if (n == 0) {
                f->fd = -1;
                r->report->large_kept++;
        }
        return n;
}

/* Takes a confirmed entry into lists to be, heaps and sums. 0, -ENOMEM, or why not. */
#define KEEP_NOT 1
static int keep(struct recovery *r, uint32_t handle, enum store_dropped *ret_why)
{
        struct store *s = r->s;
        struct entry e;
        uint32_t list, gen;
        int n;

        entry_read(arena_block(&s->a, handle), &e);
        entry_resolve(s, &e);
        gen = gen_index(e.gen);
        arena_rec(&s->a, handle)->heap_pos = TABLE_NONE;
        if (e.x.n_tags > 0 && !recover_tags_of(r, &e, ret_why))
                return KEEP_NOT;
        n = keep_list(r, gen, e.owner, &list);
        if (n != 0) {
                *ret_why = DROPPED_LIMIT;
                return n < 0 ? n : KEEP_NOT;
        }
        if (e.extent) {
                struct arena_extent x = entry_extent(&e);

                n = extents_adopt(&s->a, &x);
                if (n != 0) {
                        *ret_why = DROPPED_EXTENT;
                        return n == -EINVAL ? KEEP_NOT : n;
                }
        }
        if (e.large) {
                n = keep_large(r, &e, handle);
                if (n != 0) {
                        *ret_why = DROPPED_LARGE;
                        return n == -EINVAL ? KEEP_NOT : n;
                }
                list |= RECOVERED_LARGE;
        }
        if (e.deadline != ENTRY_NEVER && s->a.gens[gen].state == GEN_LIVE) {
                n = expiry_reserve(s, gen);
                if (n < 0)
                        return n;
                expiry_set(s, gen, handle, e.deadline);
        }
        if (e.x.n_tags > 0)
                tags_link(s, handle, entry_sums(&e, store_block_charge(s, handle)));
        store_count(s, &e, store_block_charge(s, handle));
        if (s->a.gens[gen].state == GEN_DYING) {
                s->a.t->n_reclaiming++;
                s->a.t->reclaiming += store_block_charge(s, handle);
        }
        if (e.version > r->version)
                r->version = e.version;
        order_add(r, handle, list);
        return 0;
}

/* Whoever computed the entry anew is not known any more: it is due again when it is stale. */
static void forget_refresh(struct store *s, uint32_t handle, struct index_slot slot)
{
        struct arena_entry *b = arena_block(&s->a, handle);
        bucket_t *bucket = &s->a.buckets[slot.bucket];
        bool is_open = atomic_load_explicit(&bucket->seq, memory_order_relaxed) & 1;
        struct arena_fresh f = entry_fresh(b);

        /* One that was half written by a predecessor who did this is no moment either. */
        if (f.refresh <= ENTRY_40BIT_MAX || f.refresh == f.fresh)
                return;
        f.refresh = f.fresh;
        if (!is_open)
                write_begin(bucket);
        entry_set_fresh(b, &f);
        if (!is_open)
                write_end(bucket);
}

struct batch {
        uint32_t handle[AHEAD];
        struct index_key key[AHEAD];
        unsigned n;
};

/* The blocks that were gathered: each is kept or becomes free. */
static int confirm(struct recovery *r, struct batch *a)
{
        for (unsigned i = 0; i < a->n; i++) {
                struct table_rec *rec = arena_rec(&r->s->a, a->handle[i]);
                enum store_dropped why;
                struct index_slot slot;
                bool is_first = find_slot(r, &a->key[i], a->handle[i], &slot);
                int n = r->unmapped;

                if (n < 0)
                        return n;
                if (!is_first) {
                        rec_set_stamp(rec, 0);
                        continue;
                }
                n = keep(r, a->handle[i], &why);
                if (n < 0)
                        return n;
                if (n == 0) {
                        forget_refresh(r->s, a->handle[i], slot);
                        r->confirmed[slot.bucket] |= (uint16_t)(1u << slot.i);
                        continue;
                }
                drop(r, why);
                slot_clear(r->s, slot);
                rec_set_stamp(rec, 0);
        }
        a->n = 0;
        return 0;
}

/* The header and most keys: in a span the processor does not foresee where the next block lies. */
static void block_prefetch(const struct store *s, uint32_t handle)
{
        const uint8_t *b = (const uint8_t *)arena_block(&s->a, handle);

        __builtin_prefetch(b);
        __builtin_prefetch(b + ENTRY_HEADER_SIZE + sizeof(uint64_t));
}

static int confirm_span(struct recovery *r, uint32_t span, struct batch *a)
{
        struct store *s = r->s;
        uint32_t n = alloc_n_chunks(&s->a, span);
        uint64_t n_all = n_buckets(s);
        int e = ahead_reach(&r->ahead, span);

        if (e < 0)
                return e;
        for (uint32_t c = 0; c < n; c++) {
                uint32_t handle = handle_make(span, c);
                enum store_dropped why;

                if (c + AHEAD_BLOCKS < n)
                        block_prefetch(s, handle_make(span, c + AHEAD_BLOCKS));
                if (!alloc_is_live(&s->a, handle))
                        continue;
                if (!entry_is_sound(r, handle, &why)) {
                        rec_set_stamp(arena_rec(&s->a, handle), 0);
                        continue;
                }
                a->handle[a->n] = handle;
                index_key_of(s, &a->key[a->n], handle);
                index_prefetch(s, &a->key[a->n]);
                __builtin_prefetch(&r->confirmed[arena_bucket_of(a->key[a->n].h1, n_all)], 1);
                if (++a->n == AHEAD) {
                        e = confirm(r, a);
                        if (e < 0)
                                return e;
                }
        }
        return confirm(r, a);
}

/* ---- what the index holds besides */

static bool is_of_intent(const struct recovery *r, uint64_t bucket)
{
        const struct table_intent *t = &r->intent;

        return t->op != INTENT_NONE && t->op != INTENT_POLICY &&
               (bucket == t->bucket || (t->op != INTENT_EDIT && bucket == t->bucket2));
}

/* A slot that names nothing that is kept: why? A block that is kept elsewhere is no loss. */
static void drop_slot(struct recovery *r, struct index_slot slot)
{
        uint32_t handle = slot_handle(&r->s->a.buckets[slot.bucket], slot.i);
        enum store_dropped why;
        bool is_sound = entry_is_sound(r, handle, &why), is_kept;

        is_kept = is_there(r, handle) && alloc_is_live(&r->s->a, handle);
        if (is_of_intent(r, slot.bucket))
                r->report->dropped[DROPPED_TORN] += !is_kept;
        else
                drop(r, is_kept ? DROPPED_BLOCK : is_sound ? DROPPED_PLACE : why);
        slot_clear(r->s, slot);
}

static void clean_bucket(struct recovery *r, uint64_t bucket, unsigned confirmed, bool in_use)
{
        bucket_t *b = &r->s->a.buckets[bucket];

        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                if (confirmed >> i & 1 || slot_handle(b, i) == ARENA_NONE)
                        continue;
                if (in_use)
                        drop_slot(r, (struct index_slot){bucket, i});
                else
                        slot_clear(r->s, (struct index_slot){bucket, i});
        }
        if (atomic_load_explicit(&b->seq, memory_order_relaxed) & 1)
                write_end(b);
}

static void clean_index(struct recovery *r)
{
        struct store *s = r->s;
        uint64_t n = n_buckets(s), all = s->a.t->index_bytes / sizeof(bucket_t);

        for (uint64_t b = 0; b < all; b++)
                clean_bucket(r, b, b < n ? r->confirmed[b] : 0, b < n);
        /* What lies behind was given back, or made resident and not counted. */
        memfile_release(&s->a.mem, s->a.h->index_off + s->a.t->index_bytes,
                        s->a.h->index_max_buckets * sizeof(bucket_t) - s->a.t->index_bytes);
}

/* ---- all of it */

/* Moments that were half written are written again; their bucket is still marked as changing. */
static void finish_edit(struct recovery *r)
{
        const struct table_intent *t = &r->intent;
        struct store *s = r->s;
        struct arena_entry *e;
        const bucket_t *b;

        if (t->op != INTENT_EDIT || t->bucket >= n_buckets(s) || t->slot >= ARENA_BUCKET_SLOTS)
                return;
        b = &s->a.buckets[t->bucket];
        if (!(atomic_load_explicit(&b->seq, memory_order_relaxed) & 1) ||
            slot_handle(b, t->slot) != t->old_handle || !is_there(r, t->old_handle))
                return;
        e = arena_block(&s->a, t->old_handle);
        entry_set_deadline(e, t->bucket2 & ENTRY_40BIT_MAX);
        if (t->fresh.fresh != 0 && entry_fits(s, t->old_handle) && entry_fresh_at(e))
                entry_set_fresh(e, &t->fresh);
}

static void forget_sums(struct store *s)
{
        struct table_header *t = s->a.t;

        t->n_entries = t->charged = t->reclaiming = t->n_reclaiming = 0;
        for (uint32_t i = 0; i < t->gen_high; i++)
                s->a.gens[i].n_entries = s->a.gens[i].bytes_held = s->a.gens[i].bytes_raw = 0;
        for (uint32_t i = 0; i < t->n_owners; i++)
                s->a.owners[i].charged = s->a.owners[i].held = s->a.owners[i].arriving = 0;
}

/* Each block, in the order of their places. */
static int confirm_all(struct recovery *r)
{
        struct batch batch = {.n = 0};
        int n = 0;

        for (uint32_t i = 1; n == 0 && i < r->s->a.t->span_high; i++)
                n = confirm_span(r, i, &batch);
        ahead_end(&r->ahead);
        return n < 0 ? n : r->unmapped;
}

int recover_entries(struct recovery *r)
{
        struct store *s = r->s;
        int n;

        n = order_begin(r);
        if (n < 0)
                return n;
        r->confirmed = calloc(n_buckets(s), sizeof(*r->confirmed));
        if (!r->confirmed)
                return -ENOMEM;
        n = large_table_adopt_begin(s);
        if (n < 0)
                return n;
        alloc_adopt(&s->a);
        ahead_start(&r->ahead, &s->a);
        finish_edit(r);
        forget_sums(s);
        lru_forget(s);
        expiry_forget(s);
        n = confirm_all(r);
        if (n < 0)
                return n;
        extents_adopt_end(&s->a);
        clean_index(r);
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                alloc_adopt_span(&s->a, i);
        n = recover_order(r);
        if (n < 0)
                return n;
        large_table_adopt_end(s);
        recover_tags_end(r);
        r->report->kept = r->n_kept;
        return 0;
}
