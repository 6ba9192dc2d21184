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
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "dispatch/dispatcher.h"
#include "services/limits.h"
#include "store/large.h"
#include "transport/conn.h"

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

enum status upload_begin(struct request *r, uint64_t n, enum upload_to to, struct upload **ret)
{
        uint64_t max = r->d->cfg->limits.upload_bytes_per_uid;
        if (to == UPLOAD_TO_HEAP && !conn_hold_body(r->client->conn, n)) {
                r->wait = true;
                return STATUS_OK;
        }
        int k = upload_new(&r->d->uploads, r->who.uid, n, max, to, ret);
        if (k == UPLOAD_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "uid %u is sending more than limits.upload_bytes_per_uid, "
                                   "%" PRIu64 " bytes, at the same time: %s",
                                   (unsigned)r->who.uid, max, limit_advice.upload_bytes_per_uid);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "receiving the value");
        (*ret)->realm = r->who.realm;
        memcpy((*ret)->session, r->who.session, SESSION_KEY_SIZE);
        if (to == UPLOAD_TO_FILE)
                (*ret)->large->reaper = r->d->reaper;
        return STATUS_OK;
}
