/* SPDX-License-Identifier: MIT */
#ifndef ARENA_READ_H
#define ARENA_READ_H

/*
 * Reading an arena that another process writes, without asking it
 *
 * The other side of ARENA.md: look-up, checks, copy, check again. It is a function of the mapping,
 * the key and the time, has no state of its own, makes no system call, and trusts nothing that it
 * reads: whatever the mapping holds, it ends, and it reads nothing outside of it. Safe from any
 * number of threads and processes at once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"

/* A mapping, and where things lie in it as its header said when it was looked at. */
struct arena_map {
        const uint8_t *base;
        uint64_t size;
        uint64_t instance;
        uint64_t seed;
        const struct arena_header *h;
        const struct arena_cache *cache_dir;
        const uint32_t *owners;
        const _Atomic uint32_t *dead_tags;
        const uint32_t *span_chunk;
        const struct arena_bucket *buckets;
        const uint8_t *spans, *extents;
        uint32_t cache_dir_max, n_spans;
        uint64_t index_max_buckets, n_extents; /* the latter: bytes */
};

/*
 * arena_map_init() - checks the header of a mapping
 * @base:  mapped for reading, @size bytes, page-aligned
 *
 * Return: NULL, or what is wrong with it (static text); then *ret is undefined.
 */
const char *arena_map_init(const void *base, uint64_t size, struct arena_map *ret);

/* A chunk that may have the entry. */
struct arena_place {
        uint32_t handle, n_chunk;
        const uint8_t *chunk; /* NULL: there is none */
};

/* A look-up that has begun: what arena_aim() found. */
struct arena_aim {
        uint32_t gen;   /* of the cache; 0: nothing was found out */
        uint32_t slots; /* with the key's tag, a bit each: of the first bucket, and << 16 */
        uint64_t n_buckets, bucket[2], seq[2];
        struct arena_place first; /* of the slots */
};

#define ARENA_KEY_MAX 64u

struct arena_query {
        uint32_t cache; /* id */
        uint64_t name_hash;
        const void *key;
        uint32_t n_key;     /* 1 to ARENA_KEY_MAX */
        bool want_messages; /* the buffer shall get them, too, behind the value */
        uint64_t now_ms;
        struct arena_aim aim; /* zeroed, or arena_aim()'s */
};

enum arena_result {
        ARENA_HIT,
        ARENA_MISS,        /* for certain: at one instant during the call the key was not there, or
                              is not to be served */
        ARENA_NO_CACHE,    /* the id does not, or no longer, mean the cache of that name */
        ARENA_BUSY,        /* the writer was always quicker, or died in the middle: ask it */
        ARENA_TOO_LONG,    /* a hit of ret->n_value bytes, more than the buffer takes; no more is
                              known */
        ARENA_LARGE_VALUE, /* a hit whose value lies in a memory file; everything else is in *ret */
        ARENA_RETIRED,     /* nothing in this arena counts any more */
        ARENA_BROKEN,      /* it holds nonsense */
};

/* What few entries have: bits of struct arena_hit. */
#define ARENA_HIT_WINDOW   1u  /* `fresh` says when it is what */
#define ARENA_HIT_STALE    2u  /* it is not fresh any more */
#define ARENA_HIT_DUE      4u  /* one caller is to compute it anew: the daemon says who */
#define ARENA_HIT_NEGATIVE 8u  /* the value is the reason why there is none */
#define ARENA_HIT_VARY     16u /* the value is the name of an input */
#define ARENA_HIT_MESSAGES 32u /* there are `n_messages` bytes of them */

struct arena_hit {
        uint32_t handle;
        uint64_t version;
        uint64_t deadline_ms; /* boottime; ARENA_NEVER */
        uint32_t uid;         /* of the writer */
        uint32_t flags;
        uint16_t encoding;
        uint16_t marks;    /* ARENA_HIT_* */
        uint64_t raw_size; /* 0: not encoded */
        uint64_t cost_us;
        uint32_t n_value;         /* in the buffer; with the messages, if those were wanted */
        struct arena_large large; /* its size is that of the file, messages included */
        /* What they hold without their marks is undefined. */
        struct arena_fresh fresh;
        uint64_t n_messages;
};

static inline uint64_t arena_hit_messages(const struct arena_hit *h)
{
        return h->marks & ARENA_HIT_MESSAGES ? h->n_messages : 0;
}

#define ARENA_NEVER UINT64_MAX

/*
 * arena_read() - looks one key up and copies its value out
 * @buf:  of @n_buf bytes; what it holds is undefined unless the return is ARENA_HIT
 * @ret:  on ARENA_HIT, _TOO_LONG and _LARGE_VALUE
 */
enum arena_result arena_read(const struct arena_map *m, const struct arena_query *q, void *buf,
                             size_t n_buf, struct arena_hit *ret);

/*
 * arena_aim() - the first part of a look-up, so that something else can be done meanwhile
 *
 * Sets @q->aim, and asks the processor for the entry. arena_read() goes on from there, and begins
 * anew by itself if it has to: the two are one look-up. The time need not be set yet.
 */
void arena_aim(const struct arena_map *m, struct arena_query *q);

/*
 * arena_ahead() - arena_aim() for many
 *
 * In a large arena a look-up waits for memory several times; asking for many keys at once lets the
 * waits overlap. @n is at most ARENA_AHEAD_MAX.
 */
#define ARENA_AHEAD_MAX 16u
void arena_ahead(const struct arena_map *m, struct arena_query *q, unsigned n);

/* The id of the cache with that name's hash, or 0. A walk over the directory: to be remembered. */
uint32_t arena_find_cache(const struct arena_map *m, uint64_t name_hash);
uint64_t arena_name_hash(const char *name, size_t n_name);

#endif
