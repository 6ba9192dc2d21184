/* SPDX-License-Identifier: MIT */
/*
 * Events
 *
 * An event says what holds now, not what happened: so all that must be remembered for a client that
 * does not read is which caches to tell it of, one bit each. Many changes of one cache become one
 * event; a client that lags gets the newest state when its output has drained, and costs nothing
 * meanwhile but a look every EVENT_RETRY_MS until it drains or is dropped for stalling.
 */
#include "dispatch/events.h"

#include "config.h"
#include "dispatch/dispatcher.h"
#include "dispatch/ops.h"
#include "dispatch/reply.h"
#include "proto/frame.h"

#define EVENT_RETRY_MS 100

void events_policy_changed(struct dispatcher *d, const struct client *by, uint32_t cache)
{
        for (struct client *c = d->clients; c; c = c->next) {
                if (c == by || c->realm != by->realm || !client_has_opened(c, cache))
                        continue;
                if (subscribe_has_policy(c, cache))
                        continue; /* it is told in the order of its events */
                c->pending.words[cache / 64] |= UINT64_C(1) << (cache % 64);
                if (!c->has_pending) {
                        c->has_pending = true;
                        d->n_pending++;
                }
                d->events_due_ms = 0;
        }
}

/* False: not now. */
static bool send_event(struct client *c, uint32_t cache)
{
        struct conn_info conn;
        conn_info(c->conn, &conn);
        if (conn.queued >= c->d->cfg->limits.output_bytes)
                return false;

        struct store_cache_info info;
        if (store_cache_info(c->realm->store, cache, &info) != 0)
                return true;
        struct cache_message message;
        cache_message_init(&message, cache, &info);
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        event.kind_case = CACHED__V1__EVENT__KIND_POLICY_CHANGED;
        event.policy_changed = &message.info;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        reply.event = &event;

        struct request r;
        r.d = c->d;
        r.client = c;
        if (reply_reserve(&r, CACHE_MESSAGE_MAX, 0) != STATUS_OK)
                return false;
        reply_queue(&r, &reply, NULL, 0, 0);
        return true;
}

/* Sends this client's events; what cannot be sent stays. */
static void flush_client(struct client *c)
{
        bool sent = false;
        for (size_t i = 0; i < c->pending.n_words; i++) {
                while (c->pending.words[i] != 0) {
                        unsigned bit = (unsigned)__builtin_ctzll(c->pending.words[i]);
                        if (!send_event(c, (uint32_t)(i * 64 + bit)))
                                goto out;
                        sent = true;
                        c->pending.words[i] &= c->pending.words[i] - 1;
                }
        }
        c->has_pending = false;
        c->d->n_pending--;
out:
        if (sent)
                conn_kick(c->conn);
}

void events_flush(struct dispatcher *d, uint64_t now_ms)
{
        if (d->n_pending == 0 || d->events_due_ms > now_ms)
                return;
        struct client *next;
        for (struct client *c = d->clients; c; c = next) {
                next = c->next;
                if (c->has_pending)
                        flush_client(c);
        }
        d->events_due_ms = now_ms + EVENT_RETRY_MS;
}
