/* SPDX-License-Identifier: MIT */
#ifndef ENTRY_H
#define ENTRY_H

/*
 * An entry as plain values, and its packed form in a block (proto/layout.h)
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "proto/layout.h"

/* What an entry may have beside key and value; all zero: nothing. */
struct entry_extra {
        uint32_t flags;
        uint32_t marks; /* MARK_* */
        uint8_t encoding;
        uint8_t n_tags;
        uint64_t raw_size; /* with an encoding */
        uint64_t cost_us;
        uint64_t n_messages;
        struct arena_fresh fresh;     /* .fresh 0: it has no window */
        const struct arena_tag *tags; /* borrowed; of a block that was read: in it */
};

struct entry {
        uint32_t gen;
        uint64_t version;
        uint64_t deadline; /* boottime ms; ENTRY_NEVER */
        uint32_t owner;    /* index */
        uint32_t n_key;
        uint32_t n_stored; /* bytes in the block: the value, or a struct arena_large or _extent */
        bool large, extent;
        struct entry_extra x; /* entry_read() sets raw_size only with an encoding */
        /* into the block */
        const uint8_t *key;
        const uint8_t *stored;
};

#define ENTRY_NEVER ENTRY_40BIT_MAX

/* The fields (EXT_* bits) that these values need, and the size of an extension with such fields: 0
 * without any. */
unsigned entry_ext_fields(const struct entry_extra *x);
uint32_t entry_ext_size(unsigned fields, unsigned n_tags);

/* Bytes of the whole block. */
static inline uint64_t entry_size(uint64_t n_key, uint64_t n_stored, uint32_t n_ext)
{
        return ENTRY_HEADER_SIZE + n_ext + n_key + n_stored;
}

/* Fills the block, which is at least entry_size() long and not reachable yet. `stored` NULL: those
 * bytes are there already. */
void entry_write(struct arena_entry *block, const struct entry *e);
/* Reads a block that this daemon wrote. */
void entry_read(const struct arena_entry *block, struct entry *ret);

/* The parts that lookups need, without unpacking the rest. */
static inline uint64_t entry_deadline(const struct arena_entry *b)
{
        return (uint64_t)(b->hi >> 12 & 0xff) << 32 | b->deadline_lo;
}

static inline uint32_t entry_n_key(const struct arena_entry *b)
{
        return (b->sizes >> 4 & 0x3f) + 1;
}

static inline uint32_t entry_n_ext(const struct arena_entry *b)
{
        return b->sizes & ENTRY_EXT ? ((const struct arena_ext *)(b + 1))->n_bytes : 0;
}

static inline uint32_t entry_n_stored(const struct arena_entry *b)
{
        return b->sizes >> 10;
}

static inline uint32_t entry_owner(const struct arena_entry *b)
{
        return b->hi & 0xfff;
}

static inline const uint8_t *entry_key(const struct arena_entry *b)
{
        return (const uint8_t *)(b + 1) + entry_n_ext(b);
}

static inline uint32_t entry_total(const struct arena_entry *b)
{
        return ENTRY_HEADER_SIZE + entry_n_ext(b) + entry_n_key(b) + entry_n_stored(b);
}

/* Where the value of a large entry lies. */
static inline struct arena_large entry_large(const struct entry *e)
{
        struct arena_large l;

        memcpy(&l, e->stored, sizeof(l));
        return l;
}

/* Or where it lies, in an extent. */
static inline struct arena_extent entry_extent(const struct entry *e)
{
        struct arena_extent x;

        memcpy(&x, e->stored, sizeof(x));
        return x;
}

/* Size of the value if it does not lie in the block; else 0. */
static inline uint64_t entry_apart(const struct entry *e)
{
        return e->large ? entry_large(e).size : e->extent ? entry_extent(e).size : 0;
}

void entry_set_deadline(struct arena_entry *b, uint64_t deadline);

/* Where the struct arena_fresh of a block is, which need not be aligned; NULL: it has none. */
static inline uint8_t *entry_fresh_at(const struct arena_entry *b)
{
        const struct arena_ext *x = (const void *)(b + 1);

        if (!(b->sizes & ENTRY_EXT) || !(x->fields & EXT_FRESH))
                return NULL;
        return (uint8_t *)(uintptr_t)x + arena_ext_offset(x->fields, EXT_FRESH);
}

/* The moments of a block that has them; .fresh 0: it has none. */
static inline struct arena_fresh entry_fresh(const struct arena_entry *b)
{
        const uint8_t *at = entry_fresh_at(b);
        struct arena_fresh f = {0};

        if (at)
                memcpy(&f, at, sizeof(f));
        return f;
}

/* Of a block that has them. */
void entry_set_fresh(struct arena_entry *b, const struct arena_fresh *f);

/* What the entry counts against budgets: PROTOCOL.md, "What an entry is charged". No block is
 * smaller than the smallest chunk. */
static inline uint64_t entry_charge(uint64_t n_block, uint64_t n_apart)
{
        uint64_t n = n_block < ARENA_CHUNK_MIN ? ARENA_CHUNK_MIN : n_block;

        return n + n / 8 + 56 + ((n_apart + 4095) & ~UINT64_C(4095));
}

#endif
