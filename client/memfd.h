/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MEMFD_H
#define CLIENT_MEMFD_H

/*
 * Memory files that are filled here, sealed, and handed to the daemon
 */

#include <stdbool.h>
#include <stdint.h>

#include "client/failure.h"

/* A memory file of `n` bytes, all of them 0 and none of them there yet. CACHED_OK, or *f is set. */
int memfd_new(uint64_t n, struct failure *f, int *ret_fd);

/*
 * memfd_seal() - nobody can change it any more, and it has `n` bytes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: something still has it mapped for writing, and it is as it
 * was; CACHED_ERR_NOMEM. Then *f is set. May be called again after a failure.
 */
int memfd_seal(int fd, uint64_t n, struct failure *f);
/* The first step of it, which may fail so. It may still be cut to its size. */
int memfd_seal_write(int fd, struct failure *f);

/* Whether it is sealed and has exactly that size. Makes no system call that waits for a file. */
bool memfd_is_sealed(int fd, uint64_t n);

/* What went wrong with one: CACHED_ERR_NOMEM, with *f set. */
int memfd_failed(struct failure *f, const char *what, int error);

#endif
