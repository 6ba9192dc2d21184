/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "client/buffer.h"
#include "client/deadline.h"
#include "client/failure.h"
#include "client/map.h"
#include "client/names.h"
#include "client/options.h"
#include "client/reply.h"
#include "client/sockpath.h"
#include "client/spin.h"
#include "client/upload.h"

#define CONN_CLIENT_ID_SIZE 16
/* Memory files that came ahead of what names them: with one receive no more than one comes. */
#define CONN_FILES_MAX 4

/*
 * Where a deadline is DEADLINE_NOW, functions wait for nothing: they go as far as they can and
 * return this, with *f untouched. To be called again, with the same arguments, once there is more.
 */
#define CONN_AGAIN (-1)

/* How far the first request has come. */
enum conn_hello_state {
        CONN_HELLO_NEW,
        CONN_HELLO_SENDING,
        CONN_HELLO_ASKED,
        CONN_HELLO_DONE,
};

/*
 * One connection. Owned by a handle or by a pipeline, and used by one thread at a time.
 *
 * Functions that return a code return CACHED_OK or CONN_AGAIN, or set *f. After any failure other
 * than CACHED_ERR_NOMEM for a single reply the stream is out of step: the owner frees the
 * connection.
 */
struct conn {
        int fd;    /* -1: not dialled yet */
        pid_t pid; /* who opened it; in a child it belongs to the parent */
        dev_t dev;
        ino_t ino;
        uint32_t timeout_ms; /* the socket's receive timeout; 0: none */
        uint64_t next_id;
        struct spin spin;
        struct buffer in, out;
        struct names names;

        /* The rest of a body that is being received, and where it goes: borrowed from its reply. */
        uint8_t *body_to;
        size_t n_body_left;
        /* With DEADLINE_NOW: how many receives may still be made. 0 also once one came back short:
         * then there was no more. */
        unsigned n_receives;

        enum conn_hello_state hello_state;
        /* For Hello. */
        bool wants_map;         /* it asks for a mapping */
        bool takes_fds;         /* until its reply has come, and while a memory file may come */
        bool has_bad_fds;       /* more than there can be: none of them is used */
        unsigned n_fds;         /* that came, in offer.fd, in the order in which they came */
        struct map_offer offer; /* what became of that, after Hello */
        bool wants_files;       /* it hands over and takes memory files */
        bool wants_events;      /* it reads events */
        bool has_client_id;
        uint8_t client_id[CONN_CLIENT_ID_SIZE];
        uint64_t hello_id;
        uint64_t hello_ms; /* boottime when it was sent */

        /* From Hello. */
        uint64_t instance;
        uint64_t features;
        bool can_repeat; /* FEATURE_REPEAT */
        uint64_t max_message, max_value, max_lz4;
        uint32_t max_in_flight;
        bool has_files;      /* FEATURE_FILES */
        bool has_leases;     /* FEATURE_LEASES, and a role that gets any */
        uint64_t max_upload; /* 0: no upload area is taken */
        uint64_t file_bytes; /* from this size on values are best sent as memory files */
        uint8_t *hello;      /* the message of its reply, for cached_connect() */
        size_t n_hello;

        /* From the options: what its requests about caches are about. */
        bool has_session;
        uint8_t session[SESSION_TOKEN_SIZE];

        struct upload upload;

        /* Memory files that came and were not taken, the oldest first; -1: there was no room for
         * the descriptor. */
        int files[CONN_FILES_MAX];
        unsigned n_files;
};

/* What part of the bytes the kernel took. */
enum conn_sent {
        CONN_SENT_NOTHING,
        CONN_SENT_PART,
        CONN_SENT_ALL,
};

/*
 * connect.c: finds a daemon, checks who it is, says Hello. *ret_which: the path that answered.
 * conn_open() does it all; in parts, for who wants to know the connection before anything waits on
 * it: conn_dial() ends with CACHED_ERR_CLOSED soon after *stop (may be NULL) became true, and a
 * conn_hello_receive() that ran into its deadline may be called again.
 */
int conn_dial(const struct cached_options *o, const struct sockpaths *paths, struct deadline d,
              const atomic_bool *stop, struct failure *f, struct conn **ret, size_t *ret_which);
int conn_hello(struct conn *c, const struct cached_options *o, struct deadline d,
               struct failure *f);
int conn_hello_send(struct conn *c, const struct cached_options *o, struct deadline d,
                    struct failure *f);
int conn_hello_receive(struct conn *c, struct deadline d, struct failure *f);
/* After CACHED_ERR_TIMEOUT: says why, where who listens is not the daemon. Looks into /proc. */
void conn_hello_late(const struct conn *c, struct failure *f);
int conn_open(const struct cached_options *o, const struct sockpaths *paths, struct deadline d,
              struct failure *f, struct conn **ret, size_t *ret_which);

/*
 * conn_dial() for a connection that is not dialled yet. With DEADLINE_NOW the answer is CONN_AGAIN
 * while the daemon's backlog is full: no descriptor tells when to try again.
 */
int conn_dial_on(struct conn *c, const struct cached_options *o, const struct sockpaths *paths,
                 struct deadline d, const atomic_bool *stop, struct failure *f, size_t *ret_which);

/* One that is not dialled yet. NULL: out of memory. */
struct conn *conn_new(void);
/* Its socket: consumed. */
void conn_attach(struct conn *c, int fd);
struct conn *conn_free(struct conn *c);
/* Sets the socket's receive timeout, if it is another. */
int conn_set_timeout(struct conn *c, uint32_t ms, struct failure *f);
/* In a child of the process that opened it while another thread used it: only the descriptor goes.
 */
void conn_abandon(struct conn *c);

/* Whether the peer has closed or sent a farewell, as far as can be told without waiting. */
bool conn_is_stale(struct conn *c);

/* Waits for room until the deadline. *ret_sent is always set. */
int conn_send(struct conn *c, const struct iovec *iov, size_t n_iov, struct deadline d,
              struct failure *f, enum conn_sent *ret_sent);

/* One attempt, without waiting: 0 bytes if there is no room. `n_iov` is at most CONN_IOV_MAX. */
#define CONN_IOV_MAX 256
int conn_send_some(struct conn *c, struct iovec *iov, size_t n_iov, struct failure *f,
                   size_t *ret_n);
/* conn_send() of one piece with a descriptor, which goes along with its first byte. Borrowed. */
int conn_send_file(struct conn *c, const void *bytes, size_t n, int file, struct deadline d,
                   struct failure *f, enum conn_sent *ret_sent);
/* From now on memory files may come along with replies, or none any more: those that came are
 * closed. */
void conn_expect_file(struct conn *c, bool on);
/* The oldest that came, to be owned; -1: none. *ret_lost: one did, and there was no room for it. */
int conn_take_file(struct conn *c, bool *ret_lost);
/* Until the socket can be read from or written to; with DEADLINE_NOW always CONN_AGAIN. */
int conn_wait(struct conn *c, short events, struct deadline d, struct failure *f,
              short *ret_events);

/*
 * conn_recv_message() - the next frame's message; its body must be received or skipped next
 * @block:  the deadline is `timeout_ms` from now: one blocking receive saves a poll
 */
int conn_recv_message(struct conn *c, struct deadline d, bool block, struct failure *f,
                      struct cached_reply **ret, uint64_t *ret_n_body);
int conn_recv_body(struct conn *c, struct cached_reply *r, uint64_t n_body, struct deadline d,
                   struct failure *f);
/* The same in steps: room for it, then as often as there is more. */
int conn_body_begin(struct conn *c, struct cached_reply *r, uint64_t n_body, struct failure *f);
int conn_body_rest(struct conn *c, struct deadline d, struct failure *f);

/* Looks for a while whether something comes, if that is worth it. True: something did, or the end.
 */
bool conn_linger(struct conn *c);

/* A whole frame is here already: to receive it waits for nothing. */
bool conn_has_frame(const struct conn *c);

/* Events are to be skipped; the daemon's reason for closing ends the connection: then *f has it. */
enum conn_unasked {
        CONN_ASKED,
        CONN_EVENT,
        CONN_FAREWELL,
};
enum conn_unasked conn_classify(const struct cached_reply *r, uint64_t n_body, struct failure *f);

#endif
