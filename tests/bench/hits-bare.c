/* SPDX-License-Identifier: MIT */
/*
 * What a look-up in the daemon's arena cannot be cheaper than
 *
 * Hash the key, read the bucket's cache line, read the entry, compare the key, copy the value. No
 * sequence counter, no bounds, no deadline, no generation, nobody is told: right only while nobody
 * writes. (While somebody does, a copy may be of a torn value; its length is bounded all the same,
 * and so is where it is read.)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hello.h"
#include "hits.h"
#include "proto/arena-read.h"
#include "stamp.h"

struct bare {
        struct hits base;
        struct hello hello;
        struct arena_map map;
        uint64_t seed, n_buckets;
        volatile uint64_t sum;
        uint8_t value[HITS_VALUE];
};

static void bare_close(struct hits *h)
{
        struct bare *b = (struct bare *)h;
        if (b->map.base)
                munmap((void *)(uintptr_t)b->map.base, b->map.size);
        hello_done(&b->hello);
        free(b);
}

static int map_arena(struct bare *b)
{
        void *base = mmap(NULL, b->hello.arena_bytes, PROT_READ, MAP_SHARED, b->hello.arena_fd, 0);
        if (base == MAP_FAILED)
                return -errno;
        if (arena_map_init(base, b->hello.arena_bytes, &b->map)) {
                munmap(base, b->hello.arena_bytes);
                b->map.base = NULL;
                return -EPROTO;
        }
        const struct arena_cache *c = &b->map.cache_dir[b->hello.cache_id];
        b->seed = arena_hash_seed(b->map.seed, atomic_load(&c->generation));
        b->n_buckets = atomic_load(&b->map.h->n_buckets);
        return 0;
}

static int bare_open(const char *path, struct hits **ret)
{
        struct bare *b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->base.type = &hits_bare;
        b->hello.fd = b->hello.arena_fd = -1;
        int e = hello_open(path, HITS_CACHE, true, &b->hello);
        if (e == 0)
                e = map_arena(b);
        if (e < 0) {
                bare_close(&b->base);
                return e;
        }
        *ret = &b->base;
        return 0;
}

/* The key's entry in a bucket, or NULL. */
static inline const uint8_t *look_in(const struct bare *b, uint64_t hash, uint16_t tag,
                                     const char *key)
{
        const struct arena_bucket *u = &b->map.buckets[arena_bucket_of(hash, b->n_buckets)];
        for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                if (atomic_load_explicit(&u->tag[i], memory_order_relaxed) != tag)
                        continue;
                uint32_t handle = atomic_load_explicit(&u->handle[i], memory_order_relaxed);
                uint32_t span = handle >> ARENA_CHUNK_SHIFT;
                const uint8_t *e = b->map.spans + ((uint64_t)span << ARENA_SPAN_SHIFT) +
                                   (uint64_t)(handle & ARENA_CHUNK_MASK) * b->map.span_chunk[span];
                if (memcmp(e + ENTRY_HEADER_SIZE, key, HITS_KEY) == 0)
                        return e;
        }
        return NULL;
}

static inline const uint8_t *find(const struct bare *b, const char *key)
{
        XXH128_hash_t h = XXH3_128bits_withSeed(key, HITS_KEY, b->seed);
        uint16_t tag = (uint16_t)(h.low64 >> 48);
        const uint8_t *e = look_in(b, h.low64, tag, key);
        return e ? e : look_in(b, h.high64, tag, key);
}

static int bare_run(struct hits *h, unsigned n, char (*keys)[HITS_KEY], uint64_t *stamps)
{
        struct bare *b = (struct bare *)h;
        int found = 0;
        uint64_t sum = 0;
        for (unsigned i = 0; i < n; i++) {
                const uint8_t *e = find(b, keys[i]);
                if (e) {
                        struct arena_entry head;
                        memcpy(&head, e, sizeof(head));
                        size_t n_value = head.sizes >> 10;
                        memcpy(b->value, e + ENTRY_HEADER_SIZE + HITS_KEY,
                               n_value < HITS_VALUE ? n_value : HITS_VALUE);
                        __asm__ volatile("" : : "r"(b->value) : "memory"); /* it is wanted */
                        sum += b->value[0];
                        found++;
                }
                if (stamps)
                        stamps[i] = stamp_now();
        }
        b->sum += sum;
        return found;
}

const struct hits_type hits_bare = {
        .name = "bare",
        .help = "hash, probe, copy in the same memory: no checks, nobody is told",
        .open = bare_open,
        .close = bare_close,
        .run = bare_run,
};
