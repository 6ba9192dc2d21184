/* SPDX-License-Identifier: MIT */
#ifndef BENCH_SESSION_LOAD_H
#define BENCH_SESSION_LOAD_H

/*
 * What bench-session needs of a server: sessions, their keys, and requests that are answered in
 * their order
 *
 * open() to end() only queue; next() returns the oldest reply, and sends what is queued before it
 * waits. A client that cannot queue does it all there, and next() only says how it
 * went.
 */

#include <stddef.h>
#include <stdint.h>

#define SESSION_KEY 6 /* bytes */

struct session_client;

struct session_type {
        const char *name;
        unsigned max_window;
        /* @n: sessions at most, ever, numbered from 0. Returns 0 or -errno, as all. */
        int (*connect)(const char *socket_path, uint64_t n, struct session_client **ret);
        void (*disconnect)(struct session_client *c);
        /* NULL: a session begins with its first key, and expire() comes after that. @idle_ms: 0 for
         * never. */
        int (*open)(struct session_client *c, uint64_t session, uint64_t idle_ms);
        int (*expire)(struct session_client *c, uint64_t session, uint64_t ms);
        int (*fill)(struct session_client *c, uint64_t session, unsigned n_keys, const void *value,
                    size_t n_value);
        int (*get)(struct session_client *c, uint64_t session, const char key[SESSION_KEY]);
        int (*set)(struct session_client *c, uint64_t session, const char key[SESSION_KEY],
                   const void *value, size_t n_value);
        int (*all)(struct session_client *c, uint64_t session);
        int (*end)(struct session_client *c, uint64_t session);
        /* *ret: bytes of values that came, where the server tells only these. */
        int (*next)(struct session_client *c, size_t *ret);
};

struct session_client {
        const struct session_type *type;
};

extern const struct session_type session_cached; /* libcached, one in flight */
extern const struct session_type session_raw;    /* cached, frames written by hand */
extern const struct session_type session_redis;  /* a hash each, RESP written by hand */

static inline void session_key(unsigned i, char key[SESSION_KEY])
{
        static const char name[] = "key";
        for (unsigned j = 0; j < sizeof(name) - 1; j++)
                key[j] = name[j];
        for (unsigned j = SESSION_KEY; j > sizeof(name) - 1; j--, i /= 10)
                key[j - 1] = (char)('0' + i % 10);
}

#endif
