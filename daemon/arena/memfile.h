/* SPDX-License-Identifier: MIT */
#ifndef MEMFILE_H
#define MEMFILE_H

/*
 * A sparse memory file, mapped once at its full size
 *
 * Pages are taken explicitly (memfile_commit) so that running out of memory is a value and not a
 * SIGBUS, and given back explicitly (memfile_release).
 */

#include <stdint.h>

struct memfile {
        int fd; /* owned; mode 0600, so that another uid that gets it read-only cannot reopen it */
        uint8_t *base;
        uint64_t size;
};

/* 0 or -errno. */
int memfile_init(struct memfile *m, const char *name, uint64_t size);
/* Maps a file that memfile_init() made, in whatever process. @fd is the file's from then on, unless
 * it fails. NULL, or what is wrong with it (static text). */
const char *memfile_adopt(struct memfile *m, int fd, uint64_t size);
/* Is it such a file? NULL, or what it is not; its size and inode number. Never blocks. */
const char *memfile_look(int fd, uint64_t *ret_size, uint64_t *ret_ino);
void memfile_done(struct memfile *m); /* an all-zero struct is fine */

/* Makes [off, off+n) resident; idempotent. 0, -ENOMEM. */
int memfile_commit(struct memfile *m, uint64_t off, uint64_t n);
/* The same, quicker where it is resident but not mapped here yet: after memfile_adopt(). */
int memfile_recommit(struct memfile *m, uint64_t off, uint64_t n);
/* Gives whole pages of [off, off+n) back; they read as zeros afterwards. Best effort. */
void memfile_release(struct memfile *m, uint64_t off, uint64_t n);

/* Copies bytes of any file. Unlike through a mapping, nothing that others do to that file can make
 * a signal or take memory of this process. 0; -EIO: it is shorter, or its memory is broken. */
int memfile_read(int fd, uint64_t off, void *to, uint64_t n);

#endif
