/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_BACKOFF_H
#define CLIENT_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "client/failure.h"

/* How long the first pause lasts, and the longest, before jitter of a quarter. */
#define BACKOFF_FIRST_NS 10000000u
#define BACKOFF_MAX_NS   1000000000u

/* Zeroed memory is one of a daemon that is there. */
struct backoff {
        uint32_t n_failures; /* in a row; 0: not away */
        bool silent;         /* it was there and did not answer in time */
        uint64_t until_ns;
        struct failure why;
};

/* An attempt failed. `silent`: the deadline passed. */
void backoff_failed(struct backoff *b, uint64_t now_ns, const struct failure *f);
void backoff_over(struct backoff *b);

static inline bool backoff_is_away(const struct backoff *b)
{
        return b->n_failures > 0;
}

static inline bool backoff_is_pause(const struct backoff *b, uint64_t now_ns)
{
        return b->n_failures > 0 && now_ns < b->until_ns;
}

/* During a pause: the failure of the last attempt, and how long there will be no other. */
int backoff_refuse(const struct backoff *b, uint64_t now_ns, struct failure *f);

#endif
