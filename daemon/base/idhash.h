/* SPDX-License-Identifier: MIT */
#ifndef IDHASH_H
#define IDHASH_H

/*
 * A hash over the members of somebody's array
 *
 * Finds members by a hash of theirs; what is equal is for the caller to say. There are as many
 * buckets as the array has members, and the head of bucket i lies in member i: memory grows with
 * the array, one bucket at a time (linear hashing), so nothing is ever rehashed at once. Allocates
 * nothing; lives well in a memory file.
 */

#include <stddef.h>
#include <stdint.h>

#define IDHASH_NONE UINT32_MAX

struct idhash_slot {
        uint32_t head; /* of the bucket that has this member's number */
        uint32_t next; /* in the bucket that this member is in */
        uint32_t hash;
};

struct idhash {
        uint8_t *slots; /* slot of member i: slots + i * stride */
        size_t stride;
        uint32_t *n; /* members of the array, in the hash or not */
};

static inline struct idhash_slot *idhash_slot(const struct idhash *h, uint32_t id)
{
        return (struct idhash_slot *)(void *)(h->slots + (size_t)id * h->stride);
}

/* A well mixed hash of a few bytes. */
uint32_t idhash_mix(uint64_t value, uint64_t seed);

/* The array has one member more: number *h->n, which is increased here. */
void idhash_grow(const struct idhash *h);
void idhash_add(const struct idhash *h, uint32_t id, uint32_t hash);
void idhash_remove(const struct idhash *h, uint32_t id); /* it is there */

/* The first candidate for @hash, then each next one: IDHASH_NONE ends. */
uint32_t idhash_first(const struct idhash *h, uint32_t hash);
uint32_t idhash_next(const struct idhash *h, uint32_t id);

#endif
