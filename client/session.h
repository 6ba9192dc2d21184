/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include <cached.h>
#include <stdint.h>

#include "client/call.h"

struct cached_session {
        cached *handle; /* borrowed */
        uint8_t token[SESSION_TOKEN_SIZE];
        char text[CACHED_SESSION_TOKEN_LENGTH + 1];
};

struct cached_session_options {
        char *label;                /* owned; NULL: "" */
        uint64_t idle_ms, grace_ms; /* idle 0: the daemon's; CACHED_NEVER */
};

static inline ProtobufCBinaryData session_token(cached_session *s)
{
        return (ProtobufCBinaryData){sizeof(s->token), s->token};
}

/* A call about a session. */
static inline struct call session_call(Cached__V1__Request__OpCase op)
{
        struct call call = call_init(op);

        call.needs_sessions = true;
        return call;
}

/* Hands out what came: nothing where memory ran out after all, or nobody wants it. Returns `code`.
 */
int session_hand_out(int code, cached_reply *r, cached_reply **reply);
/* Hands it out as that there is none. Consumes `r`. */
int session_no_value(cached_reply *r, const char *key, cached_reply **ret);

/* events.c: a subscription to one session, to which its connection is attached. Arguments are
 * right. */
int events_watch_session(cached *c, const uint8_t token[SESSION_TOKEN_SIZE], cached_events **ret,
                         cached_reply **reply);

#endif
