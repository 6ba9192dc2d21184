/* SPDX-License-Identifier: MIT */
/*
 * Drain: take over what mapped readers of the realm have noted. In portions: a thousand of them can
 * have noted millions of uses. One that is sent one way gets no answer of any kind.
 *
 * Readers may fill their rings as fast as they are emptied. So there are at most as many portions
 * as their pages can hold; and where a request cannot be kept between its portions, this one is
 * refused, instead of being carried out in one go.
 */
#include "dispatch/reply.h"
#include "dispatch/unfinished.h"
#include "realm/mapping.h"

struct drain {
        uint64_t n_left; /* portions */
};

static enum status begin(struct request *r)
{
        struct drain *drain = bump_alloc(&r->d->bump, sizeof(*drain));

        if (!drain)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the request: try again later");
        drain->n_left = realm_drain_portions(r->who.realm);
        r->state = drain;
        return STATUS_OK;
}

enum status op_drain(struct request *r)
{
        if (r->one_way) /* what says that it holds something was taken when the request came */
                return STATUS_OK;
        bool is_first = r->state == NULL;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK && is_first)
                status = begin(r);
        if (status != STATUS_OK)
                return status;
        struct drain *drain = r->state;
        if (realm_drain_all(r->who.realm, r->who.now_ms) && --drain->n_left > 0) {
                if (is_first && !unfinished_may_keep(r->d))
                        return verdict_set(&r->verdict, STATUS_LIMIT,
                                           "a part was taken over; too many long requests are "
                                           "under way to go on with the rest: try again");
                r->again = true;
                return STATUS_OK;
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
