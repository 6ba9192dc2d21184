/* SPDX-License-Identifier: MIT */
#ifndef UPLOAD_AREA_H
#define UPLOAD_AREA_H

/*
 * Upload area: memory of a client that values come from. See upload-area.c.
 */

#include <stdint.h>

struct client;
struct realm;

#define UPLOAD_AREA_PAGE UINT64_C(4096) /* sizes are whole ones */

/* Zero is none. */
struct upload_area {
        uint64_t size;      /* 0: none */
        const uint8_t *map; /* NULL: it is not safe to map it */
        int fd;             /* owned, if there is one */
};

enum {
        UPLOAD_AREA_OK = 0,
        UPLOAD_AREA_E_LIMIT, /* the uid has its most already */
};

/* Takes the place of the one before. @fd: checked; consumed unless it fails. 0,
 * UPLOAD_AREA_E_LIMIT, -ENOMEM. */
int upload_area_set(struct client *client, int fd, uint64_t size);
void upload_area_drop(struct client *client);

/* Of all clients of a realm. */
uint64_t upload_area_bytes(const struct realm *realm, const struct client *first);

#endif
