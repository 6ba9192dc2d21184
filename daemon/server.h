/* SPDX-License-Identifier: MIT */
#ifndef SERVER_H
#define SERVER_H

/*
 * Server: the loop and everything that hangs off it
 *
 * Owns the event base, the clock, the listener, the connections, the configuration in force and the
 * dispatcher. The part above the line is what main() uses, the part below is for the dispatcher.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct clock;
struct config;
struct conn;
struct dispatcher;
struct given;
struct log;
struct server;
struct take_over;

struct server_params {
        struct config *config;   /* consumed, also on failure */
        const char *config_path; /* borrowed for the server's life; NULL: the default one, if it is
                                    there */
        bool log_level_fixed;    /* the command line set it: the configuration does not change it */
        struct log *log;         /* borrowed for the server's life */
        struct clock *clock;     /* borrowed for the server's life */
        const char *socket_path; /* borrowed; where to bind, or what to call the passed socket */
        int listen_fd;           /* a listening socket that was passed in, consumed; or -1: bind */
        struct take_over *take_over; /* borrowed; NULL: no daemon's place is taken */
        struct given *given;         /* borrowed; NULL: no memory files were passed in. Emptied */
};

/* 0, or a negative errno after the reason was logged. */
int server_new(const struct server_params *p, struct server **ret);
struct server *server_free(struct server *s); /* NULL is fine; returns NULL */

/* Serves until a signal ends it. 0: everything was finished; negative errno: the loop failed. */
int server_run(struct server *s);

/* ---- for the dispatcher */

const struct config *server_config(const struct server *s); /* borrowed until the next reload */
struct dispatcher *server_dispatcher(const struct server *s);
struct log *server_log(const struct server *s);
/* Then mode and group of the socket are not the configuration's. */
bool server_socket_was_passed(const struct server *s);
bool server_log_level_is_fixed(const struct server *s); /* by the command line */

/* Boottime in ns (test clock included) as of the last server_tick(). While a frame is handled: the
 * moment at which its handling began. */
uint64_t server_now_ns(const struct server *s);

uint64_t server_now_ms(const struct server *s);

/* What clocks on the wall say, in ms since 1970 (test clock included). It may be set. */
int64_t server_wall_ms(const struct server *s);

/* Another number after every start. */
uint64_t server_instance(const struct server *s);

/* True once nothing new may begin. A signal that ends the daemon is not enough: what was received
 * before it is still carried out. */
bool server_stopping(const struct server *s);

/* Reads the clock. Called once at the end of each frame, so that one reading is both the end of
 * this frame and the start of the next. Returns the new server_now_ns(). */
uint64_t server_tick(struct server *s);

struct server_stats {
        uint64_t connections;       /* now */
        uint64_t connections_total; /* accepted since the start */
        uint64_t refused;           /* peers that were not let in */
        uint64_t protocol_errors;   /* connections that ended by a violation */
        uint64_t loop_turns;
        uint64_t loop_turn_max_us; /* longest turn of the loop, CPU time */
        uint64_t buffer_bytes;     /* held by connection buffers, spare ones included */
        uint64_t started_ns;       /* boottime */
        uint64_t config_reloads;   /* that succeeded */
};
void server_stats(const struct server *s, struct server_stats *ret);

/* What the service manager keeps for a successor; false: there is none. */
struct server_kept {
        uint64_t max; /* descriptors; 0: it does not listen */
        uint64_t kept, waiting, leaving, leaving_bytes;
};
bool server_kept(const struct server *s, struct server_kept *ret);

/* What a predecessor had: as hub_keep_fd() and hub_watch_process(). */
struct kept;
int server_keep_fd(struct server *s, uid_t uid, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                   struct kept **ret);
struct peer_watch;
struct process_mark;
int server_watch_process(struct server *s, pid_t pid, const struct process_mark *mark,
                         void (*on_end)(void *ctx), void *ctx, struct peer_watch **ret);
/* The address that it listens at; *ret_n 0: it has none. */
struct sockaddr_storage;
void server_own_address(const struct server *s, struct sockaddr_storage *ret, unsigned *ret_n);

/* Begins to hand everything over to the peer of @c, whose request @id this is. The connection is to
 * be closed without a reply. 0, one of these, or -errno. */
enum {
        SERVER_E_BUSY = 1,
        SERVER_E_FOLLOWED, /* the service manager keeps everything for the next daemon */
};
int server_hand_over(struct server *s, struct conn *c, uint64_t id, const char *version);

/* Reads the configuration again and applies it. 0, or a negative errno and the reason (file:line)
 * in
 * @err; the old configuration stays in force then. */
int server_reload(struct server *s, char *err, size_t n_err);

/* Visits every connection that is not closing; @visit returns false to stop. It may queue output
 * and kick or close the connection. */
void server_for_each_conn(struct server *s, bool (*visit)(void *ctx, struct conn *c), void *ctx);

#endif
