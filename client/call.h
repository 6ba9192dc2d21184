/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/conn.h"
#include "client/handle.h"

struct set_value;

/*
 * One request, to be filled in by the function of the public header. It may be sent twice, on two
 * connections, so it says by name which cache it means and where in the request that goes.
 */
struct call {
        Cached__V1__Request request;
        const char *cache;  /* NULL: the request names none */
        uint32_t *cache_id; /* NULL: this request goes by name only */
        char **cache_name;
        const struct iovec *body;
        size_t n_body_iov;
        uint64_t n_body;
        struct set_value *value; /* of a Set: placed for each attempt; the body comes from it */
        Cached__V1__Slice slice; /* of `value` */
        bool idempotent;         /* it changes nothing, so that it may be sent again */
        bool opens;              /* the reply tells the cache's id */
        /* Instead of the handle's timeout: that many milliseconds, and 10 ns for each byte of a
         * value that is sent or comes. 0: the handle's. */
        uint32_t patience_ms;
        /* Of a Set: a sealed memory file that is the value; -1: none. A daemon that takes none gets
         * the body, which has the same bytes. */
        int file;
        bool needs_leases; /* a daemon without FEATURE_LEASES would take it for something else */
        bool needs_sessions;
        bool needs_resources; /* likewise; `file` goes along whatever else the daemon takes */
        bool takes_resource;  /* an open file may come with it, whatever it is */
        /* Of a change that a session remembers: it may be sent again, to whichever daemon has the
         * session then. Filled in with the first attempt. NULL: it is none. */
        Cached__V1__Operation *operation;
        /* Of a Get: a memory file may come instead of the body, and nothing at all, if the daemon
         * is that of `have_instance` and the entry still has `have_version` (0: nothing is at
         * hand). */
        bool takes_file;
        uint64_t have_instance, have_version;
};

struct call call_init(Cached__V1__Request__OpCase op);

int call_run(cached *c, struct call *call, cached_reply **ret);

/* Ends a public function whose arguments are wrong. */
int call_refuse(const char *text, cached_reply **ret);

/* Ends one whose reply says what it cannot say. */
int call_refuse_reply(const char *text, cached_reply **ret);

/* Ends one that knows no sessions, on a handle of a session's own caches. */
int call_refuse_scoped(const char *what, cached_reply **ret);

/* Ends one that failed before anything was sent. Returns `code`. */
int call_fail(int code, const struct failure *f, cached_reply **ret);

/* Hands out what came, or makes a reply of the failure. `r` is consumed and may be NULL. */
int call_hand_out(int code, struct cached_reply *r, const struct failure *f, cached_reply **ret);

/* Does the daemon take a request of these sizes? CACHED_TOO_LARGE: no. */
int call_check_sizes(const struct conn *c, size_t n_message, uint64_t n_body, struct failure *f);
/* Does it take it for what it is, as far as that is known yet? CACHED_UNSUPPORTED: no. */
int call_check_features(const struct conn *c, bool needs_leases, struct failure *f);

/* Does it know sessions, or resources, likewise? CACHED_UNSUPPORTED: no. */
int call_check_sessions(const struct conn *c, struct failure *f);
int call_check_resources(const struct conn *c, struct failure *f);

/* Frame header and message, appended to `out`; the limits are those of the connection. */
int call_pack(struct conn *c, const Cached__V1__Request *request, uint64_t n_body,
              struct buffer *out, struct failure *f);

#endif
