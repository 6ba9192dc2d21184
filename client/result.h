/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RESULT_H
#define CLIENT_RESULT_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/failure.h"

/* What a memoized call came to. Its value is in `heap`, or in the reply of a hit, or empty. */
struct cached_result {
        bool has_value, is_hit, is_stale;
        /* What the function says of what it gives. */
        bool is_declined, is_negative;
        bool has_reason;          /* it is the text of `why` */
        uint64_t negative_ttl_ms; /* 0: like a value's */
        uint64_t waited_ms;
        uint32_t holder_pid; /* 0: unknown */
        int cache_code;
        size_t n;
        _Alignas(16) void *heap; /* owned; an empty value is its place */
        cached_reply *reply;     /* owned */
        struct failure why;      /* text "": there is nothing to say */
};

/* A value of 0 bytes. NULL: out of memory. */
struct cached_result *result_new(void);
/* Whatever a function left there is gone, for it to begin again, or for what was there before. */
void result_reset(struct cached_result *r);
/* The value of a reply that is a hit: consumed. */
void result_take_reply(struct cached_result *r, cached_reply *reply);
/* The call failed: there is no value. */
void result_fail(struct cached_result *r);

#endif
