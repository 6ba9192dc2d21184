/* SPDX-License-Identifier: MIT */
#ifndef BENCH_H
#define BENCH_H

/*
 * A short measurement against the daemon in place
 *
 * A case is one kind of request with one size of value. It is repeated for a slice of time; each
 * repetition is timed.
 */

#include "ctl.h"

#include <sys/types.h>

#define BENCH_CACHE "cachectl-bench"

/* Free budget that is asked for before anything is stored; what the cases store is a third of it.
 */
#define BENCH_NEEDS (UINT64_C(4) << 20)

#define BENCH_BATCH     100
#define BENCH_IN_FLIGHT 16
#define BENCH_LARGEST   65536
#define BENCH_KEY_SIZE  32 /* with the NUL */

struct bench {
        struct ctl *ctl;
        uint64_t slice_ns; /* for each case */
        uint64_t checked_ns;
        int signal;                                /* that wants us to end; 0: none */
        uint64_t id;                               /* in our keys: no other run's, nobody else's */
        uint64_t max_value, max_keys;              /* the daemon's limits */
        char keys[3][BENCH_BATCH][BENCH_KEY_SIZE]; /* made before, by size of value */
        cached_pipeline *pipeline;
        cached_set_options *set_options;
        uint8_t *value;    /* BENCH_LARGEST bytes */
        uint32_t *samples; /* ns each */
        size_t n_samples;
        int echo_fd; /* the other end gives back what it reads */
        pid_t echo_pid;
        const char *failed; /* what could not be measured; NULL: it was a request to the daemon */
};

struct bench_case {
        const char *name;
        size_t value; /* bytes */
        unsigned in_flight, keys;

        /* Measures until the slice is over. A code of the library; CACHED_ERR_USAGE with b->failed
         * set for what is no request. */
        int (*run)(struct bench *b, const struct bench_case *c, cached_reply **ret);
};

struct bench_result {
        bool skipped; /* the daemon does not take so large a value, or so many keys */
        uint64_t n;   /* repetitions */
        uint64_t elapsed_ns, p50_ns, p99_ns;
};

extern const struct bench_case bench_cases[]; /* ends with a name of NULL */
#define BENCH_CASES 12

/* bench.c: 0 or -errno; bench_done() also after a failure. bench_init() forks: before anything is
 * connected. */
int bench_init(struct bench *b, struct ctl *ctl, uint64_t seconds);
void bench_done(struct bench *b);
int bench_run(struct bench *b, const struct bench_case *c, struct bench_result *ret_result,
              cached_reply **ret);

/* True: go on. Also looks for signals now and then. */
bool bench_goes_on(struct bench *b, uint64_t start_ns, uint64_t now_ns);
uint64_t bench_now(void);
void bench_sample(struct bench *b, uint64_t ns);

/* bench-case.c: makes the keys, stores what the cases read, and removes all that they stored. */
int bench_fill(struct bench *b, cached_reply **ret);
void bench_clean(struct bench *b);

#endif
