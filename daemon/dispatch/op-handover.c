/* SPDX-License-Identifier: MIT */
/*
 * Handover: another process of this program wants to take the daemon's place. Nothing is answered
 * here unless it may not: the connection leaves the protocol, see daemon/handover.c.
 *
 * HandoverNext and HandoverDone mean nothing outside of a handover: they are unknown here.
 */
#include <inttypes.h>

#include "dispatch/client.h"
#include "dispatch/dispatcher.h"
#include "dispatch/handover-wire.h"
#include "server.h"

enum status op_handover(struct request *r)
{
        const Cached__V1__Handover *msg = r->msg->handover;

        r->close = true;
        if (!client_is_privileged(r->client))
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "only root and the daemon's own user may take its place: ask "
                                   "the administrator");
        if (msg->protocol != HANDOVER_PROTOCOL)
                return verdict_set(&r->verdict, STATUS_VERSION,
                                   "the handover has version %d here and %" PRIu32
                                   " there: stop this daemon and start the other one",
                                   HANDOVER_PROTOCOL, msg->protocol);
        int k = server_hand_over(r->d->server, r->client->conn, r->id, msg->version);
        if (k == SERVER_E_BUSY)
                return verdict_set(&r->verdict, STATUS_SHUTTING_DOWN,
                                   "the daemon is going away already, or being taken over: wait "
                                   "until it has ended");
        if (k == SERVER_E_FOLLOWED)
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "the service manager keeps what this daemon has for the next "
                                   "one that it starts: use systemctl restart, nothing is lost");
        if (k < 0)
                return verdict_errno(&r->verdict, k, "beginning the handover");
        return STATUS_OK;
}
