/* SPDX-License-Identifier: MIT */
/*
 * Departed keys: why a key is no longer here
 *
 * A memory of a few thousand key hashes with cause and time, for `explain`: sets of four that fill
 * a cache line, in which a departure takes the place of the same key's former one, or of the
 * oldest. So the last hundreds of departures are remembered but for one in a million, the last
 * thousands mostly. A different key with the same 64-bit hash is told the wrong story once in 10^15
 * questions. Nothing depends on it.
 */

#include <xxhash.h>

#include "store/internal.h"

#define WAYS 4u

static uint64_t hash_of(const struct store *s, uint32_t cache, const void *key, uint32_t n_key)
{
        /* By its name: another cache may have the id of one that was removed. */
        uint64_t name =
                atomic_load_explicit(&s->a.cache_dir[cache].name_hash, memory_order_relaxed);
        uint64_t h = XXH3_64bits_withSeed(key, n_key,
                                          s->a.h->seed[0] ^ (UINT64_C(0x9e3779b97f4a7c15) * name));

        return h ? h : 1;
}

static struct table_departed *set_of(const struct store *s, uint64_t h)
{
        return &s->a.departed[h % (N_DEPARTED / WAYS) * WAYS];
}

void departed_add(struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                  enum store_cause cause, uint64_t now)
{
        uint64_t h = hash_of(s, cache, key, n_key);
        struct table_departed *set = set_of(s, h), *at = set;

        for (unsigned i = 0; i < WAYS; i++) {
                if (set[i].hash == h) {
                        at = &set[i];
                        break;
                }
                if (set[i].when_cause < at->when_cause)
                        at = &set[i];
        }
        /* What was cleared long ago is reclaimed late: no news about a key that left since. */
        if (at->hash == h && at->when_cause >> 8 > now)
                return;
        /* In an order in which no hash stands beside another one's story. */
        at->hash = 0;
        atomic_signal_fence(memory_order_release);
        at->when_cause = now << 8 | cause;
        atomic_signal_fence(memory_order_release);
        at->hash = h;
}

bool departed_find(const struct store *s, uint32_t cache, const void *key, uint32_t n_key,
                   uint64_t now, enum store_cause *ret_cause, uint64_t *ret_age_ms)
{
        uint64_t h = hash_of(s, cache, key, n_key);
        const struct table_departed *set = set_of(s, h);

        for (unsigned i = 0; i < WAYS; i++)
                if (set[i].hash == h) {
                        *ret_cause = (enum store_cause)(set[i].when_cause & 0xff);
                        *ret_age_ms = now - (set[i].when_cause >> 8);
                        return true;
                }
        return false;
}
