/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_VIEW_CACHE_H
#define CLIENT_VIEW_CACHE_H

/*
 * Values that were looked at of late, for who looks at them again
 *
 * A few places, each with a reference to a value and the name of the entry that it was. Version and
 * daemon tell whether it still is. Under the guard of the pool that it is part of; what it lets go
 * of is handed to the caller, to be let go of outside.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/view-file.h"

#define VIEW_CACHE_DEFAULT 16u
#define VIEW_CACHE_MAX     4096u
#define VIEW_NAME_MAX      128u
#define VIEW_KEY_MAX       64u

struct view_slot {
        struct view_file *file; /* NULL: free */
        uint64_t used_ns;       /* when it was taken or put last */
        uint32_t n_key;
        char cache[VIEW_NAME_MAX + 1];
        uint8_t key[VIEW_KEY_MAX];
};

/* Zeroed memory: none is kept. */
struct view_cache {
        struct view_slot *slots;
        unsigned n_slots;
        unsigned next; /* to be looked after */
};

/* False: out of memory. */
bool view_cache_init(struct view_cache *v, unsigned n_slots);
/* It is empty. */
void view_cache_done(struct view_cache *v);

/* A reference, or NULL. */
struct view_file *view_cache_find(struct view_cache *v, uint64_t instance, uint64_t version,
                                  uint64_t now_ns);
struct view_file *view_cache_find_key(struct view_cache *v, const char *cache, const void *key,
                                      size_t n_key, uint64_t now_ns);
/* Takes a reference of its own. What has to go for it, or NULL. */
struct view_file *view_cache_put(struct view_cache *v, struct view_file *file, const char *cache,
                                 const void *key, size_t n_key, uint64_t now_ns);
/* What a slot holds, which is empty then. */
struct view_file *view_cache_take(struct view_cache *v, unsigned slot);
/* The next slot whose value nobody else has; they come in turn. NULL: none of the next few. */
struct view_slot *view_cache_next(struct view_cache *v);

#endif
