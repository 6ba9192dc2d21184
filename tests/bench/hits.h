/* SPDX-License-Identifier: MIT */
#ifndef BENCH_HITS_H
#define BENCH_HITS_H

/*
 * Ways of looking keys up that are compared on a machine's own memory: many look-ups in one go
 *
 * The loop over the keys is each way's own, so that nothing stands between its look-ups.
 */

#include <stdint.h>

#define HITS_KEY   32
#define HITS_VALUE 4096 /* the longest */
#define HITS_CACHE "bench"

struct hits;

struct hits_type {
        const char *name;
        const char *help;
        int (*open)(const char *socket_path, struct hits **ret); /* 0 or -errno */
        void (*close)(struct hits *h);
        /*
         * Looks all keys up, one after the other, and has each value in memory of its own.
         * @stamps: NULL, or @n times, each taken when that look-up was done
         * Returns how many were found, or -errno.
         */
        int (*run)(struct hits *h, unsigned n, char (*keys)[HITS_KEY], uint64_t *stamps);
};

struct hits {
        const struct hits_type *type;
};

extern const struct hits_type hits_cached; /* cached_get(), mapped */
extern const struct hits_type hits_many;   /* cached_get_many() of 100, mapped */
extern const struct hits_type hits_socket; /* cached_get(), not mapped */
extern const struct hits_type hits_bare;   /* hash, probe, copy: no checks */

#define HITS_TYPES                                                                                 \
        {                                                                                          \
                &hits_cached, &hits_many, &hits_socket, &hits_bare                                 \
        }
#define HITS_N_TYPES 4

const struct hits_type *hits_find(const char *name); /* or NULL */

#endif
