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
 * memfd_seal() - nobody can change it any more
 *
 * Return: CACHED_OK, also if it was so already; CACHED_ERR_USAGE: something still has it mapped for
 * writing, and it is as it was; CACHED_ERR_NOMEM. Then *f is set.
 */
int memfd_seal(int fd, struct failure *f);
/* Likewise, but it may still be cut to its length. */
int memfd_seal_write(int fd, struct failure *f);
/* CACHED_OK; CACHED_ERR_NOMEM with *f set. */
int memfd_cut(int fd, uint64_t n, struct failure *f);

/* Whether it is sealed and has exactly that size. Makes no system call that waits for a file. */
bool memfd_is_sealed(int fd, uint64_t n);

/* What went wrong with one: CACHED_ERR_NOMEM, with *f set. */
int memfd_failed(struct failure *f, const char *what, int error);

/*
 * memfd_map() - mmap() at a place of the kernel's choice, where huge pages can be mapped as such
 *
 * Return: as mmap().
 */
void *memfd_map(int fd, uint64_t n, int prot, int flags);

/*
 * memfd_make_huge() - gives a file that will be filled its memory in huge pages, as far as possible
 * @is_patient:  it may take longer than small pages would; else it stops where that is so
 *
 * They take a tenth of the time that small pages do when they are mapped, sealed or freed.
 */
void memfd_make_huge(int fd, uint64_t n, bool is_patient);

/*
 * memfd_make_ready() - the same for a file of which nothing is there yet, with patience
 *
 * What does not fill a huge page gets a part of one, which the kernel (from Linux 6.15 on) leaves
 * in one piece: 1 MiB of it is mapped, sealed and freed like one page. Elsewhere that falls apart
 * into small pages. What was not made into huge pages is not there yet.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM with *f set.
 */
int memfd_make_ready(int fd, uint64_t n, struct failure *f);

#endif
