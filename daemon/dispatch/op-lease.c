/* SPDX-License-Identifier: MIT */
/*
 * EndLease, LeaseProgress, ListLeases: requests about leases themselves
 */
#include <errno.h>
#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/share.h"
#include "realm/realm.h"

#define LIST_STEPS     4096 /* leases of other realms that one page goes past */
#define FIELD_OVERHEAD 8    /* tag and length of one item, at most */

static enum status check_text(struct request *r, const char *fault)
{
        return fault ? verdict_set(&r->verdict, STATUS_INVALID, "%s", fault) : STATUS_OK;
}

/* An empty reply, unless the request is to have none. The room was reserved. */
static enum status answer(struct request *r, enum status status)
{
        if (status == STATUS_OK && !r->one_way) {
                Cached__V1__Reply reply = reply_to(r, STATUS_OK);
                reply_queue(r, &reply, NULL, 0, 0);
        }
        return status;
}

static void count_failure(const struct request *r, uint32_t cache)
{
        struct store_counters *c = store_cache_counters(r->who.realm->store, cache);
        if (c)
                c->lease_failures++;
}

enum status op_end_lease(struct request *r)
{
        const Cached__V1__EndLease *msg = r->msg->end_lease;
        size_t n = decode_length(msg->reason);
        enum status status = check_text(r, wire_reason_fault(msg->reason, n));
        if (status == STATUS_OK && !r->one_way)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        struct lease *l = leasing_find(r, msg->lease_id);
        if (!l)
                return STATUS_NOT_FOUND;
        uint32_t cache = lease_cache(l->slot);
        if (n > 0 && leasing_serve_old(r, l)) {
                count_failure(r, cache);
                return answer(r, STATUS_OK);
        }
        struct share *why = n > 0 ? share_failure(l, msg->reason, r->who.now_ms) : NULL;
        leasing_handed_out(why, lease_give_up(&r->d->leases, l, why, r->who.now_ms));
        return answer(r, STATUS_OK);
}

enum status op_lease_progress(struct request *r)
{
        const Cached__V1__LeaseProgress *msg = r->msg->lease_progress;
        size_t n = decode_length(msg->text);
        enum status status = check_text(r, wire_progress_fault(msg->text, n));
        if (status == STATUS_OK && msg->permille > 1000)
                status = verdict_set(&r->verdict, STATUS_INVALID, "permille is %u: it is 0 to 1000",
                                     (unsigned)msg->permille);
        if (status == STATUS_OK && !r->one_way)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        struct lease *l = leasing_find(r, msg->lease_id);
        if (!l)
                return STATUS_NOT_FOUND;
        if (!lease_progress(&r->d->leases, l, msg->permille, msg->text, n))
                return verdict_errno(&r->verdict, -ENOMEM, "keeping the progress");
        return answer(r, STATUS_OK);
}

/* ---- the list */

/* More leases, up to what fits; *@ret_next: behind which one it goes on. */
static bool fill_page(struct request *r, Cached__V1__ListLeasesResult *to, size_t max,
                      uint64_t after)
{
        size_t room = (size_t)r->d->cfg->limits.message_bytes - REPLY_SMALL;
        unsigned steps = LIST_STEPS;
        uint64_t at = after;
        while (to->n_computations < max) {
                const struct lease *l = leases_next(&r->d->leases, r->who.realm, at, &steps, &at);
                if (!l) {
                        to->next = at;
                        return true;
                }
                struct computation_message *m = bump_alloc(&r->d->bump, sizeof(*m));
                if (!m) { /* what there was memory for is a page, too */
                        to->next = at;
                        return to->n_computations > 0;
                }
                computation_message_init(m, l, r->who.now_ms);
                size_t n =
                        protobuf_c_message_get_packed_size(&m->computation.base) + FIELD_OVERHEAD;
                if (n > room)
                        break;
                room -= n;
                at = l->id;
                to->computations[to->n_computations++] = &m->computation;
        }
        to->next = at;
        return true;
}

enum status op_list_leases(struct request *r)
{
        const Cached__V1__ListLeases *msg = r->msg->list_leases;
        uint32_t max = decode_page_size(r, msg->page_size);
        Cached__V1__ListLeasesResult result = CACHED__V1__LIST_LEASES_RESULT__INIT;
        result.computations = bump_alloc_array(&r->d->bump, max, sizeof(*result.computations));
        if (!result.computations || !fill_page(r, &result, max, msg->cursor))
                return verdict_set(
                        &r->verdict, STATUS_NO_MEMORY,
                        "the daemon has no memory for a page of %u: ask for a smaller one",
                        (unsigned)max);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_LEASES;
        reply.list_leases = &result;
        return reply_message(r, &reply);
}
