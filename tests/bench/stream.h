/* SPDX-License-Identifier: MIT */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

/*
 * A blocking byte stream over a Unix socket with one buffer each way, for the hand-written clients.
 *
 * Requests collect in the output buffer and leave in one send() when the next reply is not here
 * yet; a recv() takes whatever fits. All hand-written clients share it, so that they batch alike.
 */

#include <stddef.h>
#include <stdint.h>

struct stream {
        int fd;
        uint8_t *out;
        size_t n_out, cap_out;
        uint8_t *in;
        size_t in_start, in_end, cap_in;
};

int stream_init(struct stream *s, const char *socket_path);
void stream_done(struct stream *s);

/* Room for @n bytes at the end of the output, or NULL; stream_commit() adds what was written. */
uint8_t *stream_reserve(struct stream *s, size_t n);
static inline void stream_commit(struct stream *s, size_t n)
{
        s->n_out += n;
}
int stream_flush(struct stream *s);

/* Flushes, then reads at least one byte more than there is. 0 or -errno (-EPIPE: the peer closed).
 */
int stream_fill(struct stream *s);

/* At least @n bytes of input in one piece. */
int stream_need(struct stream *s, size_t n);

/* The next line of input without its CRLF; *ret borrows until the next call. */
int stream_line(struct stream *s, const uint8_t **ret, size_t *ret_n);

static inline const uint8_t *stream_peek(const struct stream *s)
{
        return s->in + s->in_start;
}
static inline size_t stream_have(const struct stream *s)
{
        return s->in_end - s->in_start;
}
static inline void stream_skip(struct stream *s, size_t n)
{
        s->in_start += n;
}

#endif
