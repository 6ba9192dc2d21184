/* SPDX-License-Identifier: MIT */
/*
 * Hello, OpenCache and Subscribe, packed with protobuf-c
 *
 * Each request waits for its reply. Of the descriptors that come with a mapped Hello the arena is
 * kept, all others are closed: nobody here tells the daemon what was read.
 */
#include "hello.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/cached.pb-c.h"
#include "proto/frame.h"

#define FDS_MAX 8

struct answer {
        uint8_t bytes[65536];
        size_t n;
        int fds[FDS_MAX];
        size_t n_fds;
};

static void close_fds(struct answer *a)
{
        while (a->n_fds > 0)
                close(a->fds[--a->n_fds]);
}

static void take_fds(struct answer *a, struct msghdr *m)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
                        if (a->n_fds < FDS_MAX)
                                a->fds[a->n_fds++] = fd;
                        else
                                close(fd);
                }
        }
}

static bool is_whole(const struct answer *a)
{
        return a->n >= FRAME_HEADER_SIZE &&
               a->n - FRAME_HEADER_SIZE >= frame_header_read(a->bytes).n_message;
}

static int receive(int fd, struct answer *a)
{
        a->n = a->n_fds = 0;
        while (!is_whole(a)) {
                _Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
                struct iovec v = {a->bytes + a->n, sizeof(a->bytes) - a->n};
                struct msghdr m = {.msg_iov = &v,
                                   .msg_iovlen = 1,
                                   .msg_control = control,
                                   .msg_controllen = sizeof(control)};
                ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
                if (n <= 0)
                        return n < 0 ? -errno : -EPIPE;
                take_fds(a, &m);
                a->n += (size_t)n;
        }
        return 0;
}

/* *ret: to be freed, unless negative is returned. */
static int ask(int fd, const Cached__V1__Request *q, struct answer *a, Cached__V1__Reply **ret)
{
        uint8_t frame[512];
        size_t n = cached__v1__request__get_packed_size(q);
        if (n > sizeof(frame) - FRAME_HEADER_SIZE)
                return -EMSGSIZE;
        frame_header_write(frame, (uint32_t)n, 0);
        n = FRAME_HEADER_SIZE + cached__v1__request__pack(q, frame + FRAME_HEADER_SIZE);
        if (send(fd, frame, n, MSG_NOSIGNAL) != (ssize_t)n)
                return -EPIPE;
        int e = receive(fd, a);
        Cached__V1__Reply *r = NULL;
        if (e == 0)
                r = cached__v1__reply__unpack(NULL, frame_header_read(a->bytes).n_message,
                                              a->bytes + FRAME_HEADER_SIZE);
        if (!r || r->status != CACHED__V1__STATUS__OK) {
                if (r)
                        cached__v1__reply__free_unpacked(r, NULL);
                close_fds(a);
                return e < 0 ? e : -EPROTO;
        }
        *ret = r;
        return 0;
}

/* Which of the descriptors is the arena's, as the reply says. */
static int keep_arena(const Cached__V1__Reply *r, struct answer *a, struct hello *h)
{
        const Cached__V1__Mapping *m =
                r->result_case == CACHED__V1__REPLY__RESULT_HELLO ? r->hello->mapping : NULL;
        if (!m || m->n_parts != a->n_fds)
                return m ? -EPROTO : -EOPNOTSUPP;
        for (size_t i = 0; i < m->n_parts; i++) {
                if (m->parts[i] != CACHED__V1__MAP_PART__MAP_ARENA)
                        continue;
                h->arena_fd = a->fds[i];
                h->arena_bytes = m->arena_bytes;
                a->fds[i] = a->fds[--a->n_fds];
                return 0;
        }
        return -EPROTO;
}

static int say_hello(struct hello *h, uint64_t features)
{
        Cached__V1__Request q = CACHED__V1__REQUEST__INIT;
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        Cached__V1__Reply *r = NULL;
        struct answer a;
        hello.protocol_min = hello.protocol_max = 1;
        hello.client = (char *)(uintptr_t) "bench";
        hello.features = features;
        q.id = 1;
        q.op_case = CACHED__V1__REQUEST__OP_HELLO;
        q.hello = &hello;
        int e = ask(h->fd, &q, &a, &r);
        if (e < 0)
                return e;
        if (features & CACHED__V1__FEATURE__FEATURE_MAPPED)
                e = keep_arena(r, &a, h);
        close_fds(&a);
        cached__v1__reply__free_unpacked(r, NULL);
        return e;
}

static int open_cache(struct hello *h, const char *cache)
{
        Cached__V1__Request q = CACHED__V1__REQUEST__INIT;
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        Cached__V1__Reply *r = NULL;
        struct answer a;
        open.cache = (char *)(uintptr_t)cache;
        q.id = 2;
        q.op_case = CACHED__V1__REQUEST__OP_OPEN_CACHE;
        q.open_cache = &open;
        int e = ask(h->fd, &q, &a, &r);
        if (e < 0)
                return e;
        close_fds(&a);
        if (r->result_case == CACHED__V1__REPLY__RESULT_CACHE)
                h->cache_id = r->cache->cache_id;
        else
                e = -EPROTO;
        cached__v1__reply__free_unpacked(r, NULL);
        return e;
}

static int make_connection(struct hello *h, const char *path)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        size_t n = strlen(path);
        if (n >= sizeof(a.sun_path))
                return -ENAMETOOLONG;
        memcpy(a.sun_path, path, n + 1);
        h->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (h->fd < 0)
                return -errno;
        return connect(h->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

int hello_open(const char *socket_path, const char *cache, bool mapped, struct hello *ret)
{
        struct hello h = {.fd = -1, .arena_fd = -1};
        int e = make_connection(&h, socket_path);
        if (e == 0)
                e = say_hello(&h, CACHED__V1__FEATURE__FEATURE_LEASES |
                                          (mapped ? CACHED__V1__FEATURE__FEATURE_MAPPED : 0));
        if (e == 0)
                e = open_cache(&h, cache);
        if (e < 0) {
                hello_done(&h);
                return e;
        }
        *ret = h;
        return 0;
}

static int subscribe(const struct hello *h)
{
        Cached__V1__Request q = CACHED__V1__REQUEST__INIT;
        Cached__V1__Subscribe subscribe = CACHED__V1__SUBSCRIBE__INIT;
        Cached__V1__EventKind kinds[] = {CACHED__V1__EVENT_KIND__EVENT_STORED};
        Cached__V1__Reply *r = NULL;
        struct answer a;
        subscribe.kinds = kinds;
        subscribe.n_kinds = 1;
        q.id = 2;
        q.op_case = CACHED__V1__REQUEST__OP_SUBSCRIBE;
        q.subscribe = &subscribe;
        int e = ask(h->fd, &q, &a, &r);
        if (e < 0)
                return e;
        close_fds(&a);
        cached__v1__reply__free_unpacked(r, NULL);
        return 0;
}

int hello_open_events(const char *socket_path, struct hello *ret)
{
        struct hello h = {.fd = -1, .arena_fd = -1};
        int e = make_connection(&h, socket_path);
        if (e == 0)
                e = say_hello(&h, CACHED__V1__FEATURE__FEATURE_EVENTS);
        if (e == 0)
                e = subscribe(&h);
        if (e < 0) {
                hello_done(&h);
                return e;
        }
        *ret = h;
        return 0;
}

void hello_done(struct hello *h)
{
        if (h->fd >= 0)
                close(h->fd);
        if (h->arena_fd >= 0)
                close(h->arena_fd);
        h->fd = h->arena_fd = -1;
}
