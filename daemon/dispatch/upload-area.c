/* SPDX-License-Identifier: MIT */
/*
 * Upload area
 *
 * A client fills it and says in a Set where the value lies; the bytes are read before the request
 * is answered. One for each connection, and it goes with it. Its memory is the client's, which may
 * have as many memory files without us; what is ours is the descriptor, and so their number is
 * bounded for each uid.
 *
 * Its owner may write to it, or punch holes into it, while we read: then we get some bytes. Nothing
 * but the value is read from it, once: whatever is decided comes from the request. Since it cannot
 * shrink, reading a mapping of it cannot fail but for want of a page where a hole was punched. A
 * kernel that counts every page beforehand (vm.overcommit_memory = 2) makes a signal of that: there
 * it is read by pread(), which fills no holes. A mapping is read in half the time.
 *
 * The descriptor is closed elsewhere: where it is the last one, its memory is freed with it.
 */
#include "dispatch/upload-area.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "dispatch/dispatcher.h"
#include "transport/conn.h"

static uid_t uid_of(const struct client *client)
{
        return conn_peer(client->conn)->uid;
}

static bool is_mapping_safe(void)
{
        int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
        char mode = '2';
        if (fd < 0)
                return false;
        if (read(fd, &mode, 1) != 1)
                mode = '2';
        close(fd);
        return mode != '2';
}

static const uint8_t *map_area(int fd, uint64_t size)
{
        if (!is_mapping_safe())
                return NULL;
        void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return NULL;
        (void)madvise(map, size, MADV_DONTDUMP);
        return map;
}

int upload_area_set(struct client *client, int fd, uint64_t size)
{
        struct dispatcher *d = client->d;
        int r = quota_take(&d->areas, uid_of(client), 1,
                           d->cfg->limits.upload_areas_per_uid + (client->area.size > 0));
        if (r != 0)
                return r == QUOTA_E_LIMIT ? UPLOAD_AREA_E_LIMIT : r;
        upload_area_drop(client);
        client->area = (struct upload_area){.size = size, .map = map_area(fd, size), .fd = fd};
        return UPLOAD_AREA_OK;
}

void upload_area_drop(struct client *client)
{
        if (client->area.size == 0)
                return;
        quota_give(&client->d->areas, uid_of(client), 1);
        if (client->area.map)
                munmap((void *)(uintptr_t)client->area.map, client->area.size);
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
