/* SPDX-License-Identifier: MIT */
/*
 * ListClients: who is connected to the realm; to root and the daemon's own uid, who is connected at
 * all. As many as fit into one message, the newest first.
 */
#include "config.h"
#include "dispatch/dispatcher.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"
#include "server.h"

#define FIELD_OVERHEAD 8 /* tag and length of one item, at most */

static Cached__V1__ClientInfo *describe(struct request *r, struct client *c)
{
        Cached__V1__ClientInfo *info = bump_alloc(&r->d->bump, sizeof(*info));
        if (!info)
                return NULL;
        uint64_t now_ns = server_now_ns(r->d->server);
        struct conn_info conn;
        conn_info(c->conn, &conn);
        const struct peer *peer = conn_peer(c->conn);
        cached__v1__client_info__init(info);
        info->connection = conn.id;
        info->pid = (uint32_t)peer->pid;
        info->uid = (uint32_t)peer->uid;
        info->name = c->name;
        info->realm = c->realm->name;
        info->role = (Cached__V1__Role)c->role;
        info->age_ms = now_ns > conn.since_ns ? (now_ns - conn.since_ns) / 1000000 : 0;
        info->idle_ms = now_ns > conn.last_ns ? (now_ns - conn.last_ns) / 1000000 : 0;
        info->requests = conn.requests;
        info->bytes_in = conn.bytes_in;
        info->bytes_out = conn.bytes_out;
        info->queued_bytes = conn.queued;
        struct viewer_info views = views_of(c);
        info->views = views.n;
        info->view_bytes = views.bytes;
        info->resources = holding_count(c->holding);
        return info;
}

static bool may_see(const struct request *r, const struct client *c)
{
        return c->realm && (c->realm == r->who.realm || client_is_privileged(r->client));
}

enum status op_list_clients(struct request *r)
{
        size_t n = 0;
        for (const struct client *c = r->d->clients; c; c = c->next)
                n += may_see(r, c);
        Cached__V1__ListClientsResult result = CACHED__V1__LIST_CLIENTS_RESULT__INIT;
        result.clients = bump_alloc_array(&r->d->bump, n, sizeof(*result.clients));
        bool ok = result.clients != NULL;
        size_t room = (size_t)r->d->cfg->limits.message_bytes - REPLY_SMALL;
        for (struct client *c = r->d->clients; ok && c; c = c->next) {
                if (!may_see(r, c))
                        continue;
                Cached__V1__ClientInfo *info = describe(r, c);
                ok = info != NULL;
                if (!ok)
                        break;
                size_t n_info = protobuf_c_message_get_packed_size(&info->base) + FIELD_OVERHEAD;
                if (n_info > room)
                        break;
                room -= n_info;
                result.clients[result.n_clients++] = info;
        }
        if (!ok)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the listing: try again later");
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_CLIENTS;
        reply.list_clients = &result;
        return reply_message(r, &reply);
}
