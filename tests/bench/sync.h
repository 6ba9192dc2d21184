/* SPDX-License-Identifier: MIT */
#ifndef BENCH_SYNC_H
#define BENCH_SYNC_H

/*
 * What bench-calls needs of a cache server: gets that wait for their answer, of one key or of many
 */

#include <stddef.h>

#define SYNC_BATCH_MAX 1024
#define SYNC_KEY_SIZE  32

struct sync_client;

struct sync_type {
        const char *name;
        const char *help;
        /*
         * @first: the client of the first thread, or NULL for that; a library whose clients are
         * made for many threads gives a share of it. Returns 0 or -errno.
         */
        int (*open)(const char *socket_path, struct sync_client *first, struct sync_client **ret);
        void (*close)(struct sync_client *c);
        /* How many of `n` keys were found, or -errno. */
        int (*get)(struct sync_client *c, unsigned n, char (*keys)[SYNC_KEY_SIZE]);
};

struct sync_client {
        const struct sync_type *type;
};

extern const struct sync_type sync_cached;         /* one handle for all threads */
extern const struct sync_type sync_cached_handles; /* a handle a thread */
extern const struct sync_type sync_cached_sleeps;  /* as the first, and never polls */
extern const struct sync_type sync_bare;           /* cached, one prepared frame of one key */
extern const struct sync_type sync_redis;          /* a connection a thread, as the next two */
extern const struct sync_type sync_memcached;      /* meta commands */
extern const struct sync_type sync_memcached_text; /* the classic commands */

#endif
