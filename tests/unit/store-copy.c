/* SPDX-License-Identifier: MIT */
/*
 * Copies of a store's files, see the header
 *
 * Only what is resident is copied, so the copies have the holes of the originals. The table's copy
 * names the arena's copy as its own.
 */

#include "store-copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/internal.h"

static int copy_of(const struct memfile *m)
{
        struct memfile to;
        off_t from = 0, end;
        int fd;

        if (memfile_init(&to, "copy", m->size) < 0)
                abort();
        while ((from = lseek(m->fd, from, SEEK_DATA)) >= 0) {
                end = lseek(m->fd, from, SEEK_HOLE);
                memcpy(to.base + from, m->base + from, (size_t)(end - from));
                from = end;
        }
        fd = dup(to.fd);
        memfile_done(&to);
        return fd;
}

void store_copies_init(struct store_copies *c, const struct store *s)
{
        struct stat st;
        uint64_t ino;

        c->arena = copy_of(&s->a.mem);
        c->table = copy_of(&s->a.table);
        if (fstat(c->arena, &st) < 0)
                abort();
        ino = st.st_ino;
        if (pwrite(c->table, &ino, sizeof(ino), offsetof(struct table_header, arena_ino)) !=
            (ssize_t)sizeof(ino))
                abort();
}
