/* SPDX-License-Identifier: MIT */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H

/*
 * A daemon that does what a test says: a thread that listens on a socket in a directory of its own
 * and gives each connection, one after the other, to the test's function.
 *
 * Helpers that read return false at the end of the stream; a test's function then returns, and the
 * connection is closed. They write as far as the client reads, without SIGPIPE.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/cached.pb-c.h"
#include "proto/frame.h"

struct fake {
        char dir[64], path[108];
        int listener;
        int stop[2]; /* closed at its write end: everybody stops waiting */
        pthread_t thread;
        void (*serve)(struct fake *d, int fd, int nth);
        void *data;
        atomic_int n_connections;
        /* What the next Hello says. */
        uint32_t max_in_flight;
        uint64_t max_message, max_value, max_lz4;
        uint64_t instance, features;
        Cached__V1__Role role;
        /* What the last Hello said. */
        pthread_mutex_t lock;
        uint64_t hello_id;
        size_t n_client_id;
        uint8_t client_id[16];
};

struct fake_request {
        Cached__V1__Request *m;
        uint8_t *body;
        size_t n_body;
        int file; /* that came with its first byte; -1 */
};

/* False: the client closed, or the test ends. */
static inline bool fake_readable(struct fake *d, int fd)
{
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = d->stop[0], .events = POLLIN}};

        while (poll(p, 2, -1) < 0)
                assert(errno == EINTR);
        return p[1].revents == 0;
}

/* One receive; *file is what came along, if anything did. */
static inline ssize_t fake_recv(int fd, void *to, size_t n, int *file)
{
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = {to, n};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
        struct cmsghdr *h = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;

        if (h) {
                assert(file && *file < 0 && h->cmsg_len == CMSG_LEN(sizeof(int)));
                memcpy(file, CMSG_DATA(h), sizeof(int));
        }
        return got;
}

static inline bool fake_read_with(struct fake *d, int fd, void *to, size_t n, int *file)
{
        uint8_t *p = to;

        while (n > 0) {
                ssize_t got;

                if (!fake_readable(d, fd))
                        return false;
                got = fake_recv(fd, p, n, file);
                if (got <= 0)
                        return false;
                p += got;
                n -= (size_t)got;
        }
        return true;
}

static inline bool fake_read(struct fake *d, int fd, void *to, size_t n)
{
        return fake_read_with(d, fd, to, n, NULL);
}

static inline bool fake_write(struct fake *d, int fd, const void *from, size_t n)
{
        const uint8_t *p = from;

        while (n > 0) {
                struct pollfd w[2] = {{.fd = fd, .events = POLLOUT},
                                      {.fd = d->stop[0], .events = POLLIN}};
                ssize_t put;

                while (poll(w, 2, -1) < 0)
                        assert(errno == EINTR);
                if (w[1].revents)
                        return false;
                put = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (put < 0 && errno == EAGAIN)
                        continue;
                if (put < 0)
                        return false;
                p += put;
                n -= (size_t)put;
        }
        return true;
}

static inline bool fake_read_request(struct fake *d, int fd, struct fake_request *ret)
{
        uint8_t head[FRAME_HEADER_SIZE], *message;
        struct frame_header h;

        ret->file = -1;
        if (!fake_read_with(d, fd, head, sizeof(head), &ret->file))
                return false;
        h = frame_header_read(head);
        message = malloc(h.n_message);
        ret->body = malloc(h.n_body + 1);
        ret->n_body = h.n_body;
        assert(message && ret->body);
        if (!fake_read(d, fd, message, h.n_message) || !fake_read(d, fd, ret->body, h.n_body)) {
                free(message);
                free(ret->body);
                return false;
        }
        ret->m = cached__v1__request__unpack(NULL, h.n_message, message);
        assert(ret->m);
        free(message);
        return true;
}

static inline void fake_request_done(struct fake_request *r)
{
        cached__v1__request__free_unpacked(r->m, NULL);
        free(r->body);
        if (r->file >= 0)
                close(r->file);
}

/* The frame's bytes, to be freed. */
static inline uint8_t *fake_frame(const Cached__V1__Reply *m, const void *body, size_t n_body,
                                  size_t *ret_n)
{
        size_t n = cached__v1__reply__get_packed_size(m);
        uint8_t *frame = malloc(FRAME_HEADER_SIZE + n + n_body);

        assert(frame);
        frame_header_write(frame, (uint32_t)n, n_body);
        cached__v1__reply__pack(m, frame + FRAME_HEADER_SIZE);
        if (n_body > 0)
                memcpy(frame + FRAME_HEADER_SIZE + n, body, n_body);
        *ret_n = FRAME_HEADER_SIZE + n + n_body;
        return frame;
}

static inline bool fake_reply(struct fake *d, int fd, const Cached__V1__Reply *m, const void *body,
                              size_t n_body)
{
        size_t n;
        uint8_t *frame = fake_frame(m, body, n_body, &n);
        bool ok = fake_write(d, fd, frame, n);

        free(frame);
        return ok;
}

static inline bool fake_reply_status(struct fake *d, int fd, uint64_t id, int status,
                                     const char *text)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;

        m.id = id;
        m.status = (Cached__V1__Status)status;
        m.error = (char *)(uintptr_t)text;
        return fake_reply(d, fd, &m, NULL, 0);
}

static inline bool fake_reply_ping(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__PingResult ping = CACHED__V1__PING_RESULT__INIT;

        ping.uptime_ms = 17;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_PING;
        m.ping = &ping;
        return fake_reply(d, fd, &m, NULL, 0);
}

/* What Get, Set and Touch are answered with. */
static inline bool fake_reply_entry(struct fake *d, int fd, uint64_t id, uint64_t version,
                                    const void *body, size_t n_body)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;

        entry.version = version;
        entry.size = n_body;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        return fake_reply(d, fd, &m, body, n_body);
}

static inline bool fake_reply_cache(struct fake *d, int fd, uint64_t id, const char *name,
                                    uint32_t cache_id)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__CacheInfo cache = CACHED__V1__CACHE_INFO__INIT;

        cache.name = (char *)(uintptr_t)name;
        cache.cache_id = cache_id;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_CACHE;
        m.cache = &cache;
        return fake_reply(d, fd, &m, NULL, 0);
}

static inline uint8_t *fake_hello_frame(const struct fake *d, uint64_t id, size_t *ret_n)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__HelloResult hello = CACHED__V1__HELLO_RESULT__INIT;

        hello.protocol = 1;
        hello.version = (char *)(uintptr_t) "fake";
        hello.realm = (char *)(uintptr_t) "uid:7";
        hello.max_message_bytes = d->max_message;
        hello.max_value_bytes = d->max_value;
        hello.max_lz4_bytes = d->max_lz4;
        hello.max_requests_in_flight = d->max_in_flight;
        hello.instance = d->instance;
        hello.features = d->features;
        hello.role = d->role;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_HELLO;
        m.hello = &hello;
        return fake_frame(&m, NULL, 0, ret_n);
}

static inline bool fake_hello(struct fake *d, int fd)
{
        struct fake_request r;
        uint8_t *frame;
        uint64_t id;
        size_t n;
        bool ok;

        if (!fake_read_request(d, fd, &r))
                return false;
        assert(r.m->op_case == CACHED__V1__REQUEST__OP_HELLO);
        id = r.m->id;
        pthread_mutex_lock(&d->lock);
        d->hello_id = id;
        d->n_client_id = r.m->hello->client_id.len;
        assert(d->n_client_id <= sizeof(d->client_id));
        if (d->n_client_id > 0)
                memcpy(d->client_id, r.m->hello->client_id.data, d->n_client_id);
        pthread_mutex_unlock(&d->lock);
        fake_request_done(&r);
        frame = fake_hello_frame(d, id, &n);
        ok = fake_write(d, fd, frame, n);
        free(frame);
        return ok;
}

static inline void *fake_run(void *data)
{
        struct fake *d = data;

        for (int nth = 0; fake_readable(d, d->listener); nth++) {
                int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);

                if (fd < 0)
                        continue;
                atomic_fetch_add(&d->n_connections, 1);
                d->serve(d, fd, nth);
                close(fd);
        }
        return NULL;
}

/* The directory and the listening socket, without a thread. */
static inline void fake_listen(struct fake *d, int backlog)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        memset(d, 0, sizeof(*d));
        d->max_in_flight = 1024;
        d->max_message = 1 << 20;
        d->max_value = 1 << 30;
        (void)snprintf(d->dir, sizeof(d->dir), "%s", "/tmp/test-client-XXXXXX");
        assert(mkdtemp(d->dir));
        snprintf(d->path, sizeof(d->path), "%s/s", d->dir);
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", d->path);
        d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert(d->listener >= 0);
        assert(bind(d->listener, (struct sockaddr *)&a, sizeof(a)) == 0);
        assert(listen(d->listener, backlog) == 0);
        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d->stop) == 0);
}

static inline void fake_start(struct fake *d, void (*serve)(struct fake *, int, int), void *data)
{
        fake_listen(d, 64);
        d->serve = serve;
        d->data = data;
        assert(pthread_create(&d->thread, NULL, fake_run, d) == 0);
}

static inline void fake_unlisten(struct fake *d)
{
        close(d->stop[1]);
        if (d->serve)
                pthread_join(d->thread, NULL);
        close(d->stop[0]);
        close(d->listener);
        unlink(d->path);
        rmdir(d->dir);
}

#endif
