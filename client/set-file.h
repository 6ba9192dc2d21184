/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SET_FILE_H
#define CLIENT_SET_FILE_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/cached.pb-c.h"

/*
 * Longer values of plain memory are copied into a memory file that is handed over; the daemon keeps
 * shorter ones in memory that it has in use, where they are copied to in less time than a fresh
 * file takes.
 */
#define SET_FILE_MIN ((UINT64_C(4) << 20) + 1)
/* Shorter memory files are read and sent: the daemon would copy them. */
#define SET_FD_MIN (UINT64_C(64) << 10)

/*
 * set_file_try() - stores a long value as a memory file
 * @behind:  what follows it there: messages
 *
 * Return: false: that is not for this one, or there was no memory for it; nothing was sent. Else
 * *ret_code and *ret are what cached_set() returns.
 */
bool set_file_try(cached *c, const char *cache, Cached__V1__Set *m, const void *value, size_t n,
                  struct iovec behind, uint32_t patience_ms, cached_reply **ret, int *ret_code);

#endif
