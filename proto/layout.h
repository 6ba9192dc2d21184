/* SPDX-License-Identifier: MIT */
#ifndef LAYOUT_H
#define LAYOUT_H

/*
 * The arena as bytes: what the daemon writes and mapped readers read
 *
 * One memory file per realm, addressed by offset, never by pointer, of a fixed virtual size
 * (sparse). The layout is part of the contract between processes: any change of it is another
 * ARENA_LAYOUT_VERSION.
 *
 *   header | cache directory | owners | dead tags | span table | index (buckets) | spans | extents
 *
 * A *handle* (u32) names a block: the span's number in the upper 18 bits, the chunk's number within
 * the span in the lower 14. The span table gives a span's chunk size; so handle → offset needs one
 * small hot table and no pointer. Handle 0 is "none" (span 0 is never used).
 *
 * An entry starts its chunk: 20 bytes of header, the optional extension, the key, the stored bytes.
 * The value of a long one lies apart, in an *extent*: whole pages of the last part.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#define ARENA_MAGIC          UINT64_C(0x616e657261636163) /* "cacarena" in memory */
#define ARENA_LAYOUT_VERSION 3

#define ARENA_SPAN_SHIFT   20
#define ARENA_SPAN_SIZE    (UINT32_C(1) << ARENA_SPAN_SHIFT)
#define ARENA_CHUNK_SHIFT  14
#define ARENA_CHUNK_MASK   ((UINT32_C(1) << ARENA_CHUNK_SHIFT) - 1)
#define ARENA_CHUNK_MIN    64 /* span size / 2^14: a chunk number always fits */
#define ARENA_SPANS_MAX    (UINT32_C(1) << (32 - ARENA_CHUNK_SHIFT))
#define ARENA_BUCKET_SLOTS 9
#define ARENA_OWNERS_MAX   4096
#define ARENA_TAGS_MAX     65536 /* ids are below this, and not 0 */
#define ARENA_NONE         0

/* The fields up to `instance`, and `retired`, keep their places in every version of the layout: who
 * does not know the rest can still end it. */
struct arena_header {
        uint64_t magic;
        uint32_t layout_version;
        uint32_t feature_bits; /* of the layout; a reader that meets one it does not know leaves */
        uint64_t size;
        uint64_t instance;
        uint64_t seed[2]; /* [0]: of the key hash; [1]: reserved */
        uint64_t cache_dir_off;
        uint64_t owners_off;
        uint64_t span_table_off;
        uint64_t index_off;
        uint64_t spans_off;
        uint32_t cache_dir_max; /* entries */
        uint32_t n_spans;
        uint64_t index_max_buckets;
        _Atomic uint32_t retired; /* set before the arena is dropped: leave it */
        uint32_t spare;
        uint64_t extents_off, extents_size; /* bytes */
        uint64_t dead_tags_off;             /* a bit per tag id, in words of 32 bits */
        /* What changes while readers look, away from what does not. */
        _Alignas(64) _Atomic uint64_t n_buckets; /* in use; linear hashing, see ARENA.md */
        _Atomic int64_t clock_offset_ms;         /* of a test clock; 0 in the product */
};

/* Cache directory, indexed by cache id. A cleared cache has a new generation. */
struct arena_cache {
        _Atomic uint32_t generation; /* entries of other generations are not this cache's; 0: no
                                        such cache */
        uint32_t flags;
        _Atomic uint64_t name_hash; /* a reader checks that the id still means the name it opened */
};

/* One cache line. `seq` is odd while the bucket is being written and never goes back. Tag and
 * handle of a slot belong together; a handle of 0 is an empty slot. */
struct arena_bucket {
        _Atomic uint64_t seq;
        _Atomic uint16_t tag[ARENA_BUCKET_SLOTS];
        uint16_t spare;
        _Atomic uint32_t handle[ARENA_BUCKET_SLOTS];
};

/*
 * Entry header. 160 bits:
 *   gen                32  generation of the cache that it was stored in
 *   version            44  unique in the realm, grows with each store
 *   deadline           40  boottime in ms; all ones: never
 *   owner              12  index into the owners table: the writer's uid
 *   size               22  of the stored bytes in this chunk
 *   key length - 1      6
 *   kind                4  ENTRY_* bits
 */
struct arena_entry {
        uint32_t gen;
        uint32_t version_lo;
        uint32_t deadline_lo;
        uint32_t hi;    /* version_hi : 12, deadline_hi : 8, owner : 12 */
        uint32_t sizes; /* size : 22, key length - 1 : 6, kind : 4 */
};

#define ENTRY_HEADER_SIZE 20
#define ENTRY_EXT         1u /* an extension block follows the header */
#define ENTRY_LARGE       2u /* the stored bytes are a struct arena_large */
#define ENTRY_ENCODED     4u /* the extension says how */
#define ENTRY_EXTENT      8u /* the stored bytes are a struct arena_extent */
#define ENTRY_SIZE_MAX    ((UINT32_C(1) << 22) - 1)
#define ENTRY_40BIT_MAX   ((UINT64_C(1) << 40) - 1)

/* Extension: this word, then the chosen fields in the order of their bits, 4-byte aligned. */
struct arena_ext {
        uint16_t n_bytes; /* of the whole block, this word included */
        uint16_t fields;  /* EXT_* bits; a reader skips what it does not know by n_bytes */
};

#define EXT_FLAGS    1u  /* u32 */
#define EXT_COST     2u  /* u64, microseconds */
#define EXT_ENCODING 4u  /* u64 raw size, u32 encoding */
#define EXT_FRESH    8u  /* struct arena_fresh, changed in place like a deadline */
#define EXT_MARKS    16u /* u32, MARK_* */
#define EXT_MESSAGES                                                                               \
        32u           /* u64: the last so many of the value's bytes are its recorded messages      \
                       */
#define EXT_TAGS  64u /* u32 number, then so many struct arena_tag; always the last field */
#define EXT_KNOWN 127u

#define EXT_SIZE_MAX 192u /* no block is longer */

#define MARK_NEGATIVE 1u /* the value is the reason why there is none */
#define MARK_VARY     2u /* the value names an input, see PROTOCOL.md, "Variants" */

/*
 * Boottime in ms. The entry's own deadline is when it is gone. Until `fresh` it is as good as new;
 * until `serve` it may be served, as stale; from `refresh` on (ARENA_NEVER: somebody is at it) one
 * caller is to compute it anew, whom only the daemon can choose.
 */
struct arena_fresh {
        uint64_t fresh, serve, refresh;
};

/* What readers need is `id`: an entry with a tag whose bit is set in the dead tags is gone. The
 * rest is the writer's: neighbours (handles) in the list of the tag's entries. */
struct arena_tag {
        uint32_t id, prev, next;
};

#define ARENA_ENTRY_TAGS                                                                           \
        9 /* of its writer's choice 8; one leads to the entry that it is a variant of */

/* The stored bytes of an entry whose value lies in a memory file of its own. */
struct arena_large {
        uint64_t size;
        uint32_t id;
        uint32_t spare;
};

/* The stored bytes of an entry whose value lies in the part for extents. */
struct arena_extent {
        uint64_t offset; /* from extents_off on; whole pages */
        uint64_t size;
};

static_assert(sizeof(struct arena_bucket) == 64, "a bucket is a cache line");
static_assert(sizeof(struct arena_entry) == ENTRY_HEADER_SIZE, "entry header");
static_assert(sizeof(struct arena_cache) == 16, "cache directory entry");
static_assert(sizeof(struct arena_large) == 16, "large value reference");
static_assert(sizeof(struct arena_extent) == 16, "extent reference");
static_assert(sizeof(struct arena_ext) == 4, "extension word");
static_assert(sizeof(struct arena_fresh) == 24 && sizeof(struct arena_tag) == 12,
              "extension fields");
static_assert(4 + 4 + 8 + 12 + 24 + 4 + 8 + 4 + ARENA_ENTRY_TAGS * 12 <= EXT_SIZE_MAX,
              "the longest extension");
static_assert(sizeof(struct arena_header) <= 4096, "header page");
static_assert(__builtin_offsetof(struct arena_header, instance) == 24 &&
                      __builtin_offsetof(struct arena_header, retired) == 104,
              "what every version has");
static_assert(_Alignof(struct arena_header) == 64, "header alignment");

/*
 * The seed of the key hash in one generation of a cache. Mixed (two rounds of the finalizer of
 * splitmix64): XXH3 adds its seed to the key's words for short keys, so that with seeds that differ
 * by a small number the same hash comes out for other keys, in masses.
 */
static inline uint64_t arena_hash_seed(uint64_t seed, uint32_t generation)
{
        uint64_t x = (seed ^ generation) * UINT64_C(0xbf58476d1ce4e5b9);

        x = (x ^ x >> 31) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 29;
}

/* Linear hashing: the bucket of hash @h when @n are in use (n >= 1). */
static inline uint64_t arena_bucket_of(uint64_t h, uint64_t n)
{
        unsigned level = 63 - (unsigned)__builtin_clzll(n);
        uint64_t b = h & ((UINT64_C(2) << level) - 1);

        /* One bit less where it is not below n. No processor could guess a branch here. */
        return b - ((uint64_t)(b >= n) << level);
}

/* Where a field of an extension begins, in bytes from the extension's first word. */
static inline uint32_t arena_ext_offset(unsigned fields, unsigned field)
{
        unsigned before = fields & (field - 1);

        return (uint32_t)sizeof(struct arena_ext) + (before & EXT_FLAGS ? 4u : 0u) +
               (before & EXT_COST ? 8u : 0u) + (before & EXT_ENCODING ? 12u : 0u) +
               (before & EXT_FRESH ? (uint32_t)sizeof(struct arena_fresh) : 0u) +
               (before & EXT_MARKS ? 4u : 0u) + (before & EXT_MESSAGES ? 8u : 0u);
}

#endif
