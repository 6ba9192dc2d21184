/* SPDX-License-Identifier: MIT */
/*
 * Set: one entry. A long body was received into its final place already (see op_set_accept()); a
 * memory file is the value, without being read; what was uploaded is copied from there.
 */
#include <fcntl.h>
#include <inttypes.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/descriptor.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "realm/realm.h"
#include "transport/conn.h"

/* After a copy of so many bytes it is somebody else's turn. */
#define YIELD_BYTES (UINT64_C(256) << 10)

#define VALUE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static enum status decode(struct request *r, uint64_t n_body, struct cache_ref *ref,
                          struct store_put *put)
{
        const Cached__V1__Set *msg = r->msg->set;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, ref);
        return status == STATUS_OK ? decode_set(r, msg, n_body, put) : status;
}

/* Room is made as the bytes arrive: the budget holds meanwhile, too. */
static enum status accept_value(struct request *r, uint64_t n_body, const struct cache_ref *ref,
                                struct store_put *put, struct upload **ret)
{
        struct store_arrival arrival;
        enum status status = data_arrival_begin(&r->who, ref, put, &arrival, &r->verdict);
        if (status != STATUS_OK)
                return status;
        struct upload *u = NULL;
        status = upload_begin(r, n_body, upload_to(&arrival), &u);
        if (!u) { /* refused, or there is no room in memory at the moment */
                store_arrival_end(&arrival);
                return status;
        }
        u->arrival = arrival;
        *ret = u;
        return STATUS_OK;
}

/* What is not to be stored takes no room there. */
static enum status accept_shared(struct request *r, uint64_t n_body, const struct store_put *put,
                                 struct upload **ret)
{
        enum status status = data_check_value(&r->who, put, &r->verdict);
        if (status != STATUS_OK)
                return status;
        return upload_begin(r, n_body,
                            n_body >= r->d->cfg->large_threshold ? UPLOAD_TO_FILE : UPLOAD_TO_HEAP,
                            ret);
}

/* The value comes in one way only. */
static enum status check_body(struct request *r, uint64_t n_body)
{
        if (n_body == 0 || r->msg->set->source_case == CACHED__V1__SET__SOURCE__NOT_SET)
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "the value is said to be elsewhere, but the frame has a body: send the "
                           "body length 0, or leave file_size and uploaded out");
}

enum status op_set_accept(struct request *r, uint64_t n_body, struct upload **ret)
{
        struct cache_ref ref;
        struct store_put put;
        enum status status = check_body(r, n_body);
        if (status == STATUS_OK)
                status = decode(r, n_body, &ref, &put);
        if (status == STATUS_OK)
                status = leasing_check(r, &ref, &put);
        if (status == STATUS_OK && r->msg->set->share_only)
                return accept_shared(r, n_body, &put, ret);
        if (status == STATUS_OK)
                status = data_check_set(&r->who, &ref, &put, &r->verdict);
        if (status != STATUS_OK)
                return status;
        return accept_value(r, n_body, &ref, &put, ret);
}

/* ---- memory files */

/* What the value came in, until it is stored. */
struct source {
        struct large *large;
        struct store_source file;
};

/* Size and budgets first, then the file. */
static enum status take_file(struct request *r, const struct cache_ref *ref, struct store_put *put,
                             struct source *src)
{
        const struct config *cfg = r->d->cfg;
        put->as_large = put->n_value >= cfg->file_bytes || put->n_value >= cfg->large_threshold;
        enum status status = data_check_set(&r->who, ref, put, &r->verdict);
        if (status == STATUS_OK)
                status = descriptor_check(r, VALUE_SEALS, put->n_value);
        if (status != STATUS_OK)
                return status;
        if (!put->as_large) {
                src->file = (struct store_source){.fd = r->fd};
                put->source = &src->file;
                return STATUS_OK;
        }
        int k = large_adopt(r->fd, put->n_value, &src->large);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "taking the memory file");
        r->fd = -1;
        src->large->reaper = r->d->realms.reaper;
        put->large = src->large;
        return STATUS_OK;
}

/* ---- upload areas */

/* Where the value lies is checked against the area, and nothing against its bytes. */
static enum status take_uploaded(struct request *r, struct store_put *put, struct source *src)
{
        const Cached__V1__Slice *at = r->msg->set->uploaded;
        const struct upload_area *area = &r->client->area;
        if (area->size == 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "`uploaded` takes an upload area, and this connection has none: "
                                   "send OfferUpload before");
        if (at->offset > area->size || at->size > area->size - at->offset)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "%" PRIu64 " bytes at %" PRIu64
                                   " are not within the upload area of %" PRIu64
                                   " bytes: offer a larger one",
                                   at->size, at->offset, area->size);
        src->file = (struct store_source){.fd = area->fd, .offset = at->offset};
        if (area->map)
                put->value = area->map + at->offset;
        else
                put->source = &src->file;
        if (at->size > YIELD_BYTES)
                conn_yield(r->client->conn);
        return STATUS_OK;
}

/* ---- storing */

static enum status take_source(struct request *r, const struct cache_ref *ref,
                               struct store_put *put, struct source *src)
{
        put->value = r->body;
        switch (r->msg->set->source_case) {
        case CACHED__V1__SET__SOURCE_FILE_SIZE:
                return take_file(r, ref, put, src);
        case CACHED__V1__SET__SOURCE_UPLOADED:
                return take_uploaded(r, put, src);
        default:
                break;
        }
        if (!r->upload)
                return STATUS_OK;
        store_arrival_ready(&r->upload->arrival);
        put->arrived = &r->upload->arrival;
        if (!r->upload->large)
                return STATUS_OK;
        int k = large_seal(r->upload->large);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "sealing the value");
        put->large = r->upload->large;
        return STATUS_OK;
}

/* How long the value is. */
static uint64_t value_size(const struct request *r)
{
        const Cached__V1__Set *msg = r->msg->set;
        switch (msg->source_case) {
        case CACHED__V1__SET__SOURCE_FILE_SIZE:
                return msg->file_size;
        case CACHED__V1__SET__SOURCE_UPLOADED:
                return msg->uploaded->size;
        default:
                return r->n_body;
        }
}

static enum status store(struct request *r, const struct cache_ref *ref, struct store_put *put)
{
        struct store_entry entry;
        enum status status = data_set(&r->who, ref, put, &entry, &r->verdict);
        if (status != STATUS_OK)
                return status;
        subscribe_stored(r, put, &entry);
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        reply_entry(&info, &entry, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        leasing_stored(r, put);
        return STATUS_OK;
}

/* ---- sharing */

static enum status take_shared(struct request *r, struct store_put *put, struct source *src)
{
        int k = 0;
        put->value = r->body;
        if (r->msg->set->source_case == CACHED__V1__SET__SOURCE_UPLOADED)
                return take_uploaded(r, put, src);
        if (r->msg->set->source_case == CACHED__V1__SET__SOURCE_FILE_SIZE) {
                enum status status = descriptor_check(r, VALUE_SEALS, put->n_value);
                if (status != STATUS_OK)
                        return status;
                k = large_adopt(r->fd, put->n_value, &src->large);
                if (k < 0)
                        return verdict_errno(&r->verdict, k, "taking the memory file");
                r->fd = -1;
                src->large->reaper = r->d->realms.reaper;
        } else if (r->upload && r->upload->large) {
                k = large_seal(r->upload->large);
                if (k == 0)
                        src->large = large_ref(r->upload->large);
        }
        return k < 0 ? verdict_errno(&r->verdict, k, "sealing the value") : STATUS_OK;
}

/* Those who wait get it, and it is not stored. */
static enum status share(struct request *r, struct store_put *put, struct source *src)
{
        enum status status = data_check_value(&r->who, put, &r->verdict);
        if (status == STATUS_OK)
                status = take_shared(r, put, src);
        if (status != STATUS_OK)
                return status;
        leasing_share(r, put, src->large);
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        info.size = put->n_value;
        info.unstored = true;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

enum status op_set(struct request *r)
{
        struct cache_ref ref;
        struct store_put put = {0};
        struct source src = {0};
        enum status status = check_body(r, r->n_body);
        if (status == STATUS_OK)
                status = decode(r, value_size(r), &ref, &put);
        put.value = r->body;
        if (status == STATUS_OK)
                status = decode_marked(r, &put);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK)
                status = leasing_check(r, &ref, &put);
        if (status == STATUS_OK && r->msg->set->share_only) {
                status = share(r, &put, &src);
        } else if (status == STATUS_OK) {
                status = take_source(r, &ref, &put, &src);
                if (status == STATUS_OK)
                        status = store(r, &ref, &put);
        }
        large_unref(src.large);
        return status;
}
