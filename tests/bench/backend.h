/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BACKEND_H
#define BENCH_BACKEND_H

/*
 * What the load driver needs of a cache server: pipelined get and set with tags
 *
 * get() and set() only queue; next() returns a reply that has arrived already, else sends what is
 * queued and waits. So every server sees the same batches for the same window.
 */

#include <stddef.h>
#include <stdint.h>

enum outcome {
        OUTCOME_OK = 0,
        OUTCOME_MISS,
        OUTCOME_REFUSED, /* the server had no room */
        OUTCOME_ERROR,   /* anything else: the driver stops */
};

struct reply {
        uint64_t tag;
        enum outcome outcome;
        size_t n_value; /* of a get */
        char error[96]; /* with OUTCOME_REFUSED and OUTCOME_ERROR: the server's words */
};

struct backend;

struct backend_type {
        const char *name;
        const char *help;
        /* @window: most requests in flight, ever. Returns 0 or -errno. */
        int (*open)(const char *socket_path, unsigned window, struct backend **ret);
        void (*close)(struct backend *b);
        int (*get)(struct backend *b, const char *key, size_t n_key, uint64_t tag);
        int (*set)(struct backend *b, const char *key, size_t n_key, const void *value,
                   size_t n_value, uint64_t ttl_ms, uint64_t tag);
        int (*next)(struct backend *b, struct reply *ret);
};

struct backend {
        const struct backend_type *type;
};

extern const struct backend_type backend_cached;         /* libcached's pipeline */
extern const struct backend_type backend_raw;            /* cached, frames written by hand */
extern const struct backend_type backend_redis;          /* RESP, written by hand */
extern const struct backend_type backend_memcached;      /* meta commands */
extern const struct backend_type backend_memcached_text; /* the classic commands */

#endif
