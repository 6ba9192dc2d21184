/* SPDX-License-Identifier: MIT */
#ifndef PLAIN_H
#define PLAIN_H

/*
 * Plain: values for clients that cannot decode them. See plain.c.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dispatch/dispatcher.h"

/* What takes longer to decode has the rest of the turn's time: some 50 µs. */
#define PLAIN_SHORT ((uint64_t)64 * 1024)

/* A decoded value. */
struct plain {
        struct quota *quota;
        uid_t uid;
        uint64_t n;
        uint8_t bytes[];
};

/* Whether this client gets @e decoded. */
static inline bool plain_is_due(const struct request *r, const struct store_entry *e)
{
        return __builtin_expect(e->encoding != 0, 0) &&
               !(r->client->features & CACHED__V1__FEATURE__FEATURE_LZ4);
}

/* Decodes to @out, which has room for e->raw_size bytes. STATUS_OK; NOT_FOUND: it is damaged. */
enum status plain_decode(struct request *r, const struct cache_ref *ref,
                         const struct store_entry *e, bool counted, uint8_t *out);

/* The same into memory of its own, within what the peer's uid may hold, with room for @n_behind
 * bytes more. Besides: LIMIT, TOO_LARGE, NO_MEMORY. */
enum status plain_new(struct request *r, const struct cache_ref *ref, const struct store_entry *e,
                      size_t n_behind, bool counted, struct plain **ret);
struct plain *plain_free(struct plain *p); /* NULL is fine; returns NULL */
void plain_release(void *p);               /* the same, for conn_attach() */

/* Makes of the description of what is stored that of what is sent. */
void plain_describe(Cached__V1__EntryInfo *info);

#endif
