/* SPDX-License-Identifier: MIT */
/*
 * Upload
 *
 * A body that is longer than a connection buffers goes straight to where it will stay (a large
 * value) or to plain memory (many values at once). What one uid is sending at the same time is
 * bounded: an account per uid lives as long as it has bytes.
 */
#include "dispatch/upload.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "store/large.h"

static struct upload_account **find(struct upload_accounts *accounts, uid_t uid)
{
        struct upload_account **at = &accounts->first;
        while (*at && (*at)->uid != uid)
                at = &(*at)->next;
        return at;
}

static int charge(struct upload_accounts *accounts, uid_t uid, uint64_t n, uint64_t max)
{
        struct upload_account **at = find(accounts, uid);
        uint64_t held = *at ? (*at)->bytes : 0;
        if (n > max || held > max - n)
                return UPLOAD_E_LIMIT;
        if (!*at) {
                struct upload_account *account = calloc(1, sizeof(*account));
                if (!account)
                        return -ENOMEM;
                account->uid = uid;
                *at = account;
        }
        (*at)->bytes += n;
        return 0;
}

static void uncharge(struct upload_accounts *accounts, uid_t uid, uint64_t n)
{
        struct upload_account **at = find(accounts, uid);
        assert(*at && (*at)->bytes >= n);
        (*at)->bytes -= n;
        if ((*at)->bytes == 0) {
                struct upload_account *gone = *at;
                *at = gone->next;
                free(gone);
        }
}

int upload_new(struct upload_accounts *accounts, uid_t uid, uint64_t n, uint64_t max, bool as_large,
               struct upload **ret)
{
        struct upload *u = calloc(1, sizeof(*u));
        if (!u)
                return -ENOMEM;
        int r = charge(accounts, uid, n, max);
        if (r != 0) {
                free(u);
                return r;
        }
        *u = (struct upload){.accounts = accounts, .uid = uid, .n = n};
        if (as_large) {
                r = large_new(n, &u->large);
        } else {
                u->heap = malloc(n);
                r = u->heap ? 0 : -ENOMEM;
        }
        if (r < 0) {
                upload_free(u);
                return r;
        }
        *ret = u;
        return 0;
}

struct upload *upload_free(struct upload *u)
{
        if (!u)
                return NULL;
        store_arrival_end(&u->arrival);
        uncharge(u->accounts, u->uid, u->n);
        large_unref(u->large);
        free(u->heap);
        free(u);
        return NULL;
}

uint8_t *upload_dst(struct upload *u)
{
        return u->large ? u->large->map : u->heap;
}
