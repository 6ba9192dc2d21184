/* SPDX-License-Identifier: MIT */
/*
 * Large values of the peers: redis (SET, GET) and memcached (the classic commands)
 *
 * As fast as a client can be: a value is sent from where it lies, in one call with what belongs
 * before and behind it, and received into memory that is there and warm.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "large.h"
#include "stamp.h"

#define LINE_MAX_ 256

struct peer {
        struct large_client base;
        int fd;
        uint8_t *in;
        size_t cap_in;
};

#define WIRE_KEY "a-value-of-megabytes"

static void peer_close(struct large_client *c)
{
        struct peer *p = (struct peer *)c;
        if (p->fd >= 0)
                close(p->fd);
        free(p->in);
        free(p);
}

static int peer_open(const char *path, struct large_client **ret)
{
        struct peer *p = calloc(1, sizeof(*p));
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        if (!p)
                return -ENOMEM;
        strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
        p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
                int e = -errno;
                peer_close(&p->base);
                return e;
        }
        *ret = &p->base;
        return 0;
}

static int send_all(struct peer *p, struct iovec *iov, int n_iov)
{
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n_iov};
        while (m.msg_iovlen > 0) {
                ssize_t n = sendmsg(p->fd, &m, MSG_NOSIGNAL);
                if (n < 0 && errno != EINTR)
                        return -errno;
                for (; n > 0 && m.msg_iovlen > 0; m.msg_iov++, m.msg_iovlen--) {
                        if ((size_t)n < m.msg_iov->iov_len) {
                                m.msg_iov->iov_base = (uint8_t *)m.msg_iov->iov_base + n;
                                m.msg_iov->iov_len -= (size_t)n;
                                break;
                        }
                        n -= (ssize_t)m.msg_iov->iov_len;
                }
        }
        return 0;
}

/* Until there are `need` bytes, or the first line is whole where `need` is 0. */
static int receive(struct peer *p, size_t need, size_t *n)
{
        while (*n < need || (need == 0 && (*n < 2 || !memmem(p->in, *n, "\r\n", 2)))) {
                ssize_t got = recv(p->fd, p->in + *n, p->cap_in - *n, 0);
                if (got <= 0)
                        return got == 0 ? -EPIPE : -errno;
                *n += (size_t)got;
        }
        return 0;
}

static int reserve(struct peer *p)
{
        size_t cap = p->base.n_value + 4 * LINE_MAX_;
        if (p->cap_in >= cap)
                return 0;
        free(p->in);
        p->cap_in = 0;
        p->in = malloc(cap);
        if (!p->in)
                return -ENOMEM;
        memset(p->in, 1, cap);
        p->cap_in = cap;
        return 0;
}

/* A stored answer is @ok and nothing else. */
static int store(struct peer *p, const char *head, const char *ok, uint64_t *ret_ns)
{
        size_t n = 0;
        struct iovec iov[3] = {{(void *)(uintptr_t)head, strlen(head)},
                               {(void *)(uintptr_t)p->base.value, p->base.n_value},
                               {(void *)(uintptr_t) "\r\n", 2}};
        int e = reserve(p);
        uint64_t start = stamp_clock_ns();
        if (e == 0)
                e = send_all(p, iov, 3);
        if (e == 0)
                e = receive(p, 0, &n);
        *ret_ns = stamp_clock_ns() - start;
        if (e == 0 && (n != strlen(ok) || memcmp(p->in, ok, n) != 0))
                e = -EPROTO;
        return e;
}

/* The answer is @head, the value, and @tail. */
static int fetch(struct peer *p, const char *request, const char *head, const char *tail,
                 uint64_t *ret_ns)
{
        size_t n = 0, n_head = strlen(head), n_value = p->base.n_value;
        size_t all = n_head + n_value + strlen(tail);
        struct iovec iov = {(void *)(uintptr_t)request, strlen(request)};
        int e = reserve(p);
        uint64_t start = stamp_clock_ns();
        if (e == 0)
                e = send_all(p, &iov, 1);
        if (e == 0)
                e = receive(p, 0, &n);
        if (e == 0 && (n < n_head || memcmp(p->in, head, n_head) != 0))
                e = -EPROTO;
        if (e == 0)
                e = receive(p, all, &n);
        *ret_ns = stamp_clock_ns() - start;
        if (e == 0 && (n != all || p->in[n_head + n_value - 1] != p->base.value[n_value - 1]))
                e = -EPROTO;
        return e;
}

static int redis_set(struct large_client *c, uint64_t *ret_ns)
{
        char head[LINE_MAX_];
        snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$%zu\r\n" WIRE_KEY "\r\n$%zu\r\n",
                 sizeof(WIRE_KEY) - 1, c->n_value);
        return store((struct peer *)c, head, "+OK\r\n", ret_ns);
}

static int redis_get(struct large_client *c, uint64_t *ret_ns)
{
        char request[LINE_MAX_], head[LINE_MAX_];
        snprintf(request, sizeof(request), "*2\r\n$3\r\nGET\r\n$%zu\r\n" WIRE_KEY "\r\n",
                 sizeof(WIRE_KEY) - 1);
        snprintf(head, sizeof(head), "$%zu\r\n", c->n_value);
        return fetch((struct peer *)c, request, head, "\r\n", ret_ns);
}

static int memcached_set(struct large_client *c, uint64_t *ret_ns)
{
        char head[LINE_MAX_];
        snprintf(head, sizeof(head), "set " WIRE_KEY " 0 0 %zu\r\n", c->n_value);
        return store((struct peer *)c, head, "STORED\r\n", ret_ns);
}

static int memcached_get(struct large_client *c, uint64_t *ret_ns)
{
        char head[LINE_MAX_];
        snprintf(head, sizeof(head), "VALUE " WIRE_KEY " 0 %zu\r\n", c->n_value);
        return fetch((struct peer *)c, "get " WIRE_KEY "\r\n", head, "\r\nEND\r\n", ret_ns);
}

static int redis_fill(struct large_client *c)
{
        uint64_t ns;
        return redis_set(c, &ns);
}

static int memcached_fill(struct large_client *c)
{
        uint64_t ns;
        return memcached_set(c, &ns);
}

static const struct large_way redis_ways[] = {
        {"set", "SET", redis_set},
        {"get", "GET", redis_get},
        {NULL, NULL, NULL},
};

static const struct large_way memcached_ways[] = {
        {"set", "set", memcached_set},
        {"get", "get", memcached_get},
        {NULL, NULL, NULL},
};

const struct large_type large_redis = {
        .name = "redis",
        .help = "redis-server",
        .open = peer_open,
        .close = peer_close,
        .fill = redis_fill,
        .ways = redis_ways,
};

const struct large_type large_memcached = {
        .name = "memcached",
        .help = "memcached, started with -I",
        .open = peer_open,
        .close = peer_close,
        .fill = memcached_fill,
        .ways = memcached_ways,
};
