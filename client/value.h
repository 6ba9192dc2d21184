/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_VALUE_H
#define CLIENT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/pack.h"
#include "proto/cached.pb-c.h"

struct upload;

/* The value of a Set, and how it travels: packed or plain, through an upload area or the socket. */
struct set_value {
        struct iovec plain;   /* borrowed */
        struct iovec behind;  /* recorded messages, never packed; borrowed */
        struct packing which; /* whether it is tried to pack it; min 0: no, or no more */
        struct packed packed; /* for the socket; bytes NULL: not packed, or not yet */
        bool was_packed;      /* when it was placed last */
        /* What is sent as the frame's body, once it was placed. */
        struct iovec body[2];
        size_t n_body_iov;
};

void set_value_init(struct set_value *v, struct packing which, const void *data, size_t n,
                    struct iovec behind);
void set_value_done(struct set_value *v);
/* It was refused packed, perhaps only because of that: plain from now on. */
void set_value_make_plain(struct set_value *v);

/*
 * set_value_place() - puts it into `u` and says so in `m`; NULL: makes it the body
 *
 * `u` has room for it as it is, and for what is behind it. What `m` says of an earlier place is
 * replaced; `slice` is part of it from then on.
 */
void set_value_place(struct set_value *v, struct upload *u, Cached__V1__Set *m,
                     Cached__V1__Slice *slice);

#endif
