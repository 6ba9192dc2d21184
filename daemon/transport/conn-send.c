/* SPDX-License-Identifier: MIT */
/*
 * What a connection sends
 *
 * As much as the socket takes, up to a bound, in as few calls as possible. Descriptors go with
 * exactly the byte that they belong to. They are in flight until the peer takes that byte, and the
 * kernel bounds how many are in flight from one uid, over all of its sockets (ETOOMANYREFS; not for
 * root): a peer that does not read must not use that up for the others. So few are sent before the
 * peer has taken everything, and where the kernel refuses more, they wait, as for a full socket.
 * There is no event for either: it is tried again after a while, and a peer that takes nothing at
 * all is dropped for that.
 *
 * What can go without a descriptor (a value's bytes instead of its file) does when its uid, or all
 * together, have many in flight: who does not read stops nobody else. How many are in flight is an
 * upper bound, for nobody tells when they are taken; where it matters the sockets are asked.
 */

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "transport/conn-private.h"

#define SEND_MAX       (1024 * 1024) /* bytes in one turn, so that one long reply holds nobody up */
#define IOV_MAX_PIECES 64
#define FDS_IN_FLIGHT  8u
#define FDS_RETRY_NS   (10 * NSEC_PER_MSEC)
#define FDS_OF_ACCOUNT 64u /* eight connections that do not read */

/* Aligned as the kernel wants it. */
union control {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(OUTBUF_FDS_MAX * sizeof(int))];
};

/* Of those that were sent none is left in the socket, or there are few. */
static bool may_send_fds(struct conn *c, unsigned n_fds)
{
        int n = 0;

        if (c->fds_in_flight + n_fds <= FDS_IN_FLIGHT)
                return true;
        if (ioctl(c->fd, SIOCOUTQ, &n) < 0 || n > 0)
                return false;
        conn_forget_sent_fds(c);
        return true;
}

void conn_forget_sent_fds(struct conn *c)
{
        c->hub->fds_in_flight -= c->fds_in_flight;
        c->account->fds_in_flight -= c->fds_in_flight;
        c->fds_in_flight = 0;
        list_unlink(&c->fds_node);
}

static void count_sent_fds(struct conn *c, unsigned n_fds)
{
        if (c->fds_in_flight == 0)
                list_append(&c->hub->fd_senders, &c->fds_node);
        c->fds_in_flight += n_fds;
        c->hub->fds_in_flight += n_fds;
        c->account->fds_in_flight += n_fds;
}

/* The kernel lets a uid have as many in flight as this process may have open. */
static unsigned max_in_flight(void)
{
        struct rlimit lim;

        if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur > 4 * 8192)
                return 8192;
        return (unsigned)lim.rlim_cur / 4;
}

/* Clients that come back all at once have those of their mappings in flight until each has had a
 * processor. What has no other way is not refused for that, as far as others keep room enough. */
static bool fds_are_short(const struct conn *c, bool is_only_way)
{
        unsigned max = max_in_flight(), of_account = FDS_OF_ACCOUNT;

        if (is_only_way && max / 4 > of_account)
                of_account = max / 4;
        return c->account->fds_in_flight > of_account || c->hub->fds_in_flight > max;
}

/* Asks the sockets what was taken. */
static void look_what_was_taken(struct hub *h)
{
        struct list *next;

        for (struct list *n = h->fd_senders.next; n != &h->fd_senders; n = next) {
                struct conn *c = LIST_ENTRY(n, struct conn, fds_node);
                int left = 0;

                next = n->next;
                if (ioctl(c->fd, SIOCOUTQ, &left) == 0 && left == 0)
                        conn_forget_sent_fds(c);
        }
}

/* Looks for what was taken, but for a while after that was in vain. True: enough was. */
static bool find_fds_taken(const struct conn *c, bool is_only_way)
{
        struct account *a = c->account;
        uint64_t now = c->hub->now_ns;

        if (a->fds_short_ns != 0 && now - a->fds_short_ns < FDS_RETRY_NS)
                return false;
        look_what_was_taken(c->hub);
        a->fds_short_ns = fds_are_short(c, is_only_way) ? now : 0;
        return a->fds_short_ns == 0;
}

int conn_put_file(struct conn *c, int fd, bool is_only_way, size_t room,
                  void (*done)(void *ctx, bool sent), void *ctx)
{
        if (fds_are_short(c, is_only_way) && !find_fds_taken(c, is_only_way))
                return -EBUSY;
        return outbuf_put_file(&c->out, &c->hub->pool, fd, room, done, ctx);
}

static void put_fds(struct msghdr *msg, union control *control, const int *fds, unsigned n_fds)
{
        struct cmsghdr *h;

        memset(control, 0, sizeof(*control));
        msg->msg_control = control->bytes;
        msg->msg_controllen = CMSG_SPACE(n_fds * sizeof(*fds));
        h = CMSG_FIRSTHDR(msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(n_fds * sizeof(*fds));
        memcpy(CMSG_DATA(h), fds, n_fds * sizeof(*fds));
}

/* One system call. Bytes sent; 0: the socket is full, or descriptors have to wait; -1: the peer
 * takes no more. */
static ssize_t send_some(struct conn *c, size_t *ret_asked)
{
        struct iovec iov[IOV_MAX_PIECES];
        struct msghdr msg = {.msg_iov = iov};
        union control control;
        const int *fds = NULL;
        unsigned n_fds = outbuf_fds(&c->out, &fds);
        ssize_t n;

        msg.msg_iovlen = outbuf_peek(&c->out, iov, IOV_MAX_PIECES);
        *ret_asked = 0;
        for (size_t i = 0; i < msg.msg_iovlen; i++) {
                if (iov[i].iov_len > SEND_MAX - *ret_asked)
                        iov[i].iov_len = SEND_MAX - *ret_asked;
                *ret_asked += iov[i].iov_len;
        }
        if (n_fds > 0 && !may_send_fds(c, n_fds)) {
                c->fds_due_ns = c->hub->now_ns + FDS_RETRY_NS;
                return 0;
        }
        if (n_fds > 0)
                put_fds(&msg, &control, fds, n_fds);
        do {
                if (msg.msg_iovlen == 1 && n_fds == 0)
                        n = send(c->fd, iov[0].iov_base, iov[0].iov_len,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
                else
                        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n > 0 && n_fds > 0) {
                outbuf_drop_fds(&c->out);
                count_sent_fds(c, n_fds);
        }
        if (n >= 0)
                return n;
        if (errno == ETOOMANYREFS) {
                c->fds_due_ns = c->hub->now_ns + FDS_RETRY_NS;
                return 0;
        }
        /* Out of kernel memory passes; the write event or the stall timer comes back to it. */
        return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -1;
}

void conn_flush(struct conn *c)
{
        size_t asked, sent = 0;

        c->fds_due_ns = 0;
        while (c->out.queued > 0 && !c->deaf && sent < SEND_MAX) {
                ssize_t n = send_some(c, &asked);
                if (n < 0) {
                        c->deaf = true;
                        break;
                }
                if (n > 0) {
                        outbuf_consume(&c->out, &c->hub->pool, (uint64_t)n);
                        c->bytes_out += (uint64_t)n;
                        c->stall_since_ns = c->hub->now_ns;
                        sent += (size_t)n;
                }
                if ((size_t)n < asked)
                        break;
        }
        if (c->deaf || c->out.queued == 0) {
                outbuf_clear(&c->out, &c->hub->pool);
                c->stall_since_ns = 0;
        } else if (c->stall_since_ns == 0) {
                c->stall_since_ns = c->hub->now_ns;
        }
}
