/* SPDX-License-Identifier: MIT */
/*
 * Holders, their connections and their processes
 *
 * What a process holds is bound to the process: its connection may be lost and come again, or a
 * child may have a copy of it. So the process is watched from the moment at which a connection
 * becomes a holder, and a holder that has lost its connection is given a grace. Where a process
 * cannot be watched its end cannot be told from its connection's, and there is no grace.
 *
 * The table of resources ends holders by itself when their grace is over; what is kept here of one
 * goes at the next look, so a holder is always found by its id and never by a pointer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/keeping.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"
#include "server.h"
#include "services/limits.h"
#include "transport/conn.h"

#define SWEEP_STEPS 64

struct holding {
        struct list of_all; /* lost ones in front */
        struct dispatcher *d;
        struct client *client; /* NULL: its connection is lost */
        struct realm *realm;
        struct process *process; /* a reference */
        struct process_end end;
        uint64_t id;
        uid_t uid;
};

static struct resource_holder *holder_of(const struct holding *h)
{
        return resource_holder_find(&h->d->resources, h->realm, h->uid, h->id);
}

static void holding_free(struct holding *h)
{
        if (h->client)
                h->client->holding = NULL;
        process_unlisten(&h->end);
        list_unlink(&h->of_all);
        h->process = process_unref(h->process);
        free(h);
}

static void on_process_end(void *ctx)
{
        struct holding *h = ctx;
        struct dispatcher *d = h->d;
        if (keeping_is_still(d))
                return; /* see holding_catch_up() */
        /* Of a turn in which nothing else may have read the clock. */
        uint64_t now_ms = server_tick(d->server) / 1000000;
        resource_holder_end(&d->resources, holder_of(h), true, now_ms);
        /* Not freed here: who is told of a process's end must not let go of it. */
        h->id = 0;
        if (h->client)
                conn_finish(h->client->conn);
}

/* ---- opening */

static enum status unwatched(struct request *r, int k)
{
        if (k == -ESRCH)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the process that opened this connection has ended, and a "
                                   "holder ends with its process: open another connection");
        if (k == -EMFILE || k == -ENFILE)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the daemon has no descriptor left to watch this process by "
                                   "(RLIMIT_NOFILE): try again later");
        return verdict_errno(&r->verdict, k, "watching the process");
}

static struct holding *find_former(const struct request *r, uint64_t id)
{
        const struct dispatcher *d = r->d;
        for (struct list *l = d->holdings.next; id != 0 && l != &d->holdings; l = l->next) {
                struct holding *h = LIST_ENTRY(l, struct holding, of_all);
                if (h->id == id && h->uid == r->who.uid && h->realm == r->who.realm &&
                    h->process == r->client->process)
                        return h;
        }
        return NULL;
}

/* A holder of an earlier connection goes on with this one. */
static struct resource_holder *take_up(struct request *r, struct holding *h)
{
        struct resource_holder *holder = holder_of(h);
        if (!holder)
                return NULL;
        if (h->client) {
                struct conn *former = h->client->conn;
                h->client->holding = NULL;
                dispatch_refuse(former, STATUS_INVALID,
                                "another connection of this process goes on as this holder");
                conn_close(former);
                conn_kick(former);
        }
        h->client = r->client;
        r->client->holding = h;
        list_unlink(&h->of_all);
        list_append(&r->d->holdings, &h->of_all);
        resource_holder_again(&r->d->resources, holder, r->client);
        return holder;
}

/* NULL: the verdict says why. */
static struct resource_holder *draw(struct request *r, enum status *ret_status)
{
        struct dispatcher *d = r->d;
        struct resource_holder *holder = NULL;
        int k = -EEXIST;
        while (k == -EEXIST) {
                uint64_t id = 0;
                if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                        k = -EIO;
                else if (id != 0)
                        k = resource_holder_open(&d->resources, r->who.realm, r->who.uid,
                                                 conn_peer(r->client->conn)->pid, id, r->who.now_ms,
                                                 r->client, &holder);
        }
        if (k == 0)
                return holder;
        if (k == -EDQUOT)
                *ret_status =
                        verdict_set(&r->verdict, STATUS_LIMIT,
                                    "uid %u has as many holders as limits.holders_per_uid allows, "
                                    "%" PRIu64 ": %s",
                                    (unsigned)r->who.uid, d->cfg->limits.holders_per_uid,
                                    limit_advice.holders_per_uid);
        else
                *ret_status = verdict_errno(&r->verdict, k, "making a holder");
        return NULL;
}

/* For a successor; or it is none. */
static enum status keep(struct request *r, struct holding *h, struct resource_holder *holder)
{
        struct process_mark mark = {0};
        if (h->process->watch)
                peer_watch_mark(h->process->watch, h->process->pid, &mark);
        enum status status = keeping_holder(r, holder, &mark);
        if (status == STATUS_OK)
                return STATUS_OK;
        /* What it was to go on with was left in the middle. */
        resource_holder_end(&r->d->resources, holder, holder->n_holds > 0, r->who.now_ms);
        holding_free(h);
        return status;
}

/* The number that it had, where that is free or kept for it: once there is room for it, since what
 * goes with the number must not be lost. */
static enum status want_number(struct request *r, struct holding *h, struct resource_holder *holder)
{
        uint32_t drawn = holder->number;
        resource_holder_wants(&r->d->resources, holder, r->msg->open_holder->before_number,
                              r->who.now_ms);
        return holder->number == drawn ? STATUS_OK : keep(r, h, holder);
}

/* As draw(). */
static struct resource_holder *open_new(struct request *r, enum status *ret_status)
{
        struct holding *h = calloc(1, sizeof(*h));
        struct resource_holder *holder = h ? draw(r, ret_status) : NULL;
        if (!h)
                *ret_status = verdict_errno(&r->verdict, -ENOMEM, "making a holder");
        if (!holder) {
                free(h);
                return NULL;
        }
        *h = (struct holding){.d = r->d,
                              .client = r->client,
                              .realm = r->who.realm,
                              .process = process_ref(r->client->process),
                              .id = holder->id,
                              .uid = r->who.uid};
        list_init(&h->of_all);
        list_append(&r->d->holdings, &h->of_all);
        process_listen(h->process, &h->end, on_process_end, h);
        r->client->holding = h;
        *ret_status = keep(r, h, holder);
        if (*ret_status == STATUS_OK)
                *ret_status = want_number(r, h, holder);
        return *ret_status == STATUS_OK ? holder : NULL;
}

static enum status check_opening(struct request *r)
{
        const uint64_t need =
                CACHED__V1__FEATURE__FEATURE_EVENTS | CACHED__V1__FEATURE__FEATURE_RESOURCES;
        if ((r->client->features & need) != need)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "FEATURE_EVENTS and FEATURE_RESOURCES were not agreed on in "
                                   "Hello: set both there to hold resources");
        if (r->client->holding)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "this connection is a holder already: open one for each");
        return STATUS_OK;
}

enum status op_open_holder(struct request *r)
{
        struct process *process;
        enum status status = check_opening(r);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        int k = process_of(r->client, &process);
        if (k == 0 && process->ended)
                k = -ESRCH;
        if (k < 0)
                return unwatched(r, k);
        struct holding *former = find_former(r, r->msg->open_holder->before);
        struct resource_holder *holder = former ? take_up(r, former) : NULL;
        bool again = holder != NULL;
        if (!holder)
                holder = open_new(r, &status);
        if (!holder)
                return status;
        Cached__V1__HolderInfo info = CACHED__V1__HOLDER_INFO__INIT;
        info.holder = holder->id;
        info.number = holder->number;
        info.again = again;
        info.grace_ms = process->watch ? r->d->resources.bounds.grace_ms : 0;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_HOLDER;
        reply.holder = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

/* ---- finding */

/* One answer for a number that nobody has, and for one of somebody else. */
enum status holding_find(struct request *r, uint64_t id, struct resource_holder **ret)
{
        if (!(r->client->features & CACHED__V1__FEATURE__FEATURE_RESOURCES))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "FEATURE_RESOURCES was not agreed on in Hello: set it there to "
                                   "use resources");
        *ret = resource_holder_find(&r->d->resources, r->client->realm, r->who.uid, id);
        if (*ret)
                return STATUS_OK;
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "there is no such holder of this uid in this realm: open one with "
                           "OpenHolder, and name it as that was answered");
}

enum status holding_find_instance(struct request *r, uint64_t id, uint64_t instance,
                                  struct resource_holder **ret_holder, struct resource **ret)
{
        enum status status = holding_find(r, id, ret_holder);
        if (status != STATUS_OK)
                return status;
        *ret = resources_find(&r->d->resources, instance);
        if (!*ret || !resource_hold_find(&r->d->resources, *ret, *ret_holder))
                return STATUS_NOT_FOUND;
        return STATUS_OK;
}

const char *holding_name(const struct resource_holder *h)
{
        const struct client *client = h->ctx;
        return client ? client->name : "";
}

uint64_t holding_count(const struct holding *h)
{
        const struct resource_holder *holder = h ? holder_of(h) : NULL;
        return holder ? holder->n_holds : 0;
}

void holding_drained(struct holding *h)
{
        struct resource_holder *holder = holder_of(h);
        if (holder)
                resource_holder_unblock(&h->d->resources, holder);
}

/* ---- a predecessor's */

int holding_stand_in(struct dispatcher *d, struct resource *res, uint64_t now_ms)
{
        uint64_t id = 0;
        while (id == 0 || resource_holder_of(&d->resources, id))
                if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                        return -EIO;
        return resource_stand_in(&d->resources, res, id, now_ms);
}

bool holding_restore(struct dispatcher *d, struct realm *realm, const struct resource_kept *k)
{
        const struct process_mark mark = {.start = k->process.start, .ino = k->process.ino};
        struct process *process;
        struct holding *h = calloc(1, sizeof(*h));
        if (!h || process_again(d, k->pid, &mark, &process) < 0) {
                free(h);
                return false;
        }
        *h = (struct holding){
                .d = d, .realm = realm, .process = process, .id = k->holder, .uid = k->holder_uid};
        list_init(&h->of_all);
        list_append(d->holdings.next, &h->of_all);
        process_listen(h->process, &h->end, on_process_end, h);
        return true;
}

void holding_catch_up(struct dispatcher *d)
{
        for (struct list *l = d->holdings.next; l != &d->holdings; l = l->next) {
                struct holding *h = LIST_ENTRY(l, struct holding, of_all);
                if (h->process->ended && h->id != 0)
                        on_process_end(h);
        }
}

/* ---- ends */

/* Whether there is anything that it could come again for; to a successor it may in any case. */
static bool has_something(const struct dispatcher *d, const struct resource_holder *h)
{
        return d->resources.closed || !list_is_empty(&h->holds) || !list_is_empty(&h->creations) ||
               !list_is_empty(&h->waiters);
}

void holding_leave(struct client *client, uint64_t now_ms)
{
        struct holding *h = client->holding;
        if (!h)
                return;
        struct dispatcher *d = client->d;
        struct resource_holder *holder = holder_of(h);
        client->holding = NULL;
        h->client = NULL;
        if (holder && has_something(d, holder) && h->process->watch && !h->process->ended) {
                resource_holder_lost(&d->resources, holder, now_ms);
                list_unlink(&h->of_all);
                list_append(d->holdings.next, &h->of_all);
                return;
        }
        resource_holder_end(&d->resources, holder, true, now_ms);
        holding_free(h);
}

/* Lost ones whose holder is no more are in front, or between others that are lost. */
void holding_sweep(struct dispatcher *d, uint64_t now_ms)
{
        struct list *next;
        unsigned steps = SWEEP_STEPS;
        (void)now_ms;
        for (struct list *l = d->holdings.next; l != &d->holdings && steps-- > 0; l = next) {
                struct holding *h = LIST_ENTRY(l, struct holding, of_all);
                next = l->next;
                if (h->client)
                        return;
                if (!holder_of(h))
                        holding_free(h);
        }
}

void holding_done(struct dispatcher *d)
{
        struct list *next;
        for (struct list *l = d->holdings.next; l != &d->holdings; l = next) {
                next = l->next;
                holding_free(LIST_ENTRY(l, struct holding, of_all));
        }
}
