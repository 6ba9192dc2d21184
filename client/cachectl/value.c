/* SPDX-License-Identifier: MIT */

/*
 * Values
 *
 * Reading grows the buffer by half as it fills; a regular file's size is only a hint for the first
 * one, since the file may change while it is read (which is also why it is not mapped: a truncation
 * would be a SIGBUS).
 *
 * Unpacking trusts neither the blob nor the size that came with it. LZ4 cannot expand more than 255
 * times, so that a lie about the size costs at most that in memory.
 */

#include "value.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BUFFER   (64 * 1024)
#define LZ4_MAX_EXPAND 255
/* Of a value that is written piece by piece. */
#define PIECE ((size_t)1 << 20)

/* Names to try for a temporary file: taken ones are what killed processes of our id left. */
#define MAX_NAMES 100

void value_done(struct value *v)
{
        free(v->bytes);
        *v = (struct value){NULL, 0};
}

static int grow(struct value *v, size_t capacity)
{
        char *bytes = realloc(v->bytes, capacity);

        if (!bytes)
                return -ENOMEM;
        v->bytes = bytes;
        return 0;
}

static size_t first_capacity(int fd, uint64_t max)
{
        struct stat st;

        /* One byte more than there is, so that the end is seen without growing. */
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
            (uint64_t)st.st_size <= max)
                return (size_t)st.st_size + 1;
        return FIRST_BUFFER;
}

int value_read(int fd, uint64_t max, struct value *ret)
{
        size_t capacity = first_capacity(fd, max);
        struct value v = {NULL, 0};
        int r = grow(&v, capacity);

        while (r == 0) {
                ssize_t got = read(fd, v.bytes + v.n, capacity - v.n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        r = -errno;
                if (got <= 0)
                        break;
                v.n += (size_t)got;
                if (v.n > max)
                        r = VALUE_E_TOO_LARGE;
                else if (v.n == capacity) {
                        capacity += capacity / 2;
                        r = grow(&v, capacity);
                }
        }
        if (r != 0) {
                value_done(&v);
                return r;
        }
        *ret = v;
        return 0;
}

int value_unpack_lz4(const void *bytes, size_t n, uint64_t raw_size, struct value *ret)
{
        struct value v = {NULL, 0};
        int got;

        if (n > LZ4_MAX_INPUT_SIZE || raw_size > LZ4_MAX_INPUT_SIZE ||
            raw_size / LZ4_MAX_EXPAND > n)
                return VALUE_E_DAMAGED;
        v.bytes = malloc(raw_size ? raw_size : 1);
        if (!v.bytes)
                return -ENOMEM;
        got = LZ4_decompress_safe(bytes, v.bytes, (int)n, (int)raw_size);
        if (got < 0 || (uint64_t)got != raw_size) {
                value_done(&v);
                return VALUE_E_DAMAGED;
        }
        v.n = raw_size;
        *ret = v;
        return 0;
}

static int write_all(int fd, const char *p, size_t n)
{
        while (n > 0) {
                ssize_t wrote = write(fd, p, n);

                if (wrote < 0 && errno == EINTR)
                        continue;
                if (wrote < 0)
                        return -errno;
                p += wrote;
                n -= (size_t)wrote;
        }
        return 0;
}

/* What the kernel does not move by itself (to a file that is appended to, a terminal). */
static int write_pieces(int fd, int from, size_t at, size_t n)
{
        char *piece = malloc(PIECE);
        int r = piece ? 0 : -ENOMEM;

        while (r == 0 && at < n) {
                ssize_t got = pread(from, piece, n - at < PIECE ? n - at : PIECE, (off_t)at);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        r = got < 0 ? -errno : -EIO;
                else
                        r = write_all(fd, piece, (size_t)got);
                at += got > 0 ? (size_t)got : 0;
        }
        free(piece);
        return r;
}

int value_write(int fd, const void *bytes, size_t n, int from)
{
        off_t at = 0;

        if (from < 0 || n < PIECE)
                return write_all(fd, bytes, n);
        while ((size_t)at < n) {
                ssize_t sent = sendfile(fd, from, &at, n - (size_t)at);

                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent <= 0 && (sent == 0 || errno == EINVAL || errno == ENOSYS))
                        return write_pieces(fd, from, (size_t)at, n);
                if (sent < 0)
                        return -errno;
        }
        return 0;
}

static int write_and_close(int fd, const void *bytes, size_t n, int from)
{
        int r = value_write(fd, bytes, n, from);

        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}

/* A new file beside @path, so that the rename stays on one file system. Returns its name; or NULL,
 * with a negative errno in *ret_fd. */
static char *open_beside(const char *path, int *ret_fd)
{
        const char *slash = strrchr(path, '/');
        int n_dir = slash ? (int)(slash - path) + 1 : 0;
        char *name;

        *ret_fd = -EEXIST;
        for (unsigned i = 0; *ret_fd == -EEXIST && i < MAX_NAMES; i++) {
                if (asprintf(&name, "%.*s.cachectl-%ld-%u.tmp", n_dir, path, (long)getpid(), i) <
                    0) {
                        *ret_fd = -ENOMEM;
                        return NULL;
                }
                /* Not mkstemp(): that would make it 0600 whatever the umask says. */
                *ret_fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
                if (*ret_fd >= 0)
                        return name;
                *ret_fd = -errno;
                free(name);
        }
        return NULL;
}

static int replace_file(const char *path, const void *bytes, size_t n, int from)
{
        char *name;
        int fd = -1, r;

        name = open_beside(path, &fd);
        if (!name)
                return fd;
        r = write_and_close(fd, bytes, n, from);
        if (r == 0 && rename(name, path) < 0)
                r = -errno;
        if (r < 0)
                (void)unlink(name);
        free(name);
        return r;
}

int value_write_file(const char *path, const void *bytes, size_t n, int from)
{
        struct stat st;
        char *real;
        int fd, r;

        if (stat(path, &st) < 0) {
                if (errno != ENOENT)
                        return -errno;
                if (lstat(path, &st) < 0)
                        return replace_file(path, bytes, n, from);
                /* A link to a file that is not there yet: only opening it knows where that is. */
        } else if (S_ISREG(st.st_mode)) {
                real = realpath(path, NULL);
                if (!real)
                        return -errno;
                r = replace_file(real, bytes, n, from);
                free(real);
                return r;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
                return -errno;
        return write_and_close(fd, bytes, n, from);
}
