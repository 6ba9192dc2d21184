/* SPDX-License-Identifier: MIT */

/*
 * Input
 *
 * Kept in a memory file while it is small, and in a file without a name from then on, so that
 * memory is bounded and nothing stays behind, however we end.
 */

#include "memo-input.h"

#include "value.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define IN_MEMORY   (16 * 1024 * 1024)
#define BUFFER_SIZE (64 * 1024)

/* For file systems that have no O_TMPFILE. */
static int open_and_unlink(const char *dir)
{
        char *name;
        int fd;

        if (asprintf(&name, "%s/cachectl-memo-XXXXXX", dir) < 0)
                return -ENOMEM;
        fd = mkostemp(name, O_CLOEXEC);
        if (fd < 0)
                fd = -errno;
        else
                (void)unlink(name);
        free(name);
        return fd;
}

static int open_nameless(void)
{
        const char *dirs[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
        int fd = -ENOENT;

        for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && fd < 0; i++) {
                if (!dirs[i] || !*dirs[i])
                        continue;
                fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                if (fd < 0)
                        fd = open_and_unlink(dirs[i]);
        }
        return fd;
}

/* Copies the first @n bytes of @from to the end of @to. */
static int copy(int from, int to, size_t n)
{
        off_t at = 0;

        while ((size_t)at < n) {
                ssize_t sent = sendfile(to, from, &at, n - (size_t)at);

                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent <= 0)
                        return sent < 0 ? -errno : -EIO;
        }
        return 0;
}

/* Takes @fd over; on failure it is closed. */
static int move_to_disk(int fd, size_t n)
{
        int file = open_nameless(), r;

        r = file < 0 ? file : copy(fd, file, n);
        (void)close(fd);
        if (r < 0 && file >= 0)
                (void)close(file);
        return r < 0 ? r : file;
}

/* The rest of @from goes to @fd, which is taken over. */
static int spool(int from, int fd, char *buffer)
{
        size_t n = 0;
        int r = 0;

        while (r == 0) {
                ssize_t got = read(from, buffer, BUFFER_SIZE);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        r = -errno;
                if (got <= 0)
                        break;
                if (n <= IN_MEMORY && n + (size_t)got > IN_MEMORY) {
                        fd = move_to_disk(fd, n);
                        if (fd < 0)
                                return fd;
                }
                r = value_write(fd, buffer, (size_t)got, -1);
                n += (size_t)got;
        }
        if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
                r = -errno;
        if (r == 0)
                return fd;
        (void)close(fd);
        return r;
}

int input_spool(int from)
{
        char *buffer = malloc(BUFFER_SIZE);
        int fd;

        if (!buffer)
                return -ENOMEM;
        fd = memfd_create("cachectl-memo", MFD_CLOEXEC);
        fd = fd < 0 ? -errno : spool(from, fd, buffer);
        free(buffer);
        return fd;
}

int input_empty(void)
{
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}
