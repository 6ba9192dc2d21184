/* SPDX-License-Identifier: MIT */
/*
 * Take over, the side that receives
 *
 * Runs before there is a loop, so it simply waits: for at most ANSWER_MS at a time, which is longer
 * than the daemon takes to finish what was sent to it.
 *
 * The daemon must be root's or our own: what it sends becomes our memory. It is the process that
 * listens, by the kernel's word.
 *
 * A daemon that dies before it said that all is ours leaves it to us all the same, as long as it is
 * certainly dead: the socket's end alone does not say that, a pidfd does.
 */
#include "take-over.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "proto/status.h"

#define ANSWER_MS 30000
#define DEATH_MS  1000 /* from the end of its sockets to the end of a process */

#define FAIL(code, ...)                                                                            \
        do {                                                                                       \
                (void)snprintf(err, n_err, __VA_ARGS__);                                           \
                return -(code);                                                                    \
        } while (0)

/* ---- the connection */

static int check_peer(struct take_over *t, char *err, size_t n_err)
{
        struct ucred cred;
        socklen_t n = sizeof(cred);

        if (getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
                FAIL(errno, "who listens is unknown: %s", strerror(errno));
        if (cred.uid != 0 && cred.uid != geteuid())
                FAIL(EPERM,
                     "pid %d, which listens there, belongs to uid %u: only a daemon of root or of "
                     "uid %u can be taken over",
                     (int)cred.pid, (unsigned)cred.uid, (unsigned)geteuid());
        t->pid = cred.pid;
        t->peer_fd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
        return 0;
}

static int connect_to(struct take_over *t, const char *path, char *err, size_t n_err)
{
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        struct timeval tv = {.tv_sec = ANSWER_MS / 1000};

        if (strlen(path) >= sizeof(addr.sun_path))
                FAIL(ENAMETOOLONG, "the socket path is too long: %s", path);
        memcpy(addr.sun_path, path, strlen(path) + 1);
        t->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (t->fd < 0)
                FAIL(errno, "cannot create a socket: %s", strerror(errno));
        (void)setsockopt(t->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
        if (connect(t->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
                FAIL(errno, "no daemon to take over from on %s: %s", path, strerror(errno));
        return check_peer(t, err, n_err);
}

static int ask(struct take_over *t, enum handover_ask what, char *err, size_t n_err)
{
        uint8_t out[HANDOVER_FRAME_MAX];
        size_t n = handover_pack_request(out, what, ++t->last_id), at = 0;

        if (n == 0)
                FAIL(ENOMEM, "out of memory");
        while (at < n) {
                ssize_t sent = send(t->fd, out + at, n - at, MSG_NOSIGNAL);

                if (sent < 0 && errno == EINTR)
                        continue;
                /* Perhaps it said why it ended: that is read in any case. */
                if (sent < 0 && errno == EPIPE)
                        return 0;
                if (sent < 0)
                        FAIL(errno, "cannot send to the daemon: %s", strerror(errno));
                at += (size_t)sent;
        }
        return 0;
}

/* ---- receiving */

/* Keeps the descriptors that came. False: more than there may be, or the kernel had to drop some.
 */
static bool keep_fds(struct take_over *t, struct msghdr *msg)
{
        bool fine = !(msg->msg_flags & MSG_CTRUNC);

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (t->n_fds < HANDOVER_BATCH) {
                                t->fds[t->n_fds++] = fd;
                        } else {
                                close(fd);
                                fine = false;
                        }
                }
        }
        return fine;
}

/* Fills @buf, with the descriptors that come along. 0; -EPIPE: the daemon has ended the connection;
 * -errno. */
static int receive_all(struct take_over *t, uint8_t *buf, size_t n)
{
        for (size_t at = 0; at < n;) {
                union {
                        struct cmsghdr align;
                        uint8_t bytes[CMSG_SPACE(HANDOVER_BATCH * sizeof(int))];
                } control;
                struct iovec iov = {.iov_base = buf + at, .iov_len = n - at};
                struct msghdr msg = {.msg_iov = &iov,
                                     .msg_iovlen = 1,
                                     .msg_control = control.bytes,
                                     .msg_controllen = sizeof(control.bytes)};
                struct pollfd p = {.fd = t->fd, .events = POLLIN};
                int r = poll(&p, 1, ANSWER_MS);
                ssize_t got;

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r == 0 ? -ETIMEDOUT : -errno;
                got = recvmsg(t->fd, &msg, MSG_CMSG_CLOEXEC);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got == 0 || errno == ECONNRESET ? -EPIPE : -errno;
                if (!keep_fds(t, &msg))
                        return -EMFILE;
                at += (size_t)got;
        }
        return 0;
}

/* The reply to what was asked last. 0; -EPIPE: the connection ended without one. */
static int hear(struct take_over *t, struct handover_reply *ret, char *err, size_t n_err)
{
        uint8_t in[HANDOVER_FRAME_MAX] = {0};
        struct frame_header h = {0};
        int r = receive_all(t, in, FRAME_HEADER_SIZE);

        if (r == 0) {
                h = frame_header_read(in);
                if (frame_header_check(h, HANDOVER_MESSAGE_MAX, 0))
                        FAIL(EPROTO, "the daemon answered with a frame that is none");
                r = receive_all(t, in + FRAME_HEADER_SIZE, h.n_message);
        }
        if (r == -EPIPE)
                FAIL(EPIPE, "the daemon ended the connection");
        if (r == -EMFILE)
                FAIL(EMFILE, "there are more descriptors than this process may have "
                             "(RLIMIT_NOFILE, LimitNOFILE= in the unit)");
        if (r < 0)
                FAIL(-r, "receiving from the daemon: %s", strerror(-r));
        if (!handover_unpack_reply(in + FRAME_HEADER_SIZE, h.n_message, ret))
                FAIL(EPROTO, "the daemon answered with a message that is none");
        if (ret->status == STATUS_UNSUPPORTED || ret->status == STATUS_PROTOCOL)
                FAIL(ENOTSUP,
                     "the running daemon cannot be taken over (%.200s): stop it and start this one",
                     ret->error);
        if (ret->status != STATUS_OK || ret->id != t->last_id)
                FAIL(EPROTO, "the daemon refused: %.250s", ret->error);
        return 0;
}

/* ---- what is received */

static bool is_listening(int fd)
{
        int listens = 0, domain = 0, type = 0;
        socklen_t n = sizeof(int);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) == 0 && listens &&
               getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
               getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
}

static void keep(struct take_over *t, const char *name, int fd, struct log *log)
{
        const char *fault = NULL;

        if (strcmp(name, HANDOVER_NAME_SOCKET) == 0 && t->listen_fd < 0 && is_listening(fd))
                t->listen_fd = fd;
        else if (strcmp(name, HANDOVER_NAME_LOCK) == 0 && t->lock_fd < 0)
                t->lock_fd = fd;
        else
                fault = given_add(&t->given, name, fd);
        if (fault)
                log_peer(log, LOG_WARNING, LOG_KIND_PASSED, LOG_AT_START, NULL,
                         "takeover: the descriptor '%s' was closed: %s", name, fault);
}

/* One message of them; adds their number to *n. */
static int receive_part(struct take_over *t, uint32_t *n, struct log *log, char *err, size_t n_err)
{
        struct handover_reply reply = {0};
        int r = ask(t, HANDOVER_NEXT, err, n_err);

        if (r == 0)
                r = hear(t, &reply, err, n_err);
        if (r < 0)
                return r;
        if (reply.n_names != t->n_fds || t->n_fds == 0)
                FAIL(EPROTO, "the daemon sent %zu names with %zu descriptors", reply.n_names,
                     t->n_fds);
        for (size_t i = 0; i < t->n_fds; i++)
                keep(t, reply.names[i], t->fds[i], log);
        *n += (uint32_t)t->n_fds;
        t->n_fds = 0;
        return 0;
}

/* The daemon had as many as it could; so do we. */
static void raise_nofile(void)
{
        struct rlimit lim;

        if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
                lim.rlim_cur = lim.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &lim);
        }
}

int take_over_begin(struct take_over *t, const char *path, struct log *log, char *err, size_t n_err)
{
        struct handover_reply reply = {0};
        int r;

        *t = (struct take_over){.fd = -1, .peer_fd = -1, .listen_fd = -1, .lock_fd = -1};
        raise_nofile();
        r = connect_to(t, path, err, n_err);
        if (r == 0)
                r = ask(t, HANDOVER_BEGIN, err, n_err);
        if (r == 0)
                r = hear(t, &reply, err, n_err);
        if (r < 0)
                return r;
        (void)snprintf(t->version, sizeof(t->version), "%s", reply.version);
        t->instance = reply.instance;
        if (t->instance == 0)
                FAIL(EPROTO, "the daemon does not tell its instance number");
        for (uint32_t n = 0; n < reply.descriptors && r == 0;)
                r = receive_part(t, &n, log, err, n_err);
        if (r == 0 && t->listen_fd < 0)
                FAIL(EPROTO, "the daemon did not send the socket that it listens on");
        return r;
}

/* ---- the end */

/* The daemon has certainly ended. */
static bool is_dead(const struct take_over *t)
{
        struct pollfd p = {.fd = t->peer_fd, .events = POLLIN};

        return t->peer_fd >= 0 && poll(&p, 1, DEATH_MS) == 1;
}

static void disconnect(struct take_over *t)
{
        if (t->fd >= 0)
                close(t->fd);
        if (t->peer_fd >= 0)
                close(t->peer_fd);
        t->fd = t->peer_fd = -1;
}

int take_over_confirm(struct take_over *t, char *err, size_t n_err)
{
        struct handover_reply reply = {0};
        int r = ask(t, HANDOVER_DONE, err, n_err);

        if (r == 0)
                r = hear(t, &reply, err, n_err);
        if (r == -EPIPE && is_dead(t))
                r = 0;
        disconnect(t);
        return r;
}

void take_over_done(struct take_over *t)
{
        disconnect(t);
        if (t->listen_fd >= 0)
                close(t->listen_fd);
        if (t->lock_fd >= 0)
                close(t->lock_fd);
        for (size_t i = 0; i < t->n_fds; i++)
                close(t->fds[i]);
        t->listen_fd = t->lock_fd = -1;
        t->n_fds = 0;
        given_done(&t->given);
}
