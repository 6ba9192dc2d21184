/* SPDX-License-Identifier: MIT */
/*
 * Ping: is the daemon there, is it the same one, and for how long.
 */
#include "dispatch/reply.h"
#include "server.h"

enum status op_ping(struct request *r)
{
        struct server_stats stats;
        server_stats(r->d->server, &stats);
        Cached__V1__PingResult result = CACHED__V1__PING_RESULT__INIT;
        result.uptime_ms = (server_now_ns(r->d->server) - stats.started_ns) / 1000000;
        result.instance = r->d->realms.instance;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_PING;
        reply.ping = &result;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK)
                reply_queue(r, &reply, NULL, 0, 0);
        return status;
}
