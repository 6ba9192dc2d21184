/* SPDX-License-Identifier: MIT */
#ifndef CLOCK_H
#define CLOCK_H

/*
 * The daemon's clock: boottime, which goes on during suspend and never goes back. Only the server
 * reads it; everything else is given `now`.
 *
 * A build with the test clock adds an offset that lies in a small file shared with the tester: 8
 * bytes, milliseconds, signed, in the machine's byte order. Release builds have no such thing.
 */

#include <stdbool.h>
#include <stdint.h>

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)

struct clock {
#ifdef CACHED_TEST_CLOCK
        const volatile int64_t *offset_ms; /* mapped; NULL: none */
        int64_t fake_offset_ms;            /* for unit tests in the same process */
        uint64_t last_ns;
#else
        char none;
#endif
};

void clock_init(struct clock *c);
void clock_done(struct clock *c);

#ifdef CACHED_TEST_CLOCK
/* Takes the offset from the file behind @fd, which stays the caller's. 0 or a negative errno. */
int clock_init_fd(struct clock *c, int fd);
#endif

/* What is added to boottime. */
int64_t clock_offset_ms(const struct clock *c);

/* True: time may jump, so that a timer of the kernel does not tell when it is due. */
bool clock_is_shifted(const struct clock *c);

uint64_t clock_now_ns(struct clock *c);

/* Without that: what other processes of the machine read. */
uint64_t clock_boottime_ms(void);

/* Milliseconds since 1970, of a clock that may be set. */
int64_t clock_wall_ms(void);

/* CPU time of the calling thread, and a plain monotonic reading, for measuring. */
uint64_t clock_cpu_ns(void);
uint64_t clock_monotonic_ns(void);

#endif
