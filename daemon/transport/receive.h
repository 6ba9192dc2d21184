/* SPDX-License-Identifier: MIT */
#ifndef RECEIVE_H
#define RECEIVE_H

/*
 * Receive: bytes from a connection, and word of descriptors that came with them
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RECEIVE_FDS_MAX 253 /* the kernel's SCM_MAX_FD: what one message can carry */

struct received_fds {
        bool any;   /* descriptors came */
        bool lost;  /* more than are listed: the kernel dropped those. Valid like `n` */
        unsigned n; /* listed; they are the caller's now. Valid only when `any` is set */
        int fds[RECEIVE_FDS_MAX];
};

/* Bytes received; 0: the peer has ended its side; or a negative errno. Never blocks. @ret_fds is
 * large: only `any` is written unless descriptors came. What is listed came with the last of the
 * sender's calls whose bytes are here, and with none before it. */
ssize_t receive(int fd, uint8_t *buf, size_t n, struct received_fds *ret_fds);

#endif
