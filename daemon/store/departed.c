/* SPDX-License-Identifier: MIT */
/*
 * Departed keys: why a key is no longer here
 *
 * A direct-mapped memory of a few thousand key hashes with cause and time, for `explain`. A later
 * departure overwrites an earlier one at the same place; a different key with the same 64-bit hash
 * is told the wrong story once in 10^15 questions. Nothing depends on it.
 */

#include <xxhash.h>

#include "store/internal.h"

static uint64_t hash_of(const struct store *s, uint32_t cache, const void *key, uint32_t n_key)
{
        uint64_t h = XXH3_64bits_withSeed(key, n_key,
                                          s->a.h->seed[0] ^ (UINT64_C(0x9e3779b97f4a7c15) * cache));

        return h ? h : 1;
}

void departed_add(struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                  enum store_cause cause, uint64_t now)
{
        uint64_t h = hash_of(s, cache, key, n_key);

        const struct table_departed *d = &s->a.departed[h % N_DEPARTED];

        /* What was cleared long ago is reclaimed late: no news about a key that left since. */
        if (d->hash == h && d->when_cause >> 8 > now)
                return;
        s->a.departed[h % N_DEPARTED] =
                (struct table_departed){.hash = h, .when_cause = now << 8 | cause};
}

bool departed_find(const struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                   uint64_t now, enum store_cause *ret_cause, uint64_t *ret_age_ms)
{
        uint64_t h = hash_of(s, cache, key, n_key);
        const struct table_departed *d = &s->a.departed[h % N_DEPARTED];

        if (d->hash != h)
                return false;
        *ret_cause = (enum store_cause)(d->when_cause & 0xff);
        *ret_age_ms = now - (d->when_cause >> 8);
        return true;
}
