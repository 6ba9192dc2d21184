/* SPDX-License-Identifier: MIT */
/*
 * Upload
 *
 * A body that is longer than a connection buffers goes straight to where it will stay (a large
 * value) or to plain memory (many values at once). What one uid is sending at the same time is
 * bounded by a quota.
 */
#include "dispatch/upload.h"

#include <errno.h>
#include <stdlib.h>

#include "dispatch/quota.h"
#include "store/large.h"

int upload_new(struct quota *quota, uid_t uid, uint64_t n, uint64_t max, bool as_large,
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
        if (as_large) {
                r = large_new(n, &u->large);
        } else {
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
        return u->large ? u->large->map : u->heap;
}
