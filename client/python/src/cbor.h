/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_CBOR_H
#define CACHED_PYTHON_CBOR_H

/*
 * CBOR (RFC 8949), as a stream of items
 *
 * The reader shows one item at a time: a number, a whole string, or the head of an array, a map or
 * a tag, whose content follows as items of its own. It knows nothing of Python, allocates nothing,
 * and never looks behind the end. The count of an array or map has been checked against the bytes
 * that are left, so that a caller may allocate for it. Depth is the caller's to bound; cbor_skip()
 * shows how, and does.
 *
 * The writer is a buffer that grows. It starts with memory inside the struct, since most values are
 * small.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays, maps and tags in each other. */
#define CBOR_DEPTH_MAX 512

enum cbor_kind {
        CBOR_UINT,   /* n */
        CBOR_NINT,   /* -1 - n */
        CBOR_BYTES,  /* bytes, n; if indefinite, chunks follow up to a break */
        CBOR_TEXT,   /* the same; that it is UTF-8 is not checked */
        CBOR_ARRAY,  /* n items follow; if indefinite, items up to a break */
        CBOR_MAP,    /* n pairs follow; if indefinite, pairs up to a break */
        CBOR_TAG,    /* n; one item follows */
        CBOR_SIMPLE, /* n: 20 false, 21 true, 22 null, others */
        CBOR_FLOAT,  /* number, from 16, 32 or 64 bits */
        CBOR_BREAK,
};

struct cbor_item {
        enum cbor_kind kind;
        bool indefinite;
        uint64_t n;
        const uint8_t *bytes;
        double number;
};

struct cbor_reader {
        const uint8_t *at, *end;
};

/* The next item; false: these bytes are not CBOR, or end too early. */
bool cbor_next(struct cbor_reader *r, struct cbor_item *ret);

/* Whether a break is next; takes it. */
bool cbor_at_break(struct cbor_reader *r);

/* The whole length of an indefinite string, whose head was just read; the reader stays. False: its
 * chunks are none. */
bool cbor_chunks_length(const struct cbor_reader *r, enum cbor_kind kind, size_t *ret);

/* Copies the chunks of that string, up to and with the break: what cbor_chunks_length() said. */
void cbor_chunks_copy(struct cbor_reader *r, uint8_t *to);

/* Goes behind one item with all that is in it; false: it is not well-formed, or too deep. */
bool cbor_skip(struct cbor_reader *r);

struct cbor_writer {
        uint8_t *data;
        size_t n, size;
        bool failed; /* no memory: what was written since is lost */
        uint8_t first[512];
};

void cbor_writer_init(struct cbor_writer *w);
void cbor_writer_free(struct cbor_writer *w);

/* The head of an item of that major type (0 to 7), with the shortest length of n. */
void cbor_put(struct cbor_writer *w, unsigned major, uint64_t n);
void cbor_put_double(struct cbor_writer *w, double number);

/* A string with its head, and bytes alone. */
void cbor_put_string(struct cbor_writer *w, unsigned major, const void *bytes, size_t n);
void cbor_put_raw(struct cbor_writer *w, const void *bytes, size_t n);

#endif
