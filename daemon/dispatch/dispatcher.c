/* SPDX-License-Identifier: MIT */
/*
 * The dispatcher: its parts are made and ended together, told of another configuration, and given
 * their share of a turn. What a frame means to them is in dispatch.c.
 */
#include "dispatch/dispatcher.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/reaper.h"
#include "config.h"
#include "dispatch/events.h"
#include "dispatch/keeping.h"
#include "dispatch/leasing.h"
#include "dispatch/resourcing.h"
#include "dispatch/scope.h"
#include "log.h"
#include "realm/mapping.h"
#include "realm/offer.h"
#include "server.h"

#define BUMP_FIRST ((size_t)64 * 1024) /* nearly every request; guess, not measured */

static size_t bump_limit(const struct config *cfg)
{
        return (size_t)(cfg->limits.keys_per_request * BUMP_PER_KEY +
                        4 * cfg->limits.message_bytes);
}

/* What is being freed is charged to nobody. */
static void limit_reaper(const struct dispatcher *d)
{
        reaper_set_limit(d->reaper, d->cfg->global_budget.bytes / 8);
}

int dispatcher_new(struct server *server, const struct config *cfg, struct dispatcher **ret)
{
        struct dispatcher *d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->server = server;
        d->cfg = cfg;
        d->own_uid = geteuid();
        subscribers_init(&d->subscribers);
        attachments_init(&d->attachments);
        d->overflow_uid = access_overflow_uid();
        processes_init(&d->processes);
        int r = bump_init(&d->bump, BUMP_FIRST, bump_limit(cfg));
        if (r < 0) {
                free(d);
                return r;
        }
        r = outcomes_init(&d->outcomes);
        if (r == 0)
                r = views_init(&d->views);
        if (r == 0)
                r = leasing_init(d);
        if (r == 0)
                r = resourcing_init(d);
        if (r == 0)
                r = reaper_new(&d->reaper);
        if (r < 0) {
                keeping_done(d);
                outcomes_done(&d->outcomes);
                bump_done(&d->bump);
                free(d);
                return r;
        }
        realms_init(&d->realms, cfg, server_instance(server));
        d->realms.reaper = d->reaper;
        d->realms.session_departed = attach_departed;
        d->realms.session_ctx = d;
        d->realms.ends = resourcing_realm_ends;
        d->realms.ends_ctx = d;
        limit_reaper(d);
        *ret = d;
        return 0;
}

bool dispatcher_adopt(struct dispatcher *d, struct given *given, enum takeover_from from)
{
        restoring_take(d, given);
        return realms_adopt(&d->realms, given, from, server_now_ms(d->server),
                            server_log(d->server));
}

/* Nobody is attached to any session yet. */
static void adopt_sessions(struct dispatcher *d)
{
        for (struct realm *r = d->realms.first; r; r = r->next) {
                if (!r->hidden)
                        continue;
                session_unbind_all(r, server_now_ms(d->server));
                realm_settle(r);
        }
}

void dispatcher_adopted(struct dispatcher *d)
{
        realms_adopted(&d->realms, server_now_ms(d->server));
        adopt_sessions(d);
        restoring_run(d);
}

void dispatcher_renumber(struct dispatcher *d, uint64_t instance)
{
        realms_renumber(&d->realms, instance);
}

void dispatcher_shift_clock(struct dispatcher *d, int64_t ms)
{
        realms_set_clock_offset(&d->realms, ms);
}

void dispatcher_rest(struct dispatcher *d)
{
        realms_drain_all(&d->realms, server_now_ms(d->server));
        keeping_rest(d);
}

bool dispatcher_each_file(const struct dispatcher *d, realm_file_visit visit, void *ctx)
{
        return realms_each_file(&d->realms, visit, ctx) && keeping_each_file(d, visit, ctx);
}

void dispatcher_let_go(struct dispatcher *d)
{
        d->realms.keeper = NULL;
        realms_let_go(&d->realms);
}

void dispatcher_set_keeper(struct dispatcher *d, const struct keeper *keeper)
{
        d->realms.keeper = keeper;
}

struct reaper *dispatcher_reaper(const struct dispatcher *d)
{
        return d->reaper;
}

void dispatcher_claim(struct dispatcher *d)
{
        realms_claim(&d->realms);
        keeping_claim(d);
}

bool dispatcher_offer(struct dispatcher *d, uint64_t now_ms, bool all)
{
        bool realms_fit = realms_offer(&d->realms, now_ms, all);
        return keeping_offer(d, now_ms, all) && realms_fit;
}

uint64_t dispatcher_offer_due(const struct dispatcher *d, uint64_t now_ms)
{
        uint64_t realms = realms_offer_due(&d->realms, now_ms), resources = keeping_offer_due(d);
        return realms < resources ? realms : resources;
}

void dispatcher_totals(const struct dispatcher *d, struct dispatcher_totals *ret)
{
        *ret = (struct dispatcher_totals){.bytes = d->realms.pool.total};
        for (const struct realm *r = d->realms.first; r; r = r->next) {
                ret->entries += r->hidden ? 0 : store_entries(r->store);
                store_sum_uses(r->store, &ret->hits, &ret->misses);
        }
}

void dispatcher_offer_mapping(struct dispatcher *d, int epoch_fd)
{
        realms_offer_mapping(&d->realms, epoch_fd);
}

struct dispatcher *dispatcher_free(struct dispatcher *d)
{
        if (!d)
                return NULL;
        views_done(&d->views);
        leasing_done(d);
        attachments_done(&d->attachments);
        resourcing_done(d);
        realms_done(&d->realms);
        reaper_free(d->reaper);
        outcomes_done(&d->outcomes);
        bump_done(&d->bump);
        free(d);
        return NULL;
}

static void warn_of_caches(struct dispatcher *d, const char *name, uint64_t limit, bool hidden)
{
        uint32_t caches = realms_least_caches(&d->realms, hidden);
        if (caches < limit)
                log_write(server_log(d->server), LOG_WARNING,
                          "limits.%s = %" PRIu64
                          " holds for realms that are made from now on: one that was made under a "
                          "lower limit keeps %" PRIu32 " until the daemon is restarted",
                          name, limit, caches);
}

void dispatcher_reconfigure(struct dispatcher *d, const struct config *cfg)
{
        schedules_run(d, server_now_ms(d->server));
        d->cfg = cfg;
        schedules_changed(d);
        d->bump.limit = bump_limit(cfg);
        realms_reconfigure(&d->realms, cfg);
        realms_limit_sessions(&d->realms, server_now_ms(d->server));
        limit_reaper(d);
        warn_of_caches(d, "caches_per_realm", cfg->limits.caches_per_realm, false);
        warn_of_caches(d, "session_caches_per_realm", cfg->limits.session_caches_per_realm, true);
        struct client *next;
        for (struct client *c = d->clients; c; c = next) {
                next = c->next;
                if (!c->realm)
                        continue;
                struct access_peer peer = client_peer(c);
                if (access_role(cfg, &peer, c->realm->name, &c->role) != 0)
                        conn_close(c->conn);
                else if (c->role < ACCESS_WRITER)
                        attach_leave(c, server_now_ms(d->server)); /* sessions are for writers */
        }
        leasing_reconfigure(d);
        resourcing_reconfigure(d);
}

void dispatcher_part(struct dispatcher *d)
{
        leasing_close(d);
        resourcing_close(d);
}

void dispatcher_stay(struct dispatcher *d)
{
        leasing_open(d);
        resourcing_open(d);
}

bool dispatcher_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps)
{
        reaper_kick(d->reaper); /* what was answered is on its way */
        events_flush(d, now_ms);
        schedules_maintain(d, now_ms);
        outcomes_expire(&d->outcomes, now_ms, d->cfg->limits.outcome_ms);
        bool more = leasing_maintain(d, now_ms, steps);
        more |= resourcing_maintain(d, now_ms);
        more |= views_reap(&d->views, steps);
        more |= realms_drain(&d->realms, now_ms);
        more |= realms_maintain(&d->realms, now_ms, steps);
        more |= scope_maintain(d, now_ms, steps); /* of sessions that have left just now, too */
        more |= attach_flush(d, now_ms);
        return subscribe_flush(d, now_ms) || more;
}

uint64_t dispatcher_next_deadline(const struct dispatcher *d)
{
        uint64_t next = realms_next_deadline(&d->realms);
        if (d->n_pending > 0 && d->events_due_ms < next)
                next = d->events_due_ms;
        uint64_t others[] = {leases_next_due(&d->leases), resources_next_due(&d->resources),
                             subscribe_next_deadline(d),  attach_next_deadline(d),
                             schedules_next_deadline(d),  scope_next_deadline(d)};
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
                next = others[i] < next ? others[i] : next;
        uint64_t forget = outcomes_next_deadline(&d->outcomes, d->cfg->limits.outcome_ms);
        return forget < next ? forget : next;
}
