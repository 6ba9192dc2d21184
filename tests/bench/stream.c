/* SPDX-License-Identifier: MIT */
/*
 * Byte stream of the hand-written bench clients
 *
 * Invariant: in_start <= in_end <= cap_in; buffers only grow, so a warmed-up client allocates
 * nothing. It does not read while it writes: callers keep what is in flight small against the
 * socket buffers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "stream.h"

#define STREAM_BUFFER ((size_t)256 << 10) /* as much as a socket buffer may hold at once */

int stream_init(struct stream *s, const char *socket_path)
{
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        size_t n = strlen(socket_path);
        if (n >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, socket_path, n + 1);

        *s = (struct stream){.fd = -1, .cap_out = STREAM_BUFFER, .cap_in = STREAM_BUFFER};
        s->out = malloc(s->cap_out);
        s->in = malloc(s->cap_in);
        s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r = 0;
        if (!s->out || !s->in)
                r = -ENOMEM;
        else if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                r = -errno;
        if (r < 0)
                stream_done(s);
        return r;
}

void stream_done(struct stream *s)
{
        if (s->fd >= 0)
                close(s->fd);
        free(s->out);
        free(s->in);
        *s = (struct stream){.fd = -1};
}

static int grow(uint8_t **buf, size_t *cap, size_t need)
{
        size_t n = *cap;
        while (n < need)
                n *= 2;
        uint8_t *p = realloc(*buf, n);
        if (!p)
                return -ENOMEM;
        *buf = p;
        *cap = n;
        return 0;
}

uint8_t *stream_reserve(struct stream *s, size_t n)
{
        if (s->n_out + n > s->cap_out && grow(&s->out, &s->cap_out, s->n_out + n) < 0)
                return NULL;
        return s->out + s->n_out;
}

int stream_flush(struct stream *s)
{
        for (size_t done = 0; done < s->n_out;) {
                ssize_t k = send(s->fd, s->out + done, s->n_out - done, MSG_NOSIGNAL);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                done += (size_t)k;
        }
        s->n_out = 0;
        return 0;
}

int stream_fill(struct stream *s)
{
        int r = stream_flush(s);
        if (r < 0)
                return r;
        if (s->in_start == s->in_end) {
                s->in_start = s->in_end = 0;
        } else if (s->in_end == s->cap_in) {
                memmove(s->in, s->in + s->in_start, s->in_end - s->in_start);
                s->in_end -= s->in_start;
                s->in_start = 0;
                if (s->in_end == s->cap_in && grow(&s->in, &s->cap_in, s->cap_in * 2) < 0)
                        return -ENOMEM;
        }
        ssize_t k;
        do
                k = recv(s->fd, s->in + s->in_end, s->cap_in - s->in_end, 0);
        while (k < 0 && errno == EINTR);
        if (k <= 0)
                return k < 0 ? -errno : -EPIPE;
        s->in_end += (size_t)k;
        return 0;
}

int stream_need(struct stream *s, size_t n)
{
        while (stream_have(s) < n) {
                int r = stream_fill(s);
                if (r < 0)
                        return r;
        }
        return 0;
}

int stream_line(struct stream *s, const uint8_t **ret, size_t *ret_n)
{
        for (size_t from = 0;;) {
                const uint8_t *at = stream_peek(s);
                const uint8_t *nl = memchr(at + from, '\n', stream_have(s) - from);
                if (nl && nl > at) {
                        *ret = at;
                        *ret_n = (size_t)(nl - at) - 1;
                        stream_skip(s, (size_t)(nl - at) + 1);
                        return 0;
                }
                from = stream_have(s);
                if (from > 4096) /* no status line of any peer is this long */
                        return -EPROTO;
                int r = stream_fill(s);
                if (r < 0)
                        return r;
        }
}
