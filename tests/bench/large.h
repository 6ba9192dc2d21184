/* SPDX-License-Identifier: MIT */
#ifndef BENCH_LARGE_H
#define BENCH_LARGE_H

/*
 * What bench-large times of a cache server: one way to store or to read a value, again and again
 */

#include <stddef.h>
#include <stdint.h>

struct large_client;

/* One way. Both parts return 0 or -errno; what a call does before and after the part that is timed
 * is its own affair. */
struct large_way {
        const char *name;
        const char *help;
        int (*run)(struct large_client *c, uint64_t *ret_ns);
};

struct large_type {
        const char *name;
        const char *help;
        int (*open)(const char *socket_path, struct large_client **ret);
        void (*close)(struct large_client *c);
        /* The value is stored once before anything is timed. */
        int (*fill)(struct large_client *c);
        const struct large_way *ways; /* the last has no name */
};

/* A way keeps to this. */
struct large_client {
        const struct large_type *type;
        const uint8_t *value; /* random bytes */
        size_t n_value;
        uint64_t n_calls;
};

#define LARGE_CACHE "bench"
#define LARGE_KEY   "a value of megabytes"

/* Word by word over one in each page, so that no page stays untouched. */
static inline uint64_t large_read_pages(const void *data, size_t n)
{
        const volatile uint8_t *p = data;
        uint64_t sum = 0;
        for (size_t at = 0; at < n; at += 4096)
                sum += p[at];
        return sum;
}

extern const struct large_type large_cached;
extern const struct large_type large_redis;
extern const struct large_type large_memcached;

#define LARGE_TYPES                                                                                \
        {                                                                                          \
                &large_cached, &large_redis, &large_memcached                                      \
        }
#define LARGE_N_TYPES 3

#endif
