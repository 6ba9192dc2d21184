/* SPDX-License-Identifier: MIT */
#ifndef CONN_H
#define CONN_H

/*
 * Connection: frames in, frames out
 *
 * Cuts what a peer sends into frames and hands each to a handler; queues what the handler answers.
 * Knows nothing of protobuf. Bounds: so many requests, bytes and microseconds, then others get
 * their turn; so much memory for incomplete frames of one uid, and of all; no reading while too
 * much output waits; a frame must complete in time; a slow reader is dropped in time. A connection
 * is never freed inside its own callback: conn_close() marks it, the server reaps it at the end of
 * the loop turn.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct conn;
struct server;

/* Who is at the other end, by the kernel's word. */
struct peer {
        uid_t uid;
        gid_t gid;
        pid_t pid;
        gid_t *gids; /* supplementary groups; owned by the connection */
        size_t n_gids;
};

/* Where a long body goes while it arrives. dst NULL: it is thrown away. */
struct body_sink {
        uint8_t *dst;
        uint64_t room; /* bytes that may be written there now; on_room() is asked for more */
        void *ctx;     /* handed to on_frame(), or to drop_sink() if the frame never completes */
        bool wait;     /* nowhere yet: conn_hold_body() said so; on_body() is called again */
};

struct conn_handler {
        /* Optional. These messages are complete and come to on_frame() next, in this order: a
         * chance to bring into the processor's caches what they will need, all at once instead of
         * one by one. */
        void (*on_ahead)(struct conn *c, const uint8_t *const *msgs, const size_t *n_msgs,
                         unsigned n);
        /* Optional. Bytes were received; the frames that they complete come next. */
        void (*on_received)(struct conn *c);
        /* A complete frame. @body is borrowed; @sink_ctx is what on_body() gave for a long body,
         * else NULL. Every frame ends here unless on_body() said to throw its body away. False: the
         * frame is not done with. Others have their turns first, then it comes again. */
        bool (*on_frame)(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                         uint64_t n_body, void *sink_ctx);
        /* The frame that was not done with never comes again. */
        void (*drop_frame)(struct conn *c);
        /* A message whose body is longer than the connection buffers: decide where the body goes.
         * With dst NULL the handler has answered already and will not see the frame again. */
        void (*on_body)(struct conn *c, const uint8_t *msg, size_t n_msg, uint64_t n_body,
                        struct body_sink *ret);
        /* More is about to arrive: room for the first @n bytes, of which @n_copied are written by
         * the processor. False: there is none; the request was answered, the sink is dropped and
         * the rest of the body thrown away. Only called where `room` is less than the body. */
        bool (*on_room)(struct conn *c, uint64_t n, uint64_t n_copied, struct body_sink *sink);
        void (*drop_sink)(struct conn *c, void *sink_ctx);
        /* Optional. All output was sent, as conn_await_drain() asked for. Nothing may be queued
         * here: it is before the end of the turn. */
        void (*on_drained)(struct conn *c);
        /* The bytes cannot be a frame, or the peer sent what it must not. The handler queues the
         * last reply; the connection closes after it was sent (or could not be). */
        void (*on_violation)(struct conn *c, const char *what);
        /* The last call for this connection. */
        void (*on_close)(struct conn *c);
};

/* ---- for the handler */

struct server *conn_server(struct conn *c);
const struct peer *conn_peer(const struct conn *c);
void *conn_user(const struct conn *c);
void conn_set_user(struct conn *c, void *user);

/* Boottime in ns at which the frame now being handled was complete. */
uint64_t conn_arrival_ns(const struct conn *c);

/* Room for @n contiguous output bytes; NULL: no memory (nothing changed). Then commit what was
 * written. */
uint8_t *conn_reserve(struct conn *c, size_t n);
void conn_commit(struct conn *c, size_t n);
/* Queues @n bytes without copying; @release(@ctx) when sent or dropped. 0 or -ENOMEM (released
 * then). */
int conn_attach(struct conn *c, const uint8_t *data, uint64_t n, void (*release)(void *),
                void *ctx);
/* What is reserved and committed next goes out with these descriptors (at most OUTBUF_FDS_MAX) on
 * its first byte; @room bytes of it may be. They are consumed. 0 or -ENOMEM: they are still the
 * caller's. */
int conn_put_fds(struct conn *c, const int *fds, unsigned n_fds, size_t room);
/* The same with one descriptor that stays the caller's, and must stay open until @done(@ctx) is
 * called, with whether it was sent. 0; -ENOMEM; -EBUSY: too many wait to be taken by this peer's
 * uid, or by all: fewer where it is not the only way to tell the peer. Unless 0, @done is not
 * called. */
int conn_put_file(struct conn *c, int fd, bool is_only_way, size_t room,
                  void (*done)(void *ctx, bool sent), void *ctx);
/* Sends what was queued from outside a handler call (events). */
void conn_kick(struct conn *c);

/* When all output is sent on_drained() is called, once. */
void conn_await_drain(struct conn *c);

/* From now on descriptors may come, each with a frame that names it: conn_take_fd() while that is
 * handled. Without this one that comes is a violation. */
void conn_accept_fds(struct conn *c);
/* The oldest that has come; the caller's from then on, and what it is nobody has looked at.
 * -ENOENT: none has; -EMFILE: it came, but there was no room for it in the descriptor table. */
int conn_take_fd(struct conn *c);
/* Consumes a descriptor of the peer's, whose close() may hang. */
void conn_drop_fd(struct conn *c, int fd);

/* Calls @on_end(@ctx) once when the process at the other end has ended, whether or not the
 * connection has; until then the watch is the caller's to free. 0; -ENOTSUP: this machine cannot;
 * -ESRCH: it has ended; -EMFILE, -ENOMEM … */
struct peer_watch;
int conn_watch_peer(const struct conn *c, void (*on_end)(void *ctx), void *ctx,
                    struct peer_watch **ret);
/* Whether it has ended, also when @on_end was not called yet. */
bool peer_watch_is_over(const struct peer_watch *w);
/* By what the process can be told from a later one with its id, also by another process. Both 0:
 * by nothing. */
struct process_mark {
        uint64_t start; /* when it began, in ticks since the machine did; 0: nobody tells */
        uint64_t ino;   /* of its pidfd; 0: all of them have the same here */
};
void peer_watch_mark(const struct peer_watch *w, pid_t pid, struct process_mark *ret);
struct peer_watch *peer_watch_free(struct peer_watch *w); /* NULL is fine; returns NULL */

/* Keeps @fd, which has come over @c and is consumed, also when @c has ended. With @on_hang_up that
 * is called, once, when its other end closes (it is a stream or seqpacket socket then). 0, or
 * -errno, -EMFILE where those that are left are for connections: then @fd is the caller's still. */
struct kept;
int conn_keep_fd(struct conn *c, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                 struct kept **ret);
int kept_fd(const struct kept *k); /* borrowed */
/* Closes it elsewhere, since that may hang. NULL is fine; returns NULL. */
struct kept *kept_free(struct kept *k);
/* All connections are gone, and the process ends: it closes with that. NULL is fine; returns NULL.
 */
struct kept *kept_leave(struct kept *k);

/* The address at which this peer found the daemon, of *ret_n bytes. */
struct sockaddr_storage;
void conn_own_address(const struct conn *c, struct sockaddr_storage *ret, unsigned *ret_n);

/* Closes when the queued output is sent, or at once if it cannot be. No more frames are handled. */
void conn_close(struct conn *c);

/* What has come is handled, then it closes, as if the peer had closed its end. */
void conn_finish(struct conn *c);

/* Room for a body of @n bytes in plain memory, in on_body(); given back after the frame. False:
 * there is none at the moment. */
bool conn_hold_body(struct conn *c, uint64_t n);

/* Ends at once: nothing more of it is read, handled or sent. Not for the connection that is being
 * handled. */
void conn_abort(struct conn *c);

/* The socket goes on without the connection, which is to be closed then: nothing that was queued or
 * is still to be read goes through it any more. 0 and a descriptor of the caller's, or -errno. */
int conn_take_socket(struct conn *c, int *ret_fd);

/* No more frames of it are handled in this turn, after the one that is. */
void conn_yield(struct conn *c);

struct conn_info {
        uint64_t id;
        uint64_t since_ns, last_ns; /* boottime: accepted, last frame */
        uint64_t requests, bytes_in, bytes_out, queued, buffered;
        bool closing; /* what is queued is the last that it is sent */
};
void conn_info(const struct conn *c, struct conn_info *ret);

#endif
