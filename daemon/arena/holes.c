/* SPDX-License-Identifier: MIT */
/*
 * Holes that others fill
 *
 * Whoever has the arena mapped for reading can read where nothing is: the kernel then puts a page
 * of zeros there, and keeps it. So a reader that walks over the whole mapping makes the file as
 * large as its virtual size. The kernel says how many blocks the file has; what the writer has
 * committed is known to the table; what is more than that lies in the stretches that are not
 * committed, and is given back there.
 *
 * In order of offset those stretches are: the rest of the span table; the rest of the index, with
 * span 0; behind what is committed of each span that was ever used; everything behind those up to
 * the extents; the same of their places.
 *
 * Not done here: finding out when to look.
 */

#include "arena/holes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
/* Given back at once. Some 20 µs by itself; half a millisecond and more while others read there. */
#define PIECE_MAX (UINT64_C(256) << 10)

static uint64_t max(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

/* Of header, directories and the used part of the span table: see arena.c and alloc.c. */
static uint64_t front_end(const struct arena *a)
{
        uint64_t table = a->h->span_table_off;
        uint64_t used = table + a->t->span_high * sizeof(uint32_t);

        return max(table + PAGE, (used + PAGE - 1) & ~(uint64_t)(PAGE - 1));
}

uint64_t holes_filled(const struct arena *a)
{
        uint64_t own = front_end(a) + a->t->index_bytes + a->t->committed_bytes +
                       a->extents.committed,
                 all;
        struct stat st;

        if (fstat(a->mem.fd, &st) < 0)
                return 0;
        all = (uint64_t)st.st_blocks * 512;
        return all > own ? all - own : 0;
}

/* The kernel grants a lease for writing only where nobody else has the file, and it knows of all
 * descriptors and mappings, whoever has got them from whom. The lease is given back at once; should
 * somebody open the file in that moment, the signal that says so is one that nobody heeds. */
bool holes_have_readers(const struct arena *a)
{
        char path[32];
        bool alone;
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", a->mem.fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return true;
        alone = fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
        if (alone)
                (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        close(fd);
        return !alone;
}

/* The first stretch that is not ours and ends behind @off; false: there is none. */
static bool next_stretch(const struct arena *a, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
        const struct arena_header *h = a->h;
        uint32_t span, high = a->t->span_high;

        *ret_from = max(off, front_end(a));
        *ret_to = h->index_off;
        if (*ret_from < *ret_to)
                return true;
        *ret_from = max(off, h->index_off + a->t->index_bytes);
        *ret_to = h->spans_off + ARENA_SPAN_SIZE;
        if (*ret_from < *ret_to)
                return true;
        span = (uint32_t)((max(off, *ret_to) - h->spans_off) >> ARENA_SPAN_SHIFT);
        for (; span < high; span++) {
                uint64_t start = h->spans_off + ((uint64_t)span << ARENA_SPAN_SHIFT);

                *ret_from = max(off, start + a->spans[span].committed);
                *ret_to = start + ARENA_SPAN_SIZE;
                if (*ret_from < *ret_to)
                        return true;
        }
        *ret_from = max(off, h->spans_off + ((uint64_t)high << ARENA_SPAN_SHIFT));
        *ret_to = h->extents_off;
        if (*ret_from < *ret_to)
                return true;
        return extents_next_hole(a, max(off, h->extents_off), ret_from, ret_to);
}

bool holes_punch(struct arena *a, uint64_t *cursor, unsigned steps)
{
        uint64_t from, to;

        while (steps-- > 0) {
                off_t data;

                if (!next_stretch(a, *cursor, &from, &to)) {
                        *cursor = 0;
                        return false;
                }
                *cursor = to;
                data = lseek(a->mem.fd, (off_t)from, SEEK_DATA);
                if (data < 0 && errno != ENXIO) {
                        memfile_release(&a->mem, from, to - from);
                        continue;
                }
                if (data < 0) { /* nothing from here to the end of the file */
                        *cursor = 0;
                        return false;
                }
                from = max(from, (uint64_t)data & ~(uint64_t)(PAGE - 1));
                if (from >= to)
                        continue;
                if (to - from > PIECE_MAX)
                        *cursor = to = from + PIECE_MAX;
                memfile_release(&a->mem, from, to - from);
        }
        return true;
}
