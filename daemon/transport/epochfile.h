/* SPDX-License-Identifier: MIT */
#ifndef EPOCHFILE_H
#define EPOCHFILE_H

/*
 * Epoch file: which daemon's arenas count, for readers that ask nobody. See epochfile.c.
 */

#include <stddef.h>
#include <stdint.h>

struct epoch_page;

struct epochfile {
        int fd; /* -1: there is none */
        struct epoch_page *page;
};

#define EPOCHFILE_ERR_MAX 512

/* Opens or makes `<socket_path>.epoch` and writes @instance into it. 0, or a negative errno and a
 * sentence in @err; then *e is empty. */
int epochfile_init(struct epochfile *e, const char *socket_path, uint64_t instance, char *err,
                   size_t n_err);

/* The file stays where it is. Fine on an empty one, and on one of zeros with fd -1. */
void epochfile_done(struct epochfile *e);

#endif
