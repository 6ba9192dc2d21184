/* SPDX-License-Identifier: MIT */
#ifndef BENCH_SPAWN_H
#define BENCH_SPAWN_H

/*
 * A daemon of one's own: started in a fresh directory, ended and removed with spawn_done()
 */

#include <stdint.h>
#include <sys/types.h>

#define SPAWN_PATH_MAX 100 /* a socket path has room for 107 bytes */

struct spawn {
        pid_t pid; /* 0: none */
        char dir[SPAWN_PATH_MAX];
        char socket_path[SPAWN_PATH_MAX + 8];
        uint64_t exec_ns; /* CLOCK_MONOTONIC just before the fork */
};

/* The daemon that was built with this program: $CACHED_DAEMON, else daemon/cached in the same
 * build. */
int spawn_find_daemon(char *out, size_t n);

/* 0 or -errno. @config: text of a configuration file, or NULL. Returns before the daemon is ready.
 */
int spawn_start(struct spawn *s, const char *daemon, const char *config, int cpu);

/* Asks it to end, waits up to ten seconds, else kills it. 0: it ended with status 0. */
int spawn_done(struct spawn *s);

#endif
