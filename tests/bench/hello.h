/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HELLO_H
#define BENCH_HELLO_H

/*
 * The beginning of a connection to cached, without libcached: connect, Hello, OpenCache or
 * Subscribe
 */

#include <stdbool.h>
#include <stdint.h>

struct hello {
        int fd;
        uint32_t cache_id;
        int arena_fd; /* -1: not asked for */
        uint64_t arena_bytes;
};

/* 0 or -errno; -EOPNOTSUPP: the daemon does not let its arena be mapped. Then nothing is open. */
int hello_open(const char *socket_path, const char *cache, bool mapped, struct hello *ret);

/* Hello, and Subscribe to every store of the realm: what comes on the socket then are events, a
 * frame each. 0 or -errno. */
int hello_open_events(const char *socket_path, struct hello *ret);

void hello_done(struct hello *h);

#endif
