/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_UPLOAD_H
#define CLIENT_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Smaller values go through the socket: measured, see ARCHITECTURE.md, "Large values". */
#define UPLOAD_MIN ((size_t)16 << 10)

/* Memory that one connection's values pass through. Zeroed memory: none. */
struct upload {
        uint8_t *map; /* NULL: none */
        size_t size;
        bool is_refused;  /* by the daemon or the kernel: none is made any more */
        uint64_t used_ns; /* when a value was last put there */
        size_t n_warm;    /* so much of it has pages, at most; 0: it was given back */
};

/*
 * upload_make() - fresh memory for values of up to `n` bytes, at most `max`
 * @ret_fd:  its file, to be offered to the daemon; the caller's to close
 *
 * Return: 0, or -errno.
 */
int upload_make(size_t n, uint64_t max, struct upload *ret, int *ret_fd);

/* Copies a value of at most `size` bytes to its start. */
void upload_copy(struct upload *u, const void *value, size_t n);

/* @is_ours: false in a child of the process that made it, which has no such mapping. */
void upload_done(struct upload *u, bool is_ours);

/* Its pages go back to the kernel if no value was put there for long; it can be used on. */
bool upload_is_cold(const struct upload *u, uint64_t now_ns);
void upload_rest(struct upload *u);

#endif
