/* SPDX-License-Identifier: MIT */
/*
 * Outcomes
 *
 * A table of clients by (uid, realm, client_id). While a client is connected its entry is bounded
 * by the limits on connections; when its connection ends, the entry goes to the end of two lists,
 * of its uid and of all, and leaves from their front: when its time is over, or when either holds
 * too many. So a uid that makes and leaves clients by the thousands pushes out its own first.
 *
 * The timer comes a second late, so that many that end one after the other cause a wake-up a second
 * at most.
 *
 * The realm is named by its serial number and not kept alive: after it was made anew nothing
 * matches any more.
 *
 * Which requests are remembered, and what repeating means, is not known here: see repeat.c.
 */
#include "dispatch/outcomes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#define LATE_MS 1000

int outcomes_init(struct outcomes *o)
{
        uint64_t seed;
        ssize_t got = getrandom(&seed, sizeof(seed), 0);
        if (got != (ssize_t)sizeof(seed))
                return got < 0 ? -errno : -EIO;
        *o = (struct outcomes){.seed = seed};
        o->buckets = calloc(OUTCOMES_BUCKETS, sizeof(struct outcome_client *));
        if (!o->buckets)
                return -ENOMEM;
        list_init(&o->ended);
        return 0;
}

/* ---- accounts */

static int account_of(struct outcomes *o, uid_t uid, struct outcome_account **ret)
{
        struct outcome_account *a = o->accounts;
        while (a && a->uid != uid)
                a = a->next;
        if (!a) {
                a = calloc(1, sizeof(*a));
                if (!a)
                        return -ENOMEM;
                a->uid = uid;
                list_init(&a->ended);
                a->next = o->accounts;
                o->accounts = a;
        }
        *ret = a;
        return 0;
}

static void account_settle(struct outcomes *o, struct outcome_account *a)
{
        if (a->n > 0)
                return;
        struct outcome_account **at = &o->accounts;
        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        free(a);
}

/* ---- clients */

/* The seed is secret, so that nobody can choose ids that meet in one bucket. */
static struct outcome_client **bucket_of(struct outcomes *o, const uint8_t id[CLIENT_ID_SIZE])
{
        return &o->buckets[XXH3_64bits_withSeed(id, CLIENT_ID_SIZE, o->seed) % OUTCOMES_BUCKETS];
}

/* Of one whose connection has ended. */
static void unlist(struct outcomes *o, struct outcome_client *oc)
{
        oc->account->n_ended--;
        o->n_ended--;
        list_unlink(&oc->ended_node);
        list_unlink(&oc->account_node);
}

static void drop(struct outcomes *o, struct outcome_client *oc)
{
        assert(!oc->client);
        unlist(o, oc);
        struct outcome_client **at = bucket_of(o, oc->id);
        while (*at != oc)
                at = &(*at)->next;
        *at = oc->next;
        o->n--;
        oc->account->n--;
        account_settle(o, oc->account);
        outcome_log_done(&oc->log);
        free(oc);
}

/* Takes the first node of a list that is not empty. */
static struct list *pop(struct list *head)
{
        struct list *n = head->next;
        head->next = n->next;
        n->next->prev = head;
        list_init(n);
        return n;
}

static void drop_oldest(struct outcomes *o)
{
        drop(o, LIST_ENTRY(pop(&o->ended), struct outcome_client, ended_node));
}

static void drop_oldest_of(struct outcomes *o, struct outcome_account *a)
{
        drop(o, LIST_ENTRY(pop(&a->ended), struct outcome_client, account_node));
}

void outcomes_done(struct outcomes *o)
{
        while (o->buckets && !list_is_empty(&o->ended))
                drop_oldest(o);
        assert(o->n == 0);
        free(o->buckets);
        o->buckets = NULL;
}

static int make(struct outcomes *o, uid_t uid, uint64_t realm, const uint8_t id[CLIENT_ID_SIZE],
                uint64_t first_id, struct outcome_client **ret)
{
        struct outcome_client *oc = calloc(1, sizeof(*oc));
        if (!oc)
                return -ENOMEM;
        if (account_of(o, uid, &oc->account) < 0) {
                free(oc);
                return -ENOMEM;
        }
        list_init(&oc->ended_node);
        list_init(&oc->account_node);
        oc->realm = realm;
        memcpy(oc->id, id, CLIENT_ID_SIZE);
        oc->log.forgotten = first_id;
        struct outcome_client **at = bucket_of(o, id);
        oc->next = *at;
        *at = oc;
        oc->account->n++;
        o->n++;
        *ret = oc;
        return 0;
}

int outcomes_find(struct outcomes *o, uid_t uid, uint64_t realm, const uint8_t id[CLIENT_ID_SIZE],
                  uint64_t first_id, struct outcome_client **ret)
{
        struct outcome_client *oc = *bucket_of(o, id);
        while (oc && (oc->account->uid != uid || oc->realm != realm ||
                      memcmp(oc->id, id, CLIENT_ID_SIZE) != 0))
                oc = oc->next;
        if (!oc)
                return make(o, uid, realm, id, first_id, ret);
        *ret = oc;
        return 0;
}

void outcomes_enter(struct outcomes *o, struct outcome_client *oc, struct client *client)
{
        assert(!oc->client);
        if (!list_is_empty(&oc->ended_node))
                unlist(o, oc);
        oc->client = client;
}

void outcomes_leave(struct outcomes *o, struct outcome_client *oc, uint64_t last_id,
                    uint64_t now_ms, const struct outcome_bounds *bounds)
{
        struct outcome_account *a = oc->account;
        oc->client = NULL;
        oc->last_id = last_id;
        oc->ended_ms = now_ms;
        list_append(&o->ended, &oc->ended_node);
        list_append(&a->ended, &oc->account_node);
        o->n_ended++;
        a->n_ended++;
        outcomes_expire(o, now_ms, bounds->ms);
        /* Neither bound is 0: the one that came last stays, and its account with it. */
        while (a->n_ended > bounds->clients_per_uid)
                drop_oldest_of(o, a);
        while (o->n_ended > bounds->clients)
                drop_oldest(o);
}

/* ---- time */

void outcomes_expire(struct outcomes *o, uint64_t now_ms, uint64_t ms)
{
        while (!list_is_empty(&o->ended)) {
                const struct outcome_client *oc =
                        LIST_ENTRY(o->ended.next, struct outcome_client, ended_node);
                if (now_ms < oc->ended_ms || now_ms - oc->ended_ms < ms)
                        return;
                drop_oldest(o);
        }
}

uint64_t outcomes_next_deadline(const struct outcomes *o, uint64_t ms)
{
        if (list_is_empty(&o->ended))
                return UINT64_MAX;
        return LIST_ENTRY(o->ended.next, struct outcome_client, ended_node)->ended_ms + ms +
               LATE_MS;
}
