/* SPDX-License-Identifier: MIT */
#ifndef CONN_PRIVATE_H
#define CONN_PRIVATE_H

/*
 * What conn.c and hub.c share: the connection itself. Nothing else includes this.
 */

#include "transport/fdqueue.h"
#include "transport/hub.h"
#include "transport/inbuf.h"
#include "transport/outbuf.h"

/* A body that is too long for the input buffer and on its way into its sink. Its header and message
 * stay at the front of the input buffer until it is complete. */
struct conn_body {
        bool active;
        struct body_sink sink;
        uint64_t size, got;
        size_t n_message;
};

struct conn {
        struct hub *hub;
        struct list node;      /* hub->conns or hub->dead */
        struct list turn_node; /* in hub->turns: something is to be done */
        struct list kick_node; /* hub->kicked */
        struct list fds_node;  /* hub->fd_senders */
        int fd;
        struct event read_event, write_event, timer;
        struct peer peer;
        struct account *account;
        void *user;

        struct inbuf in;
        struct outbuf out;
        struct conn_body body;
        struct hold hold; /* for the frame that is not complete */
        size_t need;      /* bytes from the start of `in` that are known to be waited for */

        uint64_t slice_ns; /* when its turn in the line, or its read, began */
        uint64_t turn;     /* the loop turn that `budget` is of */
        uint64_t budget;   /* frames that may still be handled in it */

        uint64_t frame_since_ns; /* when the incomplete frame began; 0: there is none */
        uint64_t frame_body;     /* length of its body, as far as known */
        uint64_t
                stall_since_ns; /* when the peer last took something of the output; 0: none waits */
        uint64_t timer_due_ns;  /* 0: not armed */
        uint64_t fds_due_ns;    /* descriptors have to wait until then; 0: none do */
        unsigned fds_in_flight; /* sent since the socket was last found empty */
        struct fdqueue fds;     /* received, not named yet */

        bool reading, writing; /* which events are added */
        bool held;             /* `in` may hold complete frames that had no turn yet */
        bool ready;            /* the socket may have bytes that had no turn yet */
        bool again;            /* the first frame was begun and comes again */
        bool eof;              /* the peer has ended its side; nothing is left in the socket */
        bool ending;           /* ends when the socket is empty: the daemon ends, or the peer has */
        bool deaf;             /* the peer takes no more: output is thrown away */
        bool closing;          /* no more frames; ends when the output is sent */
        bool dead;
        bool given; /* its socket goes on without it */
        bool takes_fds;
        bool await_drain; /* the handler wants to know when all output is sent */

        uint64_t id, since_ns, last_ns, arrival_ns;
        uint64_t requests, bytes_in, bytes_out;
};

/* Consumes @fd and what @peer holds, also on failure. The account counts the connection. 0 or
 * -errno. */
int conn_new(struct hub *h, int fd, struct peer *peer, struct account *a, struct conn **ret);
void conn_free(struct conn *c); /* after it died */

/* Its turn: handles what is held, then what the socket has, then settles. */
void conn_take_turn(struct conn *c);
/* What it waited for to hold is there. */
void conn_wake(struct conn *c);
/* Sends, and decides what to wait for next. Ends every callback. */
void conn_settle(struct conn *c);
/* Sends what it can. */
void conn_flush(struct conn *c);
void conn_check_deadlines(struct conn *c);
void conn_timer_init(struct conn *c);
/* Arms the timer for what is due next. */
void conn_set_timer(struct conn *c);
/* The peer did what it must not: it is told, and the connection closes. */
void conn_violate(struct conn *c, const char *what);
void conn_out_of_memory(struct conn *c);
/* Descriptors came with what was received last. False: they must not, the peer was told. */
struct received_fds;
bool conn_receive_fds(struct conn *c, const struct received_fds *fds);
/* A frame was handled: the peer is told if a descriptor is left over that came with it. */
void conn_check_fds(struct conn *c);
/* Of the descriptors that were sent none is counted any more. */
void conn_forget_sent_fds(struct conn *c);
/* The hub's watch of kept sockets ends. */
void kept_end(struct hub *h);
/* What was not taken. */
void conn_drop_fds(struct conn *c);
/* Nothing more is handled of it: a frame that is incomplete now stays so. Tells the peer if another
 * process takes the daemon's place. */
void conn_finish_input(struct conn *c);
/* From now on the peer can send nothing more. */
void conn_part(struct conn *c);
/* Finishes what was sent and closes then. */
void conn_end(struct conn *c);

#endif
