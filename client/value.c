/* SPDX-License-Identifier: MIT */
/*
 * The value of a Set on its way
 *
 * Which way it takes is known only when there is a connection, and a call may need more than one:
 * so a value is placed anew for each attempt. Into an upload area it is packed directly, which
 * saves a copy and fresh memory for the block; for the socket the block is kept until the call is
 * over.
 *
 * It decides nothing about when an area is there: that is for call.c.
 */

#include "client/value.h"

#include <string.h>

#include "client/deadline.h"
#include "client/upload.h"

void set_value_init(struct set_value *v, struct packing which, const void *data, size_t n,
                    struct iovec behind)
{
        *v = (struct set_value){.plain = {(void *)(uintptr_t)data, n},
                                .behind = behind,
                                .which = which};
        if (n == 0)
                v->which.min = 0;
}

void set_value_done(struct set_value *v)
{
        packed_done(&v->packed);
}

void set_value_make_plain(struct set_value *v)
{
        packed_done(&v->packed);
        v->which.min = 0;
        v->was_packed = false;
}

static void place_as_body(struct set_value *v)
{
        if (!v->packed.bytes &&
            !packed_init(&v->packed, v->which, v->plain.iov_base, v->plain.iov_len))
                v->which.min = 0;
        v->was_packed = v->packed.bytes != NULL;
        v->n_body_iov = 0;
        if (v->plain.iov_len > 0)
                v->body[v->n_body_iov++] =
                        v->was_packed ? (struct iovec){v->packed.bytes, v->packed.n} : v->plain;
        if (v->behind.iov_len > 0)
                v->body[v->n_body_iov++] = v->behind;
}

static size_t place_in_area(struct set_value *v, struct upload *u)
{
        size_t n = v->plain.iov_len, packed;

        packed = pack_to(v->which, v->plain.iov_base, n, u->map);
        v->was_packed = packed > 0;
        if (packed == 0) {
                v->which.min = 0;
                upload_copy(u, v->plain.iov_base, n);
        }
        v->n_body_iov = 0;
        u->used_ns = deadline_now_ns();
        packed = packed > 0 ? packed : n;
        if (v->behind.iov_len > 0)
                memcpy(u->map + packed, v->behind.iov_base, v->behind.iov_len);
        n += v->behind.iov_len;
        /* LZ4 writes less than the plain value's size, if it gives up as well. */
        if (u->n_warm < n)
                u->n_warm = n;
        return packed + v->behind.iov_len;
}

void set_value_place(struct set_value *v, struct upload *u, Cached__V1__Set *m,
                     Cached__V1__Slice *slice)
{
        bool had_packed = v->was_packed;

        if (u) {
                cached__v1__slice__init(slice);
                slice->size = place_in_area(v, u);
                m->source_case = CACHED__V1__SET__SOURCE_UPLOADED;
                m->uploaded = slice;
        } else {
                place_as_body(v);
                if (m->source_case == CACHED__V1__SET__SOURCE_UPLOADED)
                        m->source_case = CACHED__V1__SET__SOURCE__NOT_SET;
        }
        if (v->was_packed) {
                m->encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
                m->raw_size = v->plain.iov_len;
        } else if (had_packed) {
                m->encoding = CACHED__V1__ENCODING__ENCODING_RAW;
                m->raw_size = 0;
        }
}
