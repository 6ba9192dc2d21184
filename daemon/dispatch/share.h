/* SPDX-License-Identifier: MIT */
#ifndef SHARE_H
#define SHARE_H

/*
 * Share: what several requests that wait are to be answered with. See share.c.
 */

#include "dispatch/dispatcher.h"

struct share {
        size_t refs;
        struct quota *quota; /* `charged` bytes of `uid`; NULL: none */
        uid_t uid;
        uint64_t charged;
        struct large *large;
        struct store_hold *hold;
        bool unstored;
        struct store_entry entry; /* its `value` stays as long as this does */
        /* Who stored it, or failed; and of a failure why. */
        uint32_t holder_pid, holder_uid;
        uint64_t age_ms; /* of a failure: of the lease */
        char holder[WIRE_CLIENT_MAX + 1];
        char *reason; /* in `bytes` */
        uint8_t bytes[];
};

/* Of what is stored. NULL: no memory, or its writer has as much shared as it may have. */
struct share *share_entry(struct request *r, const struct store_entry *e);
/* Of what is not: @large, or NULL for @put->value or @put->source. */
struct share *share_value(struct request *r, const struct store_put *put, struct large *large);
/* What became of @l: @reason. */
struct share *share_failure(const struct lease *l, const char *reason, uint64_t now_ms);

struct share *share_ref(struct share *s);
struct share *share_unref(struct share *s); /* NULL is fine; returns NULL */
void share_release(void *s);                /* the same, for conn_attach() */

#endif
