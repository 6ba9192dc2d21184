/* SPDX-License-Identifier: MIT */
/*
 * Output queue, see outbuf.h
 *
 * Invariants: `queued` is the sum of the chunks' bytes; the last chunk may be empty (reserved,
 * nothing committed yet), no other one is; nothing queued and nothing reserved means no chunk.
 */

#include "transport/outbuf.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct out_chunk {
        struct out_chunk *next;
        const uint8_t *data; /* own: the bytes behind this struct */
        uint64_t start, end;
        size_t n_alloc; /* of this struct with what is behind it; BLOCK_SIZE: of the pool */
        size_t room;    /* of own memory; 0 for attached */
        void (*release)(void *);
        void *ctx;
        void (*fds_done)(void *, bool sent); /* set: the descriptor is somebody else's */
        void *fds_ctx;
        unsigned n_fds; /* that go with its first byte */
        int fds[OUTBUF_FDS_MAX];
        uint8_t own[];
};

/* They were sent, or never will be. */
static void end_fds(struct outbuf *out, struct out_chunk *k, bool sent)
{
        if (k->n_fds == 0)
                return;
        out->n_with_fds--;
        for (unsigned i = 0; i < k->n_fds && !k->fds_done; i++)
                close(k->fds[i]);
        k->n_fds = 0;
        if (k->fds_done)
                k->fds_done(k->fds_ctx, sent);
}

static void chunk_free(struct outbuf *out, struct out_chunk *k, struct blocks *pool)
{
        end_fds(out, k, false);
        if (k->release)
                k->release(k->ctx);
        if (k->n_alloc == BLOCK_SIZE)
                blocks_put(pool, k);
        else
                blocks_release(pool, k, k->n_alloc);
}

static struct out_chunk *chunk_append(struct outbuf *out, struct blocks *pool, size_t room)
{
        size_t n;
        struct out_chunk *k;

        if (__builtin_add_overflow(sizeof(*k), room, &n))
                return NULL;
        if (room > 0 && n < BLOCK_SIZE)
                n = BLOCK_SIZE;
        k = n == BLOCK_SIZE ? blocks_get(pool) : blocks_alloc(pool, n);
        if (!k)
                return NULL;
        *k = (struct out_chunk){.n_alloc = n, .room = room > 0 ? n - sizeof(*k) : 0};
        k->data = k->own;
        if (out->last)
                out->last->next = k;
        else
                out->first = k;
        out->last = k;
        return k;
}

uint8_t *outbuf_reserve(struct outbuf *out, struct blocks *pool, size_t n)
{
        struct out_chunk *k = out->last;

        if (n == 0)
                n = 1;
        if (!k || k->room < k->end || k->room - k->end < n)
                k = chunk_append(out, pool, n);
        return k ? k->own + k->end : NULL;
}

void outbuf_commit(struct outbuf *out, size_t n)
{
        struct out_chunk *k = out->last;

        assert(k && k->room >= k->end && k->room - k->end >= n);
        k->end += n;
        out->queued += n;
}

int outbuf_attach(struct outbuf *out, struct blocks *pool, const uint8_t *data, uint64_t n,
                  void (*release)(void *), void *ctx)
{
        struct out_chunk *k = n > 0 ? chunk_append(out, pool, 0) : NULL;

        if (!k) {
                if (release)
                        release(ctx);
                return n > 0 ? -ENOMEM : 0;
        }
        k->data = data;
        k->end = n;
        k->release = release;
        k->ctx = ctx;
        out->queued += n;
        return 0;
}

/* A chunk that begins with what is reserved next. One that is reserved only is taken, if it has the
 * room; what was reserved is not used. NULL: no memory. */
static struct out_chunk *begin_chunk(struct outbuf *out, struct blocks *pool, size_t room)
{
        struct out_chunk *k = out->last;

        if (!k || k->end != 0 || k->n_fds > 0 || k->room < room)
                k = chunk_append(out, pool, room);
        if (k)
                out->n_with_fds++;
        return k;
}

int outbuf_put_fds(struct outbuf *out, struct blocks *pool, const int *fds, unsigned n_fds,
                   size_t room)
{
        struct out_chunk *k;

        assert(n_fds > 0 && n_fds <= OUTBUF_FDS_MAX);
        k = begin_chunk(out, pool, room);
        if (!k)
                return -ENOMEM;
        memcpy(k->fds, fds, n_fds * sizeof(*fds));
        k->n_fds = n_fds;
        return 0;
}

int outbuf_put_file(struct outbuf *out, struct blocks *pool, int fd, size_t room,
                    void (*done)(void *ctx, bool sent), void *ctx)
{
        struct out_chunk *k = begin_chunk(out, pool, room);

        if (!k)
                return -ENOMEM;
        k->fds[0] = fd;
        k->n_fds = 1;
        k->fds_done = done;
        k->fds_ctx = ctx;
        return 0;
}

/* The first chunk with something to send. */
static struct out_chunk *first_full(const struct outbuf *out)
{
        struct out_chunk *k = out->first;

        while (k && k->end == k->start)
                k = k->next;
        return k;
}

unsigned outbuf_fds(const struct outbuf *out, const int **ret_fds)
{
        const struct out_chunk *k = first_full(out);

        if (!k || k->n_fds == 0)
                return 0;
        *ret_fds = k->fds;
        return k->n_fds;
}

void outbuf_drop_fds(struct outbuf *out)
{
        struct out_chunk *k = first_full(out);

        if (k)
                end_fds(out, k, true);
}

size_t outbuf_peek(const struct outbuf *out, struct iovec *iov, size_t n_iov)
{
        size_t n = 0;

        for (const struct out_chunk *k = out->first; k && n < n_iov; k = k->next) {
                if (k->end == k->start) /* reserved only */
                        continue;
                if (n > 0 && k->n_fds > 0)
                        break;
                iov[n].iov_base = (void *)(uintptr_t)(k->data + k->start);
                iov[n].iov_len = (size_t)(k->end - k->start);
                n++;
        }
        return n;
}

static void drop_first(struct outbuf *out, struct blocks *pool)
{
        struct out_chunk *k = out->first;

        out->first = k->next;
        if (!out->first)
                out->last = NULL;
        chunk_free(out, k, pool);
}

void outbuf_consume(struct outbuf *out, struct blocks *pool, uint64_t n)
{
        assert(n <= out->queued);
        out->queued -= n;
        while (out->first) {
                struct out_chunk *k = out->first;
                uint64_t m = k->end - k->start < n ? k->end - k->start : n;

                k->start += m;
                n -= m;
                if (k->start < k->end)
                        return;
                drop_first(out, pool);
        }
}

void outbuf_clear(struct outbuf *out, struct blocks *pool)
{
        while (out->first)
                drop_first(out, pool);
        out->queued = 0;
}
