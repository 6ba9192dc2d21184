/* SPDX-License-Identifier: MIT */
/*
 * Realm
 *
 * A realm is made when its first client says Hello, and has one store. It is kept while anybody is
 * connected or anything is stored in it; pinned policies keep it, too, because an administrator set
 * them and nobody would set them again. What vanishes with an unused realm is: the names of empty
 * caches, what clients opened them with (they send it again) and counters. Ten minutes lie between
 * the last client and that, so that a script that runs every minute finds its realm.
 *
 * Sessions, and what lies in caches of their own, are in a hidden realm beside the one that they
 * belong to: with a store of its own it has a budget of its own, and everything that keeps a store
 * (expiry, what leaves when it is full, death of the process, takeover) keeps sessions. Its name
 * has a blank, so nobody can enter it; its arena is never given to anybody, so nobody who maps the
 * realm's sees a session in it.
 *
 * Realms are few (limits.realms); all walks here are over all of them.
 *
 * Who may enter is not decided here: access.c.
 */
#include "realm/realm.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/boot.h"
#include "config.h"
#include "proto/page.h"
#include "realm/mapping.h"
#include "realm/offer.h"
#include "realm/session-caches.h"
#include "store/recover.h"
#include "store/store.h"

#define STEPS_AT_ONCE 64  /* of one realm before the next has its turn */
#define FILES_BESIDES 64u /* descriptors that are neither connections nor large values */

#define HIDDEN_PREFIX "sessions of "

const char *realm_parent_name(const char *name)
{
        size_t n = sizeof(HIDDEN_PREFIX) - 1;
        return strncmp(name, HIDDEN_PREFIX, n) == 0 ? name + n : NULL;
}

static uint64_t realm_budget(const struct config *cfg, const char *name)
{
        if (realm_parent_name(name))
                return cfg->session_budget.bytes;
        const struct config_realm *named = config_find_realm(cfg, name);
        return named ? named->budget : cfg->realm_budget.bytes;
}

uint64_t realms_max_files(const struct config *cfg)
{
        struct rlimit lim;
        uint64_t max = cfg->limits.large_values, conns = cfg->limits.connections;
        if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == RLIM_INFINITY)
                return max;
        uint64_t all = lim.rlim_cur > FILES_BESIDES ? lim.rlim_cur - FILES_BESIDES : 1;
        uint64_t left = all - (conns < all / 2 ? conns : all / 2);
        return left < max ? left : max;
}

/* Who gives way to another realm does so in the order of all uses. */
static void drain(struct charge *c, uint64_t now_ms)
{
        realm_drain((struct realm *)(void *)((char *)c - offsetof(struct realm, charge)), now_ms);
}

void realms_init(struct realms *rs, const struct config *cfg, uint64_t instance)
{
        *rs = (struct realms){
                .cfg = cfg,
                .pool = {.budget = cfg->global_budget.bytes,
                         .max_files = realms_max_files(cfg),
                         .drain = drain},
                .instance = instance,
        };
        boot_id_read(rs->boot);
        realms_offer_mapping(rs, -1);
}

/* How many arenas readers may be looking at: whoever takes over knows by it whether it has all of
 * them. Never less than there are, nor than there were as long as what became of those is open: who
 * dies in the middle of a takeover leaves the number that it found. */
void realms_note_arenas(const struct realms *rs)
{
        uint32_t n = rs->n > rs->n_left ? (uint32_t)rs->n : rs->n_left;

        if (rs->epoch_fd >= 0)
                (void)!pwrite(rs->epoch_fd, &n, sizeof(n), offsetof(struct epoch_page, n_arenas));
}

static struct realm *realm_free(struct realm *r)
{
        if (!r)
                return NULL;
        assert(r->n_clients == 0);
        realm_unoffer(r);
        mapping_done(r);
        if (r->store) {
                charge_leave(&r->charge);
                r->store = store_free(r->store);
        }
        session_caches_free(r->caches);
        free(r);
        return NULL;
}

void realms_done(struct realms *rs)
{
        struct realm *next;
        for (struct realm *r = rs->first; r; r = next) {
                next = r->next;
                realm_free(r);
        }
        rs->first = rs->turn = NULL;
        rs->n = rs->n_hidden = 0;
}

static uint32_t caches_limit(const struct config *cfg, bool hidden)
{
        return (uint32_t)(hidden ? cfg->limits.session_caches_per_realm
                                 : cfg->limits.caches_per_realm);
}

/* Those that are no session's are among them. */
static uint32_t max_caches(const struct config *cfg, const struct realm *r)
{
        return caches_limit(cfg, r->hidden) + (r->hidden ? SESSION_CACHES_OWN : 0);
}

uint32_t realm_max_caches(const struct realm *r)
{
        return store_max_caches(r->store) - (r->hidden ? SESSION_CACHES_OWN : 0);
}

/* A session is never a file of its own. */
static uint64_t large_threshold(const struct config *cfg, const struct realm *r)
{
        return r->hidden ? STORE_EXTENT_MAX : cfg->large_threshold;
}

void realms_reconfigure(struct realms *rs, const struct config *cfg)
{
        rs->cfg = cfg;
        rs->pool.budget = cfg->global_budget.bytes;
        rs->pool.max_files = realms_max_files(cfg);
        for (struct realm *r = rs->first; r; r = r->next) {
                uint64_t budget = realm_budget(cfg, r->name);
                store_set_budget(r->store, budget, config_share_of(&cfg->uid_share, budget));
                store_set_limits(r->store, max_caches(cfg, r), cfg->limits.entries_per_realm,
                                 large_threshold(cfg, r), (uint32_t)cfg->limits.tags_per_realm);
                realm_settle(r);
        }
}

void realms_set_clock_offset(struct realms *rs, int64_t ms)
{
        for (struct realm *r = rs->first; r; r = r->next)
                store_set_clock_offset(r->store, ms);
}

static int make_room(void *ctx, struct store *s, const struct store_want *want, uint64_t now,
                     struct store_refusal *ret)
{
        struct realm *r = ctx;
        assert(r->store == s);
        return charge_make_room(&r->charge, want, now, ret);
}

static struct store_params params_of(struct realm *r)
{
        const struct config *cfg = r->realms->cfg;
        uint64_t budget = realm_budget(cfg, r->name);

        return (struct store_params){
                .budget = budget,
                .uid_share = config_share_of(&cfg->uid_share, budget),
                .large_threshold = large_threshold(cfg, r),
                .max_caches = max_caches(cfg, r),
                .max_entries = cfg->limits.entries_per_realm,
                .max_tags = (uint32_t)cfg->limits.tags_per_realm,
                .instance = r->realms->instance,
                .boot = {r->realms->boot[0], r->realms->boot[1]},
                .label = r->name,
                .make_room = make_room,
                .large_left = realm_large_left,
                .ctx = r,
                .reaper = r->realms->reaper,
        };
}

static int open_store(struct realm *r)
{
        struct store_params params = params_of(r);
        ssize_t got = getrandom(params.seed, sizeof(params.seed), 0);
        if (got != (ssize_t)sizeof(params.seed))
                return got < 0 ? -errno : -EIO;
        int k = store_new(&params, &r->store);
        return k <= 0 ? k : -ENOTRECOVERABLE; /* store_new() has no expected failures */
}

/* Without a store. */
static struct realm *realm_alloc(struct realms *rs, const char *name)
{
        size_t n_name = strlen(name) + 1;
        struct realm *r = calloc(1, sizeof(*r) + n_name);
        if (!r)
                return NULL;
        r->realms = rs;
        r->serial = ++rs->last_serial;
        r->hidden = realm_parent_name(name) != NULL;
        r->kept[0] = r->kept[1] = KEEPER_NONE;
        memcpy(r->name, name, n_name);
        return r;
}

/* It has its store. */
static void realm_link(struct realm *r)
{
        struct realms *rs = r->realms;
        r->charge.keeps = r->hidden;
        charge_join(&r->charge, &rs->pool, r->store);
        r->next = rs->first;
        rs->first = r;
        rs->n++;
        rs->n_hidden += r->hidden;
        rs->n_unkept++;
        realms_note_arenas(rs);
}

static void realm_unlink(struct realm *r)
{
        struct realms *rs = r->realms;
        struct realm **at = &rs->first;
        while (*at != r)
                at = &(*at)->next;
        *at = r->next;
        if (rs->turn == r)
                rs->turn = r->next;
        rs->n--;
        rs->n_hidden -= r->hidden;
        rs->n_unkept -= r->kept[0] == KEEPER_NONE;
}

static int realm_new(struct realms *rs, const char *name, struct realm **ret)
{
        struct realm *r = realm_alloc(rs, name);
        if (!r)
                return -ENOMEM;
        int k = open_store(r);
        if (k != 0) {
                realm_free(r);
                return k;
        }
        realm_link(r);
        *ret = r;
        return 0;
}

static struct realm *find_realm(const struct realms *rs, const char *name)
{
        struct realm *r = rs->first;
        while (r && strcmp(r->name, name) != 0)
                r = r->next;
        return r;
}

int realm_enter(struct realms *rs, const char *name, struct realm **ret)
{
        struct realm *r = find_realm(rs, name);
        assert(!realm_parent_name(name));
        if (!r) {
                if (rs->n - rs->n_hidden >= rs->cfg->limits.realms)
                        return REALM_E_LIMIT;
                int k = realm_new(rs, name, &r);
                if (k != 0)
                        return k;
        }
        r->n_clients++;
        *ret = r;
        return 0;
}

/* @r goes where that fails. */
static int join_parent(struct realm *r, struct realm *parent, uint64_t now_ms)
{
        assert(!parent->sessions && !parent->hidden && r->hidden);
        int k = session_caches_new(r, now_ms);
        if (k < 0) {
                realm_unlink(r);
                realm_free(r);
                realms_note_arenas(parent->realms);
                return k;
        }
        parent->sessions = r;
        r->parent = parent;
        return 0;
}

int realm_sessions(struct realm *r, struct realm **ret)
{
        if (!r->sessions) {
                char name[STORE_LABEL_SIZE];
                struct realm *hidden;
                assert(!r->hidden);
                int n = snprintf(name, sizeof(name), HIDDEN_PREFIX "%s", r->name);
                if (n < 0 || (size_t)n >= sizeof(name))
                        return -ENOSPC; /* no configuration has such a name */
                int k = realm_new(r->realms, name, &hidden);
                if (k == 0)
                        k = join_parent(hidden, r, 0); /* there is nothing in it yet */
                if (k != 0)
                        return k;
        }
        *ret = r->sessions;
        return 0;
}

static bool has_pinned_policy(struct realm *r)
{
        uint32_t n = store_n_caches(r->store);
        for (uint32_t cache = 1; cache <= n; cache++) {
                struct store_cache_info info;
                if (store_cache_info(r->store, cache, &info) == 0 && info.pinned)
                        return true;
        }
        return false;
}

int realm_adopt(struct realms *rs, const char *name, const struct store_files *files,
                uint64_t now_ms, struct store_adopted *ret_report)
{
        struct realm *r = realm_alloc(rs, name);
        if (!r) {
                close(files->arena);
                close(files->table);
                return -ENOMEM;
        }
        struct store_params params = params_of(r);
        int k = store_adopt(&params, files, now_ms, &r->store, ret_report);
        if (k != 0) {
                realm_free(r);
                return k;
        }
        realm_link(r);
        r->idle_since_ms = now_ms;
        r->keeps_policy = has_pinned_policy(r);
        return 0;
}

size_t realms_link_sessions(struct realms *rs, uint64_t now_ms)
{
        struct realm *next;
        size_t n_lost = 0;
        for (struct realm *r = rs->first; r; r = next) {
                next = r->next;
                if (!r->hidden || r->parent)
                        continue;
                const char *name = realm_parent_name(r->name);
                struct realm *parent = find_realm(rs, name);
                if (!parent && realm_new(rs, name, &parent) == 0)
                        parent->idle_since_ms = now_ms;
                if (parent) {
                        n_lost += join_parent(r, parent, now_ms) != 0;
                        continue;
                }
                realm_unlink(r);
                realm_free(r);
                n_lost++;
        }
        return n_lost;
}

void realms_limit_sessions(struct realms *rs, uint64_t now_ms)
{
        for (struct realm *r = rs->first; r; r = r->next)
                if (r->caches)
                        session_caches_reconfigure(r, now_ms);
}

void realm_leave(struct realm *r, uint64_t now_ms)
{
        assert(r->n_clients > 0);
        if (--r->n_clients > 0)
                return;
        r->idle_since_ms = now_ms;
        r->keeps_policy = has_pinned_policy(r);
}

void realm_settle(struct realm *r)
{
        charge_settle(&r->charge);
        if (r->sessions)
                charge_settle(&r->sessions->charge);
}

static bool is_empty(const struct realm *r)
{
        return store_entries(r->store) == 0 &&
               store_files(r->store) == 0; /* readers may hold values that have left */
}

/* One that holds sessions never is by itself: it goes with its parent. */
static bool is_unused(const struct realm *r)
{
        return r->n_clients == 0 && r->n_kept == 0 && !r->keeps_policy && !r->hidden &&
               is_empty(r) && (!r->sessions || is_empty(r->sessions));
}

static uint64_t realm_next_deadline(const struct realm *r)
{
        uint64_t next = store_next_deadline(r->store);
        if (is_unused(r) && r->idle_since_ms + REALM_IDLE_MS < next)
                next = r->idle_since_ms + REALM_IDLE_MS;
        return next;
}

static void free_unused(struct realms *rs, uint64_t now_ms)
{
        struct realm *next;
        for (struct realm *r = rs->first; r; r = next) {
                struct realm *sessions = r->sessions;
                next = r->next;
                if (!is_unused(r) || now_ms - r->idle_since_ms < REALM_IDLE_MS)
                        continue;
                if (rs->ends)
                        rs->ends(rs->ends_ctx, r);
                if (sessions) {
                        if (next == sessions)
                                next = next->next;
                        realm_unlink(sessions);
                        realm_free(sessions);
                }
                realm_unlink(r);
                realm_free(r);
                realms_note_arenas(rs);
        }
}

uint32_t realms_least_caches(const struct realms *rs, bool hidden)
{
        uint32_t least = caches_limit(rs->cfg, hidden);
        for (const struct realm *r = rs->first; r; r = r->next)
                if (r->hidden == hidden && realm_max_caches(r) < least)
                        least = realm_max_caches(r);
        return least;
}

bool realms_maintain(struct realms *rs, uint64_t now_ms, unsigned steps)
{
        /* One turn over all realms; each gets an equal slice, and who was not reached is next. */
        struct realm *r = rs->turn ? rs->turn : rs->first;
        bool more = false;
        steps -= charge_trim(&rs->pool, now_ms, steps);
        for (size_t left = rs->n; left > 0 && steps > 0; left--) {
                struct realm *next = r->next ? r->next : rs->first;
                if (realm_next_deadline(r) <= now_ms) {
                        unsigned slice = steps < STEPS_AT_ONCE ? steps : STEPS_AT_ONCE;
                        if (rs->n == 1)
                                slice = steps;
                        steps -= slice;
                        if (store_maintain(r->store, now_ms, slice))
                                more = true;
                        realm_settle(r);
                }
                r = next;
        }
        rs->turn = r;
        free_unused(rs, now_ms);
        more |= realms_check_holes(rs, now_ms);
        return more || realms_next_deadline(rs) <= now_ms;
}

uint64_t realms_next_deadline(const struct realms *rs)
{
        uint64_t next = charge_is_over(&rs->pool) ? 0 : realms_holes_due(rs);
        for (const struct realm *r = rs->first; r; r = r->next) {
                uint64_t its = realm_next_deadline(r);
                if (its < next)
                        next = its;
        }
        return next;
}
