/* SPDX-License-Identifier: MIT */
#ifndef MEMO_CACHE_H
#define MEMO_CACHE_H

/*
 * Memo's side of the daemon: records and digests, stored and looked up. Nothing here reports: that
 * the daemon cannot help is no failure of the command.
 */

#include "ctl.h"
#include "memo-file.h"

/* The cache of the digests of files. */
#define MEMO_DIGESTS "memo-digests"

#define MEMO_WHY_SIZE 512

struct memo_cache {
        cached *client;
        const char *name;        /* borrowed */
        uint64_t max_value;      /* bytes of a record that the daemon takes */
        uint64_t uid;            /* ours, as the daemon knows it */
        int code;                /* of the last failure; see memo_cache_is_away() */
        char why[MEMO_WHY_SIZE]; /* and what it means */
};

/* Connects. False: it is not there, and c->why says more. */
bool memo_cache_open(struct memo_cache *c, const struct ctl *ctl, const char *name,
                     uint32_t timeout_ms);
void memo_cache_done(struct memo_cache *c);

/* Whether the daemon did not answer, and so should not be asked again. */
bool memo_cache_is_away(const struct memo_cache *c);

/* What of ours is stored under the key, freed by the caller; NULL: nothing. */
cached_reply *memo_cache_get(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE]);

/* The same, or the lease to make it, or who has that: both freed by the caller, and both may be
 * NULL. @o: NULL: the defaults. */
void memo_cache_ask(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE],
                    const cached_lease_options *o, cached_reply **ret, cached_lease **ret_lease);

/* False: not stored, and c->why says more. @lease: NULL: without one; else it has ended. @ttl_ms 0:
 * as the cache's policy says. */
bool memo_cache_set(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE], cached_lease *lease,
                    const void *record, size_t n, uint64_t ttl_ms, uint64_t took_us);

/* Fills in the digests that are remembered. */
void memo_cache_recall(struct memo_cache *c, struct memo_file *const *files, size_t n);

/* Remembers digests. */
void memo_cache_remember(struct memo_cache *c, struct memo_file *const *files, size_t n);

#endif
