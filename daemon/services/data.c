/* SPDX-License-Identifier: MIT */
/*
 * Data
 *
 * The requests on entries, as calls of the realm's store, and the store's results as statuses with
 * the sentence that says what to do. A cache that nobody opened is created by the first store into
 * it; reading from an unknown cache is a miss and creates nothing.
 *
 * What can be refused without creating the cache is refused before: a request that fails leaves no
 * new name behind, but for one that fails in the store itself.
 */
#include "services/data.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arena/memfile.h"
#include "config.h"
#include "realm/realm.h"
#include "services/limits.h"

/* Of a session: its own caches alone. */
static bool is_own(const struct caller *who, uint32_t cache)
{
        size_t n;
        return __builtin_expect(!who->realm->hidden, 1) ||
               session_cache_name(who->realm, cache, who->session, &n) != NULL;
}

bool data_cache_info(const struct caller *who, uint32_t cache, struct store_cache_info *ret)
{
        if (!is_own(who, cache) || store_cache_info(who->realm->store, cache, ret) != 0)
                return false;
        if (who->realm->hidden)
                ret->name = session_cache_name(who->realm, cache, who->session, &ret->n_name);
        return true;
}

enum status data_find_cache(const struct caller *who, const struct cache_ref *ref, uint32_t *ret,
                            struct verdict *v)
{
        struct store *s = who->realm->store;
        if (ref->id != 0) {
                if (ref->id > store_n_caches(s) || !is_own(who, ref->id))
                        return verdict_set(v, STATUS_INVALID,
                                           "cache_id %" PRIu32 " is unknown: use the cache_id that "
                                           "OpenCache returned on this connection, or the name",
                                           ref->id);
                *ret = ref->id;
                return STATUS_OK;
        }
        int r = store_cache_find(s, ref->name, ref->n_name, ret);
        if (r < 0)
                return verdict_errno(v, r, "looking for the cache");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

/* A request that goes on for some time may outlive its session: then nothing would remove the
 * cache. */
static int create_of_session(const struct caller *who, const struct cache_ref *ref, uint32_t *ret)
{
        if (!session_is_there(who->realm, who->session, who->now_ms))
                return STORE_E_MISS;
        return session_caches_create(who->realm, ref->name, ref->n_name, ret);
}

static enum status too_many_caches(const struct caller *who, struct verdict *v)
{
        const struct config_limits *limits = &who->cfg->limits;
        bool hidden = who->realm->hidden;
        uint32_t max = realm_max_caches(who->realm);
        bool is_old = max < (hidden ? limits->session_caches_per_realm : limits->caches_per_realm);
        return verdict_set(v, STATUS_LIMIT,
                           "the %s most caches already (%" PRIu32 "; limits.%s%s): %s",
                           hidden ? "sessions of the realm have their" : "realm has its", max,
                           hidden ? "session_caches_per_realm" : "caches_per_realm",
                           is_old ? " when the realm was made" : "",
                           hidden ? limit_advice.session_caches_per_realm
                                  : limit_advice.caches_per_realm);
}

enum status data_need_cache(const struct caller *who, const struct cache_ref *ref, uint32_t *ret,
                            bool *ret_created, struct verdict *v)
{
        enum status status = data_find_cache(who, ref, ret, v);
        if (status != STATUS_NOT_FOUND) {
                if (status == STATUS_OK)
                        *ret_created = false;
                return status;
        }
        int r = who->realm->hidden
                        ? create_of_session(who, ref, ret)
                        : store_cache_create(who->realm->store, ref->name, ref->n_name, ret);
        if (r == STORE_E_MISS)
                return STATUS_NOT_FOUND;
        if (r == STORE_E_LIMIT)
                return too_many_caches(who, v);
        if (r < 0)
                return verdict_errno(v, r, "creating the cache");
        if (r > 0)
                return verdict_set(v, STATUS_INTERNAL, "creating the cache failed (%d)", r);
        *ret_created = true;
        return STATUS_OK;
}

enum status data_get(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                     bool touch, struct store_entry *ret, struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        int r = store_get(who->realm->store, cache, key.data, key.n, who->now_ms, touch, ret);
        if (__builtin_expect(r < 0, 0))
                return verdict_errno(v, r, "reading the entry");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

void data_miss(const struct caller *who, const struct cache_ref *ref, const struct store_entry *e)
{
        struct verdict v;
        uint32_t cache;
        if (data_find_cache(who, ref, &cache, &v) != STATUS_OK)
                return;
        struct store_counters *counters = store_cache_counters(who->realm->store, cache);
        if (!counters)
                return;
        counters->hits--;
        counters->misses++;
        counters->time_saved_us -= e->cost_us;
}

/* What bounds the charge, and how to raise it. */
static const char *refusal_bound(const struct caller *who, enum store_cause cause)
{
        if (who->realm->hidden && cause == CAUSE_UID_SHARE)
                return "one uid's share (memory.uid_share) of the budget of the realm's sessions "
                       "(memory.session_budget)";
        if (who->realm->hidden && cause == CAUSE_REALM_BUDGET)
                return "the budget of the realm's sessions (memory.session_budget)";
        switch (cause) {
        case CAUSE_MAX_BYTES:
                return "the cache's max_bytes";
        case CAUSE_UID_SHARE:
                return "one uid's share of the realm (memory.uid_share)";
        case CAUSE_GLOBAL_BUDGET:
                return "the budget of the daemon (memory.global_budget)";
        case CAUSE_REALM_ENTRIES:
                return "the realm's number of entries (limits.entries_per_realm)";
        default:
                return "the budget of the realm (memory.realm_budget)";
        }
}

static enum status refused(const struct caller *who, const struct store_refusal *refusal, bool ever,
                           struct verdict *v)
{
        if (ever)
                return verdict_set(v, STATUS_TOO_LARGE,
                                   "the entry would be charged %" PRIu64
                                   " bytes, more than %s, %" PRIu64
                                   " bytes, can ever hold: store a smaller value, or raise it",
                                   refusal->need, refusal_bound(who, refusal->cause),
                                   refusal->limit);
        if (refusal->cause == CAUSE_REALM_ENTRIES)
                return verdict_set(v, STATUS_NO_SPACE,
                                   "%s is %" PRIu64 ", and no entry can be evicted now: try again "
                                   "later",
                                   refusal_bound(who, refusal->cause), refusal->limit);
        if (refusal->cause == CAUSE_LARGE_VALUES)
                return verdict_set(v, STATUS_NO_SPACE,
                                   "the daemon has descriptors for %" PRIu64
                                   " large values (limits.large_values, RLIMIT_NOFILE), and all of "
                                   "them are being sent or received: try again later, or %s",
                                   refusal->limit, limit_advice.large_values);
        if (refusal->held == 0 && refusal->arriving == 0)
                return verdict_set(v, STATUS_NO_SPACE,
                                   "the entry needs %" PRIu64 " bytes under %s, %" PRIu64
                                   " bytes, and no more can be evicted now: try again later",
                                   refusal->need, refusal_bound(who, refusal->cause),
                                   refusal->limit);
        return verdict_set(
                v, STATUS_NO_SPACE,
                "the entry needs %" PRIu64 " bytes under %s, %" PRIu64 " bytes, of which %" PRIu64
                " are held by readers (values that are being sent to them, and views), and %" PRIu64
                " by values that are arriving: try again later",
                refusal->need, refusal_bound(who, refusal->cause), refusal->limit, refusal->held,
                refusal->arriving);
}

static enum status put_verdict(const struct caller *who, const struct store_put *put, int r,
                               const struct store_refusal *refusal, struct verdict *v)
{
        switch (r) {
        case STORE_OK:
                return STATUS_OK;
        case STORE_E_MISS:
        case STORE_E_NO_CACHE:
                return STATUS_NOT_FOUND;
        case STORE_E_EXISTS:
                return verdict_set(v, STATUS_EXISTS,
                                   "the key is already stored: leave mode out to replace it");
        case STORE_E_VERSION:
                return verdict_set(v, STATUS_VERSION_MISMATCH,
                                   "the stored version is not %" PRIu64
                                   ": get the entry again and decide anew",
                                   put->expected_version);
        case STORE_E_TOO_LARGE:
                return refused(who, refusal, true, v);
        case STORE_E_NO_SPACE:
                return refused(who, refusal, false, v);
        case STORE_E_TAGS:
                return verdict_set(v, STATUS_LIMIT,
                                   "the entries of the realm have as many different tags as they "
                                   "may, %" PRIu64 " (limits.tags_per_realm): %s",
                                   who->cfg->limits.tags_per_realm, limit_advice.tags_per_realm);
        case STORE_E_NO_NODE:
                return verdict_set(v, STATUS_NOT_FOUND,
                                   "variant_of is not the key of an entry with vary: store that "
                                   "one first");
        case STORE_E_LIMIT:
                return verdict_set(v, STATUS_LIMIT,
                                   "the realm has its most writing uids or large values already: "
                                   "let fewer users write into it, or store fewer large values");
        default:
                if (r < 0)
                        return verdict_errno(v, r, "storing the entry");
                return verdict_set(v, STATUS_INTERNAL, "storing the entry failed (%d)", r);
        }
}

enum status data_check_value(const struct caller *who, const struct store_put *put,
                             struct verdict *v)
{
        uint64_t max = who->cfg->limits.value_bytes;
        if (put->n_value > max || put->raw_size > max)
                return verdict_set(v, STATUS_TOO_LARGE,
                                   "the value has %" PRIu64 " bytes (%" PRIu64
                                   " decoded), more than limits.value_bytes, %" PRIu64 ": %s",
                                   put->n_value, put->raw_size, max, limit_advice.value_bytes);
        if (__builtin_expect(put->encoding != 0, 0) && put->raw_size > who->cfg->limits.lz4_bytes)
                return verdict_set(v, STATUS_TOO_LARGE,
                                   "the value has %" PRIu64
                                   " bytes decoded, more than limits.lz4_bytes, %" PRIu64 ": %s",
                                   put->raw_size, who->cfg->limits.lz4_bytes,
                                   limit_advice.lz4_bytes);
        return STATUS_OK;
}

/* Before a cache is created for the sake of @put: would it be of no use? */
static enum status check_uncreated(const struct caller *who, const struct store_put *put,
                                   struct verdict *v)
{
        if (put->compare || put->mode == STORE_REPLACE_ONLY)
                return STATUS_NOT_FOUND;
        struct store_stats stats;
        store_stats(who->realm->store, &stats);
        bool shared = stats.uid_share < stats.budget; /* else the share is no bound of its own */
        struct store_refusal refusal = {
                .cause = shared ? CAUSE_UID_SHARE : CAUSE_REALM_BUDGET,
                .limit = shared ? stats.uid_share : stats.budget,
                .need = store_charge(put->n_key, put->n_value, store_ext_fields(put, false),
                                     put->n_tags + (put->variant_of.n > 0),
                                     put->as_large || put->large ||
                                             store_is_apart(who->realm->store, put->n_value)),
        };
        return refusal.need > refusal.limit ? refused(who, &refusal, true, v) : STATUS_OK;
}

enum status data_check_set(const struct caller *who, const struct cache_ref *ref,
                           const struct store_put *put, struct verdict *v)
{
        enum status status = data_check_value(who, put, v);
        if (status != STATUS_OK)
                return status;
        uint32_t cache;
        status = data_find_cache(who, ref, &cache, v);
        if (status == STATUS_NOT_FOUND)
                return check_uncreated(who, put, v);
        if (status != STATUS_OK)
                return status;
        struct store_refusal refusal = {0};
        int r = store_check_size(who->realm->store, cache, put->n_key, put->n_value, put->as_large,
                                 &refusal);
        return put_verdict(who, put, r, &refusal, v);
}

enum status data_arrival_begin(const struct caller *who, const struct cache_ref *ref,
                               struct store_put *put, struct store_arrival *ret, struct verdict *v)
{
        struct store_refusal refusal = {0};
        enum status status = data_find_cache(who, ref, &put->cache, v);
        if (status == STATUS_NOT_FOUND)
                put->cache = 0;
        else if (status != STATUS_OK)
                return status;
        put->uid = (uint32_t)who->uid;
        int r = store_arrival_begin(who->realm->store, put, put->n_value, who->now_ms, ret,
                                    &refusal);
        return put_verdict(who, put, r, &refusal, v);
}

enum status data_arrival_more(const struct caller *who, struct store_arrival *a, uint64_t least,
                              uint64_t most, uint64_t *ret_room, struct verdict *v)
{
        struct store_refusal refusal = {0};
        int r = store_arrival_more(a, least, most, who->now_ms, ret_room, &refusal);
        return put_verdict(who, NULL, r, &refusal, v);
}

/* Copies the value into a memory file of its own. */
static enum status make_large(const struct store_put *put, struct large **ret, struct verdict *v)
{
        struct large *large;
        int r = large_new(put->n_value, &large);
        if (r == 0) {
                r = large_commit(large, put->n_value);
                if (r == 0 && put->source)
                        r = memfile_read(put->source->fd, put->source->offset, large->map,
                                         put->n_value);
                else if (r == 0)
                        memcpy(large->map, put->value, put->n_value);
                if (r == 0)
                        r = large_seal(large);
                if (r < 0)
                        large_unref(large);
        }
        if (r < 0)
                return verdict_errno(v, r, "storing the value");
        *ret = large;
        return STATUS_OK;
}

static enum status put_large(const struct caller *who, uint32_t cache, struct store_put *put,
                             struct store_entry *ret, struct verdict *v)
{
        /* Making the file is the expensive part: ask first whether it can be of any use. */
        struct store_refusal refusal = {0};
        int r = store_check_size(who->realm->store, cache, put->n_key, put->n_value, true,
                                 &refusal);
        if (r != 0)
                return put_verdict(who, put, r, &refusal, v);
        struct large *large = NULL;
        enum status status = make_large(put, &large, v);
        if (status != STATUS_OK)
                return status;
        put->large = large;
        r = store_put(who->realm->store, put, who->now_ms, ret, &refusal);
        put->large = NULL;
        large_unref(large);
        return put_verdict(who, put, r, &refusal, v);
}

enum status data_put(const struct caller *who, struct store_put *put, struct store_entry *ret,
                     struct verdict *v)
{
        struct store_refusal refusal;
        int r = store_put(who->realm->store, put, who->now_ms, ret, &refusal);
        if (__builtin_expect(r == STORE_E_NO_PLACE, 0))
                return put_large(who, put->cache, put, ret, v);
        if (__builtin_expect(r == 0, 1))
                return STATUS_OK;
        return put_verdict(who, put, r, &refusal, v);
}

enum status data_set(const struct caller *who, const struct cache_ref *ref, struct store_put *put,
                     struct store_entry *ret, struct verdict *v)
{
        enum status status = data_check_value(who, put, v);
        if (__builtin_expect(status != STATUS_OK, 0))
                return status;
        uint32_t cache;
        status = data_find_cache(who, ref, &cache, v);
        if (status == STATUS_NOT_FOUND) {
                bool created;
                status = check_uncreated(who, put, v);
                if (status == STATUS_OK)
                        status = data_need_cache(who, ref, &cache, &created, v);
        }
        if (__builtin_expect(status != STATUS_OK, 0))
                return status;
        put->cache = cache;
        put->uid = (uint32_t)who->uid;
        bool arrived = put->large || (put->arrived && put->arrived->extent);
        if (!arrived && put->n_value >= who->cfg->large_threshold)
                return put_large(who, cache, put, ret, v);
        return data_put(who, put, ret, v);
}

enum status data_touch(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                       uint64_t ttl_ms, struct store_entry *ret, struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        int r = store_touch(who->realm->store, cache, key.data, key.n, ttl_ms, who->now_ms, ret);
        if (r < 0)
                return verdict_errno(v, r, "touching the entry");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

enum status data_delete(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                        struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        int r = store_delete(who->realm->store, cache, key.data, key.n, who->now_ms);
        if (r < 0)
                return verdict_errno(v, r, "deleting the entry");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

static enum status clear_verdict(int r, struct verdict *v)
{
        if (r == STORE_E_LIMIT)
                return verdict_set(v, STATUS_LIMIT,
                                   "too many cleared caches wait to be reclaimed: try again in a "
                                   "moment");
        if (r < 0)
                return verdict_errno(v, r, "clearing the cache");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

enum status data_clear(const struct caller *who, const struct cache_ref *ref, uint64_t *ret_entries,
                       struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        return clear_verdict(store_clear(who->realm->store, cache, who->now_ms, ret_entries), v);
}

enum status data_clear_tag(const struct caller *who, const struct cache_ref *ref,
                           const struct store_text *tag, uint64_t *ret_entries, struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        return clear_verdict(store_clear_tag(who->realm->store, cache, tag->text, tag->n,
                                             who->now_ms, ret_entries),
                             v);
}

enum status data_sweep(const struct caller *who, const struct cache_ref *ref,
                       const struct key_ref *prefix, struct store_sweep *ret, struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        return clear_verdict(store_sweep_begin(who->realm->store, cache, prefix->data, prefix->n,
                                               ret),
                             v);
}

enum status data_clear_all(const struct caller *who, uint64_t *ret_entries, uint64_t *ret_caches,
                           struct verdict *v)
{
        struct store *s = who->realm->store;
        uint32_t n = store_n_caches(s);
        *ret_entries = *ret_caches = 0;
        for (uint32_t cache = 1; cache <= n; cache++) {
                uint64_t had = 0;
                enum status status = clear_verdict(store_clear(s, cache, who->now_ms, &had), v);
                if (status != STATUS_OK)
                        return status; /* those before it are cleared: asking again goes on */
                *ret_entries += had;
                ++*ret_caches;
        }
        return STATUS_OK;
}
