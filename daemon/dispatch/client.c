/* SPDX-License-Identifier: MIT */
/*
 * Client
 *
 * Made with the first frame of a connection, freed with the connection. Owned by the connection (as
 * its user pointer), linked to the dispatcher; holds its realm by count.
 */
#include "dispatch/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/dispatcher.h"
#include "dispatch/leasing.h"
#include "dispatch/repeat.h"
#include "dispatch/resourcing.h"
#include "dispatch/unfinished.h"
#include "realm/mapping.h"
#include "realm/realm.h"
#include "transport/conn.h"

struct client *client_new(struct dispatcher *d, struct conn *conn)
{
        struct client *client = calloc(1, sizeof(*client));
        if (!client)
                return NULL;
        client->d = d;
        client->conn = conn;
        client->next = d->clients;
        if (d->clients)
                d->clients->prev = client;
        d->clients = client;
        conn_set_user(conn, client);
        return client;
}

struct client *client_free(struct client *client, uint64_t now_ms)
{
        if (!client)
                return NULL;
        struct dispatcher *d = client->d;
        if (client->has_pending)
                d->n_pending--;
        if (client->prev)
                client->prev->next = client->next;
        else
                d->clients = client->next;
        if (client->next)
                client->next->prev = client->prev;
        unfinished_drop(client);
        upload_area_drop(client);
        subscribe_end(client);
        attach_leave(client, now_ms);
        if (d->running == client)
                d->running = NULL;
        repeat_leave(client, now_ms);
        views_leave(&d->views, client);
        leasing_leave(client, now_ms);
        resourcing_leave(client, now_ms);
        client->process = process_unref(client->process);
        if (client->realm) {
                realm_unmap(client->realm, client->reader, now_ms);
                realm_leave(client->realm, now_ms);
        }
        conn_set_user(client->conn, NULL);
        free(client->opened.words);
        free(client->pending.words);
        free(client);
        return NULL;
}

static int set_reserve(struct cache_set *set, size_t n_words)
{
        if (n_words <= set->n_words)
                return 0;
        uint64_t *words = realloc(set->words, n_words * sizeof(*words));
        if (!words)
                return -ENOMEM;
        memset(words + set->n_words, 0, (n_words - set->n_words) * sizeof(*words));
        set->words = words;
        set->n_words = n_words;
        return 0;
}

int client_reserve_caches(struct client *client, uint32_t max_id)
{
        size_t n_words = (size_t)max_id / 64 + 1;
        int r = set_reserve(&client->pending, n_words);
        return r < 0 ? r : set_reserve(&client->opened, n_words);
}

void client_opened(struct client *client, uint32_t cache)
{
        if (cache / 64 < client->opened.n_words)
                client->opened.words[cache / 64] |= UINT64_C(1) << (cache % 64);
}

bool client_has_opened(const struct client *client, uint32_t cache)
{
        return cache / 64 < client->opened.n_words &&
               (client->opened.words[cache / 64] >> (cache % 64) & 1);
}

struct access_peer client_peer(const struct client *client)
{
        const struct peer *peer = conn_peer(client->conn);
        return (struct access_peer){
                .uid = peer->uid,
                .gid = peer->gid,
                .gids = peer->gids,
                .n_gids = peer->n_gids,
                .overflow_uid = client->d->overflow_uid,
        };
}

bool client_is_privileged(const struct client *client)
{
        uid_t uid = conn_peer(client->conn)->uid;
        return uid == 0 || uid == client->d->own_uid;
}
