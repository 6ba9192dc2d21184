/* SPDX-License-Identifier: MIT */
/*
 * Hash over an array's members, see the header
 *
 * With n buckets a hash belongs to bucket `hash mod 2^k` (2^k: the power of two at or above n), or
 * where that is n or more, to the one half of 2^k below it, which has not been split yet. Bucket n
 * is made by splitting that one. The array never gets shorter, so nothing is ever merged.
 */

#include "base/idhash.h"

uint32_t idhash_mix(uint64_t value, uint64_t seed)
{
        uint64_t x = (value ^ seed) * UINT64_C(0x9e3779b97f4a7c15);

        x ^= x >> 32;
        x *= UINT64_C(0xd6e8feb86659fd93);
        return (uint32_t)(x >> 32);
}

/* The power of two at or above @n, less one. */
static uint32_t mask_of(uint32_t n)
{
        return n <= 1 ? 0 : UINT32_MAX >> __builtin_clz(n - 1);
}

static uint32_t bucket_of(const struct idhash *h, uint32_t hash)
{
        uint32_t mask = mask_of(*h->n), b = hash & mask;

        return b < *h->n ? b : b & (mask >> 1);
}

void idhash_grow(const struct idhash *h)
{
        uint32_t bucket = (*h->n)++, mask = mask_of(bucket + 1), id, *at;

        idhash_slot(h, bucket)->head = IDHASH_NONE;
        if (bucket == 0)
                return;
        at = &idhash_slot(h, bucket & (mask >> 1))->head;
        while ((id = *at) != IDHASH_NONE) {
                struct idhash_slot *s = idhash_slot(h, id);

                if ((s->hash & mask) != bucket) {
                        at = &s->next;
                        continue;
                }
                *at = s->next;
                s->next = idhash_slot(h, bucket)->head;
                idhash_slot(h, bucket)->head = id;
        }
}

void idhash_add(const struct idhash *h, uint32_t id, uint32_t hash)
{
        uint32_t *head = &idhash_slot(h, bucket_of(h, hash))->head;
        struct idhash_slot *s = idhash_slot(h, id);

        s->hash = hash;
        s->next = *head;
        *head = id;
}

void idhash_remove(const struct idhash *h, uint32_t id)
{
        uint32_t *at = &idhash_slot(h, bucket_of(h, idhash_slot(h, id)->hash))->head;

        while (*at != id)
                at = &idhash_slot(h, *at)->next;
        *at = idhash_slot(h, id)->next;
}

uint32_t idhash_first(const struct idhash *h, uint32_t hash)
{
        return *h->n ? idhash_slot(h, bucket_of(h, hash))->head : IDHASH_NONE;
}

uint32_t idhash_next(const struct idhash *h, uint32_t id)
{
        return idhash_slot(h, id)->next;
}
