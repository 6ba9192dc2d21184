/* SPDX-License-Identifier: MIT */
/*
 * Leases as messages. What a message says of a holder is what its connection is known by.
 */
#include <stdio.h>

#include "dispatch/leasing.h"
#include "dispatch/scope.h"
#include "dispatch/share.h"
#include "realm/realm.h"
#include "transport/conn.h"

void lease_message(Cached__V1__Lease *to, Cached__V1__LeaseState state, const struct lease *l,
                   uint64_t now_ms)
{
        to->state = state;
        if (!l)
                return;
        if (state == CACHED__V1__LEASE_STATE__LEASE_GRANTED ||
            state == CACHED__V1__LEASE_STATE__LEASE_YOURS) {
                to->lease_id = l->id;
                return;
        }
        struct client *holder = l->party->ctx;
        const struct peer *peer = conn_peer(holder->conn);
        to->holder_pid = (uint32_t)peer->pid;
        to->holder_uid = (uint32_t)peer->uid;
        to->holder = holder->name;
        to->age_ms = now_ms > l->since ? now_ms - l->since : 0;
        to->permille = l->permille;
        if (l->progress)
                to->progress = l->progress;
}

void lease_share_message(Cached__V1__Lease *to, Cached__V1__LeaseState state,
                         const struct share *why)
{
        to->state = state;
        if (!why)
                return;
        to->holder_pid = why->holder_pid;
        to->holder_uid = why->holder_uid;
        to->holder = (char *)why->holder; /* only read */
        to->age_ms = why->age_ms;
        if (why->reason)
                to->reason = why->reason;
}

void computation_message_init(struct computation_message *m, const struct lease *l, uint64_t now_ms)
{
        Cached__V1__Computation *to = &m->computation;
        const struct lease_slot *s = l->slot;
        const struct realm *realm = lease_space(s);
        struct client *holder = l->party->ctx;
        const struct peer *peer = conn_peer(holder->conn);
        struct store_cache_info cache;
        struct conn_info conn;

        cached__v1__computation__init(to);
        m->name[0] = '\0';
        if (realm->hidden)
                scope_cache_name(realm, lease_cache(s), m->name, sizeof(m->name));
        else if (store_cache_info(realm->store, lease_cache(s), &cache) == 0)
                snprintf(m->name, sizeof(m->name), "%.*s", (int)cache.n_name, cache.name);
        conn_info(holder->conn, &conn);
        to->cache = m->name;
        to->key = (ProtobufCBinaryData){.len = s->n_key, .data = (uint8_t *)s->key};
        to->lease_id = l->id;
        to->connection = conn.id;
        to->pid = (uint32_t)peer->pid;
        to->uid = (uint32_t)peer->uid;
        to->holder = holder->name;
        to->age_ms = now_ms > l->since ? now_ms - l->since : 0;
        to->waiters = s->n_waiting;
        to->permille = l->permille;
        if (l->progress)
                to->progress = l->progress;
        to->refresh = l->refresh;
        if (l->timer.due != LEASE_NEVER) {
                to->deadline_case = CACHED__V1__COMPUTATION__DEADLINE_HOLD_MS;
                to->hold_ms = l->timer.due > now_ms ? l->timer.due - now_ms : 0;
        }
}
