/* SPDX-License-Identifier: MIT */
/*
 * Upload
 *
 * A body that is longer than a connection buffers goes straight to where it will stay (a large
 * value, or one in an extent) or to plain memory (many values at once, shorter ones). What one uid
 * is sending at the same time is bounded by a quota.
 */
#include "dispatch/upload.h"

#include <errno.h>
#include <stdlib.h>

#include "dispatch/quota.h"
#include "store/large.h"

enum upload_to upload_to(const struct store_arrival *a)
{
        return a->large ? UPLOAD_TO_FILE : a->extent ? UPLOAD_TO_PLACE : UPLOAD_TO_HEAP;
}

int upload_new(struct quota *quota, uid_t uid, uint64_t n, uint64_t max, enum upload_to to,
               struct upload **ret)
{
        struct upload *u = calloc(1, sizeof(*u));
        if (!u)
                return -ENOMEM;
        int r = quota_take(quota, uid, n, max);
        if (r != 0) {
                free(u);
                return r == QUOTA_E_LIMIT ? UPLOAD_E_LIMIT : r;
        }
        *u = (struct upload){.quota = quota, .uid = uid, .n = n};
        if (to == UPLOAD_TO_FILE) {
                r = large_new(n, &u->large);
        } else if (to == UPLOAD_TO_HEAP) {
                u->heap = malloc(n);
                r = u->heap ? 0 : -ENOMEM;
        }
        if (r < 0) {
                upload_free(u);
                return r;
        }
        *ret = u;
        return 0;
}

struct upload *upload_free(struct upload *u)
{
        if (!u)
                return NULL;
        store_arrival_end(&u->arrival);
        quota_give(u->quota, u->uid, u->n);
        large_unref(u->large);
        free(u->heap);
        free(u);
        return NULL;
}

uint8_t *upload_dst(struct upload *u)
{
        if (u->large)
                return u->large->map;
        return u->heap ? u->heap : store_arrival_dst(&u->arrival);
}
