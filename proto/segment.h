/* SPDX-License-Identifier: MIT */
#ifndef SEGMENT_H
#define SEGMENT_H

/*
 * A segment as bytes: what holders and the daemon share of one
 *
 * One memory file, sealed against shrinking and growing: a page of head, then the data. The head is
 * written by whoever holds the segment, so nobody takes its word for anything but the lock and the
 * generation, and the daemon looks at nothing behind it. See PROTOCOL.md, "Resources".
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#define SEGMENT_MAGIC   UINT64_C(0x746e656d67657363) /* "csegment" in memory */
#define SEGMENT_VERSION 1
#define SEGMENT_HEAD    4096 /* bytes in front of the data */

/* The lock word: the number of the holder that has it, or 0; and two bits. */
#define SEGMENT_LOCK_NUMBER UINT32_C(0x3fffffff)
#define SEGMENT_LOCK_DIED                                                                          \
        UINT32_C(0x40000000) /* who had it ended with it: the next one is told                     \
                              */
#define SEGMENT_LOCK_WAITERS UINT32_C(0x80000000) /* somebody waits: the daemon hands it over */

struct segment_head {
        uint64_t magic;
        uint32_t version;
        uint32_t spare;
        uint64_t size;               /* of the data */
        _Atomic uint32_t lock;       /* see above */
        _Atomic uint32_t pid;        /* of who has the lock: for people, who look at a core */
        _Atomic uint64_t generation; /* holders count it up when they have changed the data */
};
static_assert(sizeof(struct segment_head) == 40, "the same for all compilers");

#endif
