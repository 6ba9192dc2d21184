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
 *    EXTENT_TRIES copies;
 *  - the full key is compared;
 *  - what was copied counts only if the bucket's counter is the same afterwards (a sequence lock,
 *    with the counter in memory that never becomes anything else).
 *
 * The counter's protocol in C11 terms: load the counter with acquire, copy with plain loads,
 * acquire fence, load the counter again. The copies race with the writer, and the second look
 * throws away what the race spoiled. ThreadSanitizer knows no fences: the three RACY functions,
 * which copy, compare and find tags, are excused from it, and only they read what is not atomic.
 *
 * See also: Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012).
 */

#include "proto/arena-read.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A writer that is stopped in the middle of a change keeps a bucket odd; one that is busy changes
 * it every few hundred nanoseconds at most. */
#define TRIES 64u
/* So many copies of a value of megabytes may be in vain. */
#define EXTENT_TRIES 4u

/* Extension blocks of this version take at most 28 bytes; later ones may add fields. */
#define EXT_MAX 64u

/* Excused from ThreadSanitizer, which holds only for code that is not made part of other code. */
#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define RACY __attribute__((no_sanitize("thread"), noinline))
#else
#define RACY inline
#endif

typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t word64 __attribute__((aligned(1), may_alias));
typedef uint32_t word32 __attribute__((aligned(1), may_alias));

#define RACY_LOAD(type, from)     (*(const volatile type *)(const void *)(from))
#define RACY_MOVE(type, to, from) (*(type *)(void *)(to) = RACY_LOAD(type, from))

/*
 * Copies bytes that somebody may be writing. The volatile loads keep the compiler from replacing
 * them by a call of memcpy(), which ThreadSanitizer would see, and from loading twice what was
 * checked. The last bytes are taken with the width of those before them, so some are copied twice.
 */
static RACY void racy_copy(void *to, const void *from, size_t n)
{
        uint8_t *t = to;
        const uint8_t *f = from;

        if (n >= 16) {
                size_t i = 0;

#if defined(__x86_64__)
                if (n >= 256) {
                        __asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
                        return;
                }
#endif
                for (; i + 16 <= n; i += 16)
                        RACY_MOVE(bytes16, t + i, f + i);
                RACY_MOVE(bytes16, t + n - 16, f + n - 16);
        } else if (n >= 8) {
                RACY_MOVE(word64, t, f);
                RACY_MOVE(word64, t + n - 8, f + n - 8);
        } else if (n >= 4) {
                RACY_MOVE(word32, t, f);
                RACY_MOVE(word32, t + n - 4, f + n - 4);
        } else {
                for (; n > 0; n--)
                        *t++ = RACY_LOAD(uint8_t, f++);
        }
}

/* Whether `n` bytes that somebody may be writing are these. */
static RACY bool racy_is(const void *from, const void *what, size_t n)
{
        const uint8_t *f = from, *w = what;
        uint64_t difference = 0;

        if (n >= 8) {
                for (size_t i = 0; i + 8 <= n; i += 8)
                        difference |= RACY_LOAD(word64, f + i) ^ *(const word64 *)(w + i);
                difference |= RACY_LOAD(word64, f + n - 8) ^ *(const word64 *)(w + n - 8);
        } else {
                for (size_t i = 0; i < n; i++)
                        difference |= (uint64_t)(RACY_LOAD(uint8_t, f + i) ^ w[i]);
        }
        return difference == 0;
}

static uint32_t load32(const uint32_t *p)
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

struct look {
        const struct arena_map *m;
        const struct arena_query *q;
        uint32_t gen;
        uint16_t tag;
        uint64_t h1, h2;
        void *buf;
        size_t n_buf;
        struct arena_hit *hit;
        unsigned *n_copies; /* of extents, in all tries */
};

/* The chunk behind a handle: NULL if there is none in this mapping. */
static const uint8_t *chunk_of(const struct arena_map *m, uint32_t handle, uint32_t *ret_size)
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

static void read_ext(const uint8_t *p, uint32_t n, struct arena_hit *hit)
{
        const uint8_t *end = p + n;
        struct arena_ext x;

        memcpy(&x, p, sizeof(x));
        p += sizeof(x);
        if (x.fields & EXT_FLAGS && end - p >= 4) {
                memcpy(&hit->flags, p, 4);
                p += 4;
        }
        if (x.fields & EXT_COST && end - p >= 8) {
                memcpy(&hit->cost_us, p, 8);
                p += 8;
        }
        if (x.fields & EXT_ENCODING && end - p >= 12) {
                memcpy(&hit->raw_size, p, 8);
                memcpy(&hit->encoding, p + 8, 4);
        }
}

/* A copy of an extension block, whose own length was checked. */
struct ext_copy {
        uint32_t n; /* 0: none */
        _Alignas(8) uint8_t bytes[EXT_MAX];
};

/* Takes the block at `from`, of which there are at most `n_max` bytes. False: it is nonsense. */
static bool take_ext(const uint8_t *from, uint32_t n_max, struct ext_copy *ret)
{
        struct arena_ext x;

        racy_copy(&x, from, sizeof(x));
        if (x.n_bytes < sizeof(x) || x.n_bytes > EXT_MAX || x.n_bytes > n_max)
                return false;
        memcpy(ret->bytes, &x, sizeof(x));
        racy_copy(ret->bytes + sizeof(x), from + sizeof(x), x.n_bytes - sizeof(x));
        ret->n = x.n_bytes;
        return true;
}

enum probe {
        PROBE_OTHER, /* not this key, or nonsense: the counter will tell whether that counts */
        PROBE_HIT,
        PROBE_TOO_LONG,
        PROBE_LARGE,
        PROBE_EXPIRED,
};

static inline uint64_t deadline_of(const struct arena_entry *e)
{
        return (uint64_t)(e->hi >> 12 & 0xff) << 32 | e->deadline_lo;
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
        l->hit->n_value = (uint32_t)x.size;
        if (x.size > l->n_buf)
                return PROBE_TOO_LONG;
        ++*l->n_copies;
        racy_copy(l->buf, m->extents + x.offset, x.size);
        return PROBE_HIT;
}

/*
 * The stored bytes of an entry that is the one looked for and lives: `n` of them.
 * @ext: NULL, or its extension block
 */
static enum probe take(const struct look *l, uint32_t handle, const struct arena_entry *e,
                       const struct ext_copy *ext, const uint8_t *stored, uint32_t n)
{
        struct arena_hit *hit = l->hit;
        uint64_t deadline = deadline_of(e);

        *hit = (struct arena_hit){
                .handle = handle,
                .version = (uint64_t)(e->hi >> 20) << 32 | e->version_lo,
                .deadline_ms = deadline == ENTRY_40BIT_MAX ? ARENA_NEVER : deadline,
                .uid = load32(&l->m->owners[e->hi & (ARENA_OWNERS_MAX - 1)]),
                .n_value = n,
        };
        if (ext)
                read_ext(ext->bytes, ext->n, hit);
        if (e->sizes & ENTRY_LARGE) {
                if (n != sizeof(hit->large))
                        return PROBE_OTHER;
                racy_copy(&hit->large, stored, sizeof(hit->large));
                return PROBE_LARGE;
        }
        if (e->sizes & ENTRY_EXTENT)
                return take_extent(l, stored, n);
        if (n > l->n_buf)
                return PROBE_TOO_LONG;
        racy_copy(l->buf, stored, n);
        return PROBE_HIT;
}

/* The rest of an entry's chunk, behind the header and, if there is one, the extension block. */
static inline enum probe probe_rest(const struct look *l, uint32_t handle,
                                    const struct arena_entry *e, const struct ext_copy *ext,
                                    const uint8_t *key, uint32_t n_left)
{
        const struct arena_query *q = l->q;
        uint32_t n_stored = e->sizes >> 10;
        uint64_t deadline = deadline_of(e);

        if (q->n_key > n_left || n_stored > n_left - q->n_key || !racy_is(key, q->key, q->n_key))
                return PROBE_OTHER;
        if (deadline <= q->now_ms && deadline != ENTRY_40BIT_MAX)
                return PROBE_EXPIRED;
        return take(l, handle, e, ext, key + q->n_key, n_stored);
}

/* Apart, because of the room for the block, which the others need not have. */
static __attribute__((noinline)) enum probe probe_ext(const struct look *l, uint32_t handle,
                                                      const struct arena_entry *e,
                                                      const uint8_t *at, uint32_t n_left)
{
        struct ext_copy ext;

        if (n_left < sizeof(struct arena_ext) || !take_ext(at, n_left, &ext))
                return PROBE_OTHER;
        return probe_rest(l, handle, e, &ext, at + ext.n, n_left - ext.n);
}

/* Reads the entry behind a handle, if it is the one that is looked for. */
static inline enum probe probe(const struct look *l, uint32_t handle)
{
        const uint8_t *chunk;
        struct arena_entry e;
        uint32_t n_chunk;

        chunk = chunk_of(l->m, handle, &n_chunk);
        if (!chunk)
                return PROBE_OTHER;
        /* A chunk has at least 64 bytes. Most values lie in the lines behind the first. */
        __builtin_prefetch(chunk + 64);
        racy_copy(&e, chunk, sizeof(e));
        if (e.gen != l->gen || (e.sizes >> 4 & 0x3f) + 1 != l->q->n_key)
                return PROBE_OTHER;
        chunk += ENTRY_HEADER_SIZE;
        n_chunk -= ENTRY_HEADER_SIZE;
        if (e.sizes & ENTRY_EXT)
                return probe_ext(l, handle, &e, chunk, n_chunk);
        return probe_rest(l, handle, &e, NULL, chunk, n_chunk);
}

/* --------------------------------------------------------------------------------------- buckets
 */

static uint64_t seq_load(const struct arena_bucket *b)
{
        return atomic_load_explicit(&b->seq, memory_order_acquire);
}

/* Whether the bucket is as it was when `seq` was read, and nothing read since can be later. */
static bool seq_holds(const struct arena_bucket *b, uint64_t seq)
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

static inline enum probe look_in(const struct look *l, const struct arena_bucket *b)
{
        for (unsigned slots = slots_with(b, l->tag); slots != 0; slots &= slots - 1) {
                uint32_t handle = atomic_load_explicit(&b->handle[__builtin_ctz(slots)],
                                                       memory_order_relaxed);
                enum probe p;

                if (handle == ARENA_NONE)
                        continue;
                p = probe(l, handle);
                if (p != PROBE_OTHER)
                        return p;
        }
        return PROBE_OTHER;
}

static const enum arena_result result_of[] = {
        [PROBE_HIT] = ARENA_HIT,
        [PROBE_TOO_LONG] = ARENA_TOO_LONG,
        [PROBE_LARGE] = ARENA_LARGE_VALUE,
        [PROBE_EXPIRED] = ARENA_MISS,
};

static void pause_for_writer(void)
{
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
}

/* One try. ARENA_BUSY: something changed meanwhile. */
static enum arena_result look_once(const struct look *l)
{
        const struct arena_map *m = l->m;
        uint64_t n = atomic_load_explicit(&m->h->n_buckets, memory_order_acquire);
        const struct arena_bucket *b1, *b2;
        uint64_t seq1, seq2;
        enum probe p;

        if (n == 0 || n > m->index_max_buckets)
                return ARENA_BROKEN;
        b1 = &m->buckets[arena_bucket_of(l->h1, n)];
        b2 = &m->buckets[arena_bucket_of(l->h2, n)];
        seq1 = seq_load(b1);
        if (seq1 & 1)
                return ARENA_BUSY;
        p = look_in(l, b1);
        if (p != PROBE_OTHER)
                return seq_holds(b1, seq1) ? result_of[p] : ARENA_BUSY;
        seq2 = seq_load(b2);
        if (seq2 & 1)
                return ARENA_BUSY;
        p = look_in(l, b2);
        if (p != PROBE_OTHER)
                return seq_holds(b2, seq2) ? result_of[p] : ARENA_BUSY;
        /* A key that moves is put into its new place before it leaves the old one. If neither
         * bucket changed from before the first look until after the second, it was in neither at
         * the instant between. */
        if (!seq_holds(b1, seq1) || !seq_holds(b2, seq2) ||
            atomic_load_explicit(&m->h->n_buckets, memory_order_relaxed) != n)
                return ARENA_BUSY;
        return ARENA_MISS;
}

static bool is_retired(const struct arena_map *m)
{
        return atomic_load_explicit(&m->h->retired, memory_order_acquire) != 0;
}

/* The generation of the query's cache; 0: it is not there. */
static uint32_t generation_of(const struct arena_map *m, const struct arena_query *q)
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

static void look_for(struct look *l, uint32_t gen)
{
        XXH128_hash_t h =
                XXH3_128bits_withSeed(l->q->key, l->q->n_key, arena_hash_seed(l->m->seed, gen));

        l->gen = gen;
        l->h1 = h.low64;
        l->h2 = h.high64;
        l->tag = (uint16_t)(h.low64 >> 48);
}

enum arena_result arena_read(const struct arena_map *m, const struct arena_query *q, void *buf,
                             size_t n_buf, struct arena_hit *ret)
{
        unsigned n_copies = 0;
        struct look l = {
                .m = m, .q = q, .buf = buf, .n_buf = n_buf, .hit = ret, .n_copies = &n_copies};

        for (unsigned tries = 0; tries < TRIES && n_copies < EXTENT_TRIES; tries++) {
                uint32_t gen = generation_of(m, q);
                enum arena_result r;

                if (gen == 0)
                        return is_retired(m) ? ARENA_RETIRED : ARENA_NO_CACHE;
                if (gen != l.gen)
                        look_for(&l, gen);
                r = look_once(&l);
                if (r != ARENA_BUSY)
                        return is_retired(m) ? ARENA_RETIRED : r;
                pause_for_writer();
        }
        return is_retired(m) ? ARENA_RETIRED : ARENA_BUSY;
}

/* ------------------------------------------------------------------------------------ many at once
 */

static uint32_t guess(const struct look *l, uint64_t n)
{
        const struct arena_bucket *at[2] = {&l->m->buckets[arena_bucket_of(l->h1, n)],
                                            &l->m->buckets[arena_bucket_of(l->h2, n)]};

        for (unsigned j = 0; j < 2; j++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        if (atomic_load_explicit(&at[j]->tag[i], memory_order_relaxed) == l->tag)
                                return atomic_load_explicit(&at[j]->handle[i],
                                                            memory_order_relaxed);
        return ARENA_NONE;
}

void arena_ahead(const struct arena_map *m, const struct arena_query *q, unsigned n)
{
        uint64_t n_buckets = atomic_load_explicit(&m->h->n_buckets, memory_order_acquire);
        struct look l[ARENA_AHEAD_MAX];
        unsigned n_l = 0;

        if (n_buckets == 0 || n_buckets > m->index_max_buckets)
                return;
        for (unsigned i = 0; i < n && i < ARENA_AHEAD_MAX; i++) {
                uint32_t gen = generation_of(m, &q[i]);

                if (gen == 0)
                        continue;
                l[n_l] = (struct look){.m = m, .q = &q[i]};
                look_for(&l[n_l], gen);
                __builtin_prefetch(&m->buckets[arena_bucket_of(l[n_l].h1, n_buckets)]);
                __builtin_prefetch(&m->buckets[arena_bucket_of(l[n_l].h2, n_buckets)]);
                n_l++;
        }
        for (unsigned i = 0; i < n_l; i++) {
                uint32_t n_chunk;
                const uint8_t *chunk = chunk_of(m, guess(&l[i], n_buckets), &n_chunk);

                if (!chunk)
                        continue;
                __builtin_prefetch(chunk);
                __builtin_prefetch(chunk + 64);
        }
}
