/* SPDX-License-Identifier: MIT */
/*
 * OpenSession, AttachSession, CloseSession: the life of a session.
 */
#include <inttypes.h>

#include "config.h"
#include "dispatch/attach.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "dispatch/session-message.h"
#include "proto/wire.h"
#include "services/limits.h"

static enum status answer(struct request *r, const struct session_ref *ref, const uint8_t *token)
{
        struct session_message m;
        session_message_init(&m, r, ref);
        if (token) {
                m.info.token =
                        (ProtobufCBinaryData){.data = (uint8_t *)token, .len = SESSION_TOKEN};
                m.info.age_ms = 0;
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_SESSION;
        reply.session = &m.info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

/* ---- attaching */

static enum status check_events(struct request *r, bool attach, bool want_events)
{
        if (!want_events)
                return STATUS_OK;
        if (!attach)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "want_events is set without being attached: set attach (or "
                                   "stay), too");
        if (!(r->client->features & CACHED__V1__FEATURE__FEATURE_EVENTS))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "FEATURE_EVENTS was not agreed in Hello: set it there to be "
                                   "sent events");
        return STATUS_OK;
}

static enum status attach(struct request *r, const struct session_ref *ref, bool want_events)
{
        int k = attach_begin(r->client, ref, want_events);
        if (k == ATTACH_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the connections of uid %u are attached to as many sessions as "
                                   "limits.sessions_per_uid allows, %" PRIu64 ": %s",
                                   (unsigned)r->who.uid, r->d->cfg->limits.sessions_per_uid,
                                   limit_advice.sessions_per_uid);
        return k < 0 ? verdict_errno(&r->verdict, k, "attaching to the session") : STATUS_OK;
}

enum status op_attach_session(struct request *r)
{
        const Cached__V1__AttachSession *msg = r->msg->attach_session;
        struct session_ref ref;
        enum status status = check_events(r, msg->stay, msg->want_events);
        if (status == STATUS_OK)
                status = session_of_token(r, &msg->token, &ref);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK && msg->stay)
                status = attach(r, &ref, msg->want_events);
        if (status != STATUS_OK)
                return status;
        bool kept = !msg->stay || session_bind(&ref, true, r->who.now_ms);
        if (!msg->stay || !kept)
                attach_end(r->client, &ref, r->who.now_ms);
        if (!kept)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory to keep the session: try again later");
        if (!session_look(ref.realm, ref.key, r->who.now_ms, &ref))
                return verdict_set(&r->verdict, STATUS_NO_SPACE,
                                   "the session left while it was attached to: there is no memory "
                                   "for it");
        return answer(r, &ref, NULL);
}

/* ---- opening */

static enum status decode_open(struct request *r, struct session_open *ret)
{
        const Cached__V1__OpenSession *msg = r->msg->open_session;
        const char *fault = wire_session_label_fault(msg->label, decode_length(msg->label));
        *ret = (struct session_open){
                .label = msg->label,
                .n_label = decode_length(msg->label),
                .idle_ms = r->d->cfg->idle,
                .attached = msg->attach,
        };
        if (msg->idle_case == CACHED__V1__OPEN_SESSION__IDLE_IDLE_MS) {
                ret->idle_ms = msg->idle_ms;
                if (!fault && (msg->idle_ms == 0 || msg->idle_ms > WIRE_TTL_MS_MAX))
                        fault = "idle_ms is not in its range: it is 1 ms to 10 years "
                                "(315360000000 ms); set never_idle for no limit";
        } else if (msg->idle_case == CACHED__V1__OPEN_SESSION__IDLE_NEVER_IDLE) {
                ret->idle_ms = SESSION_NEVER_IDLE;
                if (!fault && !msg->never_idle)
                        fault = "never_idle is false: leave it out to take the setting "
                                "sessions.idle, or set it to true";
        }
        if (msg->bound_case == CACHED__V1__OPEN_SESSION__BOUND_GRACE_MS) {
                ret->bound = true;
                ret->grace_ms = (uint32_t)msg->grace_ms;
                if (!fault && msg->grace_ms > WIRE_SESSION_GRACE_MS_MAX)
                        fault = "grace_ms is longer than an hour (3600000 ms): it is 0 to 1 hour";
        }
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        return check_events(r, msg->attach, msg->want_events);
}

enum status op_open_session(struct request *r)
{
        const Cached__V1__OpenSession *msg = r->msg->open_session;
        struct session_open what;
        struct session_ref ref;
        uint8_t token[SESSION_TOKEN];
        enum status status = decode_open(r, &what);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status == STATUS_OK)
                status = session_open(&r->who, &what, token, &ref, &r->verdict);
        if (status != STATUS_OK)
                return status;
        if (msg->attach)
                status = attach(r, &ref, msg->want_events);
        if (status != STATUS_OK) {
                struct verdict ignored;
                (void)session_close(&r->who, &ref, &ignored);
                return status;
        }
        return answer(r, &ref, token);
}

enum status op_close_session(struct request *r)
{
        struct session_ref ref;
        enum status status = session_of_token(r, &r->msg->close_session->token, &ref);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        const struct attach_news news = {
                .change = CACHED__V1__SESSION_CHANGE__SESSION_CLOSED,
                .version = ref.record.version,
        };
        struct session_message m;
        session_message_init(&m, r, &ref);
        status = session_close(&r->who, &ref, &r->verdict);
        if (status != STATUS_OK)
                return status;
        attach_tell(r->d, ref.realm, ref.key, &news, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_SESSION;
        reply.session = &m.info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
