/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_POLICY_H
#define CACHED_POLICY_H

/*
 * Policies: how much a cache keeps, and how long
 *
 *         cached_policy *p = cached_policy_new();
 *         cached_policy_set_ttl_ms(p, 3600000);
 *         cached_policy_set_stale_for_ms(p, 60000);
 *         code = cached_open_cache(c, "thumbnails", p, NULL);
 *         cached_policy_free(p);
 *
 * A cache has the policy that it was opened with last, unless cached_set_policy() has pinned one.
 * What a policy does not set is unlimited.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_policy cached_policy; /* how much a cache keeps, and how long */

/* Fields of a policy, for cached_set_policy(): bits of reset_fields. */
#define CACHED_POLICY_TTL            1u
#define CACHED_POLICY_MAX_ENTRIES    2u
#define CACHED_POLICY_MAX_BYTES      4u
#define CACHED_POLICY_STALE_FOR      8u
#define CACHED_POLICY_STALE_IF_ERROR 16u
#define CACHED_POLICY_REFRESH_AHEAD  32u
#define CACHED_POLICY_EXPIRE_JITTER  64u

/* ---- caches and policies */

/*
 * cached_policy_new() - a policy that sets nothing
 *
 * Return: owned by the caller, freed with cached_policy_free(); NULL: out of memory.
 */
cached_policy *cached_policy_new(void);

/*
 * cached_policy_free() - frees a policy
 * @p:  may be NULL
 */
void cached_policy_free(cached_policy *p);

/*
 * cached_policy_set_ttl_ms() - how long entries live that are stored from then on
 * @p:   by one thread at a time
 * @ms:  milliseconds from the store, 1 to 10 years; CACHED_NEVER: no ttl, as if this was never
 *       called
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_ttl_ms(cached_policy *p, uint64_t ms);

/*
 * cached_policy_set_max_entries() - how many entries the cache keeps; applies at once
 * @p:  by one thread at a time
 * @n:  entries, at least 1
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_max_entries(cached_policy *p, uint64_t n);

/*
 * cached_policy_set_max_bytes() - how much memory the cache's entries are charged at most
 * @p:  by one thread at a time
 * @n:  bytes of charge (PROTOCOL.md says what an entry is charged); applies at once
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_max_bytes(cached_policy *p, uint64_t n);

/*
 * cached_policy_set_stale_for_ms() - how long an entry is served, as stale, after its ttl
 * @p:   by one thread at a time
 * @ms:  milliseconds after the ttl, for entries that are stored from then on; 0 (default): not
 *
 * All callers but one get the stale value, and that one is to compute it anew (cached_memoize()
 * does all of this). cached_reply_is_stale() tells.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_stale_for_ms(cached_policy *p, uint64_t ms);

/*
 * cached_policy_set_stale_if_error_ms() - how long after its ttl an entry is served where computing
 * it anew failed
 * @p:   by one thread at a time
 * @ms:  milliseconds after the ttl, for entries that are stored from then on; 0 (default): not
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_stale_if_error_ms(cached_policy *p, uint64_t ms);

/*
 * cached_policy_set_refresh_ahead() - from when on one caller is to compute a value anew, though it
 * is fresh
 * @p:         by one thread at a time
 * @permille:  of the ttl, 1 to 999, for entries that are stored from then on; 0 (default): not
 * before its end
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_refresh_ahead(cached_policy *p, uint32_t permille);

/*
 * cached_policy_set_expire_jitter() - so that entries that are stored together do not all expire at
 * once
 * @p:         by one thread at a time
 * @permille:  of the ttl, up to 1000: each entry's is shorter by up to so much, by chance; 0
 *             (default): by nothing
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @p is NULL. The range is checked by the daemon.
 */
int cached_policy_set_expire_jitter(cached_policy *p, uint32_t permille);

/*
 * cached_open_cache() - makes sure that a cache exists, and learns its id for shorter requests
 * @c:      any thread
 * @cache:  created if it is unknown
 * @p:      NULL: an existing policy stays. Else the cache's whole policy: what it does not set
 *          becomes unlimited. The newest open wins, unless the policy was pinned by
 *          cached_set_policy()
 * @ret:    fields of CacheInfo: "policy.ttl_ms", "policy.stale_for_ms", "pinned", "created" ...
 *          with the effective policy
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_open_cache(cached *c, const char *cache, const cached_policy *p, cached_reply **ret);

/*
 * cached_set_policy() - sets a cache's policy and pins it against later opens; for admins of the
 * realm
 * @c:             any thread
 * @cache:         created if it is unknown
 * @p:             what it sets is changed, the rest stays; NULL: nothing
 * @reset_fields:  CACHED_POLICY_* bits: these become unlimited
 * @unpin:         not 0: from now on opens change the policy again
 * @ret:           fields of CacheInfo, with the effective policy
 *
 * Return: CACHED_OK or one of the common codes; CACHED_DENIED: not an admin.
 */
int cached_set_policy(cached *c, const char *cache, const cached_policy *p, uint32_t reset_fields,
                      int unpin, cached_reply **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
