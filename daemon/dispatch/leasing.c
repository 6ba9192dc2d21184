/* SPDX-License-Identifier: MIT */
/*
 * Leasing, as a part of the dispatcher: its beginning and end, its bounds, and what the table of
 * leases tells the stores.
 */
#include "dispatch/leasing.h"

#include <errno.h>
#include <sys/random.h>

#include "config.h"
#include "dispatch/client.h"
#include "server.h"

static void count(void *ctx, void *space, uint32_t cache, enum lease_count what)
{
        const struct realm *realm = space;
        struct store_counters *c = store_cache_counters(realm->store, cache);
        (void)ctx;
        if (!c)
                return;
        c->leases += what == LEASE_COUNT_GRANTED;
        c->refreshes += what == LEASE_COUNT_REFRESH;
        c->lease_waits += what == LEASE_COUNT_WAIT;
        c->leases_lost += what == LEASE_COUNT_LOST;
        c->lease_failures += what == LEASE_COUNT_FAILED;
}

/* Whatever ended it but a new value: the next one may try. */
static void over(void *ctx, const struct lease *l)
{
        const struct dispatcher *d = ctx;
        const struct lease_slot *s = l->slot;
        const struct realm *realm = lease_space(s);
        (void)store_refresh_end(realm->store, lease_cache(s), s->key, s->n_key, l->version,
                                server_now_ms(d->server), false);
}

static void set_bounds(struct dispatcher *d)
{
        leases_set_bounds(&d->leases, d->cfg->limits.leases_per_uid,
                          d->cfg->limits.waiters_per_uid);
}

int leasing_init(struct dispatcher *d)
{
        uint64_t random[2];
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        /* Numbers begin at random: another daemon's are not taken for ours. */
        const struct lease_hooks hooks = {.count = count, .over = over, .ctx = d};
        leases_init(&d->leases, random[0], random[1] >> 1, &hooks);
        set_bounds(d);
        return 0;
}

void leasing_done(struct dispatcher *d)
{
        leases_done(&d->leases);
}

void leasing_reconfigure(struct dispatcher *d)
{
        uint64_t now_ms = server_now_ms(d->server);
        set_bounds(d);
        for (struct client *c = d->clients; c; c = c->next)
                if (c->party && c->role < ACCESS_WRITER)
                        lease_party_refuse(&d->leases, c->party, LEASE_GOT_NOTHING, now_ms);
}

void leasing_close(struct dispatcher *d)
{
        leases_close(&d->leases);
        while (leasing_has_decided(d))
                leasing_flush(d);
}

void leasing_open(struct dispatcher *d)
{
        leases_open(&d->leases);
}
