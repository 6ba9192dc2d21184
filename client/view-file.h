/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_VIEW_FILE_H
#define CLIENT_VIEW_FILE_H

/*
 * A value that views share: a memory file of the daemon's, mapped for reading, or a copy in memory
 * of our own. It never changes. Whoever has a reference may read it; the last one to let go unmaps
 * and closes it, and has the daemon told. References are counted without a lock.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/failure.h"

struct pool;

struct view_file {
        atomic_uint n_refs;
        const uint8_t *data;        /* never NULL */
        uint64_t n;                 /* of the value */
        uint64_t n_file;            /* of a memory file, with the messages behind the value */
        uint64_t instance, version; /* of the entry; the daemon's that told */
        /* As the entry says. */
        uint32_t flags, encoding, uid;
        uint64_t raw_size, cost_us;

        /* Of a memory file; a copy has none. */
        int fd; /* -1 */
        dev_t dev;
        ino_t ino;
        pid_t pid; /* who opened it: a child's number may be another file's */
        uint64_t view_id;
        struct pool *pool; /* a reference: who tells the daemon. NULL: nobody */
        unsigned generation;
};

/*
 * view_file_open() - a memory file that the daemon sent
 * @fd:  consumed; must be sealed and have `n` bytes, and `n_behind` more
 *
 * Return: CACHED_OK; CACHED_ERR_BAD_REPLY: it is not what it should be; CACHED_ERR_NOMEM: it cannot
 * be mapped. Then *f is set.
 */
int view_file_open(int fd, uint64_t n, uint64_t n_behind, struct failure *f,
                   struct view_file **ret);
/* A copy. @heap: malloc's, consumed in any case. NULL: out of memory. */
struct view_file *view_file_copy(void *heap, uint64_t n);

struct view_file *view_file_ref(struct view_file *v);
/* NULL is fine. Not under the pool's guard. */
void view_file_unref(struct view_file *v);
/* Whether nobody has it but the caller, who has one reference that others can only take from it. */
bool view_file_is_unused(const struct view_file *v);
/* In a child of the process that had it: the memory goes with the last reference, and nobody is
 * told. Under the guard of the pool, whose reference becomes the caller's: true. */
bool view_file_drop_inherited(struct view_file *v);

/* A mapping of the caller's own, to be unmapped with its `n` bytes: what is written to it changes
 * nothing else. NULL: not to be had. */
void *view_file_map_private(const struct view_file *v);

#endif
