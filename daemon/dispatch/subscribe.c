/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions
 *
 * A client has at most one subscription. Those of a realm are a list, and the realm knows which
 * kinds of events any of them wants: where nobody wants to know, an event costs a look at that, and
 * the store does not tell of departures at all.
 *
 * An event is put into the queue of each subscriber that wants it, when it happens: so their order
 * is that of what happened. Queues are sent at the end of the turn; one that is full before goes
 * out at once, so that a busy turn loses nothing to who reads. Not to the client whose request is
 * being carried out, though: room for its reply may be reserved.
 *
 * Who does not read has EVENT_OUTPUT in its output, limits.events_queued in its queue, and then a
 * number; nothing is tried until its output has drained. It is dropped in the end like every peer
 * that takes none of its replies.
 */
#include "dispatch/subscribe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "dispatch/dispatcher.h"
#include "dispatch/event-queue.h"
#include "dispatch/ops.h"
#include "dispatch/reply.h"
#include "dispatch/schedule.h"
#include "server.h"
#include "services/policy.h"

/* Output that waits for a subscriber: what comes then waits in its queue, where it is counted. What
 * a socket holds comes on top. */
#define EVENT_OUTPUT   ((uint64_t)64 * 1024)
#define EVENT_MAX      512  /* more than a frame with one takes, but for its text */
#define EVENTS_AT_ONCE 1000 /* of all subscribers, then others have their turn: some 500 µs */
#define RETRY_MS       100  /* after memory ran out */
static_assert(CACHE_MESSAGE_MAX <= EVENT_MAX, "a policy is an event, too");
static_assert(RESOURCE_REASON_MAX <= EVENT_TEXT_MAX, "reasons are told whole");

struct subscription {
        struct client *client;
        struct subscription *prev, *next; /* of the same realm */
        struct list due_node;
        uint32_t kinds;
        bool waits; /* for its output to drain */
        struct event_queue queue;
        size_t n_cache;
        char cache[STORE_CACHE_NAME_MAX]; /* the only one it is about; n_cache 0: all */
};

void subscribers_init(struct subscribers *s)
{
        *s = (struct subscribers){0};
        list_init(&s->due);
}

/* ---- who wants what */

static bool wants(const struct subscription *s, Cached__V1__EventKind kind, const char *cache,
                  size_t n_cache)
{
        if (!(s->kinds & SUBSCRIBE_BIT(kind)))
                return false;
        /* What is about all caches is about this one. */
        return s->n_cache == 0 || n_cache == 0 ||
               (s->n_cache == n_cache && memcmp(s->cache, cache, n_cache) == 0);
}

static bool is_wanted(void *ctx, const struct event *e)
{
        return wants(ctx, e->kind, e->cache, strlen(e->cache));
}

static void on_departed(void *ctx, const struct store_departure *gone, uint64_t now);

/* After the list of the realm's subscriptions, or what one of them wants, changed. */
static void settle_realm(struct dispatcher *d, struct realm *realm)
{
        const uint32_t departures = SUBSCRIBE_BIT(CACHED__V1__EVENT_KIND__EVENT_EXPIRED) |
                                    SUBSCRIBE_BIT(CACHED__V1__EVENT_KIND__EVENT_EVICTED);
        realm->subscribed = 0;
        for (const struct subscription *s = realm->subscribers; s; s = s->next)
                realm->subscribed |= s->kinds;
        store_watch(realm->store, realm->subscribed & departures ? on_departed : NULL, realm);
        schedules_changed(d);
}

static void count_refresh(struct dispatcher *d, uint32_t before, uint32_t now)
{
        const uint32_t bit = SUBSCRIBE_BIT(CACHED__V1__EVENT_KIND__EVENT_REFRESH);
        d->subscribers.n_refresh += (now & bit) != 0;
        d->subscribers.n_refresh -= (before & bit) != 0;
}

static void mark_due(struct dispatcher *d, struct subscription *s)
{
        if (!s->waits && list_is_empty(&s->due_node))
                list_append(&d->subscribers.due, &s->due_node);
}

/* ---- beginning and ending */

static int add(struct client *client, struct subscription **ret)
{
        struct dispatcher *d = client->d;
        uid_t uid = conn_peer(client->conn)->uid;
        int r = quota_take(&d->subscriptions, uid, 1, d->cfg->limits.subscribers_per_uid);
        if (r != 0)
                return r == QUOTA_E_LIMIT ? SUBSCRIBE_E_LIMIT : r;
        struct subscription *s = calloc(1, sizeof(*s));
        if (!s) {
                quota_give(&d->subscriptions, uid, 1);
                return -ENOMEM;
        }
        s->client = client;
        list_init(&s->due_node);
        s->next = client->realm->subscribers;
        if (s->next)
                s->next->prev = s;
        client->realm->subscribers = s;
        client->subscription = s;
        *ret = s;
        return 0;
}

int subscribe_begin(struct client *client, uint32_t kinds, const struct cache_ref *cache)
{
        struct dispatcher *d = client->d;
        struct subscription *s = client->subscription;
        int r = s ? 0 : add(client, &s);
        if (r != 0)
                return r;
        count_refresh(d, s->kinds, kinds);
        s->kinds = kinds;
        s->n_cache = cache->n_name;
        memcpy(s->cache, cache->name, cache->n_name);
        /* What was not asked for any more is not sent any more. */
        event_queue_filter(&s->queue, is_wanted, s);
        settle_realm(d, client->realm);
        return SUBSCRIBE_OK;
}

void subscribe_end(struct client *client)
{
        struct subscription *s = client->subscription;
        if (!s)
                return;
        struct dispatcher *d = client->d;
        count_refresh(d, s->kinds, 0);
        if (s->prev)
                s->prev->next = s->next;
        else
                client->realm->subscribers = s->next;
        if (s->next)
                s->next->prev = s->prev;
        list_unlink(&s->due_node);
        event_queue_done(&s->queue);
        client->subscription = NULL;
        quota_give(&d->subscriptions, conn_peer(client->conn)->uid, 1);
        settle_realm(d, client->realm);
        free(s);
}

/* ---- sending */

static void put_entry(Cached__V1__EntryEvent *to, const struct event *e, uint64_t age_ms)
{
        to->kind = e->kind;
        to->cache = (char *)e->cache; /* only read, as everything below */
        to->key = (ProtobufCBinaryData){.data = (uint8_t *)e->key, .len = e->n_key};
        to->version = e->version;
        to->size = e->n;
        to->cause = e->cause;
        to->age_ms = age_ms;
}

static void put_clear(Cached__V1__ClearEvent *to, const struct event *e, uint64_t age_ms)
{
        to->cache = (char *)e->cache;
        to->entries = e->n;
        to->age_ms = age_ms;
        if (e->has_text) {
                to->which_case = CACHED__V1__CLEAR_EVENT__WHICH_TAG;
                to->tag = (char *)e->text;
        } else if (e->has_key) {
                to->which_case = CACHED__V1__CLEAR_EVENT__WHICH_PREFIX;
                to->prefix = (ProtobufCBinaryData){.data = (uint8_t *)e->key, .len = e->n_key};
        }
}

static void put_policy(struct cache_message *to, const struct event *e)
{
        const struct store_cache_info info = {
                .name = e->cache,
                .n_name = strlen(e->cache),
                .policy = e->policy,
                .pinned = e->pinned,
        };
        cache_message_init(to, e->cache_id, &info);
}

static void put_instance(Cached__V1__InstanceEvent *to, const struct event *e, uint64_t age_ms)
{
        to->kind = e->kind;
        to->cache = (char *)e->cache;
        to->key = (ProtobufCBinaryData){.data = (uint8_t *)e->key, .len = e->n_key};
        to->instance = e->version;
        to->resource = e->resource;
        to->cause = e->left;
        to->reason = (char *)e->text;
        to->holders = e->n;
        to->age_ms = age_ms;
}

/* @n_text: bytes of its text. False: no memory. */
static bool send_message(struct client *client, Cached__V1__Event *event, size_t n_text)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        reply.event = event;
        struct request r;
        r.d = client->d;
        r.client = client;
        if (reply_reserve(&r, EVENT_MAX + n_text, 0) != STATUS_OK)
                return false;
        reply_queue(&r, &reply, NULL, 0, 0);
        return true;
}

static bool send_lost(struct client *client, uint64_t n)
{
        Cached__V1__LostEvents lost = CACHED__V1__LOST_EVENTS__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        lost.events = n;
        event.kind_case = CACHED__V1__EVENT__KIND_LOST;
        event.lost = &lost;
        return send_message(client, &event, 0);
}

static bool send_event(struct client *client, const struct event *e, uint64_t now_ms)
{
        uint64_t age_ms = now_ms > e->when_ms ? now_ms - e->when_ms : 0;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        Cached__V1__EntryEvent entry = CACHED__V1__ENTRY_EVENT__INIT;
        Cached__V1__ClearEvent cleared = CACHED__V1__CLEAR_EVENT__INIT;
        Cached__V1__RefreshEvent refresh = CACHED__V1__REFRESH_EVENT__INIT;
        Cached__V1__InstanceEvent instance = CACHED__V1__INSTANCE_EVENT__INIT;
        struct cache_message policy;

        switch (e->kind) {
        case CACHED__V1__EVENT_KIND__EVENT_CLEARED:
                put_clear(&cleared, e, age_ms);
                event.kind_case = CACHED__V1__EVENT__KIND_CLEARED;
                event.cleared = &cleared;
                break;
        case CACHED__V1__EVENT_KIND__EVENT_POLICY:
                put_policy(&policy, e);
                event.kind_case = CACHED__V1__EVENT__KIND_POLICY_CHANGED;
                event.policy_changed = &policy.info;
                break;
        case CACHED__V1__EVENT_KIND__EVENT_REFRESH:
                refresh.cache = (char *)e->cache;
                refresh.schedule = (char *)e->text;
                event.kind_case = CACHED__V1__EVENT__KIND_REFRESH;
                event.refresh = &refresh;
                break;
        case CACHED__V1__EVENT_KIND__EVENT_RESOURCE_CREATED:
        case CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT:
                put_instance(&instance, e, age_ms);
                event.kind_case = CACHED__V1__EVENT__KIND_INSTANCE;
                event.instance = &instance;
                break;
        default:
                put_entry(&entry, e, age_ms);
                event.kind_case = CACHED__V1__EVENT__KIND_ENTRY;
                event.entry = &entry;
                break;
        }
        return send_message(client, &event, strlen(e->text));
}

enum sent {
        SENT_ALL,    /* the queue is empty */
        SENT_FULL,   /* the peer has to read first */
        SENT_ENOUGH, /* others have their turn */
        SENT_MEMORY, /* ran out */
};

/* Up to *budget events, which it lowers. */
static enum sent send_queue(struct subscription *s, uint64_t now_ms, unsigned *budget)
{
        struct client *client = s->client;
        uint64_t max = client->d->cfg->limits.output_bytes;
        struct event *e;
        uint64_t lost;

        if (max > EVENT_OUTPUT)
                max = EVENT_OUTPUT;
        while (event_queue_next(&s->queue, &e, &lost)) {
                struct conn_info conn;
                conn_info(client->conn, &conn);
                if (conn.closing) {
                        /* Nothing comes after its last reply. */
                        event_queue_done(&s->queue);
                        return SENT_ALL;
                }
                if (conn.queued >= max)
                        return SENT_FULL;
                if (*budget == 0)
                        return SENT_ENOUGH;
                if (!(e ? send_event(client, e, now_ms) : send_lost(client, lost)))
                        return SENT_MEMORY;
                event_queue_pop(&s->queue);
                --*budget;
        }
        return SENT_ALL;
}

static enum sent flush_one(struct dispatcher *d, struct subscription *s, uint64_t now_ms,
                           unsigned *budget)
{
        unsigned before = *budget;
        enum sent sent = send_queue(s, now_ms, budget);

        if (sent == SENT_FULL) {
                s->waits = true;
                conn_await_drain(s->client->conn);
        }
        list_unlink(&s->due_node);
        if (sent == SENT_ENOUGH || sent == SENT_MEMORY)
                mark_due(d, s);
        if (*budget < before)
                conn_kick(s->client->conn);
        return sent;
}

bool subscribe_flush(struct dispatcher *d, uint64_t now_ms)
{
        struct subscribers *all = &d->subscribers;
        unsigned budget = EVENTS_AT_ONCE;

        d->running = NULL;
        if (list_is_empty(&all->due) || now_ms < all->retry_ms)
                return false;
        all->retry_ms = 0;
        while (!list_is_empty(&all->due) && budget > 0) {
                struct subscription *s = LIST_ENTRY(all->due.next, struct subscription, due_node);
                if (flush_one(d, s, now_ms, &budget) == SENT_MEMORY) {
                        all->retry_ms = now_ms + RETRY_MS;
                        return false;
                }
        }
        return !list_is_empty(&all->due);
}

uint64_t subscribe_next_deadline(const struct dispatcher *d)
{
        return list_is_empty(&d->subscribers.due) ? STORE_NEVER : d->subscribers.retry_ms;
}

void subscribe_drained(struct client *client)
{
        struct subscription *s = client->subscription;
        uint64_t lost;
        struct event *e;
        if (!s || !s->waits)
                return;
        s->waits = false;
        if (event_queue_next(&s->queue, &e, &lost))
                mark_due(client->d, s);
}

bool subscribe_is_crowded(const struct client *client)
{
        const struct subscription *s = client->subscription;
        return s && !s->waits && s->queue.n > client->d->cfg->limits.events_queued / 2;
}

/* ---- telling */

static void push(struct dispatcher *d, struct subscription *s, struct event *e, uint64_t now_ms)
{
        uint64_t max = d->cfg->limits.events_queued;
        if (s->queue.n >= max && !s->waits && s->client != d->running) {
                unsigned budget = EVENTS_AT_ONCE;
                (void)flush_one(d, s, now_ms, &budget);
        }
        event_queue_push(&s->queue, e, max);
        mark_due(d, s);
}

static bool somebody_wants(const struct realm *realm, Cached__V1__EventKind kind)
{
        return __builtin_expect((realm->subscribed & SUBSCRIBE_BIT(kind)) != 0, 0);
}

static void tell(struct realm *realm, const struct event_facts *facts)
{
        struct event *e = NULL;
        bool tried = false;
        for (struct subscription *s = realm->subscribers; s; s = s->next) {
                if (!wants(s, facts->kind, facts->cache.text, facts->cache.n))
                        continue;
                if (!tried)
                        e = event_new(facts);
                tried = true;
                push(s->client->d, s, e, facts->when_ms);
        }
        event_unref(e);
}

/* With the cache's name, which it always has. */
static void tell_of(struct realm *realm, uint32_t cache, struct event_facts *facts)
{
        struct store_cache_info info;
        if (store_cache_info(realm->store, cache, &info) != 0)
                return;
        facts->cache = (struct store_text){.text = info.name, .n = info.n_name};
        tell(realm, facts);
}

static void on_departed(void *ctx, const struct store_departure *gone, uint64_t now)
{
        struct realm *realm = ctx;
        bool expired = gone->cause == CAUSE_EXPIRED;
        struct event_facts facts = {
                .kind = expired ? CACHED__V1__EVENT_KIND__EVENT_EXPIRED
                                : CACHED__V1__EVENT_KIND__EVENT_EVICTED,
                .key = gone->key,
                .n_key = gone->n_key,
                .when_ms = now,
                /* Fate is the store's cause, two further on: see op-explain.c. */
                .cause = expired ? CACHED__V1__FATE__FATE_NEVER_STORED
                                 : (Cached__V1__Fate)(gone->cause + 2),
        };
        if (somebody_wants(realm, facts.kind))
                tell_of(realm, gone->cache, &facts);
}

void subscribe_stored(struct request *r, const struct store_put *put,
                      const struct store_entry *entry)
{
        struct event_facts facts = {
                .kind = CACHED__V1__EVENT_KIND__EVENT_STORED,
                .key = put->key,
                .n_key = put->n_key,
                .when_ms = r->who.now_ms,
                .version = entry->version,
                .n = entry->n_value,
        };
        if (somebody_wants(r->who.realm, facts.kind))
                tell_of(r->who.realm, put->cache, &facts);
}

void subscribe_deleted(struct request *r, const struct cache_ref *ref, struct key_ref key)
{
        struct event_facts facts = {
                .kind = CACHED__V1__EVENT_KIND__EVENT_DELETED,
                .key = key.data,
                .n_key = key.n,
                .when_ms = r->who.now_ms,
        };
        struct verdict v;
        uint32_t cache;
        if (somebody_wants(r->who.realm, facts.kind) &&
            data_find_cache(&r->who, ref, &cache, &v) == STATUS_OK)
                tell_of(r->who.realm, cache, &facts);
}

void subscribe_cleared(struct request *r, const struct subscribe_clear *what)
{
        struct event_facts facts = {
                .kind = CACHED__V1__EVENT_KIND__EVENT_CLEARED,
                .key = what->prefix.data,
                .n_key = what->prefix.n,
                .text = what->tag,
                .when_ms = r->who.now_ms,
                .n = what->entries,
        };
        struct verdict v;
        uint32_t cache;
        if (!somebody_wants(r->who.realm, facts.kind))
                return;
        if (!what->ref)
                tell(r->who.realm, &facts);
        else if (data_find_cache(&r->who, what->ref, &cache, &v) == STATUS_OK)
                tell_of(r->who.realm, cache, &facts);
}

void subscribe_policy_changed(struct request *r, const struct policy_result *result)
{
        const struct event_facts facts = {
                .kind = CACHED__V1__EVENT_KIND__EVENT_POLICY,
                .cache = {.text = result->info.name, .n = result->info.n_name},
                .when_ms = r->who.now_ms,
                .cache_id = result->cache,
                .policy = &result->info,
        };
        if (somebody_wants(r->who.realm, facts.kind))
                tell(r->who.realm, &facts);
}

bool subscribe_has_policy(const struct client *client, uint32_t cache)
{
        const struct subscription *s = client->subscription;
        const Cached__V1__EventKind kind = CACHED__V1__EVENT_KIND__EVENT_POLICY;
        struct store_cache_info info;
        return s && s->kinds & SUBSCRIBE_BIT(kind) &&
               store_cache_info(client->realm->store, cache, &info) == 0 &&
               wants(s, kind, info.name, info.n_name);
}

void subscribe_resource(struct dispatcher *d, const struct resource *res)
{
        struct realm *realm = resource_space_of(res->slot);
        uint32_t cache = resource_cache_of(res->slot);
        bool left = res->cause != RESOURCE_LEFT_NOT;
        struct event_facts facts = {
                .kind = left ? CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT
                             : CACHED__V1__EVENT_KIND__EVENT_RESOURCE_CREATED,
                .key = res->slot->key,
                .n_key = res->slot->n_key,
                .text = {.text = res->reason, .n = res->reason ? strlen(res->reason) : 0},
                .version = res->number,
                .n = left ? res->n_holders : 0,
                .resource = (Cached__V1__ResourceKind)res->kind,
                .left = (Cached__V1__ResourceCause)res->cause,
        };
        if (!somebody_wants(realm, facts.kind) || cache & RESOURCE_APART)
                return;
        facts.when_ms = server_now_ms(d->server);
        tell_of(realm, cache, &facts);
}

void subscribe_refresh(struct realm *realm, const char *schedule, const char *cache,
                       uint64_t now_ms)
{
        const struct event_facts facts = {
                .kind = CACHED__V1__EVENT_KIND__EVENT_REFRESH,
                .cache = {.text = cache, .n = strlen(cache)},
                .text = {.text = schedule, .n = strlen(schedule)},
                .when_ms = now_ms,
        };
        tell(realm, &facts);
}

bool subscribe_wants_refresh(const struct realm *realm, const char *cache)
{
        const Cached__V1__EventKind kind = CACHED__V1__EVENT_KIND__EVENT_REFRESH;
        if (!somebody_wants(realm, kind))
                return false;
        for (const struct subscription *s = realm->subscribers; s; s = s->next)
                if (wants(s, kind, cache, strlen(cache)))
                        return true;
        return false;
}
