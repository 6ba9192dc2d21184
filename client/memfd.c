/* SPDX-License-Identifier: MIT */
/*
 * Making and sealing memory files
 *
 * Sealing against writing comes first: it is the one step that others can prevent, and until then
 * nothing is lost. To be cut to its size afterwards is allowed, since the other seals follow.
 */

#include "client/memfd.h"

#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Known to newer C libraries and kernels. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int memfd_failed(struct failure *f, const char *what, int error)
{
        return failure_set(f, CACHED_ERR_NOMEM, "%s: %s", what, strerror(error));
}

static int memfd_open(void)
{
        unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        int fd = memfd_create("cached-value", flags | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("cached-value", flags);
        return fd;
}

int memfd_new(uint64_t n, struct failure *f, int *ret_fd)
{
        int fd = memfd_open();

        if (fd < 0)
                return memfd_failed(f, "no memory file can be made", errno);
        if (n > INT64_MAX || ftruncate(fd, (off_t)n) < 0) {
                int error = n > INT64_MAX ? EFBIG : errno;

                (void)close(fd);
                return memfd_failed(f, "a memory file cannot be made as large as the value", error);
        }
        *ret_fd = fd;
        return CACHED_OK;
}

int memfd_seal_write(int fd, struct failure *f)
{
        int error, had;

        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
                return CACHED_OK;
        error = errno;
        if (error == EBUSY)
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the memory cannot be sealed, since something can still write "
                                   "to it: another mapping of it, in a forked process perhaps, or "
                                   "input that is on its way into it");
        /* Perhaps all seals are there, and the last of them forbids more. */
        had = fcntl(fd, F_GET_SEALS);
        if (had >= 0 && (had & SEALS) == SEALS)
                return CACHED_OK;
        return memfd_failed(f, "the memory cannot be sealed", error);
}

int memfd_seal(int fd, uint64_t n, struct failure *f)
{
        struct stat st;
        int code = memfd_seal_write(fd, f);

        if (code != CACHED_OK || memfd_is_sealed(fd, n))
                return code;
        if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size != n && ftruncate(fd, (off_t)n) < 0) ||
            fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
                return memfd_failed(f, "the memory cannot be sealed", errno);
        return CACHED_OK;
}

bool memfd_is_sealed(int fd, uint64_t n)
{
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        return seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &st) == 0 && st.st_size >= 0 &&
               (uint64_t)st.st_size == n;
}
