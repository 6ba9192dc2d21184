/* SPDX-License-Identifier: MIT */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

/*
 * Reader of request traces: a stream of (key as text, size), from a plain or an xz file
 */

#include <stddef.h>
#include <stdint.h>

#define TRACE_KEY_MAX      64
#define TRACE_DEFAULT_SIZE 100 /* of a value, where the trace tells none */

enum trace_format {
        TRACE_INT32BE, /* keys, nothing else */
        TRACE_INT32LE,
        TRACE_TEXT, /* lines: time key size */
};

enum {
        TRACE_OK = 0,
        TRACE_E_END, /* no more requests */
};

struct trace;

struct trace_request {
        char key[TRACE_KEY_MAX]; /* decimal text, or as the line has it; not terminated */
        size_t n_key;
        uint64_t size;
};

/* 0, or -1 for a name that is none. */
int trace_format_parse(const char *name, enum trace_format *ret);

/* 0 or -errno; -EBADMSG: not a whole xz stream, or a torn last key or line. */
int trace_open(const char *path, enum trace_format format, struct trace **ret);
struct trace *trace_close(struct trace *t);
int trace_next(struct trace *t, struct trace_request *ret);

/* Where the reader is: requests so far, for error messages. */
uint64_t trace_position(const struct trace *t);

#endif
