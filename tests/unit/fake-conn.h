/* SPDX-License-Identifier: MIT */
#ifndef FAKE_CONN_H
#define FAKE_CONN_H

/*
 * What dispatch needs of transport and server, without sockets and without a loop: connections
 * whose output is a growing buffer, a server whose clock stands still until a test moves it. For
 * programs of one source file: the functions are defined here.
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "dispatch/dispatch.h"
#include "log.h"
#include "proto/cached.pb-c.h"
#include "proto/frame.h"
#include "server.h"
#include "transport/conn.h"

struct conn {
        struct server *server;
        struct peer peer;
        void *user;
        uint8_t *out;
        size_t n_out, n_cap, n_room; /* n_room: reserved and not committed */
        uint64_t arrival_ns;
        uint64_t queued_for_long; /* what conn_info() reports besides n_out */
        uint64_t holds;           /* bytes that were asked for */
        int fds[4];               /* that were sent, the test's to close */
        unsigned n_fds;
        int came[8]; /* descriptors that came with the frame, oldest first; -EMFILE: were lost */
        unsigned n_came;
        bool takes_fds;
        struct {
                int fd;
                void (*done)(void *ctx, bool sent);
                void *ctx;
        } files[64]; /* that are queued: fake_conn_send_files() */
        unsigned n_files;
        int watch_error;               /* of conn_watch_peer(); 0: it is watched */
        struct peer_watch **ret_watch; /* where the watch is told; or NULL */
        unsigned kicks, yields, agains;
        bool closed, aborted;
        bool await_drain; /* on_drained() is to be called: the test's to do */
        bool finished;    /* conn_finish() was called */
};

struct server {
        struct dispatcher *dispatcher;
        struct config *cfg;
        struct log *log;
        uint64_t now_ns;
        int64_t wall_ms;
        uint64_t tick_ns; /* that each look at the clock takes, beyond 100 */
        bool is_full;     /* there is no room for bodies */
        bool stopping;
        const char *reload_error; /* NULL: a reload succeeds */
        unsigned reloads;
};

/* ---- server.h */

struct dispatcher *server_dispatcher(const struct server *s)
{
        return s->dispatcher;
}

bool server_log_level_is_fixed(const struct server *s)
{
        (void)s;
        return false;
}

struct log *server_log(const struct server *s)
{
        return s->log;
}

uint64_t server_now_ns(const struct server *s)
{
        return s->now_ns;
}

uint64_t server_now_ms(const struct server *s)
{
        return s->now_ns / 1000000;
}

int64_t server_wall_ms(const struct server *s)
{
        return s->wall_ms;
}

uint64_t server_instance(const struct server *s)
{
        return 4711;
}

bool server_stopping(const struct server *s)
{
        return s->stopping;
}

uint64_t server_tick(struct server *s)
{
        return s->now_ns += 100 + s->tick_ns; /* each frame takes 100 ns */
}

void server_stats(const struct server *s, struct server_stats *ret)
{
        *ret = (struct server_stats){.connections = 3, .started_ns = 1};
}

bool server_socket_was_passed(const struct server *s)
{
        (void)s;
        return false;
}

/* No service manager has started this. */
bool server_kept(const struct server *s, struct server_kept *ret)
{
        (void)s;
        (void)ret;
        return false;
}

/* Nobody takes over here. */
int server_hand_over(struct server *s, struct conn *c, uint64_t id, const char *version)
{
        (void)s;
        (void)c;
        (void)id;
        (void)version;
        return SERVER_E_BUSY;
}

int server_reload(struct server *s, char *err, size_t n_err)
{
        s->reloads++;
        if (!s->reload_error)
                return 0;
        snprintf(err, n_err, "%s", s->reload_error);
        return -EINVAL;
}

void log_peer(struct log *l, int priority, enum log_kind kind, uint64_t now_ns,
              const struct log_fields *fields, const char *format, ...)
{
        char line[2048];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        assert(n > 0);
}

void log_write(struct log *l, int priority, const char *format, ...)
{
        (void)l;
        (void)priority;
        (void)format;
}

void log_event(struct log *l, int priority, const struct log_fields *fields, const char *format,
               ...)
{
        (void)l;
        (void)priority;
        (void)fields;
        (void)format;
}

/* ---- conn.h */

struct server *conn_server(struct conn *c)
{
        return c->server;
}

const struct peer *conn_peer(const struct conn *c)
{
        return &c->peer;
}

void *conn_user(const struct conn *c)
{
        return c->user;
}

void conn_set_user(struct conn *c, void *user)
{
        c->user = user;
}

int conn_put_fds(struct conn *c, const int *fds, unsigned n_fds, size_t room)
{
        assert(c->n_fds == 0 && n_fds <= sizeof(c->fds) / sizeof(c->fds[0]));
        memcpy(c->fds, fds, n_fds * sizeof(*fds));
        c->n_fds = n_fds;
        return 0;
}

void conn_accept_fds(struct conn *c)
{
        c->takes_fds = true;
}

int conn_take_fd(struct conn *c)
{
        if (c->n_came == 0)
                return -ENOENT;
        int fd = c->came[0];
        memmove(c->came, c->came + 1, --c->n_came * sizeof(c->came[0]));
        return fd;
}

void conn_drop_fd(struct conn *c, int fd)
{
        (void)c;
        close(fd);
}

struct kept {
        int fd;
};

int conn_keep_fd(struct conn *c, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                 struct kept **ret)
{
        struct kept *k = malloc(sizeof(*k));

        (void)c;
        (void)on_hang_up;
        (void)ctx;
        if (!k)
                return -ENOMEM;
        k->fd = fd;
        *ret = k;
        return 0;
}

int kept_fd(const struct kept *k)
{
        return k->fd;
}

struct kept *kept_free(struct kept *k)
{
        if (k)
                close(k->fd);
        free(k);
        return NULL;
}

struct kept *kept_leave(struct kept *k)
{
        return kept_free(k);
}

void conn_own_address(const struct conn *c, struct sockaddr_storage *ret, unsigned *ret_n)
{
        (void)c;
        (void)ret;
        *ret_n = 0;
}

int conn_put_file(struct conn *c, int fd, bool is_only_way, size_t room,
                  void (*done)(void *ctx, bool sent), void *ctx)
{
        assert(c->n_files < sizeof(c->files) / sizeof(c->files[0]));
        c->files[c->n_files].fd = fd;
        c->files[c->n_files].done = done;
        c->files[c->n_files++].ctx = ctx;
        return 0;
}

struct peer_watch {
        void (*on_end)(void *ctx);
        void *ctx;
        bool over; /* and nobody was told yet */
};

int conn_watch_peer(const struct conn *c, void (*on_end)(void *ctx), void *ctx,
                    struct peer_watch **ret)
{
        struct peer_watch *w;

        if (c->watch_error)
                return c->watch_error;
        w = malloc(sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct peer_watch){.on_end = on_end, .ctx = ctx};
        if (c->ret_watch)
                *c->ret_watch = w;
        *ret = w;
        return 0;
}

int server_keep_fd(struct server *s, uid_t uid, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                   struct kept **ret)
{
        (void)s;
        (void)uid;
        return conn_keep_fd(NULL, fd, on_hang_up, ctx, ret);
}

void server_own_address(const struct server *s, struct sockaddr_storage *ret, unsigned *ret_n)
{
        (void)s;
        conn_own_address(NULL, ret, ret_n);
}

int server_watch_process(struct server *s, pid_t pid, const struct process_mark *mark,
                         void (*on_end)(void *ctx), void *ctx, struct peer_watch **ret)
{
        struct conn fake = {0};
        (void)s;
        (void)pid;
        (void)mark;
        return conn_watch_peer(&fake, on_end, ctx, ret);
}

void peer_watch_mark(const struct peer_watch *w, pid_t pid, struct process_mark *ret)
{
        (void)w;
        *ret = (struct process_mark){.start = (uint64_t)pid};
}

bool peer_watch_is_over(const struct peer_watch *w)
{
        return w->over;
}

struct peer_watch *peer_watch_free(struct peer_watch *w)
{
        free(w);
        return NULL;
}

uint64_t conn_arrival_ns(const struct conn *c)
{
        return c->arrival_ns;
}

uint8_t *conn_reserve(struct conn *c, size_t n)
{
        assert(n > 0);
        /* A new block each time, so that a write beyond the room is seen by a sanitizer. */
        uint8_t *out = malloc(c->n_out + n);
        if (!out)
                return NULL;
        if (c->n_out > 0)
                memcpy(out, c->out, c->n_out);
        free(c->out);
        c->out = out;
        c->n_room = n;
        return c->out + c->n_out;
}

void conn_commit(struct conn *c, size_t n)
{
        assert(n <= c->n_room);
        c->n_out += n;
        c->n_room = 0;
}

int conn_attach(struct conn *c, const uint8_t *data, uint64_t n, void (*release)(void *), void *ctx)
{
        uint8_t *to = conn_reserve(c, n);
        if (to) {
                memcpy(to, data, n);
                conn_commit(c, n);
        }
        release(ctx);
        return to ? 0 : -ENOMEM;
}

void conn_kick(struct conn *c)
{
        c->kicks++;
}

void conn_await_drain(struct conn *c)
{
        c->await_drain = true;
}

void conn_close(struct conn *c)
{
        c->closed = true;
}

void conn_finish(struct conn *c)
{
        c->finished = true;
}

void conn_abort(struct conn *c)
{
        c->closed = true;
        c->aborted = true;
        c->n_out = 0;
}

bool conn_hold_body(struct conn *c, uint64_t n)
{
        c->holds += n;
        return !c->server->is_full;
}

void conn_yield(struct conn *c)
{
        c->yields++;
}

void conn_info(const struct conn *c, struct conn_info *ret)
{
        *ret = (struct conn_info){
                .id = 1,
                .since_ns = 1,
                .last_ns = c->arrival_ns,
                .queued = c->n_out + c->queued_for_long,
                .closing = c->closed,
        };
}

/* ---- for tests */

static inline struct conn *fake_conn_new(struct server *s, uid_t uid)
{
        struct conn *c = calloc(1, sizeof(*c));
        assert(c);
        c->server = s;
        c->peer = (struct peer){.uid = uid, .gid = (gid_t)uid, .pid = 1234};
        return c;
}

/* What is queued was sent, or never will be. */
static inline void fake_conn_send_files(struct conn *c, bool sent)
{
        for (unsigned i = 0; i < c->n_files; i++)
                c->files[i].done(c->files[i].ctx, sent);
        c->n_files = 0;
}

static inline struct conn *fake_conn_free(struct conn *c)
{
        fake_conn_send_files(c, false);
        for (unsigned i = 0; i < c->n_came; i++)
                if (c->came[i] >= 0)
                        close(c->came[i]);
        dispatch_handler.on_close(c);
        assert(!c->user);
        for (unsigned i = 0; i < c->n_fds; i++)
                close(c->fds[i]);
        free(c->out);
        free(c);
        return NULL;
}

/* Gives the frame to the handler as transport would: a body longer than @inline_max through a sink.
 */
static inline void fake_conn_frame(struct conn *c, const uint8_t *msg, size_t n_msg,
                                   const uint8_t *body, uint64_t n_body, uint64_t inline_max)
{
        c->arrival_ns = c->server->now_ns;
        if (n_body <= inline_max) {
                while (!dispatch_handler.on_frame(c, msg, n_msg, body, n_body, NULL))
                        c->agains++;
                return;
        }
        struct body_sink sink = {0};
        dispatch_handler.on_body(c, msg, n_msg, n_body, &sink);
        if (!sink.dst)
                return;
        while (sink.room < n_body)
                if (!dispatch_handler.on_room(c, sink.room + 1, sink.room + 1, &sink)) {
                        dispatch_handler.drop_sink(c, sink.ctx);
                        return;
                }
        memcpy(sink.dst, body, n_body);
        while (!dispatch_handler.on_frame(c, msg, n_msg, sink.dst, n_body, sink.ctx))
                c->agains++;
}

/* The configuration that the text describes. */
static inline struct config *fake_config(const char *text)
{
        char path[] = "/tmp/test-config-XXXXXX", err[CONFIG_ERR_MAX] = "";
        int fd = mkstemp(path);
        assert(fd >= 0);
        FILE *f = fdopen(fd, "w");
        assert(f);
        fputs(text, f);
        fclose(f);
        struct config *cfg = NULL;
        int r = config_load(path, &cfg, err, sizeof(err));
        if (r < 0)
                fprintf(stderr, "%s\n", err);
        assert(r == 0);
        remove(path);
        return cfg;
}

#endif
