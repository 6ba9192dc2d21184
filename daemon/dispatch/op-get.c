/* SPDX-License-Identifier: MIT */
/*
 * Get: one entry. A small value is copied into the output; a large one is sent from its memory
 * file, which stays as long as the output needs it, whatever happens to the entry.
 */
#include "dispatch/decode.h"
#include "dispatch/reply.h"

/* From here on a reference and an extra segment are cheaper than the copy. Guess, not measured. */
#define ATTACH_MIN ((uint64_t)64 * 1024)

static void release_large(void *ctx)
{
        large_unref(ctx);
}

static enum status answer(struct request *r, const struct store_entry *e)
{
        bool attach = e->large && e->n_value >= ATTACH_MIN;
        size_t n_copy = attach ? 0 : (size_t)e->n_value;
        enum status status = reply_reserve(r, REPLY_SMALL, n_copy);
        if (status != STATUS_OK)
                return status;

        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        reply_entry(&info, e, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, e->value, n_copy, e->n_value - n_copy);
        if (attach && conn_attach(r->client->conn, e->value, e->n_value, release_large,
                                  large_ref(e->large)) < 0)
                reply_abort(r);
        return STATUS_OK;
}

enum status op_get(struct request *r)
{
        const Cached__V1__Get *msg = r->msg->get;
        struct cache_ref ref;
        struct key_ref key;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        struct store_entry entry;
        if (status == STATUS_OK)
                status = data_get(&r->who, &ref, key, !msg->no_touch, &entry, &r->verdict);
        if (status == STATUS_OK)
                status = answer(r, &entry);
        return status;
}
