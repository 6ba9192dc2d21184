/* SPDX-License-Identifier: MIT */
/*
 * Views
 *
 * A reader that was sent a memory file has it until it says that it has not, or its process has
 * ended; nothing else would tell us. Each view is a reference to the value (store/large-hold.c says
 * who pays for it).
 *
 *   account   a uid: what it may have is bounded by number and by bytes, each file counted once
 *   household of a process, whose end ends its views (see process.c): all of its viewers
 *   viewer    a connection, or what is left of one: there while it is connected, and as long after
 *             that as it has views
 *   view      a number that the reader knows it by, and the value
 *
 * Where a process cannot be watched its views end with the connection. Where descriptors for
 * watching run short there is no view: the value goes as bytes.
 *
 * That a process has ended is only noted when it is told: what follows is done at the end of the
 * turn, when the memory files may be written to.
 *
 * Numbers begin at random, so that those of another daemon before this one are not taken for ours.
 */
#include "dispatch/views.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/dispatcher.h"
#include "realm/realm.h"
#include "store/store.h"
#include "transport/conn.h"

#define BUCKETS_FIRST         64u
#define PROCESSES_PER_UID_MAX 256u /* watched: a descriptor each. Guess: a large worker pool */

struct view {
        struct view *next_of_bucket;
        struct view *prev, *next; /* of the viewer */
        struct viewer *viewer;
        struct realm *realm; /* stays while it is charged for the value */
        struct large *large;
        uint64_t id;
};

struct viewer {
        struct viewer *prev, *next; /* of the household */
        struct household *household;
        struct client *client; /* NULL: its connection has ended */
        struct view *views;
        uint64_t n, bytes;
};

struct household {
        struct household *prev, *next; /* of the account */
        struct views *all;
        struct views_account *account;
        struct viewer *viewers;
        struct process *process; /* a reference */
        struct process_end end;
        bool to_reap; /* the process has ended, and its views are still there */
};

struct views_account {
        struct views_account *next;
        uid_t uid;
        uint64_t n, bytes;
        struct household *households;
        unsigned n_households;
};

/* ---- numbers */

static struct view **bucket_of(const struct views *v, uint64_t id)
{
        return &v->buckets[id & (v->n_buckets - 1)];
}

/* Room for one more: more buckets than views, or few views in each where memory is short. */
static int grow(struct views *v)
{
        size_t n = v->n_buckets ? 2 * v->n_buckets : BUCKETS_FIRST;
        struct view **buckets, **old = v->buckets;
        size_t n_old = v->n_buckets;
        if (v->n < v->n_buckets)
                return 0;
        buckets = calloc(n, sizeof(struct view *));
        if (!buckets)
                return n_old ? 0 : -ENOMEM;
        v->buckets = buckets;
        v->n_buckets = n;
        for (size_t i = 0; i < n_old; i++) {
                struct view *next;
                for (struct view *w = old[i]; w; w = next) {
                        struct view **b = bucket_of(v, w->id);
                        next = w->next_of_bucket;
                        w->next_of_bucket = *b;
                        *b = w;
                }
        }
        free(old);
        return 0;
}

static uint64_t new_id(struct views *v)
{
        if (++v->last_id == 0)
                v->last_id = 1;
        return v->last_id;
}

/* ---- accounts, households, viewers */

static struct views_account *account_get(struct views *v, uid_t uid)
{
        struct views_account *a = v->accounts;
        while (a && a->uid != uid)
                a = a->next;
        if (a)
                return a;
        a = calloc(1, sizeof(*a));
        if (!a)
                return NULL;
        a->uid = uid;
        a->next = v->accounts;
        v->accounts = a;
        return a;
}

static void account_settle(struct views *v, struct views_account *a)
{
        struct views_account **at = &v->accounts;
        if (a->households)
                return;
        assert(a->n == 0);
        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        free(a);
}

static void household_settle(struct household *h)
{
        struct views_account *a = h->account;
        if (h->viewers)
                return;
        if (h->prev)
                h->prev->next = h->next;
        else
                a->households = h->next;
        if (h->next)
                h->next->prev = h->prev;
        a->n_households--;
        h->all->n_ended -= h->to_reap;
        process_unlisten(&h->end);
        process_unref(h->process);
        free(h);
}

static void on_process_end(void *ctx)
{
        struct household *h = ctx;
        h->to_reap = true;
        h->all->n_ended++;
}

/* Of the client's peer; a new one has no viewer yet. */
static int household_get(struct views *v, struct views_account *a, struct client *client,
                         struct household **ret)
{
        struct process *process;
        int k = process_of(client, &process);
        if (k < 0 || process->ended)
                return k == -ENOMEM ? k : VIEWS_E_NOT;
        struct household *h = a->households;
        while (h && h->process != process)
                h = h->next;
        if (h) {
                *ret = h;
                return 0;
        }
        if (a->n_households >= PROCESSES_PER_UID_MAX)
                return VIEWS_E_NOT;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        *h = (struct household){.all = v,
                                .account = a,
                                .process = process_ref(process),
                                .next = a->households};
        process_listen(process, &h->end, on_process_end, h);
        if (h->next)
                h->next->prev = h;
        a->households = h;
        a->n_households++;
        *ret = h;
        return 0;
}

static int viewer_get(struct views *v, struct views_account *a, struct client *client,
                      struct viewer **ret)
{
        struct viewer *w = client->viewer;
        struct household *h;
        if (w && w->household->process->ended)
                return VIEWS_E_NOT;
        if (w) {
                *ret = w;
                return 0;
        }
        int k = household_get(v, a, client, &h);
        if (k != 0)
                return k;
        w = calloc(1, sizeof(*w));
        if (!w) {
                household_settle(h);
                return -ENOMEM;
        }
        *w = (struct viewer){.household = h, .client = client, .next = h->viewers};
        if (w->next)
                w->next->prev = w;
        h->viewers = w;
        client->viewer = w;
        *ret = w;
        return 0;
}

static void viewer_settle(struct viewer *w)
{
        struct household *h = w->household;
        struct views_account *a = h->account;
        struct views *v = h->all;
        if (w->client || w->views)
                return;
        if (w->prev)
                w->prev->next = w->next;
        else
                h->viewers = w->next;
        if (w->next)
                w->next->prev = w->prev;
        free(w);
        household_settle(h);
        account_settle(v, a);
}

/* ---- views */

static bool may_have(const struct views_account *a, const struct client *client,
                     const struct large *l)
{
        const struct config *cfg = client->d->cfg;
        struct store_stats stats;
        store_stats(client->realm->store, &stats);
        uint64_t share = stats.uid_share < stats.budget ? stats.uid_share : stats.budget;
        if (a->n >= cfg->limits.views_per_uid)
                return false;
        return large_is_held_by(l, a->uid) || (a->bytes <= share && l->size <= share - a->bytes);
}

static int add(struct views *v, struct viewer *viewer, struct realm *realm, struct large *l,
               uint64_t *ret_id)
{
        struct views_account *a = viewer->household->account;
        bool had = large_is_held_by(l, a->uid);
        struct view *w = calloc(1, sizeof(*w));
        if (!w || grow(v) < 0 || large_hold(l, a->uid) < 0) {
                free(w);
                return -ENOMEM;
        }
        *w = (struct view){.viewer = viewer,
                           .realm = realm,
                           .large = l,
                           .id = new_id(v),
                           .next = viewer->views};
        if (w->next)
                w->next->prev = w;
        viewer->views = w;
        w->next_of_bucket = *bucket_of(v, w->id);
        *bucket_of(v, w->id) = w;
        v->n++;
        viewer->n++;
        viewer->bytes += l->size;
        a->n++;
        a->bytes += had ? 0 : l->size;
        *ret_id = w->id;
        return 0;
}

int views_add(struct views *v, struct client *client, struct large *l, uint64_t *ret_id)
{
        struct views_account *a = account_get(v, conn_peer(client->conn)->uid);
        struct viewer *viewer;
        if (!a)
                return -ENOMEM;
        int k = may_have(a, client, l) ? viewer_get(v, a, client, &viewer) : VIEWS_E_NOT;
        if (k == 0)
                k = add(v, viewer, client->realm, l, ret_id);
        else
                account_settle(v, a);
        return k;
}

/* @settle: the realm is there. The viewer stays. */
static void view_end(struct views *v, struct view *w, bool settle)
{
        struct viewer *viewer = w->viewer;
        struct views_account *a = viewer->household->account;
        struct view **at = bucket_of(v, w->id);
        uint64_t size = w->large->size;
        while (*at != w)
                at = &(*at)->next_of_bucket;
        *at = w->next_of_bucket;
        if (w->prev)
                w->prev->next = w->next;
        else
                viewer->views = w->next;
        if (w->next)
                w->next->prev = w->prev;
        v->n--;
        viewer->n--;
        viewer->bytes -= size;
        a->n--;
        if (large_release(w->large, a->uid))
                a->bytes -= size;
        if (settle)
                realm_settle(w->realm);
        free(w);
}

void views_release(struct views *v, uid_t uid, uint64_t id)
{
        struct view *w = v->n_buckets ? *bucket_of(v, id) : NULL;
        while (w && w->id != id)
                w = w->next_of_bucket;
        if (!w || w->viewer->household->account->uid != uid)
                return;
        struct viewer *viewer = w->viewer;
        view_end(v, w, true);
        viewer_settle(viewer);
}

void views_leave(struct views *v, struct client *client)
{
        struct viewer *viewer = client->viewer;
        if (!viewer)
                return;
        client->viewer = NULL;
        viewer->client = NULL;
        while (!viewer->household->process->watch && viewer->views)
                view_end(v, viewer->views, true);
        viewer_settle(viewer);
}

/* ---- ends */

/* Ends at most @steps views; returns how many. The household may be gone then. */
static unsigned reap_household(struct views *v, struct household *h, unsigned steps)
{
        struct viewer *next;
        unsigned done = 0;
        for (struct viewer *w = h->viewers; w; w = next) {
                next = w->next;
                for (; w->views && done < steps; done++)
                        view_end(v, w->views, true);
                if (w->views)
                        return done;
                if (!next) {
                        v->n_ended--;
                        h->to_reap = false;
                }
                viewer_settle(w);
        }
        return done;
}

bool views_reap(struct views *v, unsigned steps)
{
        struct views_account *next_account;
        for (struct views_account *a = v->n_ended ? v->accounts : NULL; a; a = next_account) {
                struct household *next;
                next_account = a->next;
                for (struct household *h = a->households; h; h = next) {
                        next = h->next;
                        if (h->to_reap)
                                steps -= reap_household(v, h, steps);
                }
        }
        return v->n_ended > 0;
}

/* Its viewers, and with the last one itself. */
static void household_done(struct views *v, struct household *h)
{
        struct viewer *next;
        for (struct viewer *w = h->viewers; w; w = next) {
                struct view *next_view;
                next = w->next;
                assert(!w->client);
                for (struct view *view = w->views; view; view = next_view) {
                        next_view = view->next;
                        view_end(v, view, false);
                }
                viewer_settle(w);
        }
}

void views_done(struct views *v)
{
        struct views_account *next_account;
        for (struct views_account *a = v->accounts; a; a = next_account) {
                struct household *next;
                next_account = a->next;
                for (struct household *h = a->households; h; h = next) {
                        next = h->next;
                        household_done(v, h);
                }
        }
        free(v->buckets);
        *v = (struct views){0};
}

int views_init(struct views *v)
{
        *v = (struct views){0};
        if (getrandom(&v->last_id, sizeof(v->last_id), 0) != sizeof(v->last_id))
                return -EIO;
        return 0;
}

struct viewer_info views_of(const struct client *client)
{
        const struct viewer *w = client->viewer;
        return w ? (struct viewer_info){w->n, w->bytes} : (struct viewer_info){0, 0};
}
