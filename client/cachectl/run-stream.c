/* SPDX-License-Identifier: MIT */

/*
 * Output streams
 *
 * One buffer, which is written out before more is read: so a slow reader of ours slows the command
 * down just as if it were its own, and memory is bounded.
 *
 * Our stdout and stderr are shared with other processes, so their O_NONBLOCK is not ours to set.
 * What may block is asked with poll() before each write, and gets no more than it has room for by
 * then: so signals are dealt with and the other stream goes on while a reader sleeps.
 */

#include "run-stream.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_SIZE (64 * 1024)

static bool never_blocks(int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return true;
        return S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd));
}

int stream_init(struct stream *s, int pipe, int out)
{
        *s = (struct stream){.pipe = pipe, .out = out, .whole = never_blocks(out)};
        s->buffer = malloc(BUFFER_SIZE);
        if (!s->buffer) {
                stream_done(s);
                return -ENOMEM;
        }
        return 0;
}

static void close_pipe(struct stream *s)
{
        if (s->pipe >= 0)
                (void)close(s->pipe);
        s->pipe = -1;
        s->ready = false;
}

void stream_done(struct stream *s)
{
        close_pipe(s);
        free(s->buffer);
        s->buffer = NULL;
}

size_t stream_read(struct stream *s)
{
        ssize_t got;

        do
                got = read(s->pipe, s->buffer, BUFFER_SIZE);
        while (got < 0 && errno == EINTR);
        s->from = 0;
        s->n = got > 0 ? (size_t)got : 0;
        if (got > 0)
                return s->n;
        s->ready = false;
        if (got == 0 || errno != EAGAIN)
                close_pipe(s);
        return 0;
}

bool stream_filled(const struct stream *s)
{
        return s->n == BUFFER_SIZE;
}

static bool has_room(const struct stream *s)
{
        struct pollfd p = {.fd = s->out, .events = POLLOUT};

        return s->whole || poll(&p, 1, 0) > 0;
}

void stream_write(struct stream *s)
{
        while (!stream_is_empty(s) && has_room(s)) {
                size_t n = s->n - s->from;
                ssize_t wrote;

                /* What a pipe that is writable takes at least. */
                if (!s->whole && n > PIPE_BUF)
                        n = PIPE_BUF;
                wrote = write(s->out, s->buffer + s->from, n);
                if (wrote >= 0) {
                        s->from += (size_t)wrote;
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno == EAGAIN)
                        return; /* somebody made it non-blocking */
                s->error = errno;
                s->from = s->n;
                close_pipe(s);
        }
}
