/* SPDX-License-Identifier: MIT */
#ifndef HANDOVER_WIRE_H
#define HANDOVER_WIRE_H

/*
 * The messages of a handover, for both sides: bytes in, structs out, and back. See PROTOCOL.md,
 * "Handover". Descriptors are the callers' business.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

#define HANDOVER_PROTOCOL    1
#define HANDOVER_BATCH       64 /* descriptors in one message: a quarter of the kernel's bound */
#define HANDOVER_NAME_MAX    5
#define HANDOVER_TEXT_MAX    256
#define HANDOVER_MESSAGE_MAX 2048 /* more than each of these messages takes */
#define HANDOVER_FRAME_MAX   (FRAME_HEADER_SIZE + HANDOVER_MESSAGE_MAX)

#define HANDOVER_NAME_SOCKET "sock"
#define HANDOVER_NAME_LOCK   "lock"

/* ---- requests */

enum handover_ask { HANDOVER_ASK_NOTHING = 0, HANDOVER_BEGIN, HANDOVER_NEXT, HANDOVER_DONE };

/* Writes a whole frame. Its length; 0: no memory. */
size_t handover_pack_request(uint8_t out[HANDOVER_FRAME_MAX], enum handover_ask ask, uint64_t id);
/* Of the message in a frame. HANDOVER_ASK_NOTHING: it is none of these. */
enum handover_ask handover_unpack_request(const uint8_t *msg, size_t n, uint64_t *ret_id);

/* ---- replies */

struct handover_reply {
        uint64_t id;
        int status; /* of status.h */
        char error[HANDOVER_TEXT_MAX];
        /* to HANDOVER_BEGIN */
        char version[64];
        uint64_t instance;
        uint32_t descriptors;
        /* to HANDOVER_NEXT */
        size_t n_names;
        char names[HANDOVER_BATCH][HANDOVER_NAME_MAX + 1];
};

size_t handover_pack_reply(uint8_t out[HANDOVER_FRAME_MAX], enum handover_ask to,
                           const struct handover_reply *r);
/* False: it is no Reply, or has more names than there may be; a name that is too long comes out
 * empty. */
bool handover_unpack_reply(const uint8_t *msg, size_t n, struct handover_reply *ret);

#endif
