/* SPDX-License-Identifier: MIT */
#ifndef BUMP_H
#define BUMP_H

/*
 * Bump allocator: the memory of one request. See bump.c.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct bump_chunk;

struct bump {
        ProtobufCAllocator allocator; /* hands out from here; its free does nothing */
        unsigned char *at, *end;      /* free part of the chunk in use */
        unsigned char *first;
        size_t n_first;
        struct bump_chunk *more; /* beyond the first chunk; freed by reset */
        size_t used_more, limit; /* bytes in `more`, and their bound */
        bool out_of_memory;      /* why an allocation since the last reset failed */
        bool over_limit;
};

/* @limit bounds what one request may take beyond @n_first. 0 or -ENOMEM. */
int bump_init(struct bump *b, size_t n_first, size_t limit);
void bump_done(struct bump *b);
void bump_reset(struct bump *b);

/* Exchanges what two of them hold. */
void bump_swap(struct bump *a, struct bump *b);

/* NULL: no memory or over the limit, see the flags. Aligned for any type, not cleared. */
void *bump_alloc(struct bump *b, size_t n);
void *bump_alloc_array(struct bump *b, size_t n, size_t size);

/* The size that bump_alloc() was asked for; only for pointers that it returned. */
size_t bump_size(const void *p);

#endif
