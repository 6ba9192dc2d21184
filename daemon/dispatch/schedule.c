/* SPDX-License-Identifier: MIT */
/*
 * Schedules
 *
 * `every = D` means the moments at which the machine has been up for a multiple of D: so it needs
 * no state, and neither a reload nor a client that subscribes anew every now and then puts it off.
 * `at = HH:MM` goes by the wall clock. What has come between two looks is told once, however often
 * it came.
 *
 * Only schedules that somebody waits for count: else the daemon is not woken up. A wall clock may
 * be set meanwhile, and no timer of ours knows of that: it is looked at once an hour at least.
 */
#include "dispatch/schedule.h"

#include <string.h>

#include "base/daytime.h"
#include "config.h"
#include "dispatch/dispatcher.h"
#include "dispatch/subscribe.h"
#include "server.h"

#define NEVER        UINT64_MAX
#define WALL_LOOK_MS (UINT64_C(3600) * 1000)
#define MS_PER_S     1000

static struct realm *realm_of(const struct dispatcher *d, const struct config_schedule *s)
{
        char own[ACCESS_OWN_REALM_MAX];
        const char *name = s->realm;
        if (!name) {
                access_own_realm(d->own_uid, own);
                name = own;
        }
        struct realm *realm = d->realms.first;
        while (realm && strcmp(realm->name, name) != 0)
                realm = realm->next;
        return realm;
}

struct look {
        uint64_t now_ms;
        int64_t wall_ms;
};

static bool is_due(const struct schedules *last, const struct config_schedule *s,
                   const struct look *now)
{
        if (s->every_ms > 0 && now->now_ms / s->every_ms > last->last_ms / s->every_ms)
                return true;
        return s->at_minute != CONFIG_AT_NEVER &&
               daytime_next(last->last_wall_ms / MS_PER_S, s->at_minute) <= now->wall_ms / MS_PER_S;
}

static uint64_t next_of(const struct config_schedule *s, const struct look *now)
{
        uint64_t next = NEVER;
        if (s->every_ms > 0)
                next = (now->now_ms / s->every_ms + 1) * s->every_ms;
        if (s->at_minute == CONFIG_AT_NEVER)
                return next;
        int64_t at_s = daytime_next(now->wall_ms / MS_PER_S, s->at_minute);
        uint64_t wait_ms = WALL_LOOK_MS;
        if (at_s < now->wall_ms / MS_PER_S + (int64_t)(WALL_LOOK_MS / MS_PER_S))
                wait_ms = (uint64_t)(at_s * MS_PER_S - now->wall_ms);
        return now->now_ms + wait_ms < next ? now->now_ms + wait_ms : next;
}

void schedules_run(struct dispatcher *d, uint64_t now_ms)
{
        struct schedules *all = &d->schedules;
        const struct config *cfg = d->cfg;
        struct look now = {.now_ms = now_ms, .wall_ms = server_wall_ms(d->server)};
        if (all->last_wall_ms > now.wall_ms)
                all->last_wall_ms = now.wall_ms; /* it was set back */
        all->due_ms = NEVER;
        for (size_t i = 0; i < cfg->n_schedules && d->subscribers.n_refresh > 0; i++) {
                const struct config_schedule *s = &cfg->schedules[i];
                struct realm *realm = realm_of(d, s);
                if (!realm || !subscribe_wants_refresh(realm, s->cache))
                        continue;
                if (is_due(all, s, &now))
                        subscribe_refresh(realm, s->name, s->cache, now_ms);
                uint64_t next = next_of(s, &now);
                if (next < all->due_ms)
                        all->due_ms = next;
        }
        all->last_ms = now.now_ms;
        all->last_wall_ms = now.wall_ms;
}

void schedules_changed(struct dispatcher *d)
{
        d->schedules.due_ms = 0;
}

void schedules_maintain(struct dispatcher *d, uint64_t now_ms)
{
        if (schedules_next_deadline(d) <= now_ms)
                schedules_run(d, now_ms);
}

uint64_t schedules_next_deadline(const struct dispatcher *d)
{
        return d->cfg->n_schedules > 0 && d->subscribers.n_refresh > 0 ? d->schedules.due_ms
                                                                       : NEVER;
}
