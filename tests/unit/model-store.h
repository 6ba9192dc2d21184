/* SPDX-License-Identifier: MIT */
#ifndef MODEL_STORE_H
#define MODEL_STORE_H

/*
 * The reference: what the store promises, in the most obvious code
 *
 * One array of entries, linear searches, no index, no lists. It drops everything that has expired
 * before each operation; the store may do so later, but must answer as if it had.
 */

#include "store/store.h"

#define MODEL_CACHES 4
#define MODEL_MAX    4096
#define MODEL_TAGS   12

struct model_entry {
        uint32_t cache, uid;
        uint8_t key[STORE_KEY_MAX];
        size_t n_key;
        uint64_t version, deadline, charge, used, n_value, raw_size, cost_us;
        uint32_t flags;
        uint8_t encoding;
        uint64_t n_messages;
        bool negative;
        struct arena_fresh fresh; /* .fresh 0: it has no window */
        uint32_t fill;            /* what the value is made of */
        uint32_t tags;            /* those of model_tags, a bit each */
        bool vary;
        size_t n_parent; /* 0: it is no variant */
        uint8_t parent[STORE_KEY_MAX];
};

struct model {
        struct model_entry e[MODEL_MAX];
        unsigned n;
        struct store_policy policy[MODEL_CACHES + 1];
        struct store_counters counters[MODEL_CACHES + 1];
        uint64_t budget, uid_share, global, clock, version, apart_min;
        uint64_t drawn; /* until when the store has what it stored, or touched, last: by chance */
        uint32_t max_tags;
};

/* The names of all tags there are: "t0" to "tb". */
struct store_text model_tag(unsigned i);

void model_init(struct model *m, uint64_t budget, uint64_t uid_share, uint64_t global,
                uint64_t apart_min);
int model_get(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now,
              bool touch, struct model_entry *ret);
int model_put(struct model *m, const struct store_put *p, uint32_t fill, uint64_t now,
              struct model_entry *ret, struct store_refusal *refusal);
int model_touch(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t ttl_ms,
                uint64_t now, struct model_entry *ret);
int model_refresh_begin(struct model *m, uint32_t cache, const void *key, size_t n_key,
                        uint64_t now, uint64_t *ret_version);
int model_refresh_end(struct model *m, uint32_t cache, const void *key, size_t n_key,
                      uint64_t version, uint64_t next_ms, bool failed);
int model_peek_kept(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                    struct model_entry *ret);
int model_delete(struct model *m, uint32_t cache, const void *key, size_t n_key, uint64_t now);
uint64_t model_clear(struct model *m, uint32_t cache, uint64_t now);
uint64_t model_clear_tag(struct model *m, uint32_t cache, unsigned tag, uint64_t now);
/* *ret_n: of those that have the prefix. False: some of them led to others, which went with them,
 * so that fewer may have been found. */
bool model_clear_prefix(struct model *m, uint32_t cache, uint8_t first, uint64_t now,
                        uint64_t *ret_n);
void model_set_policy(struct model *m, uint32_t cache, const struct store_policy *p, uint64_t now);
void model_set_budget(struct model *m, uint64_t budget, uint64_t now);
/* Drops what has expired. */
void model_settle(struct model *m, uint64_t now);
uint64_t model_charged(const struct model *m);
uint64_t model_count(const struct model *m, uint32_t cache);

#endif
