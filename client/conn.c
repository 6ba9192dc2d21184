/* SPDX-License-Identifier: MIT */
/*
 * Connection: frames over a Unix socket, with deadlines
 *
 * The socket itself is blocking, and every send and nearly every receive says MSG_DONTWAIT and is
 * preceded by poll() only where it has to wait. The exception is the first receive of a wait whose
 * deadline is as long as the socket's SO_RCVTIMEO: a call's, after its small request was sent in
 * one go, and a pipeline's next(). One blocking receive costs two system calls less than to
 * receive in vain, poll() and receive. While replies come fast it is preceded by looking for one
 * (client/spin.h).
 *
 * Received bytes go through a buffer, so that one receive takes many small replies; what is missing
 * of a large body is received straight into its reply. The buffer grows with the bytes that are
 * there, not with the length that a header claims.
 *
 * Nothing is lost where a function returns CONN_AGAIN: what it received so far stays in the buffer,
 * or in the reply whose body it is.
 *
 * It knows frames and replies, not what they answer: that is for call.c and pipeline.c. Descriptors
 * are taken where a Hello or a Get asked for them, and until it is answered, or, on the line, all
 * the time: else there is no control buffer, and the kernel drops them. Each rides with the first
 * byte of its reply, so they come in the order of the replies that name them.
 */

#include "client/conn.h"

#include <cached.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/frame.h"

/* The largest message that a reply may have, whatever the daemon is configured to take. */
#define REPLY_MESSAGE_MAX (64u << 20)
/* One receive. Replies to a window of small requests fit well. */
#define RECV_SIZE (64u << 10)
/* A buffer that a large message made this large is given back when it is empty. */
#define IN_KEEP (1u << 20)
/* Between attempts to send a descriptor, where the kernel says that too many are on their way. */
#define TOO_MANY_REFS_NS 500000

struct conn *conn_new(void)
{
        struct conn *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->fd = -1;
        map_offer_init(&c->offer);
        c->pid = getpid();
        c->next_id = 1;
        c->max_message = c->max_value = UINT64_MAX;
        return c;
}

void conn_attach(struct conn *c, int fd)
{
        struct stat st;

        c->fd = fd;
        if (fstat(fd, &st) == 0) {
                c->dev = st.st_dev;
                c->ino = st.st_ino;
        }
}

/* A child may have closed all descriptors and given our number to another file: not ours to close.
 */
static void conn_close(struct conn *c)
{
        struct stat st;

        if (c->fd < 0)
                return;
        if (c->pid == getpid() ||
            (fstat(c->fd, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino))
                (void)close(c->fd);
        c->fd = -1;
}

struct conn *conn_free(struct conn *c)
{
        if (!c)
                return NULL;
        conn_close(c);
        upload_done(&c->upload, c->pid == getpid());
        conn_expect_file(c, false);
        map_offer_done(&c->offer);
        buffer_done(&c->in);
        buffer_done(&c->out);
        names_done(&c->names);
        free(c->hello);
        explicit_bzero(c->session, sizeof(c->session)); /* it may be a token */
        free(c);
        return NULL;
}

void conn_abandon(struct conn *c)
{
        conn_close(c);
}

/* -------------------------------------------------------------------------------------- waiting */

static int timed_out(struct failure *f)
{
        return failure_set(f, CACHED_ERR_TIMEOUT, "%s", cached_strerror(CACHED_ERR_TIMEOUT));
}

static int disconnected(struct failure *f, int error)
{
        if (error == 0)
                return failure_set(f, CACHED_ERR_DISCONNECTED, "the daemon closed the connection");
        return failure_set(f, CACHED_ERR_DISCONNECTED, "the connection to the daemon broke: %s",
                           strerror(error));
}

/* Closing counts as ready: the send or receive that follows says why. */
int conn_wait(struct conn *c, short events, struct deadline d, struct failure *f, short *ret_events)
{
        struct pollfd p = {.fd = c->fd, .events = events};

        if (deadline_is_now(d))
                return CONN_AGAIN;
        for (;;) {
                int n = poll(&p, 1, deadline_poll_ms(d));

                if (n > 0) {
                        *ret_events = p.revents;
                        return CACHED_OK;
                }
                if (n < 0 && errno != EINTR && errno != EAGAIN)
                        return disconnected(f, errno);
                if (!deadline_is_never(d) && deadline_left_ns(d) == 0)
                        return timed_out(f);
        }
}

bool conn_is_stale(struct conn *c)
{
        char byte;

        /* Nothing is outstanding: bytes that wait could be an event (none was asked for) or a
         * farewell. */
        return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
               (errno != EAGAIN && errno != EINTR);
}

/* -------------------------------------------------------------------------------------- sending */

int conn_send_some(struct conn *c, struct iovec *iov, size_t n_iov, struct failure *f,
                   size_t *ret_n)
{
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = n_iov};
        ssize_t n;

        do
                /* Of one piece the kernel has less to look at. */
                n = n_iov == 1
                            ? send(c->fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
                            : sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        /* ENOBUFS: the kernel is short of memory; there is nothing better than to wait. */
        if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
                return disconnected(f, errno);
        *ret_n = n < 0 ? 0 : (size_t)n;
        return CACHED_OK;
}

/* The part of the vector that begins `skip` bytes into its first element. */
static size_t iov_window(const struct iovec *iov, size_t n_iov, size_t skip,
                         struct iovec ret[CONN_IOV_MAX])
{
        size_t n = n_iov < CONN_IOV_MAX ? n_iov : CONN_IOV_MAX;

        memcpy(ret, iov, n * sizeof(*iov));
        ret[0].iov_base = (uint8_t *)ret[0].iov_base + skip;
        ret[0].iov_len -= skip;
        return n;
}

int conn_send(struct conn *c, const struct iovec *iov, size_t n_iov, struct deadline d,
              struct failure *f, enum conn_sent *ret_sent)
{
        struct iovec window[CONN_IOV_MAX];
        size_t skip = 0, n = 0;

        *ret_sent = CONN_SENT_NOTHING;
        for (;;) {
                short ready;
                int code;

                for (skip += n; n_iov > 0 && skip >= iov->iov_len; n_iov--)
                        skip -= (iov++)->iov_len;
                if (n_iov == 0)
                        break;
                code = conn_send_some(c, window, iov_window(iov, n_iov, skip, window), f, &n);
                if (code == CACHED_OK && n == 0)
                        code = conn_wait(c, POLLOUT, d, f, &ready);
                if (code != CACHED_OK)
                        return code;
                if (n > 0)
                        *ret_sent = CONN_SENT_PART;
        }
        *ret_sent = CONN_SENT_ALL;
        return CACHED_OK;
}

/* One attempt. A sender with too many descriptors on their way waits until some have arrived: no
 * descriptor tells when. */
static int send_with_file(struct conn *c, struct iovec *iov, int file, struct failure *f,
                          size_t *ret_n)
{
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct msghdr m = {.msg_iov = iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        ssize_t n;

        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &file, sizeof(int));
        do
                n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == ETOOMANYREFS)
                (void)nanosleep(&(struct timespec){0, TOO_MANY_REFS_NS}, NULL);
        else if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
                return disconnected(f, errno);
        *ret_n = n < 0 ? 0 : (size_t)n;
        return CACHED_OK;
}

int conn_send_file(struct conn *c, const void *bytes, size_t n, int file, struct deadline d,
                   struct failure *f, enum conn_sent *ret_sent)
{
        struct iovec iov = {(void *)(uintptr_t)bytes, n};
        size_t sent = 0;
        short ready;
        int code;

        *ret_sent = CONN_SENT_NOTHING;
        for (;;) {
                code = send_with_file(c, &iov, file, f, &sent);
                if (code != CACHED_OK)
                        return code;
                if (sent > 0)
                        break;
                if (!deadline_is_never(d) && deadline_left_ns(d) == 0)
                        return timed_out(f);
                code = conn_wait(c, POLLOUT, d, f, &ready);
                if (code != CACHED_OK)
                        return code;
        }
        iov = (struct iovec){(uint8_t *)iov.iov_base + sent, n - sent};
        code = conn_send(c, &iov, 1, d, f, ret_sent);
        if (*ret_sent == CONN_SENT_NOTHING)
                *ret_sent = CONN_SENT_PART;
        return code;
}

/* ------------------------------------------------------------------------------------ receiving */

void conn_expect_file(struct conn *c, bool on)
{
        c->takes_fds = on;
        c->has_bad_fds = false;
        for (unsigned i = 0; i < c->n_files; i++)
                if (c->files[i] >= 0)
                        (void)close(c->files[i]);
        c->n_files = 0;
}

int conn_take_file(struct conn *c, bool *ret_lost)
{
        int fd = c->n_files > 0 ? c->files[0] : -1;

        *ret_lost = c->n_files > 0 && fd < 0;
        if (c->n_files > 0)
                memmove(c->files, c->files + 1, --c->n_files * sizeof(*c->files));
        return fd;
}

static void take_fd(struct conn *c, int fd)
{
        if (c->hello_state == CONN_HELLO_DONE) {
                if (c->n_files < CONN_FILES_MAX) {
                        c->files[c->n_files++] = fd;
                        return;
                }
        } else if (c->n_fds < MAP_PARTS) {
                c->offer.fd[c->n_fds++] = fd;
                return;
        }
        (void)close(fd);
        c->has_bad_fds = true;
}

/* recv() with what may come along. */
static ssize_t recv_fds(struct conn *c, uint8_t *to, size_t n, int flags)
{
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(2 * MAP_PARTS * sizeof(int))];
        } control;
        struct iovec iov = {to, n};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        ssize_t got = recvmsg(c->fd, &m, flags | MSG_CMSG_CLOEXEC);

        if (got < 0)
                return got;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
                if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
                        take_fd(c, fd);
                }
        }
        if (m.msg_flags & MSG_CTRUNC) {
                c->has_bad_fds = true;
                if (c->hello_state == CONN_HELLO_DONE && c->n_files < CONN_FILES_MAX)
                        c->files[c->n_files++] = -1;
        }
        return got;
}

/* With what may come along, where that is expected. */
static ssize_t recv_some(struct conn *c, uint8_t *to, size_t n, int flags)
{
        return c->takes_fds ? recv_fds(c, to, n, flags) : recv(c->fd, to, n, flags);
}

/* A receive that may wait; before it goes to sleep it looks for a while. */
static ssize_t recv_waiting(struct conn *c, uint8_t *to, size_t n)
{
        uint64_t start = c->spin.is_on ? deadline_now_ns() : 0;
        uint64_t most = spin_ns(&c->spin);
        ssize_t got;

        if (!c->spin.is_on || !spin_begin(&c->spin, start))
                return recv_some(c, to, n, 0);
        do {
                (void)sched_yield();
                got = recv_some(c, to, n, MSG_DONTWAIT);
        } while (got < 0 && errno == EAGAIN && deadline_now_ns() - start < most);
        spin_end(&c->spin, got >= 0);
        return got < 0 && errno == EAGAIN ? recv_some(c, to, n, 0) : got;
}

bool conn_linger(struct conn *c)
{
        uint64_t start = c->spin.is_on ? deadline_now_ns() : 0;
        ssize_t got;
        char byte;

        if (!c->spin.is_on || !spin_begin(&c->spin, start))
                return false;
        do {
                (void)sched_yield();
                got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        } while (got < 0 && errno == EAGAIN && deadline_now_ns() - start < SPIN_NS);
        spin_end(&c->spin, got >= 0);
        return got >= 0 || errno != EAGAIN;
}

/* At least one byte more. `*block` is good for one receive. */
static int conn_recv(struct conn *c, uint8_t *to, size_t n, struct deadline d, bool *block,
                     struct failure *f, size_t *ret_n)
{
        for (;;) {
                ssize_t got;
                short ready;
                int code;

                if (deadline_is_now(d) && c->n_receives == 0)
                        return CONN_AGAIN;
                got = *block ? recv_waiting(c, to, n) : recv_some(c, to, n, MSG_DONTWAIT);
                if (got > 0) {
                        if ((size_t)got < n)
                                c->n_receives = 0;
                        else if (c->n_receives > 0)
                                c->n_receives--;
                        *ret_n = (size_t)got;
                        *block = false;
                        return CACHED_OK;
                }
                if (got == 0)
                        return disconnected(f, 0);
                if (errno != EAGAIN && errno != EINTR)
                        return disconnected(f, errno);
                /* The blocking receive ran into its own timeout or into a signal: look at the
                 * clock. */
                *block = false;
                code = conn_wait(c, POLLIN, d, f, &ready);
                if (code != CACHED_OK)
                        return code;
        }
}

/* Until the buffer holds `need` bytes. */
static int conn_fill(struct conn *c, size_t need, struct deadline d, bool *block, struct failure *f)
{
        while (buffer_n(&c->in) < need) {
                size_t n = 0;
                int code;

                if (!buffer_reserve(&c->in, RECV_SIZE))
                        return failure_nomem(f);
                code = conn_recv(c, c->in.data + c->in.end, c->in.size - c->in.end, d, block, f,
                                 &n);
                if (code != CACHED_OK)
                        return code;
                c->in.end += n;
        }
        return CACHED_OK;
}

bool conn_has_frame(const struct conn *c)
{
        struct frame_header h;
        size_t left;

        if (buffer_n(&c->in) < FRAME_HEADER_SIZE)
                return false;
        h = frame_header_read(c->in.data + c->in.start);
        left = buffer_n(&c->in) - FRAME_HEADER_SIZE;
        return left >= h.n_message && left - h.n_message >= h.n_body;
}

static void conn_in_taken(struct conn *c, size_t n)
{
        buffer_take(&c->in, n);
        if (buffer_n(&c->in) == 0 && c->in.size > IN_KEEP)
                buffer_done(&c->in);
}

static int conn_recv_header(struct conn *c, struct deadline d, bool *block, struct failure *f,
                            struct frame_header *ret)
{
        const char *wrong;
        struct frame_header h;
        int code = conn_fill(c, FRAME_HEADER_SIZE, d, block, f);

        if (code != CACHED_OK)
                return code;
        h = frame_header_read(c->in.data + c->in.start);
        wrong = frame_header_check(h, REPLY_MESSAGE_MAX, c->max_value);
        if (wrong)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon sent a frame header of %" PRIu32 " and %" PRIu64
                                   " bytes: %s",
                                   h.n_message, h.n_body, wrong);
        *ret = h;
        return CACHED_OK;
}

int conn_recv_message(struct conn *c, struct deadline d, bool block, struct failure *f,
                      struct cached_reply **ret, uint64_t *ret_n_body)
{
        struct frame_header h = {0};
        int code = conn_recv_header(c, d, &block, f, &h);

        if (code != CACHED_OK)
                return code;
        code = conn_fill(c, FRAME_HEADER_SIZE + (size_t)h.n_message, d, &block, f);
        if (code != CACHED_OK)
                return code;
        code = reply_new_unpack(c->in.data + c->in.start + FRAME_HEADER_SIZE, h.n_message, h.n_body,
                                f, ret);
        if (code != CACHED_OK)
                return code;
        conn_in_taken(c, FRAME_HEADER_SIZE + (size_t)h.n_message);
        *ret_n_body = h.n_body;
        return CACHED_OK;
}

int conn_body_begin(struct conn *c, struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        if (n_body > SIZE_MAX)
                return failure_nomem(f);
        c->body_to = reply_body_space(r, (size_t)n_body);
        if (!c->body_to)
                return failure_nomem(f);
        c->n_body_left = (size_t)n_body;
        return CACHED_OK;
}

int conn_body_rest(struct conn *c, struct deadline d, struct failure *f)
{
        bool block = false;

        for (;;) {
                size_t n = buffer_n(&c->in) < c->n_body_left ? buffer_n(&c->in) : c->n_body_left;
                int code;

                if (n > 0) {
                        memcpy(c->body_to, c->in.data + c->in.start, n);
                        conn_in_taken(c, n);
                        c->body_to += n;
                        c->n_body_left -= n;
                }
                if (c->n_body_left == 0)
                        return CACHED_OK;
                /* A small rest comes with the replies behind it. */
                if (c->n_body_left < RECV_SIZE / 2) {
                        code = conn_fill(c, c->n_body_left, d, &block, f);
                } else {
                        code = conn_recv(c, c->body_to, c->n_body_left, d, &block, f, &n);
                        if (code == CACHED_OK) {
                                c->body_to += n;
                                c->n_body_left -= n;
                        }
                }
                if (code != CACHED_OK)
                        return code;
        }
}

int conn_recv_body(struct conn *c, struct cached_reply *r, uint64_t n_body, struct deadline d,
                   struct failure *f)
{
        int code = conn_body_begin(c, r, n_body, f);

        return code == CACHED_OK ? conn_body_rest(c, d, f) : code;
}

enum conn_unasked conn_classify(const struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        const Cached__V1__Reply *m = r->message;

        if (m->id != 0)
                return CONN_ASKED;
        if (m->result_case == CACHED__V1__REPLY__RESULT_EVENT && r->code == CACHED_OK &&
            n_body == 0)
                return CONN_EVENT;
        if (r->code > CACHED_OK && r->code < CACHED_ERR_UNREACHABLE)
                (void)failure_set(f, r->code, "%s", cached_reply_error(r));
        else
                (void)failure_set(
                        f, CACHED_ERR_BAD_REPLY,
                        "the daemon sent a reply without an id that is neither an event nor "
                        "an error");
        return CONN_FAREWELL;
}
