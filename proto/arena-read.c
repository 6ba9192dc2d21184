/* SPDX-License-Identifier: MIT */
/*
 * The mapped reader
 *
 * Everything that lies in the mapping may change under our eyes, and may be nonsense: an arena that
 * a killed writer left, or one that somebody with the same uid scribbled over. So:
 *
 *  - where the parts lie was checked once, against the mapping's size (arena_map_init());
 *  - a handle is checked against the number of spans and the chunk size of its span, sizes in an
 *    entry against its chunk, an extent against the part for them, before anything is read at them,
 *    and each is read once: what was checked is what is used;
 *  - loops are bounded: two buckets of nine slots, TRIES times; where a value is megabytes long,
 *    COPIED_MAX bytes of copies;
 *  - the full key is compared;
 *  - what was copied counts only if the bucket's counter is the same afterwards (a sequence lock,
 *    with the counter in memory that never becomes anything else).
 *
 * The counter's protocol in C11 terms: load the counter with acquire, copy with plain loads,
 * acquire fence, load the counter again. The copies race with the writer, and the second look
 * throws away what the race spoiled. Only what is RACY reads what is not atomic, see racy.h.
 *
 * See also: Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012).
 */

#include "proto/arena-read.h"

#include "proto/arena-ext.h"
#include "proto/racy.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A writer that is stopped in the middle of a change keeps a bucket odd; one that is busy changes
 * it every few hundred nanoseconds at most. */
#define TRIES 64u
/* So many bytes may be copied in vain: a few values of megabytes. */
#define COPIED_MAX (UINT64_C(16) << 20)

/* Part of arena_read(): what it was given stays in registers. */
#define HOT         inline __attribute__((always_inline))
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static HOT uint32_t load32(const uint32_t *p)
{
        return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------------------------ the header
 */

static bool part_fits(uint64_t size, uint64_t off, uint64_t n, uint64_t each)
{
        return off <= size && off % 8 == 0 && n <= (size - off) / each;
}

const char *arena_map_init(const void *base, uint64_t size, struct arena_map *ret)
{
        struct arena_header h;

        if (size < sizeof(h))
                return "it is smaller than a header";
        racy_copy(&h, base, sizeof(h));
        if (h.magic != ARENA_MAGIC)
                return "it is no arena";
        if (h.layout_version != ARENA_LAYOUT_VERSION)
                return "its layout is of another version";
        if (h.feature_bits != 0)
                return "its layout has features that this version does not know";
        if (h.size > size)
                return "it is shorter than its header says";
        if (h.index_max_buckets == 0 || h.cache_dir_max == 0 || h.n_spans == 0 ||
            h.n_spans > ARENA_SPANS_MAX || h.index_off % sizeof(struct arena_bucket) != 0 ||
            !part_fits(h.size, h.cache_dir_off, h.cache_dir_max, sizeof(struct arena_cache)) ||
            !part_fits(h.size, h.owners_off, ARENA_OWNERS_MAX, sizeof(uint32_t)) ||
            !part_fits(h.size, h.dead_tags_off, ARENA_TAGS_MAX / 8, 1) ||
            !part_fits(h.size, h.span_table_off, h.n_spans, sizeof(uint32_t)) ||
            !part_fits(h.size, h.index_off, h.index_max_buckets, sizeof(struct arena_bucket)) ||
            !part_fits(h.size, h.spans_off, h.n_spans, ARENA_SPAN_SIZE) ||
            !part_fits(h.size, h.extents_off, h.extents_size, 1))
                return "a part of it lies outside";
        *ret = (struct arena_map){
                .base = base,
                .size = size,
                .instance = h.instance,
                .seed = h.seed[0],
                .h = base,
                .cache_dir = (const void *)((const uint8_t *)base + h.cache_dir_off),
                .owners = (const void *)((const uint8_t *)base + h.owners_off),
                .dead_tags = (const void *)((const uint8_t *)base + h.dead_tags_off),
                .span_chunk = (const void *)((const uint8_t *)base + h.span_table_off),
                .buckets = (const void *)((const uint8_t *)base + h.index_off),
                .spans = (const uint8_t *)base + h.spans_off,
                .extents = (const uint8_t *)base + h.extents_off,
                .cache_dir_max = h.cache_dir_max,
                .n_spans = h.n_spans,
                .index_max_buckets = h.index_max_buckets,
                .n_extents = h.extents_size,
        };
        return NULL;
}

uint64_t arena_name_hash(const char *name, size_t n_name)
{
        return XXH3_64bits(name, n_name);
}

uint32_t arena_find_cache(const struct arena_map *m, uint64_t name_hash)
{
        for (uint32_t id = 1; id < m->cache_dir_max; id++)
                if (atomic_load_explicit(&m->cache_dir[id].generation, memory_order_acquire) != 0 &&
                    atomic_load_explicit(&m->cache_dir[id].name_hash, memory_order_relaxed) ==
                            name_hash)
                        return id;
        return 0;
}

/* --------------------------------------------------------------------------------------- entries
 */

/* What is looked for, and where it goes. */
struct look {
        const struct arena_map *m;
        const struct arena_query *q;
        void *buf;
        size_t n_buf;
        struct arena_hit *hit;
};

/* The chunk behind a handle: NULL if there is none in this mapping. */
static HOT const uint8_t *chunk_of(const struct arena_map *m, uint32_t handle, uint32_t *ret_size)
{
        uint32_t span = handle >> ARENA_CHUNK_SHIFT;
        uint64_t chunk = handle & ARENA_CHUNK_MASK;
        uint32_t size;

        if (span >= m->n_spans)
                return NULL;
        size = load32(&m->span_chunk[span]);
        if (size < ARENA_CHUNK_MIN || size > ARENA_SPAN_SIZE || size % 8 != 0 ||
            (chunk + 1) * size > ARENA_SPAN_SIZE)
                return NULL;
        *ret_size = size;
        return m->spans + ((uint64_t)span << ARENA_SPAN_SHIFT) + chunk * size;
}

enum probe {
        PROBE_OTHER, /* not this key, or nonsense: the counter will tell whether that counts */
        PROBE_HIT,
        PROBE_TOO_LONG,
        PROBE_LARGE,
        PROBE_EXPIRED, /* or cleared by tag */
};

/* A header, of which each word is read once. */
static RACY struct arena_entry racy_entry(const uint8_t *chunk)
{
        const struct arena_entry *e = (const void *)chunk;

        return (struct arena_entry){
                .gen = RACY_LOAD(uint32_t, &e->gen),
                .version_lo = RACY_LOAD(uint32_t, &e->version_lo),
                .deadline_lo = RACY_LOAD(uint32_t, &e->deadline_lo),
                .hi = RACY_LOAD(uint32_t, &e->hi),
                .sizes = RACY_LOAD(uint32_t, &e->sizes),
        };
}

static HOT uint64_t deadline_of(const struct arena_entry *e)
{
        return (uint64_t)(e->hi >> 12 & 0xff) << 32 | e->deadline_lo;
}

/* How many bytes of what is stored are wanted. False: there are more messages than bytes. */
static HOT bool value_size(const struct look *l, uint64_t *n)
{
        uint64_t n_messages = arena_hit_messages(l->hit);

        if (n_messages > *n)
                return false;
        if (!l->q->want_messages)
                *n -= n_messages;
        return true;
}

/* A value that lies apart; `n` stored bytes say where. */
static __attribute__((noinline)) enum probe take_extent(const struct look *l, const uint8_t *stored,
                                                        uint32_t n)
{
        const struct arena_map *m = l->m;
        struct arena_extent x;

        if (n != sizeof(x))
                return PROBE_OTHER;
        racy_copy(&x, stored, sizeof(x));
        if (x.offset > m->n_extents || x.size > m->n_extents - x.offset || x.size > UINT32_MAX)
                return PROBE_OTHER;
        if (!value_size(l, &x.size))
                return PROBE_OTHER;
        l->hit->n_value = (uint32_t)x.size;
        if (x.size > l->n_buf)
                return PROBE_TOO_LONG;
        racy_copy(l->buf, m->extents + x.offset, x.size);
        return PROBE_HIT;
}

/* What time makes of an entry with a window. False: it is not to be served. */
static bool look_at_window(struct arena_hit *hit, uint64_t now_ms)
{
        const struct arena_fresh *f = &hit->fresh;

        if (f->fresh <= now_ms)
                hit->marks |= ARENA_HIT_STALE;
        if (f->refresh <= now_ms)
                hit->marks |= ARENA_HIT_DUE;
        return now_ms < f->serve;
}

/* What only entries with an extension block can be; `n` stored bytes. PROBE_HIT: go on. */
static HOT enum probe take_extra(const struct look *l, const struct arena_ext_copy *ext,
                                 uint32_t sizes, uint32_t *n)
{
        struct arena_hit *hit = l->hit;
        uint64_t n_value = *n;

        arena_ext_read(ext, hit);
        if (hit->marks & ARENA_HIT_WINDOW && !look_at_window(hit, l->q->now_ms))
                return PROBE_EXPIRED;
        if (sizes & (ENTRY_LARGE | ENTRY_EXTENT))
                return PROBE_HIT;
        if (!value_size(l, &n_value))
                return PROBE_OTHER;
        *n = (uint32_t)n_value;
        return PROBE_HIT;
}

/*
 * The stored bytes of an entry that is the one looked for and lives: `n` of them.
 * @ext: NULL, or its extension block
 */
static HOT enum probe take(const struct look *l, uint32_t handle, const struct arena_entry *e,
                           const struct arena_ext_copy *ext, const uint8_t *stored, uint32_t n)
{
        struct arena_hit *hit = l->hit;
        uint64_t deadline = deadline_of(e);

        /* Field by field: the last ones are not for plain values. */
        hit->handle = handle;
        hit->version = (uint64_t)(e->hi >> 20) << 32 | e->version_lo;
        hit->deadline_ms = deadline == ENTRY_40BIT_MAX ? ARENA_NEVER : deadline;
        hit->uid = load32(&l->m->owners[e->hi & (ARENA_OWNERS_MAX - 1)]);
        hit->flags = hit->encoding = hit->marks = 0;
        hit->raw_size = hit->cost_us = 0;
        if (ext) {
                enum probe p = take_extra(l, ext, e->sizes, &n);

                if (p != PROBE_HIT)
                        return p;
        }
        hit->n_value = n;
        if (unlikely(e->sizes & ENTRY_LARGE)) {
                if (n != sizeof(hit->large))
                        return PROBE_OTHER;
                racy_copy(&hit->large, stored, sizeof(hit->large));
                return arena_hit_messages(hit) <= hit->large.size ? PROBE_LARGE : PROBE_OTHER;
        }
        if (unlikely(e->sizes & ENTRY_EXTENT))
                return take_extent(l, stored, n);
        if (unlikely(n > l->n_buf))
                return PROBE_TOO_LONG;
        racy_copy(l->buf, stored, n);
        return PROBE_HIT;
}

/* The rest of an entry's chunk, behind the header and, if there is one, the extension block. */
static HOT enum probe probe_rest(const struct look *l, uint32_t handle, const struct arena_entry *e,
                                 const struct arena_ext_copy *ext, const uint8_t *key,
                                 uint32_t n_left)
{
        const struct arena_query *q = l->q;
        uint32_t n_stored = e->sizes >> 10;
        uint64_t deadline = deadline_of(e);

        if (q->n_key > n_left || n_stored > n_left - q->n_key || !racy_is(key, q->key, q->n_key))
                return PROBE_OTHER;
        if (unlikely(deadline <= q->now_ms && deadline != ENTRY_40BIT_MAX))
                return PROBE_EXPIRED;
        if (ext) {
                enum arena_life life = arena_ext_life(l->m, ext);

                if (life != LIFE_HERE)
                        return life == LIFE_DEAD ? PROBE_EXPIRED : PROBE_OTHER;
        }
        return take(l, handle, e, ext, key + q->n_key, n_stored);
}

/* Whether a header is of such an entry as is looked for. */
static HOT bool entry_may_be(const struct arena_entry *e, uint32_t gen, const struct arena_query *q)
{
        return e->gen == gen && (e->sizes >> 4 & 0x3f) + 1 == q->n_key;
}

/*
 * As probe(), for entries with an extension block. Apart, because of the room for the block, which
 * the others need not have; it begins anew, so that nothing of theirs need be in memory for it.
 */
static __attribute__((noinline)) enum probe probe_ext(const struct arena_map *m,
                                                      const struct arena_query *q, void *buf,
                                                      size_t n_buf, struct arena_hit *hit,
                                                      uint32_t gen, struct arena_place at)
{
        const struct look l = {.m = m, .q = q, .buf = buf, .n_buf = n_buf, .hit = hit};
        uint32_t n_left = at.n_chunk - ENTRY_HEADER_SIZE;
        const uint8_t *from = at.chunk + ENTRY_HEADER_SIZE;
        struct arena_entry e = racy_entry(at.chunk);
        struct arena_ext_copy ext;

        if (!entry_may_be(&e, gen, q) || !(e.sizes & ENTRY_EXT) ||
            !arena_ext_take(from, n_left, &ext))
                return PROBE_OTHER;
        return probe_rest(&l, at.handle, &e, &ext, from + ext.n, n_left - ext.n);
}

/* Reads the entry in a chunk, if it is the one that is looked for. */
static HOT enum probe probe(const struct look *l, uint32_t gen, struct arena_place at)
{
        struct arena_entry e;

        if (unlikely(!at.chunk))
                return PROBE_OTHER;
        e = racy_entry(at.chunk);
        if (!entry_may_be(&e, gen, l->q))
                return PROBE_OTHER;
        if (e.sizes & ENTRY_EXT)
                return probe_ext(l->m, l->q, l->buf, l->n_buf, l->hit, gen, at);
        return probe_rest(l, at.handle, &e, NULL, at.chunk + ENTRY_HEADER_SIZE,
                          at.n_chunk - ENTRY_HEADER_SIZE);
}

/* --------------------------------------------------------------------------------------- buckets
 */

static HOT uint64_t seq_load(const struct arena_bucket *b)
{
        return atomic_load_explicit(&b->seq, memory_order_acquire);
}

/* Whether the bucket is as it was when `seq` was read, and nothing read since can be later. */
static HOT bool seq_holds(const struct arena_bucket *b, uint64_t seq)
{
        atomic_thread_fence(memory_order_acquire);
        return atomic_load_explicit(&b->seq, memory_order_relaxed) == seq;
}

/* The slots of a bucket that have a tag: a bit each. */
#if defined(__SSE2__)
static RACY unsigned slots_with(const struct arena_bucket *b, uint16_t tag)
{
        const __m128i *at = (const void *)b->tag;
        __m128i is = _mm_cmpeq_epi16(_mm_loadu_si128(at), _mm_set1_epi16((int16_t)tag));

        return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(is, _mm_setzero_si128())) |
               (unsigned)(atomic_load_explicit(&b->tag[8], memory_order_relaxed) == tag) << 8;
}
#else
static unsigned slots_with(const struct arena_bucket *b, uint16_t tag)
{
        unsigned mask = 0;

        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                mask |= (unsigned)(atomic_load_explicit(&b->tag[i], memory_order_relaxed) == tag)
                        << i;
        return mask;
}
#endif

static_assert(ARENA_BUCKET_SLOTS == 9, "eight tags are looked at together, and one");

/* Where the first of some slots leads. */
static HOT struct arena_place place_of(const struct arena_map *m, const struct arena_aim *aim,
                                       unsigned slots)
{
        unsigned at = (unsigned)__builtin_ctz(slots);
        uint64_t second = -(uint64_t)(at >> 4); /* all ones if it is in the second bucket */
        const struct arena_bucket *b =
                &m->buckets[aim->bucket[0] ^ ((aim->bucket[0] ^ aim->bucket[1]) & second)];
        struct arena_place p;

        p.handle = atomic_load_explicit(&b->handle[at & 15], memory_order_relaxed);
        p.chunk = chunk_of(m, p.handle, &p.n_chunk);
        return p;
}

/*
 * Both buckets are looked at together: in which of them a key lies is a matter of chance, so that a
 * processor which guesses would be wrong every third time.
 */
static HOT void aim_at(struct arena_aim *aim, const struct arena_map *m, XXH128_hash_t h,
                       uint64_t n_buckets)
{
        uint16_t tag = (uint16_t)(h.low64 >> 48);
        const struct arena_bucket *b[2];

        aim->n_buckets = n_buckets;
        aim->bucket[0] = arena_bucket_of(h.low64, n_buckets);
        aim->bucket[1] = arena_bucket_of(h.high64, n_buckets);
        b[0] = &m->buckets[aim->bucket[0]];
        b[1] = &m->buckets[aim->bucket[1]];
        aim->seq[0] = seq_load(b[0]);
        aim->seq[1] = seq_load(b[1]);
        aim->slots = slots_with(b[0], tag) | slots_with(b[1], tag) << 16;
        if (likely(aim->slots != 0))
                aim->first = place_of(m, aim, aim->slots);
        else
                aim->first.chunk = NULL;
}

static const enum arena_result result_of[] = {
        [PROBE_HIT] = ARENA_HIT,
        [PROBE_TOO_LONG] = ARENA_TOO_LONG,
        [PROBE_LARGE] = ARENA_LARGE_VALUE,
        [PROBE_EXPIRED] = ARENA_MISS,
};

/* One bucket's word is enough for what was found in it. */
static HOT bool slot_holds(const struct arena_map *m, const struct arena_aim *aim, unsigned slots)
{
        unsigned second = (unsigned)__builtin_ctz(slots) >> 4;
        uint64_t seq = aim->seq[second];

        return (seq & 1) == 0 && seq_holds(&m->buckets[aim->bucket[second]], seq);
}

/* A key that moves is put into its new place before it leaves the old one. If neither bucket
 * changed from before the first look until after the second, it was in neither at the instant
 * between. */
static HOT bool both_hold(const struct arena_map *m, const struct arena_aim *aim)
{
        return ((aim->seq[0] | aim->seq[1]) & 1) == 0 &&
               seq_holds(&m->buckets[aim->bucket[0]], aim->seq[0]) &&
               seq_holds(&m->buckets[aim->bucket[1]], aim->seq[1]) &&
               atomic_load_explicit(&m->h->n_buckets, memory_order_relaxed) == aim->n_buckets;
}

/* One try's second part. ARENA_BUSY: something changed meanwhile. */
static HOT enum arena_result look_once(const struct look *l, const struct arena_aim *aim)
{
        struct arena_place at = aim->first;

        for (unsigned slots = aim->slots; slots != 0;) {
                enum probe p = probe(l, aim->gen, at);

                if (p != PROBE_OTHER)
                        return likely(slot_holds(l->m, aim, slots)) ? result_of[p] : ARENA_BUSY;
                slots &= slots - 1;
                if (slots != 0)
                        at = place_of(l->m, aim, slots);
        }
        return both_hold(l->m, aim) ? ARENA_MISS : ARENA_BUSY;
}

static void pause_for_writer(void)
{
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
}

static HOT bool is_retired(const struct arena_map *m)
{
        return atomic_load_explicit(&m->h->retired, memory_order_acquire) != 0;
}

/* The generation of the query's cache; 0: it is not there. */
static HOT uint32_t generation_of(const struct arena_map *m, const struct arena_query *q)
{
        uint32_t gen;

        if (q->cache >= m->cache_dir_max)
                return 0;
        gen = atomic_load_explicit(&m->cache_dir[q->cache].generation, memory_order_acquire);
        if (atomic_load_explicit(&m->cache_dir[q->cache].name_hash, memory_order_relaxed) !=
            q->name_hash)
                return 0;
        return gen;
}

static HOT uint64_t n_buckets_of(const struct arena_map *m)
{
        return atomic_load_explicit(&m->h->n_buckets, memory_order_acquire);
}

static HOT bool is_in_use(const struct arena_map *m, uint64_t n_buckets)
{
        return n_buckets != 0 && n_buckets <= m->index_max_buckets;
}

static HOT XXH128_hash_t hash_of(const struct arena_map *m, const struct arena_query *q,
                                 uint32_t gen)
{
        return XXH3_128bits_withSeed(q->key, q->n_key, arena_hash_seed(m->seed, gen));
}

/* All tries but one that was made in vain. */
static __attribute__((noinline)) enum arena_result look_on(const struct arena_map *m,
                                                           const struct arena_query *q, void *buf,
                                                           size_t n_buf, struct arena_hit *hit)
{
        const struct look l = {.m = m, .q = q, .buf = buf, .n_buf = n_buf, .hit = hit};
        struct arena_aim aim = {0};
        XXH128_hash_t hash = {0};
        uint64_t n_copied = 0;

        for (unsigned tries = 0; tries < TRIES && n_copied < COPIED_MAX; tries++) {
                uint32_t gen = generation_of(m, q);
                uint64_t n = n_buckets_of(m);
                enum arena_result r;

                if (gen == 0)
                        return ARENA_NO_CACHE;
                if (!is_in_use(m, n))
                        return ARENA_BROKEN;
                if (gen != aim.gen)
                        hash = hash_of(m, q, gen);
                aim.gen = gen;
                aim_at(&aim, m, hash, n);
                hit->n_value = 0;
                r = look_once(&l, &aim);
                if (r != ARENA_BUSY)
                        return r;
                n_copied += hit->n_value;
                pause_for_writer();
        }
        return ARENA_BUSY;
}

enum arena_result arena_read(const struct arena_map *m, const struct arena_query *q, void *buf,
                             size_t n_buf, struct arena_hit *ret)
{
        const struct look l = {.m = m, .q = q, .buf = buf, .n_buf = n_buf, .hit = ret};
        enum arena_result r = ARENA_BUSY;

        if (likely(q->aim.gen != 0))
                r = look_once(&l, &q->aim);
        if (unlikely(r == ARENA_BUSY))
                r = look_on(m, q, buf, n_buf, ret);
        return unlikely(is_retired(m)) ? ARENA_RETIRED : r;
}

/* ----------------------------------------------------------------------------------- ahead of time
 */

/* The hash is made part of it, that of keys alone. */
__attribute__((flatten)) void arena_aim(const struct arena_map *m, struct arena_query *q)
{
        uint32_t gen = generation_of(m, q);
        uint64_t n = n_buckets_of(m);

        if (unlikely(gen == 0 || !is_in_use(m, n) || q->n_key > ARENA_KEY_MAX)) {
                q->aim.gen = 0;
                return;
        }
        q->aim.gen = gen;
        aim_at(&q->aim, m, hash_of(m, q, gen), n);
        if (likely(q->aim.first.chunk)) {
                /* A chunk has at least 64 bytes. Most values lie in the lines behind the first. */
                __builtin_prefetch(q->aim.first.chunk);
                __builtin_prefetch(q->aim.first.chunk + 64);
                __builtin_prefetch(q->aim.first.chunk + 128);
        }
}

/* The buckets of all are asked for before any of them is waited for. */
void arena_ahead(const struct arena_map *m, struct arena_query *q, unsigned n)
{
        uint64_t n_buckets = n_buckets_of(m);
        XXH128_hash_t hash[ARENA_AHEAD_MAX];

        for (unsigned i = 0; i < n; i++) {
                uint32_t gen = is_in_use(m, n_buckets) ? generation_of(m, &q[i]) : 0;

                q[i].aim.gen = gen;
                if (gen == 0)
                        continue;
                hash[i] = hash_of(m, &q[i], gen);
                __builtin_prefetch(&m->buckets[arena_bucket_of(hash[i].low64, n_buckets)]);
                __builtin_prefetch(&m->buckets[arena_bucket_of(hash[i].high64, n_buckets)]);
        }
        for (unsigned i = 0; i < n; i++) {
                if (q[i].aim.gen == 0)
                        continue;
                aim_at(&q[i].aim, m, hash[i], n_buckets);
                if (!q[i].aim.first.chunk)
                        continue;
                __builtin_prefetch(q[i].aim.first.chunk);
                __builtin_prefetch(q[i].aim.first.chunk + 64);
        }
}
