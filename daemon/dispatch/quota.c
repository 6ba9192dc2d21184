/* SPDX-License-Identifier: MIT */
/*
 * Quota
 *
 * An account per uid lives as long as it has bytes, so there is nothing to clean up. Few uids hold
 * anything at the same time: accounts are searched one by one. What the bound is, and what the
 * bytes are, the caller knows.
 */
#include "dispatch/quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct quota_account {
        uid_t uid;
        uint64_t bytes;
        struct quota_account *next;
};

static struct quota_account **find(struct quota *q, uid_t uid)
{
        struct quota_account **at = &q->first;
        while (*at && (*at)->uid != uid)
                at = &(*at)->next;
        return at;
}

int quota_take(struct quota *q, uid_t uid, uint64_t n, uint64_t max)
{
        struct quota_account **at = find(q, uid);
        uint64_t held = *at ? (*at)->bytes : 0;
        if (n > max || held > max - n)
                return QUOTA_E_LIMIT;
        if (n == 0)
                return 0;
        if (!*at) {
                struct quota_account *account = calloc(1, sizeof(*account));
                if (!account)
                        return -ENOMEM;
                account->uid = uid;
                *at = account;
        }
        (*at)->bytes += n;
        return 0;
}

void quota_give(struct quota *q, uid_t uid, uint64_t n)
{
        if (n == 0)
                return;
        struct quota_account **at = find(q, uid);
        assert(*at && (*at)->bytes >= n);
        (*at)->bytes -= n;
        if ((*at)->bytes == 0) {
                struct quota_account *gone = *at;
                *at = gone->next;
                free(gone);
        }
}
