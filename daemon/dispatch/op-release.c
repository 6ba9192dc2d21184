/* SPDX-License-Identifier: MIT */
/*
 * Release: views that a reader has given up. Numbers that are not known are skipped: another daemon
 * may have given them out.
 */
#include <inttypes.h>

#include "config.h"
#include "dispatch/reply.h"
#include "services/limits.h"

enum status op_release(struct request *r)
{
        const Cached__V1__Release *msg = r->msg->release;
        uint64_t max = r->d->cfg->limits.keys_per_request;
        if (msg->n_view_ids > max)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the request has %zu view_ids, more than "
                                   "limits.keys_per_request, %" PRIu64 ": %s",
                                   msg->n_view_ids, max, limit_advice.keys_per_request);
        enum status status = msg->one_way ? STATUS_OK : reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        for (size_t i = 0; i < msg->n_view_ids; i++)
                views_release(&r->d->views, r->who.uid, msg->view_ids[i]);
        if (msg->one_way)
                return STATUS_OK;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
