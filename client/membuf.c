/* SPDX-License-Identifier: MIT */
/*
 * Buffers: a memory file, mapped shared while it is filled, and private from when it is handed over
 *
 * The kernel seals no file that something can still write to. So the mapping is replaced, at the
 * same address, by a private one of the same bytes, and then the file is sealed. Where that is not
 * possible it is mapped shared again, and nothing happened. Behind the value the file ends; there
 * the memory becomes anonymous, so that no part of the buffer is ever a SIGBUS.
 *
 * While it is filled a child does not inherit it: its mapping would keep the file from being
 * sealed. The child has the object, and can only free it. Once it is private it is inherited like
 * any memory.
 */

#include "client/membuf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/memfd.h"

#define PAGE UINT64_C(4096)
/* Steps of a size class, in powers of two: at most a sixteenth is given away. */
#define CLASS_STEPS 16u

static uint64_t round_up(uint64_t n, uint64_t to)
{
        return (n + to - 1) & ~(to - 1);
}

uint64_t membuf_class(uint64_t size)
{
        uint64_t step = PAGE;

        if (size == 0 || size > SIZE_MAX / 4 || size > INT64_MAX / 4)
                return 0;
        while (step * CLASS_STEPS * 2 <= size)
                step *= 2;
        return round_up(size, step);
}

/* Shared, and nothing for children. False: errno says why. */
static bool map_shared(struct cached_buffer *b, void *at)
{
        void *data = at ? mmap(at, (size_t)b->n_mapped, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_FIXED, b->fd, 0)
                        : memfd_map(b->fd, b->n_mapped, PROT_READ | PROT_WRITE, MAP_SHARED);

        if (data == MAP_FAILED)
                return false;
        b->data = data;
        if (madvise(data, (size_t)b->n_mapped, MADV_DONTFORK) == 0)
                return true;
        (void)munmap(data, (size_t)b->n_mapped);
        b->data = NULL;
        return false;
}

/* Has the kernel take all pages now. */
static int make_ready(struct cached_buffer *b, struct failure *f)
{
        int code = memfd_make_ready(b->fd, b->n_mapped, f);

        assert(b->data);
        if (code != CACHED_OK)
                return code;
#ifdef MADV_POPULATE_WRITE
        if (madvise(b->data, (size_t)b->n_mapped, MADV_POPULATE_WRITE) == 0)
                return CACHED_OK;
        if (errno != EINVAL)
                return memfd_failed(f, "there is no memory for a buffer", errno);
#endif
        /* Older kernels: what is allocated can be touched without harm. */
        errno = posix_fallocate(b->fd, 0, (off_t)b->n_mapped);
        if (errno != 0)
                return memfd_failed(f, "there is no memory for a buffer", errno);
        for (uint64_t i = 0; i < b->n_mapped; i += PAGE)
                *(volatile uint8_t *)(b->data + i) = 0;
        return CACHED_OK;
}

int membuf_new(uint64_t size, bool is_ready, struct failure *f, struct cached_buffer **ret)
{
        struct cached_buffer *b = calloc(1, sizeof(*b));
        struct stat st;
        int code;

        if (!b)
                return failure_nomem(f);
        b->fd = -1;
        b->size = size;
        b->n_mapped = membuf_class(size);
        b->pid = getpid();
        code = b->n_mapped == 0 ? memfd_failed(f, "a buffer cannot be as large", EFBIG)
                                : memfd_new(b->n_mapped, f, &b->fd);
        if (code == CACHED_OK && (fstat(b->fd, &st) < 0 || !map_shared(b, NULL)))
                code = memfd_failed(f, "a buffer cannot be mapped", errno);
        if (code == CACHED_OK && is_ready && b->data)
                code = make_ready(b, f);
        if (code != CACHED_OK) {
                membuf_free(b);
                return code;
        }
        b->dev = st.st_dev;
        b->ino = st.st_ino;
        *ret = b;
        return CACHED_OK;
}

void membuf_free(struct cached_buffer *b)
{
        bool is_ours = b->pid == getpid();
        struct stat st;

        if (b->data && (is_ours || b->state != MEMBUF_OPEN))
                (void)munmap(b->data, (size_t)b->n_mapped);
        /* A child may have given our number to another file. */
        if (b->fd >= 0 &&
            (is_ours || (fstat(b->fd, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino)))
                (void)close(b->fd);
        free(b);
}

/*
 * A private mapping in place of the shared one. The kernel would count each page that it takes out
 * of the old one as used once more, under a lock, which is half of what all of this takes; it does
 * not where it was told that uses say nothing.
 */
static int make_private(struct cached_buffer *b, struct failure *f)
{
        (void)madvise(b->data, (size_t)b->n_mapped, MADV_RANDOM);
        void *data = mmap(b->data, (size_t)b->n_mapped, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, b->fd, 0);
        int error = errno;

        if (data != MAP_FAILED)
                return CACHED_OK;
        /* The old one may be gone. */
        if (!map_shared(b, b->data))
                b->data = NULL;
        return memfd_failed(f, "the buffer cannot be mapped as private memory", error);
}

/* The memory behind the value. */
static int make_tail(struct cached_buffer *b, uint64_t n, struct failure *f)
{
        uint64_t from = round_up(n, PAGE);

        if (from >= b->n_mapped ||
            mmap(b->data + from, (size_t)(b->n_mapped - from), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED)
                return CACHED_OK;
        return memfd_failed(f, "the rest of the buffer cannot be mapped", errno);
}

static int seal_open(struct cached_buffer *b, uint64_t n, struct failure *f)
{
        int code = make_private(b, f);

        if (code != CACHED_OK)
                return code;
        /* The length comes later: until the rest is memory of its own it must not be cut off. */
        code = n == b->n_mapped ? memfd_seal(b->fd, f) : memfd_seal_write(b->fd, f);
        if (code == CACHED_OK) {
                b->state = n == b->n_mapped ? MEMBUF_SEALED : MEMBUF_HALF;
                b->n_value = n;
                return CACHED_OK;
        }
        if (!map_shared(b, b->data))
                b->data = NULL;
        return code;
}

/* What is left to be done of a file that is longer than its value. */
static int seal_half(struct cached_buffer *b, uint64_t n, struct failure *f)
{
        int code = make_tail(b, n, f);

        if (code == CACHED_OK)
                code = memfd_cut(b->fd, n, f);
        if (code == CACHED_OK)
                code = memfd_seal(b->fd, f);
        if (code != CACHED_OK)
                return code;
        b->n_value = n;
        b->state = MEMBUF_SEALED;
        return CACHED_OK;
}

int membuf_seal(struct cached_buffer *b, uint64_t n, struct failure *f)
{
        int code = CACHED_OK;

        if (n > b->size)
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the value is longer than the buffer that it is in");
        if (!b->data)
                return failure_set(f, CACHED_ERR_NOMEM,
                                   "the buffer is lost: it could not be mapped again");
        if (b->state == MEMBUF_OPEN && b->pid != getpid())
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the buffer belongs to the process that forked this one");
        if (b->state != MEMBUF_OPEN && n != b->n_value)
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the buffer was handed over with another length");
        if (b->state == MEMBUF_OPEN)
                code = seal_open(b, n, f);
        if (code == CACHED_OK && b->state == MEMBUF_HALF)
                code = seal_half(b, n, f);
        return code;
}

int membuf_put_behind(struct cached_buffer *b, uint64_t n, struct iovec behind, struct failure *f)
{
        if (behind.iov_len == 0 || b->state != MEMBUF_OPEN || !b->data || b->pid != getpid())
                return CACHED_OK;
        if (n > b->size || behind.iov_len > b->size - n)
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the buffer has no room for %zu bytes of messages behind the "
                                   "value: make it larger",
                                   behind.iov_len);
        memcpy(b->data + n, behind.iov_base, behind.iov_len);
        return CACHED_OK;
}
