/* SPDX-License-Identifier: MIT */
/*
 * The mapped reader
 *
 * Everything that lies in the mapping may change under our eyes, and may be nonsense: an arena that
 * a killed writer left, or one that somebody with the same uid scribbled over. So:
 *
 *  - where the parts lie was checked once, against the mapping's size (arena_map_init());
 *  - a handle is checked against the number of spans and the chunk size of its span, sizes in an
 *    entry against its chunk, before anything is read at them, and each is read once: what was
 *    checked is what is used;
 *  - loops are bounded: two buckets of nine slots, TRIES times;
 *  - the full key is compared;
 *  - what was copied counts only if the bucket's counter is the same afterwards (a sequence lock,
 *    with the counter in memory that never becomes anything else).
 *
 * The counter's protocol in C11 terms: load the counter with acquire, copy with plain loads,
 * acquire fence, load the counter again. The copies race with the writer, and the second look
 * throws away what the race spoiled. ThreadSanitizer knows no fences; racy_copy() is the one place
 * that is excused from it, and the one place that reads block bytes.
 *
 * See also: Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012).
 */

#include "proto/arena-read.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A writer that is stopped in the middle of a change keeps a bucket odd; one that is busy changes
 * it every few hundred nanoseconds at most. */
#define TRIES 64u

/* Extension blocks of this version take at most 28 bytes; later ones may add fields. */
#define EXT_MAX 64u

#if defined(__clang__) || defined(__GNUC__)
#define RACY __attribute__((no_sanitize("thread"), noinline))
#else
#define RACY
#endif

struct __attribute__((packed, may_alias)) word64 {
        uint64_t v;
};

/* Copies bytes that somebody may be writing. The volatile loads keep the compiler from replacing
 * the loop by a call of memcpy(), which ThreadSanitizer would see. */
static RACY void racy_copy(void *to, const void *from, size_t n)
{
        uint8_t *t = to;
        const uint8_t *f = from;

#if defined(__x86_64__)
        if (n >= 256) {
                __asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
                return;
        }
#endif
        for (; n >= 32; n -= 32, t += 32, f += 32) {
                struct word64 *to4 = (struct word64 *)(void *)t;
                const volatile struct word64 *from4 =
                        (const volatile struct word64 *)(const void *)f;
                uint64_t a = from4[0].v, b = from4[1].v, c = from4[2].v, d = from4[3].v;

                to4[0].v = a;
                to4[1].v = b;
                to4[2].v = c;
                to4[3].v = d;
        }
        for (; n >= 8; n -= 8, t += 8, f += 8)
                ((struct word64 *)(void *)t)->v =
                        ((const volatile struct word64 *)(const void *)f)->v;
        for (; n > 0; n--)
                *t++ = *(const volatile uint8_t *)f++;
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
            !part_fits(h.size, h.spans_off, h.n_spans, ARENA_SPAN_SIZE))
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
                .cache_dir_max = h.cache_dir_max,
                .n_spans = h.n_spans,
                .index_max_buckets = h.index_max_buckets,
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

enum probe {
        PROBE_OTHER, /* not this key, or nonsense: the counter will tell whether that counts */
        PROBE_HIT,
        PROBE_TOO_LONG,
        PROBE_LARGE,
        PROBE_EXPIRED,
};

/* Reads the entry behind a handle, if it is the one that is looked for. */
static enum probe probe(const struct look *l, uint32_t handle)
{
        _Alignas(8) uint8_t head[ENTRY_HEADER_SIZE + EXT_MAX + 64 + 12];
        const struct arena_query *q = l->q;
        struct arena_hit *hit = l->hit;
        const uint8_t *chunk;
        struct arena_entry e;
        uint32_t n_chunk, n_head, n_ext = 0, n_stored;
        uint64_t deadline;

        chunk = chunk_of(l->m, handle, &n_chunk);
        if (!chunk)
                return PROBE_OTHER;
        /* One copy takes header and key of nearly every entry; a chunk has at least 64 bytes. */
        n_head = ENTRY_HEADER_SIZE + q->n_key;
        n_head = n_head + 7 < n_chunk ? (n_head + 7) & ~UINT32_C(7) : n_chunk;
        racy_copy(head, chunk, n_head);
        memcpy(&e, head, sizeof(e));
        if (e.gen != l->gen || (e.sizes >> 4 & 0x3f) + 1 != q->n_key)
                return PROBE_OTHER;
        if (e.sizes & ENTRY_EXT) {
                struct arena_ext x;

                memcpy(&x, head + ENTRY_HEADER_SIZE, sizeof(x));
                n_ext = x.n_bytes;
                if (n_ext < sizeof(x) || n_ext > EXT_MAX ||
                    ENTRY_HEADER_SIZE + n_ext + q->n_key > n_chunk)
                        return PROBE_OTHER;
                racy_copy(head + ENTRY_HEADER_SIZE + sizeof(x),
                          chunk + ENTRY_HEADER_SIZE + sizeof(x), n_ext - sizeof(x) + q->n_key);
        }
        n_stored = e.sizes >> 10;
        if (ENTRY_HEADER_SIZE + n_ext + q->n_key > n_chunk ||
            n_stored > n_chunk - ENTRY_HEADER_SIZE - n_ext - q->n_key ||
            memcmp(head + ENTRY_HEADER_SIZE + n_ext, q->key, q->n_key) != 0)
                return PROBE_OTHER;
        deadline = (uint64_t)(e.hi >> 12 & 0xff) << 32 | e.deadline_lo;
        if (deadline <= q->now_ms && deadline != ENTRY_40BIT_MAX)
                return PROBE_EXPIRED;
        *hit = (struct arena_hit){
                .handle = handle,
                .version = (uint64_t)(e.hi >> 20) << 32 | e.version_lo,
                .deadline_ms = deadline == ENTRY_40BIT_MAX ? ARENA_NEVER : deadline,
                .uid = load32(&l->m->owners[e.hi & (ARENA_OWNERS_MAX - 1)]),
                .n_value = n_stored,
        };
        if (n_ext > 0)
                read_ext(head + ENTRY_HEADER_SIZE, n_ext, hit);
        chunk += ENTRY_HEADER_SIZE + n_ext + q->n_key;
        if (e.sizes & ENTRY_LARGE) {
                if (n_stored != sizeof(hit->large))
                        return PROBE_OTHER;
                racy_copy(&hit->large, chunk, sizeof(hit->large));
                return PROBE_LARGE;
        }
        if (n_stored > l->n_buf)
                return PROBE_TOO_LONG;
        racy_copy(l->buf, chunk, n_stored);
        return PROBE_HIT;
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

/* One of the slots, if it is the key's. */
static enum probe look_at(const struct look *l, const struct arena_bucket *b, unsigned i)
{
        uint32_t handle = atomic_load_explicit(&b->handle[i], memory_order_relaxed);

        return handle == ARENA_NONE ? PROBE_OTHER : probe(l, handle);
}

/* The top bit of each quarter of the word that equals the tag. */
static uint64_t quarters_with(const _Atomic uint16_t *tags, uint16_t tag)
{
        const uint64_t ones = UINT64_C(0x0001000100010001), low = ones * 0x7fff;
        uint64_t x = __atomic_load_n((const uint64_t *)(const void *)tags, __ATOMIC_RELAXED);

        x ^= ones * tag;
        return ~(((x & low) + low) | x | low);
}

static enum probe look_in(const struct look *l, const struct arena_bucket *b)
{
        static_assert(offsetof(struct arena_bucket, tag) % 8 == 0 && ARENA_BUCKET_SLOTS == 9,
                      "two aligned words of tags and one more");
        enum probe p = PROBE_OTHER;

        /* Four tags at a time: nearly always none or one of the nine is the key's. */
        for (unsigned i = 0; i < 8; i += 4)
                for (uint64_t with = quarters_with(&b->tag[i], l->tag); with != 0;
                     with &= with - 1) {
                        unsigned k = (unsigned)__builtin_ctzll(with) / 16;

                        k = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? k : 3 - k;
                        p = look_at(l, b, i + k);
                        if (p != PROBE_OTHER)
                                return p;
                }
        if (atomic_load_explicit(&b->tag[8], memory_order_relaxed) == l->tag)
                p = look_at(l, b, 8);
        return p;
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
        struct look l = {.m = m, .q = q, .buf = buf, .n_buf = n_buf, .hit = ret};

        for (unsigned tries = 0; tries < TRIES; tries++) {
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
