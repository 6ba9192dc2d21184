/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HERD_H
#define BENCH_HERD_H

/*
 * A herd: callers that want one value that nobody has computed yet, by one way of agreeing who does
 */

#include <stdint.h>

struct herd_caller;

struct herd_type {
        const char *name;
        /* Of one process; every thread of it shares what is returned, or has an own one. */
        int (*open)(const char *socket_path, struct herd_caller **ret);
        /* Connects whatever the calls of a thread will need, so that no call does. 0 or -errno. */
        int (*warm)(struct herd_caller *c);
        /* The value under this key, computed by @compute(@data) if it is this caller's to do so. 0
         * or -errno. */
        int (*call)(struct herd_caller *c, const char *key, uint64_t (*compute)(void *data),
                    void *data, uint64_t *ret);
        void (*close)(struct herd_caller *c);
        int one_per_thread;
};

struct herd_caller {
        const struct herd_type *type;
};

#define HERD_KEY_SIZE 32 /* with its final zero */

extern const struct herd_type herd_cached; /* cached_memoize() */
extern const struct herd_type herd_redis;  /* SET NX, and GET every 10 ms */

#endif
