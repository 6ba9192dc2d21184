/* SPDX-License-Identifier: MIT */
/*
 * Resourcing, as a part of the dispatcher: its beginning and end, its bounds, and what the table of
 * resources asks for. The table decides (services/resource.c); here are the descriptors that it
 * knows nothing of, and the words of segments.
 */
#include "dispatch/resourcing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/keeping.h"
#include "dispatch/scope.h"
#include "dispatch/segment.h"
#include "dispatch/subscribe.h"
#include "server.h"
#include "transport/conn.h"

/* ---- what the table asks for */

static uint32_t word_try(void *ctx, void *payload, uint32_t number, bool *ret_died)
{
        const struct resource_object *o = payload;
        (void)ctx;
        return segment_try(o->head, number, ret_died);
}

static void word_write(void *ctx, void *payload, uint32_t number, bool waiters, bool died)
{
        const struct resource_object *o = payload;
        (void)ctx;
        segment_write(o->head, number, waiters, died);
}

static uint32_t word_owner(void *ctx, void *payload)
{
        const struct resource_object *o = payload;
        (void)ctx;
        return segment_owner(o->head);
}

static void release(void *ctx, void *payload)
{
        (void)ctx;
        resource_object_unref(payload);
}

static void created(void *ctx, const struct resource *res)
{
        subscribe_resource(ctx, res);
}

static void left(void *ctx, struct resource *res)
{
        keeping_left(ctx, res);
        subscribe_resource(ctx, res);
}

/* ---- objects */

struct resource_object *resource_object_new(struct dispatcher *d,
                                            const struct resource_where *where)
{
        struct resource_object *o = calloc(1, sizeof(*o));
        if (!o)
                return NULL;
        o->d = d;
        o->realm = where->space;
        if (where->cache & RESOURCE_APART)
                scope_cache_name(o->realm->sessions, where->cache & ~RESOURCE_APART, o->cache,
                                 sizeof(o->cache));
        o->realm->n_kept++;
        o->place = RESOURCE_PLACE_NONE;
        o->slot = KEEPER_NONE;
        o->refs = 1;
        return o;
}

void resource_object_unref(struct resource_object *o)
{
        if (--o->refs > 0)
                return;
        segment_unmap(o->head);
        keeping_forget(o);
        if (o->d->resources_over)
                kept_leave(o->kept);
        else
                kept_free(o->kept);
        o->realm->n_kept--;
        free(o);
}

/* ---- its place in the dispatcher */

static void set_bounds(struct dispatcher *d)
{
        const struct config_limits *limits = &d->cfg->limits;
        const struct resource_bounds bounds = {
                .holders = limits->holders_per_uid,
                .waiters = limits->resource_waiters_per_uid,
                .resources = limits->resources_per_uid,
                .space_resources = limits->resources_per_realm,
                .space_bytes = limits->resource_bytes_per_realm,
                .grace_ms = RESOURCING_GRACE_MS,
        };
        resources_set_bounds(&d->resources, &bounds);
}

void resourcing_realm_ends(void *dispatcher, struct realm *realm)
{
        struct dispatcher *d = dispatcher;
        resources_space_ends(&d->resources, realm, server_now_ms(d->server));
}

int resourcing_init(struct dispatcher *d)
{
        uint64_t random[2];
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        struct resource_hooks hooks = {.word_try = word_try,
                                       .word_write = word_write,
                                       .word_owner = word_owner,
                                       .release = release,
                                       .created = created,
                                       .left = left,
                                       .ctx = d};
        int k = keeping_init(d, &hooks);
        if (k < 0)
                return k;
        /* Numbers begin at random: another daemon's are not taken for ours. */
        resources_init(&d->resources, random[0], random[1] >> 1, &hooks);
        list_init(&d->holdings);
        set_bounds(d);
        return 0;
}

void resourcing_done(struct dispatcher *d)
{
        d->resources_over = true;
        restoring_done(d);
        holding_done(d);
        resources_done(&d->resources);
        keeping_done(d);
}

void resourcing_reconfigure(struct dispatcher *d)
{
        set_bounds(d);
}

void resourcing_close(struct dispatcher *d)
{
        resources_close(&d->resources);
        while (!list_is_empty(&d->resources.decided))
                resourcing_flush(d);
}

void resourcing_open(struct dispatcher *d)
{
        resources_open(&d->resources);
        keeping_stay(d);
}

uint64_t resourcing_cleared(struct request *r, const struct cache_ref *ref, struct key_ref prefix)
{
        struct verdict v;
        uint32_t cache = 0;
        if (r->d->resources.numbers.n == 0 ||
            (ref && data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK))
                return 0;
        return resources_cleared(&r->d->resources, r->client->realm, resourcing_cache(r, cache),
                                 prefix.data, prefix.n, r->who.now_ms, NULL);
}

void resourcing_cache_ends(struct dispatcher *d, const struct realm *hidden, uint32_t cache,
                           uint64_t now_ms)
{
        if (hidden->parent)
                resources_cache_ends(&d->resources, hidden->parent, cache | RESOURCE_APART, now_ms);
}

bool resourcing_is_in_scope(const struct request *r, uint32_t cache)
{
        if (!(cache & RESOURCE_APART))
                return !r->who.realm->hidden;
        return r->who.realm->hidden && scope_has_cache(r, cache & ~RESOURCE_APART);
}

void resourcing_cache_name(const struct realm *realm, const struct resource *res, char *buf,
                           size_t n_buf)
{
        const struct resource_object *o = res->payload;
        struct store_cache_info cache;
        uint32_t id = resource_cache_of(res->slot);
        buf[0] = '\0';
        if (id & RESOURCE_APART)
                snprintf(buf, n_buf, "%s", o ? o->cache : "");
        else if (store_cache_info(realm->store, id, &cache) == 0)
                snprintf(buf, n_buf, "%.*s", (int)cache.n_name, cache.name);
}

struct resource_gauge resourcing_gauge(const struct request *r, uint32_t cache)
{
        return resources_gauge(&r->d->resources, r->client->realm, resourcing_cache(r, cache));
}

/* ---- connections that wait */

struct resource_party *resourcing_party(struct client *client)
{
        if (!client->parked) {
                client->parked = malloc(sizeof(*client->parked));
                if (client->parked)
                        resource_party_init(client->parked, client);
        }
        return client->parked;
}

void resourcing_leave(struct client *client, uint64_t now_ms)
{
        if (client->parked)
                resource_party_done(&client->d->resources, client->parked, now_ms);
        free(client->parked);
        client->parked = NULL;
        holding_leave(client, now_ms);
}

bool resourcing_maintain(struct dispatcher *d, uint64_t now_ms)
{
        resources_tick(&d->resources, now_ms);
        holding_sweep(d, now_ms);
        if (resourcing_has_decided(d))
                resourcing_flush(d);
        return resourcing_has_decided(d);
}
