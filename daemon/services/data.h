/* SPDX-License-Identifier: MIT */
#ifndef DATA_H
#define DATA_H

/*
 * Data: getting and storing entries. See data.c.
 *
 * Arguments are in range: names, keys and times were checked by who decoded them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "realm/session-caches.h"
#include "services/verdict.h"
#include "store/store.h"

struct config;
struct realm;

/* Who asks, where and when. */
struct caller {
        struct realm *realm; /* of the connection; or one that holds sessions: then `session` is the
                                key of the one whose caches the request is about */
        const struct config *cfg;
        uid_t uid;
        uint64_t now_ms;
        uint8_t session[SESSION_KEY_SIZE];
};

/* A cache as a request names it: by id unless that is 0. */
struct cache_ref {
        uint32_t id;
        const char *name;
        size_t n_name;
};

struct key_ref {
        const uint8_t *data;
        size_t n;
};

/* OK with the id; NOT_FOUND; INVALID for an unknown id, or one of another session. */
enum status data_find_cache(const struct caller *who, const struct cache_ref *ref, uint32_t *ret,
                            struct verdict *v);
/* What is known of a cache, with the name that @who has for it. False: it is none of theirs. */
bool data_cache_info(const struct caller *who, uint32_t cache, struct store_cache_info *ret);
/* Creates the cache if it is unknown. */
enum status data_need_cache(const struct caller *who, const struct cache_ref *ref, uint32_t *ret,
                            bool *ret_created, struct verdict *v);

/* @ret is borrowed until the store changes. */
enum status data_get(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                     bool touch, struct store_entry *ret, struct verdict *v);

/* What data_get() counted as a hit turned out to be of no use. */
void data_miss(const struct caller *who, const struct cache_ref *ref, const struct store_entry *e);

/* @put: all but cache, uid, large. A value of large_threshold and more that is not in @put->large
 * yet is copied into a large one. */
enum status data_set(const struct caller *who, const struct cache_ref *ref, struct store_put *put,
                     struct store_entry *ret, struct verdict *v);

/* The same with cache and uid in @put, and of any size: it becomes a large one only where the store
 * has no other place. */
enum status data_put(const struct caller *who, struct store_put *put, struct store_entry *ret,
                     struct verdict *v);

/* Whether the value is larger than any may be. */
enum status data_check_value(const struct caller *who, const struct store_put *put,
                             struct verdict *v);
/* Whether data_set() would refuse @put for its size or a limit alone, before its bytes are there.
 */
enum status data_check_set(const struct caller *who, const struct cache_ref *ref,
                           const struct store_put *put, struct verdict *v);

/* A long value that is on its way in: see store_arrival_begin() and store_arrival_more(). */
enum status data_arrival_begin(const struct caller *who, const struct cache_ref *ref,
                               struct store_put *put, struct store_arrival *ret, struct verdict *v);
enum status data_arrival_more(const struct caller *who, struct store_arrival *a, uint64_t least,
                              uint64_t most, uint64_t *ret_room, struct verdict *v);

enum status data_touch(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                       uint64_t ttl_ms, struct store_entry *ret, struct verdict *v);
enum status data_delete(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                        struct verdict *v);
enum status data_clear(const struct caller *who, const struct cache_ref *ref, uint64_t *ret_entries,
                       struct verdict *v);
enum status data_clear_tag(const struct caller *who, const struct cache_ref *ref,
                           const struct store_text *tag, uint64_t *ret_entries, struct verdict *v);
/* Begins to clear what has a prefix: see store_sweep_begin(). */
enum status data_sweep(const struct caller *who, const struct cache_ref *ref,
                       const struct key_ref *prefix, struct store_sweep *ret, struct verdict *v);
/* Stops at the first cache that cannot be cleared; the results say how far it came. */
enum status data_clear_all(const struct caller *who, uint64_t *ret_entries, uint64_t *ret_caches,
                           struct verdict *v);

#endif
