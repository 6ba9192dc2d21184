/* SPDX-License-Identifier: MIT */
#ifndef OUTBUF_H
#define OUTBUF_H

/*
 * Output queue: bytes that wait to be sent, in order
 *
 * A chain of chunks: own memory that replies are written into, and attached memory of others that
 * is sent without being copied. Descriptors ride with the first byte of a chunk. Holds nothing when
 * empty.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transport/blocks.h"

struct out_chunk;

struct outbuf {
        struct out_chunk *first, *last;
        uint64_t queued;     /* bytes */
        unsigned n_with_fds; /* chunks with descriptors that were not sent */
};

/* Room for @n contiguous bytes at the end; NULL: no memory. Then commit at most so many. */
uint8_t *outbuf_reserve(struct outbuf *out, struct blocks *pool, size_t n);
void outbuf_commit(struct outbuf *out, size_t n);

/* 0 or -ENOMEM; @release(@ctx) is called in either case once the bytes are no longer needed. */
int outbuf_attach(struct outbuf *out, struct blocks *pool, const uint8_t *data, uint64_t n,
                  void (*release)(void *), void *ctx);

/* What is reserved and committed next, up to @room bytes in all, goes out with these descriptors on
 * its first byte. They are consumed: closed when they were sent or never will be. 0 or -ENOMEM:
 * they are still the caller's. */
#define OUTBUF_FDS_MAX 4u
int outbuf_put_fds(struct outbuf *out, struct blocks *pool, const int *fds, unsigned n_fds,
                   size_t room);
/* The same with one that stays the caller's, and must stay open until @done(@ctx) is called, with
 * whether it was sent. */
int outbuf_put_file(struct outbuf *out, struct blocks *pool, int fd, size_t room,
                    void (*done)(void *ctx, bool sent), void *ctx);
/* The descriptors that go with the next byte; 0: none do. */
unsigned outbuf_fds(const struct outbuf *out, const int **ret_fds);
/* They were sent. */
void outbuf_drop_fds(struct outbuf *out);

/* The next bytes to send, up to the next descriptors behind the first byte; returns the number of
 * pieces. */
size_t outbuf_peek(const struct outbuf *out, struct iovec *iov, size_t n_iov);
void outbuf_consume(struct outbuf *out, struct blocks *pool, uint64_t n);

void outbuf_clear(struct outbuf *out, struct blocks *pool);

#endif
