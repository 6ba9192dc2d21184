/* SPDX-License-Identifier: MIT */
/*
 * Clear: one cache, or the realm. Answers at once; the memory comes back in slices.
 */
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/subscribe.h"

static enum status clear_all(struct request *r, Cached__V1__ClearResult *result)
{
        const Cached__V1__Clear *msg = r->msg->clear;
        if (msg->cache_id != 0 || decode_length(msg->cache) != 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request names a cache and asks for all: leave one out");
        if (r->client->role < ACCESS_ADMIN)
                return verdict_set(
                        &r->verdict, STATUS_DENIED,
                        "clearing the whole realm needs the role admin: clear the caches "
                        "one by one, or ask an admin of the realm");
        leasing_cleared(r, NULL); /* some may be cleared even where not all could be */
        enum status status =
                data_clear_all(&r->who, &result->entries, &result->caches, &r->verdict);
        const struct subscribe_clear what = {.entries = result->entries};
        if (status == STATUS_OK || result->caches > 0)
                subscribe_cleared(r, &what);
        return status;
}

static enum status clear_one(struct request *r, Cached__V1__ClearResult *result)
{
        const Cached__V1__Clear *msg = r->msg->clear;
        struct cache_ref ref;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = data_clear(&r->who, &ref, &result->entries, &r->verdict);
        if (status != STATUS_OK)
                return status;
        result->caches = 1;
        leasing_cleared(r, &ref);
        const struct subscribe_clear what = {.ref = &ref, .entries = result->entries};
        subscribe_cleared(r, &what);
        return STATUS_OK;
}

enum status op_clear(struct request *r)
{
        Cached__V1__ClearResult result = CACHED__V1__CLEAR_RESULT__INIT;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK)
                status = r->msg->clear->all ? clear_all(r, &result) : clear_one(r, &result);
        if (status != STATUS_OK)
                return status;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_CLEAR;
        reply.clear = &result;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
