/* SPDX-License-Identifier: MIT */
/*
 * Connections that end in favour of another process
 *
 * A client must know what became of what it sent. So its side of the socket is shut first: what it
 * sends then is refused at once, and no request can be lost between our last look and the close.
 * Everything before that is carried out and answered, and then comes a farewell: what has no reply
 * by then was not carried out.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/conn-private.h"

void conn_part(struct conn *c)
{
        (void)shutdown(c->fd, SHUT_RD); /* what is in the socket can still be read */
}

/* Best effort: without it the peer sees the end alone. */
static void say_farewell(struct conn *c)
{
        uint8_t frame[HUB_REFUSAL_MAX], *to;
        size_t n = c->hub->refuse(HUB_REFUSED_ENDING,
                                  "another process takes the daemon's place: connect again", frame,
                                  sizeof(frame));

        to = n > 0 ? outbuf_reserve(&c->out, &c->hub->pool, n) : NULL;
        if (!to)
                return;
        memcpy(to, frame, n);
        outbuf_commit(&c->out, n);
}

void conn_finish_input(struct conn *c)
{
        bool parting = c->ending && c->hub->parting && !c->closing && !c->deaf;

        c->closing = true;
        if (parting)
                say_farewell(c);
}

int conn_take_socket(struct conn *c, int *ret_fd)
{
        int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        c->given = true;
        c->deaf = true; /* what was queued is not sent */
        *ret_fd = fd;
        return 0;
}
