/* SPDX-License-Identifier: MIT */
#ifndef HUB_H
#define HUB_H

/*
 * Hub: all connections of a server, and their turns
 *
 * A turn: hub_turn_begin(), then the event loop calls connections back, then hub_turn_end() gives
 * those their next share that still had frames, sends what was queued for others, and frees what
 * was closed. hub_is_busy() says that the loop must not sleep between turns.
 *
 * A turn takes HUB_TURN_NS and what was begun before that. What is not done then waits in line
 * (turns.h); as long as anybody waits there, who becomes ready goes behind them.
 */

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "config.h"
#include "log.h"
#include "transport/blocks.h"
#include "transport/closer.h"
#include "transport/conn.h"
#include "transport/holds.h"
#include "transport/turns.h"

#define HUB_TURN_NS         UINT64_C(1000000)
#define HUB_SLICE_NS        UINT64_C(250000) /* of one connection, while others wait */
#define HUB_ACCOUNT_BUCKETS 64
#define HUB_REFUSAL_MAX     1024

/* What one uid uses. Lives while it has connections or closing jobs. */
struct account {
        struct account *next;
        uid_t uid;
        struct turns_lane lane;
        struct holds_account holds;
        size_t n_conns;
        size_t n_jobs;          /* of the closer, not finished */
        size_t n_job_fds;       /* in them */
        bool overloaded;        /* too many: its connections are not read from */
        unsigned fds_in_flight; /* sent to its connections, and perhaps not taken yet */
        uint64_t fds_short_ns;  /* when it was last looked in vain which were taken; 0: never */
        uint64_t overloaded_since_ns;
};

enum hub_refusal {
        HUB_REFUSED_LIMIT,
        HUB_REFUSED_DENIED,
        HUB_REFUSED_MEMORY,
        HUB_REFUSED_ENDING,
};

struct hub_stats {
        uint64_t connections, connections_total, refused, protocol_errors;
};

struct hub_params {
        struct event_base *base;
        struct clock *clock;
        struct log *log;
        const struct conn_handler *handler;
        struct server *server;              /* for conn_server() only */
        const struct config_limits *limits; /* copied */
        /* Writes the frame that tells a refused peer why into @out and returns its size; 0: none.
         */
        size_t (*refuse)(enum hub_refusal why, const char *text, uint8_t *out, size_t n_out);
};

struct hub {
        struct event_base *base;
        struct clock *clock;
        struct log *log;
        const struct conn_handler *handler;
        struct server *server;
        struct config_limits limits;
        size_t (*refuse)(enum hub_refusal why, const char *text, uint8_t *out, size_t n_out);

        struct list conns;  /* all that are not dead */
        struct list dead;   /* to be freed at the end of the turn */
        struct turns turns; /* who has something to do that waits for its turn */
        struct holds holds;
        struct list kicked;     /* to be settled at the end of this turn */
        struct list fd_senders; /* connections with descriptors in flight */
        unsigned fds_in_flight; /* over all of them */
        struct blocks pool;
        struct account *accounts[HUB_ACCOUNT_BUCKETS];
        struct closer *closer;
        struct event closer_event;
        int ends_fd;   /* watches kept sockets, see kept.c; -1: there were none */
        size_t n_ends; /* in it */
        struct event ends_event;
        struct event overload_timer; /* only while an account is overloaded */
        struct event trim_timer;     /* only while spare buffers are kept */
        struct hub_stats stats;
        uid_t overflow_uid;
        bool trim_armed;
        bool refuse_overflow_uid; /* false where this daemon itself runs as it */
        bool ending;
        bool parting; /* in favour of another process: everybody is told to connect again */
        uint64_t now_ns;
        uint64_t turn;
        uint64_t turn_start_ns; /* when the turn's first event was there; 0: none yet */
        uint64_t turn_frames;   /* handled in this turn */
        bool turn_served;       /* somebody had his share of it */
        uint64_t last_id;
};

int hub_init(struct hub *h, const struct hub_params *p);
void hub_done(struct hub *h); /* closes what is still open */

void hub_set_limits(struct hub *h, const struct config_limits *limits);

/* Reads the clock into now_ns. */
uint64_t hub_tick(struct hub *h);

/* Lets a peer in; @fd is consumed. 0; HUB_E_REFUSED: it was told why; -errno. */
enum {
        HUB_E_REFUSED = 1,
};
int hub_admit(struct hub *h, int fd);

/* The turn has taken as long as it may. */
static inline bool hub_is_late(const struct hub *h)
{
        return h->turn_start_ns != 0 && h->now_ns - h->turn_start_ns >= HUB_TURN_NS;
}

void hub_turn_begin(struct hub *h);
void hub_turn_end(struct hub *h);
bool hub_is_busy(const struct hub *h);

/* No new connections. Each one finishes the frames that were sent to it, sends its replies and
 * closes. */
void hub_end(struct hub *h);
/* The same in favour of another process, which takes new connections over: each one is told to
 * connect again. hub_stay() takes it back, for connections that come from then on. */
void hub_part(struct hub *h);
void hub_stay(struct hub *h);
/* Ends those at once that are still there. */
void hub_abort_all(struct hub *h);
/* Likewise, and they are gone when it returns. Not to be called by one of them. */
void hub_close_all(struct hub *h);
bool hub_is_empty(const struct hub *h);

void hub_for_each(struct hub *h, bool (*visit)(void *ctx, struct conn *c), void *ctx);

/* Closes what is overdue by the hub's clock: what each connection's timer does, for all of them. */
void hub_check_deadlines(struct hub *h);

/* ---- what a predecessor had */

/* As conn_keep_fd(), of a descriptor that a predecessor had of @uid. */
struct kept;
int hub_keep_fd(struct hub *h, uid_t uid, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                struct kept **ret);
/* As conn_watch_peer(), of the process that has this mark; -ESRCH: that one has ended, or nobody
 * can tell. */
struct peer_watch;
struct process_mark;
int hub_watch_process(struct hub *h, pid_t pid, const struct process_mark *mark,
                      void (*on_end)(void *ctx), void *ctx, struct peer_watch **ret);

/* ---- for connections */

struct account *hub_account(struct hub *h, uid_t uid);     /* NULL: no memory */
void hub_account_settle(struct hub *h, struct account *a); /* frees it if nothing is left */

/* Consumes descriptors whose close() may hang. */
void hub_close_elsewhere(struct hub *h, struct account *a, const int *fds, size_t n_fds);
/* Consumes a connected socket. */
void hub_close_socket(struct hub *h, struct account *a, int fd, bool is_drained);

#endif
