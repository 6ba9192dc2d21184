/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LEASE_H
#define CLIENT_LEASE_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/handle.h"
#include "client/lease-options.h"
#include "client/line.h"

/* What the daemon said of a lease. The texts lie behind it, or are borrowed. */
struct cached_lease {
        int state;
        bool is_held;
        cached *c;         /* NULL: it is of a callback */
        struct pool *pool; /* a reference */
        struct line_owner owner;
        uint64_t id;
        uint32_t holder_pid, holder_uid, permille;
        uint64_t age_ms, waited_ms;
        const char *holder, *text, *reason, *cache;
        const uint8_t *key;
        size_t n_key;
};

/* What is asked for. */
struct lease_want {
        const char *cache;
        const uint8_t *key;
        size_t n_key;
        const struct cached_lease_options *o;
        uint32_t patience_ms; /* 0: the handle's timeout */
        bool is_own;          /* the value may be written to */
        bool with_messages;
};

/* cached_get_or_lease() for callers that have checked the arguments. */
int lease_get(cached *c, const struct lease_want *w, cached_reply **ret, cached_lease **ret_lease);

/* cached_lease_set() and _share() with a patience. */
int lease_set(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
              bool share_only, uint32_t patience_ms, cached_reply **ret);

/* cached_lease_end(), and waits until the daemon has taken note. */
void lease_end_now(cached_lease *l, const char *reason, uint32_t patience_ms);

#endif
