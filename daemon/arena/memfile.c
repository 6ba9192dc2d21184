/* SPDX-License-Identifier: MIT */
/*
 * Memory files
 *
 * The file is sealed against shrinking and growing at birth: whoever maps it can never meet SIGBUS
 * by a truncation. Punching holes still works under these seals. The mode is 0600, because a memfd
 * is born 0777 and anybody who holds a read-only descriptor could reopen it writable through /proc.
 *
 * Not done here: knowing which pages are resident. Callers count what they committed.
 */

#include "arena/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE 4096u

static int memfd_new(const char *name)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        /* Kernels before 6.3 do not know NOEXEC_SEAL. */
        if (fd < 0 && errno == EINVAL)
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return fd < 0 ? -errno : fd;
}

int memfile_init(struct memfile *m, const char *name, uint64_t size)
{
        int fd = memfd_new(name);
        void *base;
        int r;

        if (fd < 0)
                return fd;
        if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                goto fail;
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (base == MAP_FAILED)
                goto fail;
        /* A core dump must not hold every user's values, nor be as large as the arena. */
        (void)madvise(base, size, MADV_DONTDUMP);
        m->fd = fd;
        m->base = base;
        m->size = size;
        return 0;
fail:
        r = -errno;
        close(fd);
        return r;
}

const char *memfile_look(int fd, uint64_t *ret_size, uint64_t *ret_ino)
{
        /* Seals first: asking for them never blocks, whatever the descriptor is. */
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        if (seals < 0)
                return "it is no memory file";
        if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
                return "it is not sealed against shrinking and growing";
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return "it is no memory file";
        *ret_size = (uint64_t)st.st_size;
        *ret_ino = (uint64_t)st.st_ino;
        return NULL;
}

const char *memfile_adopt(struct memfile *m, int fd, uint64_t size)
{
        uint64_t has, ino;
        const char *wrong = memfile_look(fd, &has, &ino);
        struct stat st;
        void *base;

        if (wrong)
                return wrong;
        if (fstat(fd, &st) < 0 || (st.st_mode & 077) != 0)
                return "others could open it";
        if (has != size)
                return "its size is not what its header says";
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return "its descriptor cannot be kept from other programs";
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (base == MAP_FAILED)
                return "it cannot be mapped for writing";
        (void)madvise(base, size, MADV_DONTDUMP);
        m->fd = fd;
        m->base = base;
        m->size = size;
        return NULL;
}

void memfile_done(struct memfile *m)
{
        if (!m->base)
                return;
        munmap(m->base, m->size);
        if (m->fd >= 0) /* else it was given away */
                close(m->fd);
        m->base = NULL;
        m->fd = -1;
}

static int populate(struct memfile *m, uint64_t off, uint64_t n, int how)
{
        uint64_t from = off & ~(uint64_t)(PAGE - 1);
        uint64_t to = (off + n + PAGE - 1) & ~(uint64_t)(PAGE - 1);

        if (off > m->size || n > m->size - off)
                return -ENOMEM;
        if (madvise(m->base + from, to - from, how) == 0)
                return 0;
        if (errno != EINVAL)
                return -ENOMEM;
        /* Before Linux 5.14: allocate without mapping; the page faults come later, but cannot fail.
         */
        while (fallocate(m->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) < 0)
                if (errno != EINTR)
                        return -ENOMEM;
        return 0;
}

int memfile_commit(struct memfile *m, uint64_t off, uint64_t n)
{
        return populate(m, off, n, MADV_POPULATE_WRITE);
}

/* Reading fills a hole as writing does, and what is mapped can be written; but where pages are
 * there the kernel maps those around as well, 16 at a time. */
int memfile_recommit(struct memfile *m, uint64_t off, uint64_t n)
{
        return populate(m, off, n, MADV_POPULATE_READ);
}

void memfile_release(struct memfile *m, uint64_t off, uint64_t n)
{
        uint64_t from = (off + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        uint64_t to = (off + n) & ~(uint64_t)(PAGE - 1);

        if (from < to)
                while (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                                 (off_t)(to - from)) < 0 &&
                       errno == EINTR)
                        ;
}

int memfile_read(int fd, uint64_t off, void *to, uint64_t n)
{
        for (uint64_t done = 0; done < n;) {
                ssize_t got = pread(fd, (uint8_t *)to + done, n - done, (off_t)(off + done));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return -EIO;
                done += (uint64_t)got;
        }
        return 0;
}
