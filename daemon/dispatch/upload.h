/* SPDX-License-Identifier: MIT */
#ifndef UPLOAD_H
#define UPLOAD_H

/*
 * Upload: a long body on its way in. See upload.c.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/store.h"

struct large;
struct op;
struct quota;

/* Either in a memory file of its own, or in plain memory. */
struct upload {
        struct quota *quota;
        uid_t uid;
        uint64_t n;
        struct large *large;
        uint8_t *heap;
        struct store_arrival arrival; /* of one value: the room that it has */
        uint64_t request_id;          /* of the Set or SetMany that it belongs to */
        const struct op *op;
};

enum {
        UPLOAD_OK = 0,
        UPLOAD_E_LIMIT, /* more than @max bytes of this uid at the same time */
};

/* Room for @n bytes. 0, UPLOAD_E_LIMIT, -ENOMEM, -ENOSPC, -EMFILE. */
int upload_new(struct quota *quota, uid_t uid, uint64_t n, uint64_t max, bool as_large,
               struct upload **ret);
struct upload *upload_free(struct upload *u); /* NULL is fine; returns NULL */
uint8_t *upload_dst(struct upload *u);

#endif
