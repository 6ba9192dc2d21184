/* SPDX-License-Identifier: MIT */
/*
 * The objects of resources: memory, open files, and what is the process's own
 *
 * A segment is a memory file that cannot shrink under whoever looks at it: that is looked at before
 * it is mapped, and the head is not believed in anything else.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/memfd.h"
#include "client/resource.h"
#include "proto/segment.h"

#define HUGE_MIN 0x200000 /* a file's block size, if it is made of huge pages */

static void *map_whole(int fd, size_t n, int prot)
{
        void *map = memfd_map(fd, n, prot, MAP_SHARED);

        return map == MAP_FAILED ? NULL : map;
}

/* Where the kernel makes no huge pages of a file by itself, looking for a place that fits them is
 * in vain: it takes three system calls more. */
static void *map_what_came(int fd, size_t n, bool read_only, const struct stat *st)
{
        int prot = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
        void *map;

        if (st->st_blksize >= HUGE_MIN)
                return map_whole(fd, n, prot);
        map = mmap(NULL, n, prot, MAP_SHARED, fd, 0);
        return map == MAP_FAILED ? NULL : map;
}

int object_make_segment(size_t size, struct failure *f, struct resource_object *ret)
{
        struct resource_object o = {.fd = -1};
        struct segment_head *head;
        int code;

        if (size > (size_t)PTRDIFF_MAX - SEGMENT_HEAD)
                return failure_set(f, CACHED_TOO_LARGE, "no segment has %zu bytes", size);
        o.n_map = SEGMENT_HEAD + size;
        code = memfd_new(o.n_map, f, &o.fd);
        if (code != CACHED_OK)
                return code;
        o.map = map_whole(o.fd, o.n_map, PROT_READ | PROT_WRITE);
        if (!o.map || fcntl(o.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
                code = memfd_failed(f, "a segment cannot be made", errno);
                object_done(&o);
                return code;
        }
        head = o.map;
        head->magic = SEGMENT_MAGIC;
        head->version = SEGMENT_VERSION;
        head->size = size;
        *ret = o;
        return CACHED_OK;
}

/* The kernel seals no file against writing that is mapped for it. The addresses stay taken. */
static int seal_read_only(struct resource_object *o, struct failure *f)
{
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
        bool is_sealed;
        int error;

        if (mmap(o->map, o->n_map, PROT_NONE, flags, -1, 0) == MAP_FAILED)
                return memfd_failed(f, "a segment cannot be sealed", errno);
        is_sealed = fcntl(o->fd, F_ADD_SEALS, F_SEAL_WRITE) == 0;
        error = errno;
        if (mmap(o->map, o->n_map, PROT_READ, MAP_SHARED | MAP_FIXED, o->fd, 0) == MAP_FAILED)
                return memfd_failed(f, "a segment cannot be mapped", errno);
        if (!is_sealed)
                return memfd_failed(f, "a segment cannot be sealed", error);
        o->is_read_only = true;
        return CACHED_OK;
}

int object_seal_segment(struct resource_object *o, bool read_only, struct failure *f)
{
        return read_only && !o->is_read_only ? seal_read_only(o, f) : CACHED_OK;
}

int object_map_segment(int fd, uint64_t size, bool read_only, struct failure *f,
                       struct resource_object *ret)
{
        struct resource_object o = {.fd = fd, .is_read_only = read_only};
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;
        int code;

        if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
            size > (uint64_t)PTRDIFF_MAX - SEGMENT_HEAD ||
            (uint64_t)st.st_size < SEGMENT_HEAD + size) {
                (void)close(fd);
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "what came as a segment is no sealed memory file of its size");
        }
        o.n_map = SEGMENT_HEAD + (size_t)size;
        o.map = map_what_came(fd, o.n_map, read_only, &st);
        if (!o.map) {
                code = memfd_failed(f, "a segment cannot be mapped", errno);
                (void)close(fd);
                return code;
        }
        *ret = o;
        return CACHED_OK;
}

void object_done(struct resource_object *o)
{
        if (o->map)
                (void)munmap(o->map, o->n_map);
        if (o->fd >= 0)
                (void)close(o->fd);
        *o = (struct resource_object){.fd = -1};
}

size_t object_size(const struct resource_object *o)
{
        return o->map ? o->n_map - SEGMENT_HEAD : 0;
}

struct segment_head *object_head(const struct resource_object *o)
{
        return o->map;
}

/* ----------------------------------------------------------------------------------- generations
 */

uint64_t cached_resource_generation(const cached_resource *r)
{
        const struct segment_head *head = r && r->held ? object_head(&r->held->object) : NULL;

        return head ? atomic_load_explicit(&head->generation, memory_order_acquire) : 0;
}

uint64_t cached_resource_changed(cached_resource *r)
{
        struct segment_head *head = r && r->held ? object_head(&r->held->object) : NULL;

        if (!head || r->held->object.is_read_only)
                return head ? atomic_load_explicit(&head->generation, memory_order_acquire) : 0;
        return atomic_fetch_add_explicit(&head->generation, 1, memory_order_acq_rel) + 1;
}
