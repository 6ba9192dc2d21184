/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_WARM_H
#define CLIENT_WARM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys that one handle remembers. */
#define WARM_MAX 4096

/* Which values were computed anew, for $CACHED_WARM. */
struct warm {
        _Atomic uint64_t seen[WARM_MAX]; /* hashes; 0: free */
};

/* Whether `caches`, names with colons between them, has this one. */
bool warm_has(const char *caches, const char *cache);

/* Notes a key. False: it was noted before. */
bool warm_first(struct warm *w, const char *cache, const uint8_t *key, size_t n_key);

#endif
