/* SPDX-License-Identifier: MIT */
/*
 * Drain: take over what mapped readers of the realm have noted. In portions: a thousand of them can
 * have noted millions of uses. One that is sent one way gets no answer of any kind.
 */
#include "dispatch/reply.h"
#include "realm/mapping.h"

enum status op_drain(struct request *r)
{
        if (r->one_way) /* what says that it holds something was taken when the request came */
                return STATUS_OK;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        if (realm_drain_all(r->who.realm, r->who.now_ms)) {
                r->again = true;
                return STATUS_OK;
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
