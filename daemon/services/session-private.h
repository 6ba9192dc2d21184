/* SPDX-License-Identifier: MIT */
#ifndef SESSION_PRIVATE_H
#define SESSION_PRIVATE_H

/* How a record is written down: for session-record.c, which reads, and session-change.c. */

#include <string.h>

#include "services/session-record.h"

/* Head: where its fields begin. Numbers are little-endian, as everything in the arena. The last two
 * are those of sessions that are bound. */
enum {
        HEAD_LAYOUT = 0,
        HEAD_FLAGS = 1,
        HEAD_N_LABEL = 2,
        HEAD_N_LANES = 3,
        HEAD_N_ITEMS = 4,
        HEAD_CREATED = 8,
        HEAD_IDLE = 16,
        HEAD_VERSION = 24,
        HEAD_VERIFIER = 32,
        HEAD_GRACE = 48,
        HEAD_UNTIL = 52,
};

#define SESSION_LAYOUT 1u
#define SESSION_BOUND  1u
#define SESSION_FORGOT 2u

#define ITEM_HAS_FLAGS 0x80u /* in the byte of the key's length less one */
#define VARINT_MAX     10u
#define ITEM_OVERHEAD  (2 * VARINT_MAX + 1 + 4) /* at most */
#define LANE_HEAD      18u                      /* lane, number, length of the answer */

struct session_lane {
        uint64_t lane, number;
        uint64_t version;      /* of the session after it */
        const uint8_t *answer; /* which operation's it is tells what it means */
        uint16_t n_answer;
        const uint8_t *begin, *end; /* of it all */
};

static inline void session_put(uint8_t *to, uint64_t x, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                to[i] = (uint8_t)(x >> (8 * i));
}

static inline uint64_t session_take(const uint8_t *from, unsigned n)
{
        uint64_t x = 0;
        for (unsigned i = 0; i < n; i++)
                x |= (uint64_t)from[i] << (8 * i);
        return x;
}

/* The next lane from *at on, which is NULL at the start. False: that was all. */
bool session_record_lane(const struct session_record *r, const uint8_t **at,
                         struct session_lane *ret);

#endif
