/* SPDX-License-Identifier: MIT */
#ifndef VALUE_H
#define VALUE_H

/*
 * Values: read from a file, unpacked, written to a file. Bytes only; nothing here prints.
 */

#include <stddef.h>
#include <stdint.h>

struct value {
        char *bytes; /* from malloc(); NULL is possible when n is 0 */
        size_t n;
};

enum {
        VALUE_OK = 0,
        VALUE_E_TOO_LARGE, /* more than @max */
        VALUE_E_DAMAGED,   /* what was stored does not unpack to the size that it says */
};

void value_done(struct value *v);

/* Reads until the end of the file, wherever @fd stands. Negative errno, or VALUE_E_TOO_LARGE. */
int value_read(int fd, uint64_t max, struct value *ret);

/* One LZ4 block. VALUE_E_DAMAGED, or -ENOMEM. */
int value_unpack_lz4(const void *bytes, size_t n, uint64_t raw_size, struct value *ret);

/*
 * All of it, blocking. Negative errno. @from: a file whose first @n bytes are the same, or -1: then
 * the kernel moves them, and this process holds little of them at a time.
 */
int value_write(int fd, const void *bytes, size_t n, int from);

/*
 * Into the file of that name, so that nobody sees it half: a regular file is replaced by a new one
 * (through symbolic links, mode 0666 less the umask), anything else that is there already is
 * written to. Negative errno; then the old file is as it was.
 */
int value_write_file(const char *path, const void *bytes, size_t n, int from);

#endif
