/* SPDX-License-Identifier: MIT */
/*
 * Delete: one entry; NOT_FOUND when there is none.
 */
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/subscribe.h"

enum status op_delete(struct request *r)
{
        const Cached__V1__Delete *msg = r->msg->delete_;
        struct cache_ref ref;
        struct key_ref key = {0};
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK)
                status = data_delete(&r->who, &ref, key, &r->verdict);
        if (status == STATUS_OK || status == STATUS_NOT_FOUND)
                leasing_deleted(r, &ref, key);
        if (status != STATUS_OK)
                return status;
        subscribe_deleted(r, &ref, key);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
