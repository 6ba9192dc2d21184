/* SPDX-License-Identifier: MIT */
/*
 * Touch: a use, and a new TTL if the request has one.
 */
#include "dispatch/decode.h"
#include "dispatch/reply.h"

enum status op_touch(struct request *r)
{
        const Cached__V1__Touch *msg = r->msg->touch;
        struct cache_ref ref;
        struct key_ref key;
        uint64_t ttl_ms = STORE_TTL_POLICY; /* here: leave the deadline as it is */
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = decode_ttl(r, msg->ttl_case == CACHED__V1__TOUCH__TTL_TTL_MS, msg->ttl_ms,
                                    msg->ttl_case == CACHED__V1__TOUCH__TTL_NEVER_EXPIRES,
                                    msg->never_expires, &ttl_ms);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        struct store_entry entry;
        if (status == STATUS_OK)
                status = data_touch(&r->who, &ref, key, ttl_ms, &entry, &r->verdict);
        if (status != STATUS_OK)
                return status;

        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        reply_entry(&info, &entry, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
