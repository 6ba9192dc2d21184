/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MEMBUF_H
#define CLIENT_MEMBUF_H

/*
 * Memory that is filled in place and handed over: struct cached_buffer of the public header
 */

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "client/failure.h"

enum membuf_state {
        MEMBUF_OPEN, /* shared with the file, which can be written to; not in a child after fork */
        MEMBUF_HALF, /* private, the file is not wholly sealed */
        MEMBUF_SEALED, /* private, and the file has `n_value` bytes for ever */
};

struct cached_buffer {
        struct cached_buffer *next; /* of the prepared ones */
        uint8_t *data;              /* NULL: it could not be mapped again */
        uint64_t size;              /* as was asked for */
        uint64_t n_mapped;          /* a size class */
        uint64_t n_value;
        enum membuf_state state;
        int fd;
        dev_t dev;
        ino_t ino;
        pid_t pid;
};

/* What a buffer for `size` bytes takes: the same for sizes that are nearly the same. 0: there is
 * none so large. */
uint64_t membuf_class(uint64_t size);

/* @is_ready: its pages are there. CACHED_OK, or *f is set. */
int membuf_new(uint64_t size, bool is_ready, struct failure *f, struct cached_buffer **ret);
void membuf_free(struct cached_buffer *b);

/*
 * membuf_seal() - the file gets `n` bytes for ever, and the memory becomes private
 *
 * Return: CACHED_OK, also if it was so already; CACHED_ERR_USAGE, CACHED_ERR_NOMEM: *f is set.
 */
int membuf_seal(struct cached_buffer *b, uint64_t n, struct failure *f);

/*
 * membuf_put_behind() - what is to follow a value of `n` bytes in its file
 *
 * Nothing happens to one that was handed over: there it is already, or membuf_seal() says that the
 * length is another.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: there is no room for it, and *f is set.
 */
int membuf_put_behind(struct cached_buffer *b, uint64_t n, struct iovec behind, struct failure *f);

#endif
