/* SPDX-License-Identifier: MIT */
/*
 * $CACHED_WARM: what is there is computed anew, once
 *
 * `cachectl warm` runs a program with the names of the caches that are to be filled again. Hits of
 * these count as due, but each only once in a handle's life: a program that calls a function a
 * thousand times with the same arguments computes it once then, as it does with a cold cache.
 *
 * What was seen is a fixed table of hashes. Where it is full a value may be computed more than
 * once; two keys of one hash would be a value that is not computed anew.
 */

#include "client/warm.h"

#include <string.h>

/* Places that are looked at. */
#define PROBES 16

bool warm_has(const char *caches, const char *cache)
{
        size_t n = strlen(cache);

        while (*caches) {
                size_t one = strcspn(caches, ":");

                if (one == n && memcmp(caches, cache, n) == 0)
                        return true;
                caches += one + (caches[one] == ':');
        }
        return false;
}

/* FNV-1a, which is good enough for keys that are digests. */
static uint64_t hash_more(uint64_t h, const void *bytes, size_t n)
{
        const uint8_t *p = bytes;

        for (size_t i = 0; i < n; i++)
                h = (h ^ p[i]) * UINT64_C(0x100000001b3);
        return h;
}

bool warm_first(struct warm *w, const char *cache, const uint8_t *key, size_t n_key)
{
        uint64_t h = hash_more(UINT64_C(0xcbf29ce484222325), cache, strlen(cache) + 1);

        h = hash_more(h, key, n_key);
        h += h == 0;
        for (uint64_t i = 0; i < PROBES; i++) {
                _Atomic uint64_t *at = &w->seen[(h + i) % WARM_MAX];
                uint64_t seen = 0;

                if (atomic_compare_exchange_strong(at, &seen, h))
                        return true;
                if (seen == h)
                        return false;
        }
        return true;
}
