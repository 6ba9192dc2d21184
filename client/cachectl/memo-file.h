/* SPDX-License-Identifier: MIT */
#ifndef MEMO_FILE_H
#define MEMO_FILE_H

/*
 * A file whose content is part of a key: what it is, its digest, whether it has changed
 */

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

#define FILE_ID_SIZE 49

struct memo_file {
        const char *name;         /* borrowed */
        uint8_t id[FILE_ID_SIZE]; /* device, inode, size, mtime, ctime */
        bool settled;             /* a change after the id was taken cannot have the same id */
        bool large;               /* its digest is worth remembering */
        bool unreadable; /* it may be executed and not read: the id stands for the content */
        bool known;      /* there is a digest */
        uint8_t digest[CACHED_KEY_SIZE];
};

/* Looks at the file. Negative errno; -EISDIR, -EINVAL: not a regular file. */
int file_look(struct memo_file *f, const char *name);

/* As file_look(), for a program: it need not be readable. */
int file_look_program(struct memo_file *f, const char *name);

/* Reads it, and looks again. Negative errno; -EBUSY: it changes while it is read. */
int file_read(struct memo_file *f);

/* Whether its content may not be any more what the digest tells. */
bool file_has_changed(const struct memo_file *f);

/* The digest of all of a file, from its beginning. Negative errno. */
int file_digest(int fd, uint8_t ret[CACHED_KEY_SIZE]);

#endif
