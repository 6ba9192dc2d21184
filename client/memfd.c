/* SPDX-License-Identifier: MIT */
/*
 * Making and sealing memory files
 *
 * Sealing against writing is the one step that others can prevent; all seals come at once or none
 * does. Where a file is to be cut to its length that seal comes first, since until then nothing
 * must be lost, and the others follow.
 *
 * Pages of 4 KiB are what large values cost: the kernel takes them, maps them, looks at them before
 * it seals and frees them one by one. So memory that is wanted whole is asked for in huge pages,
 * which it gives on demand (MADV_COLLAPSE), whatever it is set to do by itself. Where it has none
 * at hand it looks for some, and that is bounded: the rest is what it would have been.
 */

#include "client/memfd.h"

#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Known to newer C libraries and kernels. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#define HUGE UINT64_C(0x200000)
#define PAGE UINT64_C(4096)
/* What is left over of a file is worth a huge page of which the rest is given back. */
#define PART_MIN (HUGE / 4)
/* What one takes in small pages, and how many times that it may take on the whole. */
#define SMALL_NS      UINT64_C(1400000)
#define TIMES         1u
#define TIMES_PATIENT 10u

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

static uint64_t now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void *memfd_map(int fd, uint64_t n, int prot, int flags)
{
        uint64_t length = (n + PAGE - 1) & ~(PAGE - 1), head;
        uint8_t *room, *data;

        if (n < HUGE)
                return mmap(NULL, (size_t)n, prot, flags, fd, 0);
        room = mmap(NULL, (size_t)(length + HUGE), PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED)
                return MAP_FAILED;
        head = -(uint64_t)(uintptr_t)room & (HUGE - 1);
        data = mmap(room + head, (size_t)n, prot, flags | MAP_FIXED, fd, 0);
        if (data == MAP_FAILED) {
                int error = errno;

                (void)munmap(room, (size_t)(length + HUGE));
                errno = error;
                return MAP_FAILED;
        }
        if (head > 0)
                (void)munmap(room, (size_t)head);
        (void)munmap(data + length, (size_t)(HUGE - head));
        return data;
}

/* The mapping is a private one: it is in nobody's way when the file is sealed, wherever a child
 * inherits it. A page must be there for the kernel to make it a huge one. */
void memfd_make_huge(int fd, uint64_t n, bool is_patient)
{
        uint64_t most = SMALL_NS * (is_patient ? TIMES_PATIENT : TIMES), start = now_ns();
        uint8_t *map =
                n < HUGE ? MAP_FAILED : memfd_map(fd, n, PROT_READ, MAP_PRIVATE | MAP_NORESERVE);

        if (map == MAP_FAILED)
                return;
        for (uint64_t at = 0; at + HUGE <= n; at += HUGE) {
                if (madvise(map + at, (size_t)PAGE, MADV_POPULATE_READ) < 0)
                        break;
                if (madvise(map + at, (size_t)HUGE, MADV_COLLAPSE) < 0 ||
                    now_ns() - start > (at / HUGE + 1) * most)
                        break;
        }
        (void)munmap(map, (size_t)n);
}

int memfd_make_ready(int fd, uint64_t n, struct failure *f)
{
        uint64_t part = n & (HUGE - 1);
        struct stat st;
        int code;

        if (part < PART_MIN || n > INT64_MAX - HUGE ||
            ftruncate(fd, (off_t)(n - part + HUGE)) < 0) {
                memfd_make_huge(fd, n, true);
                return CACHED_OK;
        }
        memfd_make_huge(fd, n - part + HUGE, true);
        code = memfd_cut(fd, n, f);
        /* Where the last page could not be cut it is all there, and more than anybody counts. */
        if (code == CACHED_OK && fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 > n + PAGE) {
                code = memfd_cut(fd, n - part, f);
                if (code == CACHED_OK)
                        code = memfd_cut(fd, n, f);
        }
        return code;
}

/* CACHED_OK also where all seals are there already. */
static int seal_with(int fd, int seals, struct failure *f)
{
        int error, had;

        if (fcntl(fd, F_ADD_SEALS, seals) == 0)
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

int memfd_seal(int fd, struct failure *f)
{
        return seal_with(fd, SEALS | F_SEAL_SEAL, f);
}

int memfd_seal_write(int fd, struct failure *f)
{
        return seal_with(fd, F_SEAL_WRITE, f);
}

int memfd_cut(int fd, uint64_t n, struct failure *f)
{
        if (ftruncate(fd, (off_t)n) < 0)
                return memfd_failed(f, "the memory cannot be cut to its length", errno);
        return CACHED_OK;
}

bool memfd_is_sealed(int fd, uint64_t n)
{
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        return seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &st) == 0 && st.st_size >= 0 &&
               (uint64_t)st.st_size == n;
}
