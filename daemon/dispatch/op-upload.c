/* SPDX-License-Identifier: MIT */
/*
 * OfferUpload: the memory that later Sets of this connection take their values from.
 */
#include <fcntl.h>
#include <inttypes.h>

#include "config.h"
#include "dispatch/descriptor.h"
#include "dispatch/reply.h"
#include "services/limits.h"

static enum status check(struct request *r, uint64_t size)
{
        uint64_t max = r->d->cfg->limits.upload_area_bytes;
        if (size % UPLOAD_AREA_PAGE != 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "an upload area of %" PRIu64
                                   " bytes is no whole number of pages: offer a multiple of 4096",
                                   size);
        if (size > max)
                return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                                   "an upload area of %" PRIu64
                                   " bytes is larger than limits.upload_area_bytes, %" PRIu64
                                   ": %s",
                                   size, max, limit_advice.upload_area_bytes);
        return descriptor_check(r, F_SEAL_SHRINK | F_SEAL_GROW, size);
}

static enum status take(struct request *r, uint64_t size)
{
        enum status status = check(r, size);
        if (status != STATUS_OK)
                return status;
        int k = upload_area_set(r->client, r->fd, size);
        if (k == UPLOAD_AREA_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "uid %u has an upload area on as many connections as "
                                   "limits.upload_areas_per_uid allows, %" PRIu64 ": %s",
                                   (unsigned)r->who.uid, r->d->cfg->limits.upload_areas_per_uid,
                                   limit_advice.upload_areas_per_uid);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "taking the upload area");
        r->fd = -1;
        return STATUS_OK;
}

enum status op_offer_upload(struct request *r)
{
        uint64_t size = r->msg->offer_upload->size;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK && size > 0)
                status = take(r, size);
        else if (status == STATUS_OK)
                upload_area_drop(r->client);
        if (status != STATUS_OK)
                return status;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
