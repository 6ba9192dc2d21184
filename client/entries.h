/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_ENTRIES_H
#define CLIENT_ENTRIES_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cached.pb-c.h"

/* Small enough for a register. */
struct get_how {
        bool no_touch;
        bool is_own; /* the value may be written to */
        bool with_messages;
        bool only_mapped;     /* the daemon is not asked: CACHED_ERR_AGAIN, without a reply */
        bool at_once;         /* likewise, also where it only has to be told or waited for */
        uint32_t patience_ms; /* as in struct call; 0: the handle's timeout */
};

/*
 * cached_get() and cached_set() for callers that have checked the arguments. @patience_ms: as in
 * struct call; 0: the handle's timeout.
 */
int entries_get(cached *c, const char *cache, const void *key, size_t n_key, struct get_how how,
                cached_reply **ret);
/* As far as the mapping has not decided: what is in memory files, and what the daemon is asked. */
int entries_get_sent(cached *c, const char *cache, const void *key, size_t n_key,
                     struct get_how how, cached_reply **ret);
/* The message's cache is filled in; over the socket in any case. */
int entries_get_many(cached *c, const char *cache, Cached__V1__GetMany *m, cached_reply **ret);
/* Whether a daemon without FEATURE_LEASES would store something else than is meant. */
bool set_needs_leases(const Cached__V1__Set *m);
int entries_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value,
                size_t n_value, const cached_set_options *o, uint32_t patience_ms,
                cached_reply **ret);

#endif
