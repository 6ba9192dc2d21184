/* SPDX-License-Identifier: MIT */
#ifndef ADMIN_H
#define ADMIN_H

/*
 * Admin: looking at caches, entries and memory. See admin.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/data.h"

/* Visits caches from *cursor on, which is 0 at the start and at the end; @visit returns false to
 * stop before counting this one. */
void admin_list_caches(const struct caller *who, uint32_t max, uint64_t *cursor,
                       bool (*visit)(void *ctx, uint32_t cache,
                                     const struct store_cache_info *info),
                       void *ctx);

enum status admin_list_entries(const struct caller *who, const struct cache_ref *ref, uint32_t max,
                               uint64_t *cursor,
                               bool (*visit)(void *ctx, const struct store_entry *e), void *ctx,
                               struct verdict *v);

enum status admin_cache_info(const struct caller *who, const struct cache_ref *ref,
                             struct store_cache_info *ret, struct verdict *v);

/* All caches of the realm, or of the session, together; name and policy stay empty. */
void admin_total(const struct caller *who, struct store_cache_info *ret);

#define EXPLAIN_TEXT_MAX 256

struct explanation {
        bool no_cache;
        struct store_fate fate;
        struct store_input inputs[STORE_INPUTS_MAX]; /* of a live entry with `vary` */
        unsigned n_inputs;
        char text[EXPLAIN_TEXT_MAX];
};
enum status admin_explain(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                          struct explanation *ret, struct verdict *v);

/* Of this process, shared memory included; 0: unknown. */
uint64_t admin_resident_bytes(void);

#endif
