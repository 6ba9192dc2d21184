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

/* The number in the file of a daemon before this one; 0: there is none that is as it should be. */
uint64_t epochfile_peek(const char *socket_path);

/* How many daemons in a row began to take over and did not get to serve, and that another one does
 * or has. Fine on an empty one. */
uint32_t epochfile_attempts(const char *socket_path);
void epochfile_begin_attempt(struct epochfile *e);
void epochfile_end_attempt(struct epochfile *e);

/* Tells readers that pages of before are looked at no more. Fine on an empty one. */
void epochfile_begin_tenure(struct epochfile *e);

/* Another number. Fine on an empty one. */
void epochfile_set(struct epochfile *e, uint64_t instance);

/* The file stays where it is. Fine on an empty one, and on one of zeros with fd -1. */
void epochfile_done(struct epochfile *e);

#endif
