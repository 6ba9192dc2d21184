/* SPDX-License-Identifier: MIT */
/*
 * The upload area of a connection
 *
 * A socket moves a value piece by piece through fresh kernel memory, with both sides waking each
 * other meanwhile. Here a value is copied into memory that both know and that stays warm, and one
 * small request says where it lies; the daemon has copied it out before it answers. So an area
 * holds one value at a time and is free again with the reply.
 *
 * It belongs to its connection and goes with it. When a call gave up waiting, the connection goes,
 * too: what the daemon still reads is never written to again.
 *
 * The file is sealed against another size, so that neither side can pull it away from under the
 * other. Its descriptor is closed once it was offered; the mapping stays. A forked child does not
 * get the mapping, and makes its own when it connects.
 *
 * The size is a power of two, so that a program whose values grow makes few of them. Pages that no
 * value has used for UPLOAD_REST_NS are given back; the file stays what it is.
 */

#include "client/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif

#define UPLOAD_FIRST   ((size_t)256 << 10)
#define UPLOAD_REST_NS (UINT64_C(30) * 1000000000u)

static size_t size_for(size_t n, uint64_t max)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE), size = UPLOAD_FIRST;

        while (size < n && size < max)
                size *= 2;
        if (size > max)
                size = (size_t)max / page * page;
        return size;
}

static int file_make(size_t size)
{
        const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
        int fd = memfd_create("cached:upload", flags | MFD_NOEXEC_SEAL), r;

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("cached:upload", flags);
        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t)size) == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
                return fd;
        r = -errno;
        (void)close(fd);
        return r;
}

int upload_make(size_t n, uint64_t max, struct upload *ret, int *ret_fd)
{
        size_t size = size_for(n, max);
        uint8_t *map;
        int fd, r;

        if (size < n || size == 0)
                return -EFBIG;
        fd = file_make(size);
        if (fd < 0)
                return fd;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED && madvise(map, size, MADV_DONTFORK) == 0) {
                (void)madvise(map, size, MADV_DONTDUMP);
                *ret = (struct upload){.map = map, .size = size};
                *ret_fd = fd;
                return 0;
        }
        r = -errno;
        if (map != MAP_FAILED)
                (void)munmap(map, size);
        (void)close(fd);
        return r;
}

/*
 * The daemon's processor has read the area last, and ours would ask it for each line before it
 * writes that, to be asked for it in turn: 250 us a MiB. Stores that go past the caches take 50,
 * and the daemon reads as fast as otherwise.
 */
#ifdef __SSE2__
static size_t copy_past_caches(uint8_t *to, const uint8_t *from, size_t n)
{
        size_t at = 0;

        for (; at + 64 <= n; at += 64) {
                __m128i part[4];

                for (int i = 0; i < 4; i++)
                        part[i] = _mm_loadu_si128((const __m128i *)(const void *)(from + at) + i);
                for (int i = 0; i < 4; i++)
                        _mm_stream_si128((__m128i *)(void *)(to + at) + i, part[i]);
        }
        _mm_sfence();
        return at;
}
#else
static size_t copy_past_caches(uint8_t *to, const uint8_t *from, size_t n)
{
        (void)to;
        (void)from;
        (void)n;
        return 0;
}
#endif

void upload_copy(struct upload *u, const void *value, size_t n)
{
        size_t at = copy_past_caches(u->map, value, n);

        memcpy(u->map + at, (const uint8_t *)value + at, n - at);
}

void upload_done(struct upload *u, bool is_ours)
{
        if (u->map && is_ours)
                (void)munmap(u->map, u->size);
        *u = (struct upload){0};
}

bool upload_is_cold(const struct upload *u, uint64_t now_ns)
{
        return u->n_warm > 0 && now_ns > u->used_ns && now_ns - u->used_ns > UPLOAD_REST_NS;
}

void upload_rest(struct upload *u)
{
        if (u->map)
                (void)madvise(u->map, u->size, MADV_REMOVE);
        u->n_warm = 0;
}
