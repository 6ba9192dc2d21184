/* SPDX-License-Identifier: MIT */
/*
 * Upload area
 *
 * A client fills it and says in a Set where the value lies; the bytes are read before the request
 * is answered. One for each connection, and it goes with it. Its memory is the client's, which may
 * have as many memory files without us; what is ours is the descriptor, and so their number is
 * bounded for each uid.
 *
 * It is read by pread() and never mapped: its owner may write to it, punch holes into it or give
 * its pages to anybody while we read, and we get some bytes or an error. Nothing but the value is
 * read from it, once: whatever is decided comes from the request.
 *
 * The descriptor is closed elsewhere: where it is the last one, its memory is freed with it.
 */
#include "dispatch/upload-area.h"

#include "config.h"
#include "dispatch/dispatcher.h"
#include "transport/conn.h"

static uid_t uid_of(const struct client *client)
{
        return conn_peer(client->conn)->uid;
}

int upload_area_set(struct client *client, int fd, uint64_t size)
{
        struct dispatcher *d = client->d;
        int r = quota_take(&d->areas, uid_of(client), 1,
                           d->cfg->limits.upload_areas_per_uid + (client->area.size > 0));
        if (r != 0)
                return r == QUOTA_E_LIMIT ? UPLOAD_AREA_E_LIMIT : r;
        upload_area_drop(client);
        client->area = (struct upload_area){.size = size, .fd = fd};
        return UPLOAD_AREA_OK;
}

void upload_area_drop(struct client *client)
{
        if (client->area.size == 0)
                return;
        quota_give(&client->d->areas, uid_of(client), 1);
        conn_drop_fd(client->conn, client->area.fd);
        client->area = (struct upload_area){0};
}

uint64_t upload_area_bytes(const struct realm *realm, const struct client *first)
{
        uint64_t sum = 0;
        for (const struct client *c = first; c; c = c->next)
                if (c->realm == realm)
                        sum += c->area.size;
        return sum;
}
