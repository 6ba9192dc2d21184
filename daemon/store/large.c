/* SPDX-License-Identifier: MIT */
/*
 * Large values, see the header
 *
 * A value that belongs to no store is nobody's charge here: its maker accounts for it. Where a
 * store has it, the store is told of every reference that comes or goes (large-table.c).
 */

#include "store/large.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/reaper.h"
#include "store/internal.h"

int large_new(uint64_t size, struct large **ret)
{
        struct memfile m = {.fd = -1};
        struct large *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        r = memfile_init(&m, "cached:large", size ? size : 1);
        if (r < 0) {
                free(l);
                return r;
        }
        *l = (struct large){.refs = 1,
                            .fd = m.fd,
                            .map = m.base,
                            .size = size,
                            .id = LARGE_NO_ID,
                            .kept = LARGE_NOT_KEPT};
        *ret = l;
        return 0;
}

int large_commit(struct large *l, uint64_t n)
{
        struct memfile m = {.fd = l->fd, .base = l->map, .size = l->size ? l->size : 1};

        return n > l->retired ? memfile_commit(&m, l->retired, n - l->retired) : 0;
}

#define RETIRE_MIN (UINT64_C(256) << 10)

void large_retire(struct large *l, uint64_t n)
{
        n &= ~UINT64_C(4095);
        if (n < l->retired + RETIRE_MIN)
                return;
        /* Where that fails sealing does it all. */
        if (mmap(l->map + l->retired, n - l->retired, PROT_READ, MAP_PRIVATE | MAP_FIXED, l->fd,
                 (off_t)l->retired) != MAP_FAILED)
                l->retired = n;
}

/* F_SEAL_WRITE is refused while a shared writable mapping exists: a private one takes its place
 * first. */
int large_seal(struct large *l)
{
        size_t n = l->size ? l->size : 1;

        if (mmap(l->map, n, PROT_READ, MAP_PRIVATE | MAP_FIXED, l->fd, 0) == MAP_FAILED)
                return -errno;
        if (fcntl(l->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        return 0;
}

int large_adopt(int fd, uint64_t size, struct large **ret)
{
        const int sealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        uint64_t has, ino, n = size ? size : 1;
        struct large *l;
        void *map;

        if (memfile_look(fd, &has, &ino) || has != n || (fcntl(fd, F_GET_SEALS) & sealed) != sealed)
                return -EINVAL;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        map = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (map == MAP_FAILED) {
                free(l);
                return -ENOMEM;
        }
        (void)madvise(map, n, MADV_DONTDUMP);
        *l = (struct large){.refs = 1,
                            .fd = fd,
                            .map = map,
                            .size = size,
                            .id = LARGE_NO_ID,
                            .kept = LARGE_NOT_KEPT};
        *ret = l;
        return 0;
}

struct large *large_ref(struct large *l)
{
        l->refs++;
        if (l->store)
                large_table_see(l);
        return l;
}

struct large *large_unref(struct large *l)
{
        if (!l)
                return NULL;
        l->refs--;
        if (l->store)
                large_table_see(l);
        if (l->refs > 0)
                return NULL;
        reaper_take(l->reaper, l->fd, l->map, l->size ? l->size : 1);
        free(l);
        return NULL;
}
