/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that a connection receives
 *
 * They wait in the order in which they came for the frames that name them, which the handler knows.
 * Nothing is done with one here, and it is closed elsewhere: whatever a peer sends can hang whoever
 * touches it. A peer that may send none, or sends more than it names, is told and disconnected.
 */

#include <errno.h>

#include "transport/conn-private.h"
#include "transport/receive.h"

void conn_accept_fds(struct conn *c)
{
        c->takes_fds = true;
}

bool conn_receive_fds(struct conn *c, const struct received_fds *fds)
{
        struct hub *h = c->hub;

        if (c->takes_fds && !c->closing &&
            fdqueue_add(&c->fds, fds->fds, fds->n, fds->lost, c->bytes_in))
                return true;
        log_peer(h->log, LOG_INFO, LOG_KIND_DESCRIPTORS, h->now_ns,
                 &(struct log_fields){LOG_PEER(&c->peer)}, "pid %d (uid %u) sent %u descriptors",
                 (int)c->peer.pid, (unsigned)c->peer.uid, fds->n);
        conn_violate(c, c->takes_fds ? "more descriptors were sent than may wait for the frames "
                                       "that name them: send each with its frame"
                                     : "a descriptor was sent, but FEATURE_FILES was not agreed "
                                       "on: send bytes only");
        hub_close_elsewhere(h, c->account, fds->fds, fds->n);
        return false;
}

void conn_check_fds(struct conn *c)
{
        uint64_t handled = c->bytes_in - inbuf_len(&c->in);

        if (fdqueue_has_leftover(&c->fds, handled))
                conn_violate(c, "a descriptor was sent that no frame names: send one with each "
                                "frame that names one, and none with others");
}

void conn_drop_fds(struct conn *c)
{
        int fds[FDQUEUE_MAX];
        unsigned n = fdqueue_clear(&c->fds, fds);

        hub_close_elsewhere(c->hub, c->account, fds, n);
}

int conn_take_fd(struct conn *c)
{
        int fd = fdqueue_take(&c->fds);

        return fd == FDQUEUE_LOST ? -EMFILE : fd;
}

void conn_drop_fd(struct conn *c, int fd)
{
        hub_close_elsewhere(c->hub, c->account, &fd, 1);
}
