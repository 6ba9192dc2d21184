/* SPDX-License-Identifier: MIT */
/*
 * Handover messages
 *
 * Pure. Each side of a handover may be another version of this program, so whatever comes is
 * measured against the bounds here and nothing is taken for granted. Without memory a message is
 * not there, which ends the handover; the running daemon goes on then.
 */
#include "dispatch/handover-wire.h"

#include <stdio.h>
#include <string.h>

#include "proto/cached.pb-c.h"

static size_t pack(uint8_t out[HANDOVER_FRAME_MAX], size_t n, const ProtobufCMessage *message)
{
        if (n == 0 || n > HANDOVER_MESSAGE_MAX)
                return 0;
        frame_header_write(out, (uint32_t)n, 0);
        return FRAME_HEADER_SIZE + protobuf_c_message_pack(message, out + FRAME_HEADER_SIZE);
}

/* ---- requests */

size_t handover_pack_request(uint8_t out[HANDOVER_FRAME_MAX], enum handover_ask ask, uint64_t id)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Handover begin = CACHED__V1__HANDOVER__INIT;
        Cached__V1__HandoverNext next = CACHED__V1__HANDOVER_NEXT__INIT;
        Cached__V1__HandoverDone done = CACHED__V1__HANDOVER_DONE__INIT;
        char version[] = VERSION;

        request.id = id;
        switch (ask) {
        case HANDOVER_BEGIN:
                begin.protocol = HANDOVER_PROTOCOL;
                begin.version = version;
                request.op_case = CACHED__V1__REQUEST__OP_HANDOVER;
                request.handover = &begin;
                break;
        case HANDOVER_NEXT:
                request.op_case = CACHED__V1__REQUEST__OP_HANDOVER_NEXT;
                request.handover_next = &next;
                break;
        case HANDOVER_DONE:
                request.op_case = CACHED__V1__REQUEST__OP_HANDOVER_DONE;
                request.handover_done = &done;
                break;
        case HANDOVER_ASK_NOTHING:
        default:
                return 0;
        }
        return pack(out, cached__v1__request__get_packed_size(&request), &request.base);
}

enum handover_ask handover_unpack_request(const uint8_t *msg, size_t n, uint64_t *ret_id)
{
        Cached__V1__Request *request = cached__v1__request__unpack(NULL, n, msg);
        enum handover_ask ask = HANDOVER_ASK_NOTHING;

        if (!request)
                return HANDOVER_ASK_NOTHING;
        if (request->op_case == CACHED__V1__REQUEST__OP_HANDOVER_NEXT)
                ask = HANDOVER_NEXT;
        else if (request->op_case == CACHED__V1__REQUEST__OP_HANDOVER_DONE)
                ask = HANDOVER_DONE;
        if (ask != HANDOVER_ASK_NOTHING)
                *ret_id = request->id;
        cached__v1__request__free_unpacked(request, NULL);
        return ask;
}

/* ---- replies */

size_t handover_pack_reply(uint8_t out[HANDOVER_FRAME_MAX], enum handover_ask to,
                           const struct handover_reply *r)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__HandoverResult result = CACHED__V1__HANDOVER_RESULT__INIT;
        Cached__V1__HandoverPart part = CACHED__V1__HANDOVER_PART__INIT;
        char version[] = VERSION, *names[HANDOVER_BATCH];

        reply.id = r->id;
        reply.status = (Cached__V1__Status)r->status;
        reply.error = (char *)r->error;
        if (r->status == CACHED__V1__STATUS__OK && to == HANDOVER_BEGIN) {
                result.version = version;
                result.instance = r->instance;
                result.descriptors = r->descriptors;
                reply.result_case = CACHED__V1__REPLY__RESULT_HANDOVER;
                reply.handover = &result;
        } else if (r->status == CACHED__V1__STATUS__OK && to == HANDOVER_NEXT) {
                for (size_t i = 0; i < r->n_names; i++)
                        names[i] = (char *)r->names[i];
                part.n_names = r->n_names;
                part.names = names;
                reply.result_case = CACHED__V1__REPLY__RESULT_HANDOVER_PART;
                reply.handover_part = &part;
        }
        return pack(out, cached__v1__reply__get_packed_size(&reply), &reply.base);
}

static bool read_names(const Cached__V1__HandoverPart *part, struct handover_reply *r)
{
        if (part->n_names > HANDOVER_BATCH)
                return false;
        r->n_names = part->n_names;
        for (size_t i = 0; i < part->n_names; i++)
                if (strlen(part->names[i]) <= HANDOVER_NAME_MAX)
                        (void)snprintf(r->names[i], sizeof(r->names[i]), "%s", part->names[i]);
        return true;
}

bool handover_unpack_reply(const uint8_t *msg, size_t n, struct handover_reply *ret)
{
        Cached__V1__Reply *reply = cached__v1__reply__unpack(NULL, n, msg);
        struct handover_reply r = {0};
        bool fine = true;

        if (!reply)
                return false;
        r.id = reply->id;
        r.status = (int)reply->status;
        (void)snprintf(r.error, sizeof(r.error), "%s", reply->error);
        if (reply->result_case == CACHED__V1__REPLY__RESULT_HANDOVER) {
                (void)snprintf(r.version, sizeof(r.version), "%s", reply->handover->version);
                r.instance = reply->handover->instance;
                r.descriptors = reply->handover->descriptors;
        } else if (reply->result_case == CACHED__V1__REPLY__RESULT_HANDOVER_PART) {
                fine = read_names(reply->handover_part, &r);
        }
        cached__v1__reply__free_unpacked(reply, NULL);
        if (fine)
                *ret = r;
        return fine;
}
