/* SPDX-License-Identifier: MIT */
/*
 * Stats: of one cache, the realm and the daemon.
 *
 * What all realms hold together would tell a realm of the others' doings: it goes to root and to
 * the daemon's own uid only.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/ops.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"
#include "realm/mapping.h"
#include "server.h"
#include "services/admin.h"

void cache_stats_message_init(struct cache_stats_message *m, const struct store_cache_info *info)
{
        Cached__V1__CacheStats *to = &m->stats;
        const struct store_counters *c = &info->counters;
        cached__v1__cache_stats__init(to);
        cached__v1__policy__init(&m->policy);
        snprintf(m->name, sizeof(m->name), "%.*s", (int)info->n_name, info->name);
        reply_policy(&m->policy, &info->policy);
        to->name = m->name;
        to->policy = &m->policy;
        to->pinned = info->pinned;
        to->entries = info->entries;
        to->bytes_raw = info->bytes_raw;
        to->bytes_held = info->bytes_held;
        to->hits = c->hits;
        to->misses = c->misses;
        to->stores = c->stores;
        to->deletes = c->deletes;
        to->expirations = c->departed[CAUSE_EXPIRED];
        to->evicted_max_entries = c->departed[CAUSE_MAX_ENTRIES];
        to->evicted_max_bytes = c->departed[CAUSE_MAX_BYTES];
        to->evicted_uid_share = c->departed[CAUSE_UID_SHARE];
        to->evicted_realm_budget = c->departed[CAUSE_REALM_BUDGET];
        to->evicted_global_budget = c->departed[CAUSE_GLOBAL_BUDGET];
        to->evicted_index = c->departed[CAUSE_INDEX];
        to->evicted_realm_entries = c->departed[CAUSE_REALM_ENTRIES];
        to->evicted_large_values = c->departed[CAUSE_LARGE_VALUES];
        to->clears = c->clears;
        to->time_saved_us = c->time_saved_us;
        to->opens = c->opens;
        to->policy_changes = c->policy_changes;
        to->refused = c->refused;
        to->mapped_hits = c->mapped_hits;
        to->mapped_misses = c->mapped_misses;
        to->leases = c->leases;
        to->refreshes = c->refreshes;
        to->lease_waits = c->lease_waits;
        to->leases_lost = c->leases_lost;
        to->lease_failures = c->lease_failures;
        to->superseded = c->superseded;
        to->tags = info->tags;
}

static void fill_resources(Cached__V1__CacheStats *to, const struct resource_gauge *g)
{
        const struct resource_counters *c = &g->counters;
        to->resources = g->resources;
        to->resources_held = g->held;
        to->resources_locked = g->locked;
        to->resource_bytes = g->bytes;
        to->resources_creating = g->creating;
        to->resources_waiting = g->waiting;
        to->resources_created = c->created;
        to->resources_acquired = c->acquired;
        to->resource_failures = c->failures;
        to->resources_expired = c->left[RESOURCE_LEFT_EXPIRED];
        to->resources_evicted = c->left[RESOURCE_LEFT_EVICTED];
        to->resources_cleared = c->left[RESOURCE_LEFT_CLEARED];
        to->resources_dropped = c->left[RESOURCE_LEFT_DROPPED];
        to->resources_replaced = c->left[RESOURCE_LEFT_REPLACED];
        to->resources_invalid = c->left[RESOURCE_LEFT_INVALID];
        to->resources_hung_up = c->left[RESOURCE_LEFT_HUNG_UP];
        to->resources_owner_died = c->left[RESOURCE_LEFT_OWNER_DIED];
        to->resources_unclaimed = c->left[RESOURCE_LEFT_UNCLAIMED];
}

static Cached__V1__CacheKind kind_of(const struct cache_stats_message *m,
                                     const struct resource_gauge *g)
{
        bool entries = m->stats.stores > 0 || m->stats.entries > 0;
        bool resources = g->resources > 0 || g->creating > 0 || g->counters.created > 0 ||
                         g->counters.failures > 0;
        if (entries)
                return resources ? CACHED__V1__CACHE_KIND__CACHE_MIXED
                                 : CACHED__V1__CACHE_KIND__CACHE_ENTRIES;
        return resources ? CACHED__V1__CACHE_KIND__CACHE_RESOURCES
                         : CACHED__V1__CACHE_KIND__CACHE_UNUSED;
}

void cache_stats_message_gauge(struct cache_stats_message *m, const struct request *r,
                               uint32_t cache)
{
        struct lease_gauge gauge = leases_gauge(&r->d->leases, r->who.realm, cache);
        m->stats.computing = gauge.computing;
        m->stats.waiting = gauge.waiting;
        struct resource_gauge resources = resourcing_gauge(r, cache);
        fill_resources(&m->stats, &resources);
        m->stats.kind = kind_of(m, &resources);
}

/* Of sessions and what is in their caches. */
static void fill_sessions(const struct realm *r, Cached__V1__RealmStats *to)
{
        uint64_t budget = r->realms->cfg->session_budget.bytes;
        struct store_cache_info home;
        struct store_stats stats;
        to->session_budget_bytes = budget;
        if (!r->sessions ||
            store_cache_info(r->sessions->store, session_caches_home(r->sessions), &home) != 0)
                return;
        store_stats(r->sessions->store, &stats);
        to->sessions = home.entries;
        to->session_bytes = stats.charged;
        to->session_budget_bytes = stats.budget;
        to->sessions_opened = home.counters.opens;
        to->sessions_expired = home.counters.departed[CAUSE_EXPIRED];
        for (unsigned cause = 0; cause < N_CAUSES; cause++)
                if (cause != CAUSE_EXPIRED && cause != CAUSE_CLEARED && cause != CAUSE_DELETED &&
                    cause != CAUSE_REPLACED)
                        to->sessions_evicted += home.counters.departed[cause];
        to->session_caches = stats.caches - (session_caches_resources(r->sessions) ? 2 : 1);
}

static void fill_resource_room(const struct request *r, Cached__V1__RealmStats *to)
{
        struct resource_room room = resources_room(&r->d->resources, r->client->realm);
        to->resources = room.resources;
        to->resource_bytes = room.bytes;
        to->resource_holders = room.holders;
}

static void fill_realm(const struct request *r, Cached__V1__RealmStats *to)
{
        const struct realm *its = r->client->realm;
        struct store_stats stats;
        store_stats(its->store, &stats);
        to->name = r->client->realm->name;
        to->budget_bytes = stats.budget;
        to->uid_share_bytes = stats.uid_share;
        to->bytes_charged = stats.charged;
        to->bytes_reclaiming = stats.reclaiming;
        to->caches = stats.caches;
        to->entries = stats.entries;
        to->arena_bytes = stats.arena_bytes;
        to->table_bytes = stats.table_bytes;
        to->large_bytes = stats.large_bytes;
        to->held_bytes = stats.held;
        to->index_buckets = stats.index_buckets;
        to->views = stats.views;
        to->view_bytes = stats.view_bytes;
        to->departed_bytes = stats.view_departed_bytes;
        struct mapping_stats mapping;
        realm_mapping_stats(its, &mapping);
        to->mapped_clients = mapping.clients;
        to->page_bytes = mapping.bytes;
        to->prepared_bytes = mapping.prepared;
        to->upload_bytes = upload_area_bytes(its, r->d->clients);
        fill_sessions(its, to);
        fill_resource_room(r, to);
}

static bool fill_latency(struct request *r, const struct op *op, const struct histogram *h,
                         Cached__V1__Latency *to)
{
        struct bump *b = &r->d->bump;
        size_t n = 0;
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
                n += h->buckets[i] > 0;
        to->bucket_ns = bump_alloc_array(b, n, sizeof(*to->bucket_ns));
        to->bucket_count = bump_alloc_array(b, n, sizeof(*to->bucket_count));
        size_t n_name = strlen(op->name) + 1;
        to->request = bump_alloc(b, n_name);
        if (!to->bucket_ns || !to->bucket_count || !to->request)
                return false;
        memcpy(to->request, op->name, n_name);
        to->count = h->count;
        to->sum_ns = h->sum;
        to->p50_ns = histogram_quantile(h, 500);
        to->p99_ns = histogram_quantile(h, 990);
        to->p999_ns = histogram_quantile(h, 999);
        to->max_ns = h->max;
        for (size_t i = 0, at = 0; i < HISTOGRAM_BUCKETS; i++) {
                if (h->buckets[i] == 0)
                        continue;
                to->bucket_ns[at] = histogram_upper_bound(i);
                to->bucket_count[at++] = h->buckets[i];
        }
        to->n_bucket_ns = to->n_bucket_count = n;
        return true;
}

/* The kinds of request that came so far. */
static bool fill_latencies(struct request *r, Cached__V1__DaemonStats *to)
{
        to->latencies = bump_alloc_array(&r->d->bump, N_OPS, sizeof(*to->latencies));
        Cached__V1__Latency *all = bump_alloc_array(&r->d->bump, N_OPS, sizeof(*all));
        if (!to->latencies || !all)
                return false;
        for (size_t i = 0; i < N_OPS; i++) {
                if (r->d->latencies[i].count == 0)
                        continue;
                Cached__V1__Latency *latency = &all[to->n_latencies];
                cached__v1__latency__init(latency);
                if (!fill_latency(r, &ops[i], &r->d->latencies[i], latency))
                        return false;
                to->latencies[to->n_latencies++] = latency;
        }
        return true;
}

static void fill_daemon(const struct request *r, Cached__V1__DaemonStats *to)
{
        const struct dispatcher *d = r->d;
        struct server_stats stats;
        server_stats(d->server, &stats);
        to->uptime_ms = (server_now_ns(d->server) - stats.started_ns) / 1000000;
        to->instance = d->realms.instance;
        to->pid = (uint32_t)getpid();
        to->connections = stats.connections;
        to->connections_total = stats.connections_total;
        to->connections_refused = stats.refused;
        to->requests = d->requests;
        to->protocol_errors = d->protocol_errors;
        to->budget_bytes = d->realms.pool.budget;
        if (client_is_privileged(r->client)) {
                to->realms_told_case = CACHED__V1__DAEMON_STATS__REALMS_TOLD_REALMS;
                to->realms = d->realms.n - d->realms.n_hidden;
                to->bytes_charged_told_case =
                        CACHED__V1__DAEMON_STATS__BYTES_CHARGED_TOLD_BYTES_CHARGED;
                to->bytes_charged = d->realms.pool.total;
        }
        to->resident_bytes = admin_resident_bytes();
        to->buffer_bytes = stats.buffer_bytes;
        to->loop_turns = stats.loop_turns;
        to->loop_turn_max_us = stats.loop_turn_max_us;
        to->config_reloads = stats.config_reloads;
        to->remembered_clients = d->outcomes.n;
        to->repeats_answered = d->outcomes.answered;
        to->outcomes_unknown = d->outcomes.unknown;
        to->unpacked = d->n_decoded;
        to->unpack_failures = d->n_damaged;
        realms_uses(&d->realms, &to->touches, &to->touches_stale, &to->touches_lost);
}

/* What it began with concerns all realms, like the sums over them. */
static bool fill_takeover(struct request *r, Cached__V1__DaemonStats *to)
{
        const struct takeover *t = &r->d->realms.takeover;
        if (t->from == TAKEOVER_NONE || !client_is_privileged(r->client))
                return true;
        Cached__V1__Takeover *takeover = bump_alloc(&r->d->bump, sizeof(*takeover));
        char **reasons = bump_alloc_array(&r->d->bump, t->n_reasons, sizeof(*reasons));
        if (!takeover || !reasons)
                return false;
        cached__v1__takeover__init(takeover);
        for (size_t i = 0; i < t->n_reasons; i++)
                reasons[i] = (char *)t->reasons[i];
        takeover->from = (Cached__V1__TakeoverFrom)t->from;
        takeover->realms_kept = t->realms_kept;
        takeover->realms_dropped = t->realms_dropped;
        takeover->entries_kept = t->entries_kept;
        takeover->entries_dropped = t->entries_dropped;
        takeover->large_kept = t->large_kept;
        takeover->descriptors_dropped = t->descriptors_dropped;
        takeover->resources_kept = t->resources_kept;
        takeover->resources_dropped = t->resources_dropped;
        takeover->n_reasons = t->n_reasons;
        takeover->reasons = reasons;
        to->takeover = takeover;
        return true;
}

static bool fill_kept_files(struct request *r, Cached__V1__DaemonStats *to)
{
        struct server_kept kept;
        if (!client_is_privileged(r->client) || !server_kept(r->d->server, &kept))
                return true;
        Cached__V1__KeptFiles *files = bump_alloc(&r->d->bump, sizeof(*files));
        if (!files)
                return false;
        cached__v1__kept_files__init(files);
        files->max = (uint32_t)kept.max;
        files->kept = (uint32_t)kept.kept;
        files->waiting = (uint32_t)kept.waiting;
        files->leaving = (uint32_t)kept.leaving;
        files->leaving_bytes = kept.leaving_bytes;
        to->kept_files = files;
        return true;
}

enum status op_stats(struct request *r)
{
        const Cached__V1__Stats *msg = r->msg->stats;
        struct cache_stats_message cache, total;
        struct store_cache_info info;
        Cached__V1__StatsResult result = CACHED__V1__STATS_RESULT__INIT;
        (void)realm_drain_all(r->who.realm, r->who.now_ms);
        if (decode_length(msg->cache) > 0) {
                struct cache_ref ref;
                enum status status = decode_cache_name(r, msg->cache, &ref);
                if (status == STATUS_OK)
                        status = admin_cache_info(&r->who, &ref, &info, &r->verdict);
                if (status != STATUS_OK)
                        return status;
                cache_stats_message_init(&cache, &info);
                uint32_t id;
                if (data_find_cache(&r->who, &ref, &id, &r->verdict) == STATUS_OK)
                        cache_stats_message_gauge(&cache, r, id);
                result.cache = &cache.stats;
        } else if (r->who.realm->hidden) {
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "Stats with a session is about one of its caches: name it, or "
                                   "leave the session out");
        }
        admin_total(&r->who, &info);
        cache_stats_message_init(&total, &info);
        if (!r->who.realm->hidden) /* leases are not counted by session */
                cache_stats_message_gauge(&total, r, 0);
        result.total = &total.stats;
        Cached__V1__RealmStats realm = CACHED__V1__REALM_STATS__INIT;
        fill_realm(r, &realm);
        result.realm = &realm;
        Cached__V1__DaemonStats daemon = CACHED__V1__DAEMON_STATS__INIT;
        char version[] = VERSION;
        daemon.version = version;
        fill_daemon(r, &daemon);
        if (!fill_latencies(r, &daemon) || !fill_takeover(r, &daemon) ||
            !fill_kept_files(r, &daemon))
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the statistics: try again later");
        result.daemon = &daemon;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_STATS;
        reply.stats = &result;
        return reply_message(r, &reply);
}
