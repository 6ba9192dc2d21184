/* SPDX-License-Identifier: MIT */
#ifndef QUOTA_H
#define QUOTA_H

/*
 * Quota: bytes that each uid holds of something. See quota.c.
 */

#include <stdint.h>
#include <sys/types.h>

struct quota_account;

/* Zero is an empty one. */
struct quota {
        struct quota_account *first;
};

enum {
        QUOTA_OK = 0,
        QUOTA_E_LIMIT, /* more than @max bytes of this uid */
};

/* 0, QUOTA_E_LIMIT, -ENOMEM. */
int quota_take(struct quota *q, uid_t uid, uint64_t n, uint64_t max);
void quota_give(struct quota *q, uid_t uid, uint64_t n);

#endif
