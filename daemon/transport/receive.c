/* SPDX-License-Identifier: MIT */
/*
 * Receive
 *
 * A peer can send descriptors with any byte. They are taken out of the message here, never closed
 * here: the last close() of a FUSE file can hang for ever. Without room for them the kernel would
 * drop them inside our system call; so there is room for as many as a message can carry, and
 * MSG_CTRUNC (a full descriptor table) still tells that there were some.
 */

#include "transport/receive.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static void collect(struct msghdr *msg, struct received_fds *ret)
{
        ret->any = true;
        ret->lost = msg->msg_flags & MSG_CTRUNC;
        ret->n = 0;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
                size_t n;

                if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                if (n > RECEIVE_FDS_MAX - ret->n) /* cannot be: the control buffer is not larger */
                        n = RECEIVE_FDS_MAX - ret->n;
                memcpy(ret->fds + ret->n, CMSG_DATA(h), n * sizeof(int));
                ret->n += (unsigned)n;
        }
}

ssize_t receive(int fd, uint8_t *buf, size_t n, struct received_fds *ret_fds)
{
        union {
                struct cmsghdr align;
                uint8_t bytes[CMSG_SPACE(RECEIVE_FDS_MAX * sizeof(int))];
        } control;
        struct iovec iov = {.iov_base = buf, .iov_len = n};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t got;

        do
                got = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        while (got < 0 && errno == EINTR);
        ret_fds->any = false;
        if (got < 0)
                return -errno;
        if (msg.msg_controllen > 0 || (msg.msg_flags & MSG_CTRUNC))
                collect(&msg, ret_fds);
        return got;
}
