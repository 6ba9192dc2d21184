/* SPDX-License-Identifier: MIT */
#ifndef OUTBUF_H
#define OUTBUF_H

/*
 * Output queue: bytes that wait to be sent, in order
 *
 * A chain of chunks: own memory that replies are written into, and attached memory of others that
 * is sent without being copied. Holds nothing when empty.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transport/blocks.h"

struct out_chunk;

struct outbuf {
        struct out_chunk *first, *last;
        uint64_t queued; /* bytes */
};

/* Room for @n contiguous bytes at the end; NULL: no memory. Then commit at most so many. */
uint8_t *outbuf_reserve(struct outbuf *out, struct blocks *pool, size_t n);
void outbuf_commit(struct outbuf *out, size_t n);

/* 0 or -ENOMEM; @release(@ctx) is called in either case once the bytes are no longer needed. */
int outbuf_attach(struct outbuf *out, struct blocks *pool, const uint8_t *data, uint64_t n,
                  void (*release)(void *), void *ctx);

/* The next bytes to send; returns the number of pieces. */
size_t outbuf_peek(const struct outbuf *out, struct iovec *iov, size_t n_iov);
void outbuf_consume(struct outbuf *out, struct blocks *pool, uint64_t n);

void outbuf_clear(struct outbuf *out, struct blocks *pool);

#endif
