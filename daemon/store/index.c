/* SPDX-License-Identifier: MIT */
/*
 * Index: key → handle
 *
 * Buckets of one cache line with nine slots. A key lives in one of two buckets (two independent
 * hashes), so a look-up probes two lines at most, whatever happens. A new key goes to its first
 * bucket unless that is nearly full and the other is not; when both are full, a resident is moved
 * to its own other bucket.
 *
 * Growth is linear hashing: one bucket is split for every seven new entries, so the load stays at
 * about 80 % and there is no pause, ever. Shrinking merges the last bucket back, likewise one at a
 * time.
 *
 * Mapped readers look on. Each change of a bucket is bracketed by its sequence counter (odd while
 * it is written); a key that moves is put into its new place before it leaves the old one; a change
 * of the number of buckets is published after the new bucket is filled and before the old one is
 * cleaned. A reader certifies a miss by checking that neither counter nor the number has changed.
 *
 * A change that takes several steps is announced in the table's intent record first, so that after
 * a SIGKILL exactly one thing has to be repaired.
 *
 * Only keys chosen to collide (a client of the realm can read the seed) can fill both buckets with
 * entries that cannot move: then the caller evicts index_victim().
 */

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "store/bucket.h"
#include "store/internal.h"

#define INITIAL_BUCKETS 64u
/* Nine slots, 7.2 used on average when full: more makes moves frequent, fewer wastes memory. */
#define LOAD_NUM       72u
#define LOAD_DEN       10u
#define SHRINK_NUM     35u /* below 3.5 entries a bucket two of them fit into one nearly always */
#define SPREAD_FROM    7u  /* slots used in the first bucket before the second is considered */
#define GROW_MAX       4u  /* splits in one call: growth keeps ahead, yet is bounded */
#define FORCED_SPLITS  2u
#define DISPLACE_DEPTH 3u
#define NOWHERE        UINT64_MAX
#define COMMIT_STEP    65536u

static uint64_t n_buckets(const struct store *s)
{
        return atomic_load_explicit(&s->a.h->n_buckets, memory_order_relaxed);
}

static bucket_t *bucket_at(const struct store *s, uint64_t b)
{
        return &s->a.buckets[b];
}

/* ---- the write side of the protocol with mapped readers */

static void slot_write(bucket_t *b, unsigned i, uint16_t tag, uint32_t handle)
{
        write_begin(b);
        slot_set(b, i, tag, handle);
        write_end(b);
}

static void intent_begin(struct store *s, uint32_t op, uint64_t bucket, uint64_t bucket2,
                         uint32_t slot, uint32_t old_handle, uint32_t new_handle)
{
        struct table_intent *t = &s->a.t->intent;

        t->bucket = bucket;
        t->bucket2 = bucket2;
        t->slot = slot;
        t->old_handle = old_handle;
        t->new_handle = new_handle;
        atomic_signal_fence(memory_order_release);
        t->op = op;
        atomic_signal_fence(memory_order_release);
}

static void intent_end(struct store *s)
{
        atomic_signal_fence(memory_order_release);
        s->a.t->intent.op = INTENT_NONE;
}

/* ---- keys */

void index_key_init(const struct store *s, struct index_key *k, uint32_t gen, const void *key,
                    uint32_t n_key)
{
        /* The generation is part of the hash: after a clear the old entries are out of reach at
         * once. */
        XXH128_hash_t h = XXH3_128bits_withSeed(key, n_key, arena_hash_seed(s->a.h->seed[0], gen));

        *k = (struct index_key){
                .gen = gen,
                .key = key,
                .n_key = n_key,
                .h1 = h.low64,
                .h2 = h.high64,
                .tag = (uint16_t)(h.low64 >> 48),
        };
}

void index_key_of(const struct store *s, struct index_key *k, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);

        index_key_init(s, k, b->gen, entry_key(b), entry_n_key(b));
}

bool index_matches(const struct store *s, const struct index_key *k, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);

        return b->gen == k->gen && entry_n_key(b) == k->n_key &&
               memcmp(entry_key(b), k->key, k->n_key) == 0;
}

static uint32_t find_in(const struct store *s, const struct index_key *k, uint64_t bucket,
                        struct index_slot *ret)
{
        const bucket_t *b = bucket_at(s, bucket);

        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                uint32_t handle;

                if (slot_tag(b, i) != k->tag)
                        continue;
                handle = slot_handle(b, i);
                if (handle == ARENA_NONE || !index_matches(s, k, handle))
                        continue;
                *ret = (struct index_slot){bucket, i};
                return handle;
        }
        return ARENA_NONE;
}

uint32_t index_find(const struct store *s, const struct index_key *k, struct index_slot *ret)
{
        uint64_t n = n_buckets(s);
        uint64_t b1 = arena_bucket_of(k->h1, n), b2 = arena_bucket_of(k->h2, n);
        uint32_t handle;

        __builtin_prefetch(bucket_at(s, b2));
        handle = find_in(s, k, b1, ret);
        return handle != ARENA_NONE ? handle : find_in(s, k, b2, ret);
}

void index_prefetch(const struct store *s, const struct index_key *k)
{
        uint64_t n = n_buckets(s);

        __builtin_prefetch(bucket_at(s, arena_bucket_of(k->h1, n)));
        __builtin_prefetch(bucket_at(s, arena_bucket_of(k->h2, n)));
}

uint32_t index_guess(const struct store *s, const struct index_key *k)
{
        uint64_t n = n_buckets(s);
        uint64_t at[2] = {arena_bucket_of(k->h1, n), arena_bucket_of(k->h2, n)};

        for (unsigned j = 0; j < 2; j++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        if (slot_tag(bucket_at(s, at[j]), i) == k->tag)
                                return slot_handle(bucket_at(s, at[j]), i);
        return ARENA_NONE;
}

struct index_slot index_locate(const struct store *s, const struct index_key *k, uint32_t handle)
{
        uint64_t n = n_buckets(s);
        uint64_t at[2] = {arena_bucket_of(k->h1, n), arena_bucket_of(k->h2, n)};

        for (unsigned j = 0; j < 2; j++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        if (slot_handle(bucket_at(s, at[j]), i) == handle)
                                return (struct index_slot){at[j], i};
        assert(!"a live entry is in the index");
        return (struct index_slot){0, 0};
}

/* ---- room in buckets */

static unsigned count_used(const bucket_t *b)
{
        unsigned n = 0;

        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                n += slot_handle(b, i) != ARENA_NONE;
        return n;
}

static int free_slot(const bucket_t *b)
{
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                if (slot_handle(b, i) == ARENA_NONE)
                        return (int)i;
        return -1;
}

/* Moves the entry in from/i to the free slot of bucket `to`: there first, then away from here. */
static void shift(struct store *s, uint64_t from, unsigned i, uint64_t to)
{
        bucket_t *b = bucket_at(s, from);
        uint32_t handle = slot_handle(b, i);
        int j = free_slot(bucket_at(s, to));

        assert(j >= 0);
        intent_begin(s, INTENT_SHIFT, from, to, i, handle, handle);
        slot_write(bucket_at(s, to), (unsigned)j, slot_tag(b, i), handle);
        slot_write(b, i, 0, ARENA_NONE);
        intent_end(s);
}

/* The other bucket of the entry in slot i of `bucket`, when @n are in use. */
static uint64_t other_bucket(const struct store *s, uint64_t bucket, unsigned i, uint64_t n)
{
        struct index_key k;
        uint64_t b1;

        index_key_of(s, &k, slot_handle(bucket_at(s, bucket), i));
        b1 = arena_bucket_of(k.h1, n);
        return b1 == bucket ? arena_bucket_of(k.h2, n) : b1;
}

/*
 * Frees a slot in a bucket by moving a resident to its other bucket, where room is made likewise if
 * @depth allows. Looks at 9 + 9² + … residents at most; cuckoo hashing's chains, cut short.
 */
static bool displace(struct store *s, uint64_t bucket, uint64_t avoid, unsigned depth)
{
        uint64_t n = n_buckets(s), other[ARENA_BUCKET_SLOTS];

        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                other[i] = bucket;
                if (slot_handle(bucket_at(s, bucket), i) == ARENA_NONE)
                        continue;
                other[i] = other_bucket(s, bucket, i, n);
                if (other[i] != bucket && other[i] != avoid &&
                    free_slot(bucket_at(s, other[i])) >= 0) {
                        shift(s, bucket, i, other[i]);
                        return true;
                }
        }
        for (unsigned i = 0; depth > 1 && i < ARENA_BUCKET_SLOTS; i++) {
                if (other[i] == bucket || !displace(s, other[i], avoid, depth - 1))
                        continue;
                /* The chain may have come back and emptied a slot here. */
                if (free_slot(bucket_at(s, bucket)) < 0)
                        shift(s, bucket, i, other[i]);
                return true;
        }
        return false;
}

/* ---- growing and shrinking */

static bool commit_buckets(struct store *s, uint64_t n)
{
        struct table_header *t = s->a.t;
        uint64_t need = n * sizeof(bucket_t);
        uint64_t step = t->index_bytes < COMMIT_STEP ? 4096 : COMMIT_STEP;

        if (n > s->a.h->index_max_buckets)
                return false;
        if (need <= t->index_bytes)
                return true;
        if (memfile_commit(&s->a.mem, s->a.h->index_off + t->index_bytes, step) < 0)
                return false;
        t->index_bytes += step;
        return true;
}

int index_init(struct store *s)
{
        if (!commit_buckets(s, INITIAL_BUCKETS))
                return -ENOMEM;
        atomic_store_explicit(&s->a.h->n_buckets, INITIAL_BUCKETS, memory_order_release);
        return 0;
}

/* Shares the bucket whose turn it is with a new one at the end. */
static bool split(struct store *s)
{
        uint64_t n = n_buckets(s);
        uint64_t from = n - (UINT64_C(1) << (63 - (unsigned)__builtin_clzll(n)));
        bucket_t *old = bucket_at(s, from), *new = bucket_at(s, n);
        bool leaves[ARENA_BUCKET_SLOTS] = {false};
        unsigned n_new = 0;

        if (!commit_buckets(s, n + 1))
                return false;
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                if (slot_handle(old, i) != ARENA_NONE)
                        __builtin_prefetch(arena_block(&s->a, slot_handle(old, i)));
        if (atomic_load_explicit(&new->seq, memory_order_relaxed) < s->a.t->seq_floor)
                atomic_store_explicit(&new->seq, s->a.t->seq_floor, memory_order_relaxed);
        intent_begin(s, INTENT_SPLIT, from, n, 0, 0, 0);
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                struct index_key k;

                if (slot_handle(old, i) == ARENA_NONE)
                        continue;
                index_key_of(s, &k, slot_handle(old, i));
                /* An entry is here by its first hash or by its second; it follows that one. */
                leaves[i] = (arena_bucket_of(k.h1, n) == from ? arena_bucket_of(k.h1, n + 1)
                                                              : arena_bucket_of(k.h2, n + 1)) == n;
                if (leaves[i])
                        slot_write(new, n_new++, slot_tag(old, i), slot_handle(old, i));
        }
        atomic_store_explicit(&s->a.h->n_buckets, n + 1, memory_order_release);
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                if (leaves[i])
                        slot_write(old, i, 0, ARENA_NONE);
        intent_end(s);
        return true;
}

void index_grow(struct store *s)
{
        for (unsigned i = 0; i < GROW_MAX; i++)
                if ((s->a.t->n_entries + 1) * LOAD_DEN <= n_buckets(s) * LOAD_NUM || !split(s))
                        return;
}

/* Gives the last pages of the index back. A counter must never start again: a reader that sleeps
 * over a release and a new growth would take the new bucket for the one it knew. So buckets that
 * come back start above every counter that was ever released. */
static void release_step(struct store *s)
{
        struct table_header *t = s->a.t;
        uint64_t first = (t->index_bytes - COMMIT_STEP) / sizeof(bucket_t);

        for (uint64_t b = first; b < t->index_bytes / sizeof(bucket_t); b++) {
                uint64_t seq = atomic_load_explicit(&bucket_at(s, b)->seq, memory_order_relaxed);

                if (seq >= t->seq_floor)
                        t->seq_floor = seq + 2;
        }
        t->index_bytes -= COMMIT_STEP;
        memfile_release(&s->a.mem, s->a.h->index_off + t->index_bytes, COMMIT_STEP);
}

/* Merges the last bucket into the one that it was split from. */
bool index_shrink(struct store *s)
{
        struct table_header *t = s->a.t;
        uint64_t n = n_buckets(s), last = n - 1, into;
        bucket_t *from, *to;

        if (n <= INITIAL_BUCKETS || t->n_entries * LOAD_DEN >= n * SHRINK_NUM)
                return false;
        into = arena_bucket_of(last, last);
        from = bucket_at(s, last);
        to = bucket_at(s, into);
        while (count_used(from) + count_used(to) > ARENA_BUCKET_SLOTS)
                if (!displace(s, into, last, 1) && !displace(s, last, into, 1))
                        return false; /* until something leaves */
        intent_begin(s, INTENT_MERGE, into, last, 0, 0, 0);
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                if (slot_handle(from, i) != ARENA_NONE)
                        slot_write(to, (unsigned)free_slot(to), slot_tag(from, i),
                                   slot_handle(from, i));
        atomic_store_explicit(&s->a.h->n_buckets, last, memory_order_release);
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                if (slot_handle(from, i) != ARENA_NONE)
                        slot_write(from, i, 0, ARENA_NONE);
        intent_end(s);
        if (t->index_bytes >= last * sizeof(bucket_t) + 2 * COMMIT_STEP)
                release_step(s);
        return true;
}

/* ---- changes */

/* Both buckets are full: the one in which room could be made. */
static uint64_t make_slot(struct store *s, uint64_t b1, uint64_t b2)
{
        for (unsigned depth = 1; depth <= DISPLACE_DEPTH; depth++) {
                if (displace(s, b1, NOWHERE, depth))
                        return b1;
                if (displace(s, b2, NOWHERE, depth))
                        return b2;
        }
        return b1;
}

int index_insert(struct store *s, const struct index_key *k, uint32_t handle)
{
        for (unsigned tries = 0; tries <= FORCED_SPLITS; tries++) {
                uint64_t n = n_buckets(s);
                uint64_t b1 = arena_bucket_of(k->h1, n), b2 = arena_bucket_of(k->h2, n), at = b1;
                unsigned used = count_used(bucket_at(s, b1));
                int i;

                if (used >= SPREAD_FROM && count_used(bucket_at(s, b2)) < used)
                        at = b2;
                if (used == ARENA_BUCKET_SLOTS && at == b1)
                        at = make_slot(s, b1, b2);
                i = free_slot(bucket_at(s, at));
                if (i >= 0) {
                        intent_begin(s, INTENT_INSERT, at, 0, (unsigned)i, 0, handle);
                        slot_write(bucket_at(s, at), (unsigned)i, k->tag, handle);
                        intent_end(s);
                        return 0;
                }
                /* Not after the last try: the caller's victim must come from the buckets that are
                 * full now. */
                if (tries == FORCED_SPLITS || !split(s))
                        break;
        }
        return -ENOSPC;
}

uint32_t index_victim(struct store *s, const struct index_key *k)
{
        const bucket_t *b = bucket_at(s, arena_bucket_of(k->h1, n_buckets(s)));
        uint32_t victim = ARENA_NONE;

        apply_told(s);
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                uint32_t h = slot_handle(b, i);

                if (h != ARENA_NONE &&
                    (victim == ARENA_NONE ||
                     rec_stamp(arena_rec(&s->a, h)) < rec_stamp(arena_rec(&s->a, victim))))
                        victim = h;
        }
        return victim;
}

void index_replace(struct store *s, struct index_slot slot, uint32_t handle, uint32_t op)
{
        bucket_t *b = bucket_at(s, slot.bucket);

        intent_begin(s, op, slot.bucket, 0, slot.i, slot_handle(b, slot.i), handle);
        slot_write(b, slot.i, slot_tag(b, slot.i), handle);
        intent_end(s);
}

void index_remove(struct store *s, struct index_slot slot)
{
        bucket_t *b = bucket_at(s, slot.bucket);

        intent_begin(s, INTENT_REMOVE, slot.bucket, 0, slot.i, slot_handle(b, slot.i), 0);
        slot_write(b, slot.i, 0, ARENA_NONE);
        intent_end(s);
}

void index_edit_begin(struct store *s, struct index_slot slot, uint32_t handle, uint64_t deadline,
                      const struct arena_fresh *fresh)
{
        s->a.t->intent.fresh = *fresh;
        intent_begin(s, INTENT_EDIT, slot.bucket, deadline, slot.i, handle, handle);
        write_begin(bucket_at(s, slot.bucket));
}

void index_edit_end(struct store *s, struct index_slot slot)
{
        write_end(bucket_at(s, slot.bucket));
        intent_end(s);
}
