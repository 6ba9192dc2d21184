/* SPDX-License-Identifier: MIT */
#ifndef UPLOAD_H
#define UPLOAD_H

/*
 * Upload: a long body on its way in. See upload.c.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "realm/session-caches.h"
#include "store/store.h"

struct large;
struct op;
struct quota;
struct realm;

enum upload_to {
        UPLOAD_TO_HEAP, /* plain memory */
        UPLOAD_TO_FILE, /* a memory file of its own */
        UPLOAD_TO_PLACE /* where `arrival` has room */
};

/* Of `large` and `heap` at most one is not NULL. */
struct upload {
        struct quota *quota;
        uid_t uid;
        uint64_t n;
        struct large *large;
        uint8_t *heap;
        struct store_arrival arrival; /* of one value: the room that it has */
        uint64_t request_id;          /* of the Set or SetMany that it belongs to */
        const struct op *op;
        struct realm *realm;               /* of the request; it stays while its client does */
        uint8_t session[SESSION_KEY_SIZE]; /* likewise, see struct caller */
        uint64_t lease_id;                 /* that it is stored under; 0: none */
};

enum {
        UPLOAD_OK = 0,
        UPLOAD_E_LIMIT, /* more than @max bytes of this uid at the same time */
};

/* Where a value belongs for which room is made like this. */
enum upload_to upload_to(const struct store_arrival *a);
/* Room for @n bytes. 0, UPLOAD_E_LIMIT, -ENOMEM, -ENOSPC, -EMFILE. */
int upload_new(struct quota *quota, uid_t uid, uint64_t n, uint64_t max, enum upload_to to,
               struct upload **ret);
struct upload *upload_free(struct upload *u); /* NULL is fine; returns NULL */
uint8_t *upload_dst(struct upload *u);

#endif
