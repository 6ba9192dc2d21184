/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MANY_H
#define CLIENT_MANY_H

#include <cached.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/failure.h"
#include "proto/cached.pb-c.h"

/*
 * The messages about many entries. They point at the caller's memory and at arrays of their own.
 *
 * Codes: CACHED_OK; CACHED_ERR_USAGE (a pointer is missing) or CACHED_ERR_NOMEM, with *f set.
 */

struct get_many {
        Cached__V1__GetMany m;
};

int get_many_init(struct get_many *g, size_t n, const void *const *keys, const size_t *n_keys,
                  struct failure *f);
void get_many_done(struct get_many *g);

struct set_many {
        Cached__V1__SetMany m;
        struct iovec *body; /* the values that are not empty, in order */
        size_t n_body_iov;
        uint64_t n_body; /* UINT64_MAX: more than can be counted */
        void *memory;
};

int set_many_init(struct set_many *s, size_t n, const void *const *keys, const size_t *n_keys,
                  const void *const *values, const size_t *n_values, const cached_set_options *o,
                  struct failure *f);
void set_many_done(struct set_many *s);

#endif
