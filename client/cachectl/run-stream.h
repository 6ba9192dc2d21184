/* SPDX-License-Identifier: MIT */
#ifndef RUN_STREAM_H
#define RUN_STREAM_H

/*
 * One of a command's output streams on its way to ours
 */

#include <stdbool.h>
#include <stddef.h>

struct stream {
        int pipe;     /* from the command, non-blocking; -1: it has ended */
        int out;      /* our own stdout or stderr; borrowed */
        bool ready;   /* the pipe has something */
        bool whole;   /* @out takes any amount at once, since it never blocks */
        int error;    /* why @out takes no more, an errno; 0: it does */
        char *buffer; /* what was read and is not written yet: from..n */
        size_t from, n;
};

/* @pipe is taken over, also on failure. -ENOMEM. */
int stream_init(struct stream *s, int pipe, int out);
void stream_done(struct stream *s);

/*
 * Reads once, into an empty buffer. Returns how much; 0: nothing there (s->ready is then false), or
 * the end (s->pipe is then -1).
 */
size_t stream_read(struct stream *s);

/* Whether one read may have left something behind of what one write put there. */
bool stream_filled(const struct stream *s);

/* Writes as much as @out takes now. Where it takes no more for good, the pipe is closed, so that
 * the command notices as it would have by itself. */
void stream_write(struct stream *s);

static inline bool stream_is_empty(const struct stream *s)
{
        return s->from == s->n;
}

static inline bool stream_has_ended(const struct stream *s)
{
        return s->pipe < 0 && stream_is_empty(s);
}

#endif
