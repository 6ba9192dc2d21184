/* SPDX-License-Identifier: MIT */
#ifndef FD_KIND_H
#define FD_KIND_H

/*
 * Fd-kind: what a descriptor is that a peer has sent. See fd-kind.c.
 */

#include <stdbool.h>
#include <sys/socket.h>

/* What may be shared. */
enum fd_kind {
        FD_KIND_REFUSED,
        FD_KIND_STREAM,
        FD_KIND_DATAGRAM,
        FD_KIND_SEQPACKET,
        FD_KIND_FILE,
        FD_KIND_PIPE,
        FD_KIND_EVENTFD,
        FD_KIND_PIDFD,
        FD_KIND_MEMFD,
};

struct fd_look {
        enum fd_kind kind;
        bool hangs_up; /* its other end can be seen to close */
        char what[64]; /* "stream socket"; of what is refused "a listening socket" */
};

/* Asks @fd only what never blocks. @own, of @n_own bytes, is the address at which this daemon
 * listens: what is connected to that is refused. */
enum fd_kind fd_look(int fd, const struct sockaddr *own, socklen_t n_own, struct fd_look *ret);

#endif
