/* SPDX-License-Identifier: MIT */
/*
 * Admin
 *
 * Everything that is looked at and not changed: no call here counts as a use of an entry or as a
 * hit. Work is bounded by the page size, by the number of caches in a realm, or is constant.
 */
#include "services/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/wire.h"
#include "realm/realm.h"

#define TIME_TEXT_MAX  48
#define INPUT_TEXT_MAX 80u

void admin_list_caches(const struct caller *who, uint32_t max, uint64_t *cursor,
                       bool (*visit)(void *ctx, uint32_t cache,
                                     const struct store_cache_info *info),
                       void *ctx)
{
        struct store *s = who->realm->store;
        uint64_t n = store_n_caches(s);
        /* The cursor is the last id that was visited: a cache keeps its own. */
        for (uint64_t cache = *cursor < n ? *cursor + 1 : n + 1; cache <= n; cache++) {
                struct store_cache_info info;
                if (data_cache_info(who, (uint32_t)cache, &info)) {
                        if (max == 0 || !visit(ctx, (uint32_t)cache, &info))
                                return;
                        max--;
                }
                *cursor = cache;
        }
        *cursor = 0;
}

enum status admin_list_entries(const struct caller *who, const struct cache_ref *ref, uint32_t max,
                               uint64_t *cursor,
                               bool (*visit)(void *ctx, const struct store_entry *e), void *ctx,
                               struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        int r = store_list(who->realm->store, cache, who->now_ms, max, cursor, visit, ctx);
        if (r < 0)
                return verdict_errno(v, r, "listing the entries");
        return r == 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

enum status admin_cache_info(const struct caller *who, const struct cache_ref *ref,
                             struct store_cache_info *ret, struct verdict *v)
{
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        if (status != STATUS_OK)
                return status;
        return data_cache_info(who, cache, ret) ? STATUS_OK : STATUS_NOT_FOUND;
}

static void add_counters(struct store_counters *sum, const struct store_counters *c)
{
        sum->hits += c->hits;
        sum->misses += c->misses;
        sum->stores += c->stores;
        sum->deletes += c->deletes;
        sum->clears += c->clears;
        for (size_t i = 0; i < N_CAUSES; i++)
                sum->departed[i] += c->departed[i];
        sum->time_saved_us += c->time_saved_us;
        sum->refused += c->refused;
        sum->opens += c->opens;
        sum->policy_changes += c->policy_changes;
        sum->mapped_hits += c->mapped_hits;
        sum->mapped_misses += c->mapped_misses;
        sum->leases += c->leases;
        sum->refreshes += c->refreshes;
        sum->lease_waits += c->lease_waits;
        sum->leases_lost += c->leases_lost;
        sum->lease_failures += c->lease_failures;
        sum->superseded += c->superseded;
}

void admin_total(const struct caller *who, struct store_cache_info *ret)
{
        struct store *s = who->realm->store;
        *ret = (struct store_cache_info){
                .name = "",
                .policy = {STORE_NEVER, STORE_UNLIMITED, STORE_UNLIMITED},
                .opened = {STORE_NEVER, STORE_UNLIMITED, STORE_UNLIMITED},
        };
        uint32_t n = store_n_caches(s);
        for (uint32_t cache = 1; cache <= n; cache++) {
                struct store_cache_info info;
                if (!data_cache_info(who, cache, &info))
                        continue;
                ret->entries += info.entries;
                ret->bytes_raw += info.bytes_raw;
                ret->bytes_held += info.bytes_held;
                ret->tags += info.tags;
                add_counters(&ret->counters, &info.counters);
        }
}

static const char *cause_text(enum store_cause cause)
{
        switch (cause) {
        case CAUSE_EXPIRED:
                return "it expired: its TTL had passed";
        case CAUSE_MAX_ENTRIES:
                return "it was the least recently used when the cache reached its max_entries";
        case CAUSE_MAX_BYTES:
                return "it was the least recently used when the cache reached its max_bytes";
        case CAUSE_UID_SHARE:
                return "it was the least recently used when its writer reached the share of one "
                       "uid "
                       "(memory.uid_share)";
        case CAUSE_REALM_BUDGET:
                return "it was the least recently used when the realm reached its budget "
                       "(memory.realm_budget)";
        case CAUSE_GLOBAL_BUDGET:
                return "it was the least recently used of the largest realm when all realms "
                       "together "
                       "reached their budget (memory.global_budget)";
        case CAUSE_INDEX:
                return "its place in the index was full: too many keys collide";
        case CAUSE_REALM_ENTRIES:
                return "it was the least recently used when the realm reached its number of "
                       "entries (limits.entries_per_realm)";
        case CAUSE_LARGE_VALUES:
                return "it was the large value used least recently when descriptors for large "
                       "values ran out (limits.large_values, RLIMIT_NOFILE)";
        case CAUSE_CLEARED:
                return "it was cleared: its cache, a tag or prefix of it, or what it is a variant "
                       "of";
        case CAUSE_DELETED:
                return "it was deleted";
        case CAUSE_REPLACED:
        case N_CAUSES:
                break;
        }
        return "its cause is not known";
}

/* As cachectl shows a time to live, so that the two can be compared. */
static const char *format_ms(uint64_t ms, char buf[TIME_TEXT_MAX])
{
        uint64_t s = ms / 1000;

        if (ms < 1000)
                snprintf(buf, TIME_TEXT_MAX, "%" PRIu64 "ms", ms);
        else if (s < 60)
                snprintf(buf, TIME_TEXT_MAX, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
        else if (s < 3600)
                snprintf(buf, TIME_TEXT_MAX, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
        else if (s < 86400)
                snprintf(buf, TIME_TEXT_MAX, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
        else
                snprintf(buf, TIME_TEXT_MAX, "%" PRIu64 "d%02" PRIu64 "h", s / 86400,
                         s / 3600 % 24);
        return buf;
}

static const char *fate_text(const struct caller *who, const struct store_fate *fate)
{
        if (who->realm->hidden && fate->cause == CAUSE_REALM_BUDGET)
                return "it was the least recently used when the realm's sessions reached their "
                       "budget (memory.session_budget)";
        return cause_text(fate->cause);
}

static void explain_text(const struct caller *who, const struct store_fate *fate, char *text,
                         size_t n)
{
        const char *what = fate->live && fate->entry.negative ? "that there is no value is stored"
                                                              : "it is stored";
        char time[TIME_TEXT_MAX];

        if (!fate->live && !fate->known) {
                snprintf(text, n,
                         "a miss: it was never stored, or so long ago that the daemon does "
                         "not remember");
        } else if (!fate->live) {
                snprintf(text, n, "a miss: %s, %s ago", fate_text(who, fate),
                         format_ms(fate->age_ms, time));
        } else if (fate->entry.deadline == STORE_NEVER) {
                snprintf(text, n, "a hit: %s and never expires", what);
        } else {
                uint64_t left =
                        fate->entry.deadline > who->now_ms ? fate->entry.deadline - who->now_ms : 0;
                snprintf(text, n, "a hit: %s and expires in %s", what, format_ms(left, time));
        }
}

/* Which input has most values. */
static void explain_inputs(struct explanation *e)
{
        const struct store_input *most = &e->inputs[0];
        size_t at = strlen(e->text);
        int n;

        if (e->n_inputs == 0)
                return;
        n = (int)wire_utf8_prefix((const char *)most->name,
                                  most->n_name < INPUT_TEXT_MAX ? most->n_name : INPUT_TEXT_MAX);
        snprintf(e->text + at, sizeof(e->text) - at,
                 "; it depends on %u input%s, most on %.*s, of which %" PRIu64 " value%s stored",
                 e->n_inputs, e->n_inputs == 1 ? "" : "s", n, (const char *)most->name,
                 most->variants, most->variants == 1 ? " is" : "s are");
}

enum status admin_explain(const struct caller *who, const struct cache_ref *ref, struct key_ref key,
                          struct explanation *ret, struct verdict *v)
{
        *ret = (struct explanation){0};
        uint32_t cache;
        enum status status = data_find_cache(who, ref, &cache, v);
        int r = STORE_E_NO_CACHE;
        if (status == STATUS_OK)
                r = store_explain(who->realm->store, cache, key.data, key.n, who->now_ms,
                                  &ret->fate);
        else if (status != STATUS_NOT_FOUND)
                return status;
        if (r < 0)
                return verdict_errno(v, r, "explaining the key");
        if (r != 0) {
                ret->no_cache = true;
                snprintf(ret->text, sizeof(ret->text), "a miss: the %s has no cache of this name",
                         who->realm->hidden ? "session" : "realm");
                return STATUS_OK;
        }
        explain_text(who, &ret->fate, ret->text, sizeof(ret->text));
        if (ret->fate.live && ret->fate.entry.vary) {
                ret->n_inputs = store_inputs(who->realm->store, cache, key.data, key.n, who->now_ms,
                                             ret->inputs);
                explain_inputs(ret);
        }
        return STATUS_OK;
}

uint64_t admin_resident_bytes(void)
{
        FILE *f = fopen("/proc/self/statm", "re");
        if (!f)
                return 0;
        unsigned long total, resident = 0;
        if (fscanf(f, "%lu %lu", &total, &resident) != 2)
                resident = 0;
        fclose(f);
        return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
