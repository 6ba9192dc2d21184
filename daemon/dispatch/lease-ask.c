/* SPDX-License-Identifier: MIT */
/*
 * Asking for a lease
 *
 * A Get that asks for a lease and finds nothing is granted it, is told why not, or is parked: then
 * it has no reply yet, and what is needed to write one is kept with its place in the line. Parked
 * requests hold up nothing, since replies may overtake each other.
 *
 * A lease ends with its holder's connection or its process, whichever ends first. The process is
 * watched from the first time on that a connection asks; when it has ended what it had sent is
 * still handled, like what a closed socket holds, and then the connection is closed, whoever else
 * has a copy of it. (Who had sent much may keep his lease until that was handled, but not longer
 * than ORPHAN_MS.)
 */
#include <errno.h>
#include <inttypes.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/lease-flags.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/share.h"
#include "realm/realm.h"
#include "server.h"
#include "services/limits.h"
#include "transport/conn.h"

#define ORPHAN_MS 1000

/* ---- the connection */

static void on_process_end(void *ctx)
{
        struct client *client = ctx;
        uint64_t now_ms = server_tick(client->d->server) / 1000000;
        lease_party_expire(&client->d->leases, client->party, now_ms + ORPHAN_MS);
        conn_finish(client->conn);
}

static enum status orphan(struct request *r)
{
        return verdict_set(&r->verdict, STATUS_INVALID,
                           "the process that opened this connection has ended, and a lease ends "
                           "with its process: open another connection to ask for leases");
}

/* Why its process cannot be watched. */
static enum status unwatched(struct request *r, int k)
{
        if (k == -ESRCH)
                return orphan(r);
        if (k == -EMFILE || k == -ENFILE)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the daemon has no descriptor left to watch this process by "
                                   "(RLIMIT_NOFILE): compute without a lease");
        return verdict_errno(&r->verdict, k, "watching the process");
}

/* The connection may have leases from now on. */
static enum status enter(struct request *r)
{
        struct client *client = r->client;
        struct process *process;
        int k = process_of(client, &process);
        if (__builtin_expect(k < 0, 0))
                return unwatched(r, k);
        if (__builtin_expect(process->ended, 0))
                return orphan(r);
        if (__builtin_expect(client->party != NULL, 1))
                return STATUS_OK;
        k = lease_party_new(&r->d->leases, r->who.uid, client, &client->party);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "granting a lease");
        process_listen(process, &client->party_end, on_process_end, client);
        return STATUS_OK;
}

void leasing_leave(struct client *client, uint64_t now_ms)
{
        process_unlisten(&client->party_end);
        client->party = lease_party_free(&client->d->leases, client->party, now_ms, share_release);
}

/* ---- the request */

static struct lease_ask ask_of(const struct request *r)
{
        const Cached__V1__Get *get = r->msg->get;
        const Cached__V1__LeaseAsk *ask = get->lease;
        bool has_version = get->have_case == CACHED__V1__GET__HAVE_HAVE_VERSION;
        return (struct lease_ask){
                .party = r->client->party,
                .number = ask->owner,
                .wait_ms = ask->patience_case == CACHED__V1__LEASE_ASK__PATIENCE_WAIT_MS
                                   ? ask->wait_ms
                                   : LEASE_NEVER,
                .hold_ms = ask->hold_ms,
                .want_failure = ask->want_failure,
                .want_progress = ask->want_progress,
                .note = {.request_id = r->id,
                         .version = has_version ? get->have_version : 0,
                         .flags = (get->as_file && !r->who.realm->hidden ? LEASE_NOTE_AS_FILE : 0) |
                                  (has_version ? LEASE_NOTE_HAS_VERSION : 0) |
                                  (get->with_messages ? LEASE_NOTE_MESSAGES : 0)},
        };
}

static struct lease_where where_of(const struct request *r, uint32_t cache, struct key_ref key)
{
        return (struct lease_where){.space = r->who.realm,
                                    .cache = cache,
                                    .key = key.data,
                                    .n_key = key.n};
}

static enum status limit(struct request *r, int k)
{
        const struct config_limits *limits = &r->d->cfg->limits;
        if (k == LEASE_E_LEASES)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "uid %u holds as many leases as limits.leases_per_uid allows, "
                                   "%" PRIu64 ": %s",
                                   (unsigned)r->who.uid, limits->leases_per_uid,
                                   limit_advice.leases_per_uid);
        return verdict_set(&r->verdict, STATUS_LIMIT,
                           "as many requests of uid %u wait for leases as limits.waiters_per_uid "
                           "allows, %" PRIu64 ": %s",
                           (unsigned)r->who.uid, limits->waiters_per_uid,
                           limit_advice.waiters_per_uid);
}

/* A miss, with what @l says of it. */
static enum status answer_miss(struct request *r, Cached__V1__LeaseState state, struct lease *l)
{
        Cached__V1__Lease lease = CACHED__V1__LEASE__INIT;
        lease_message(&lease, state, l, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_NOT_FOUND);
        reply.lease = &lease;
        enum status status = reply_message(r, &reply);
        if (status != STATUS_OK && state == CACHED__V1__LEASE_STATE__LEASE_GRANTED)
                (void)lease_give_up(&r->d->leases, l, NULL, r->who.now_ms);
        return status;
}

static enum status ask(struct request *r, const struct cache_ref *ref, struct key_ref key)
{
        static const Cached__V1__LeaseState states[] = {
                [LEASE_GRANTED] = CACHED__V1__LEASE_STATE__LEASE_GRANTED,
                [LEASE_YOURS] = CACHED__V1__LEASE_STATE__LEASE_YOURS,
                [LEASE_BUSY] = CACHED__V1__LEASE_STATE__LEASE_BUSY,
                [LEASE_CYCLE] = CACHED__V1__LEASE_STATE__LEASE_CYCLE,
        };
        uint32_t cache;
        bool created;
        enum status status = data_need_cache(&r->who, ref, &cache, &created, &r->verdict);
        if (status == STATUS_OK)
                status = enter(r);
        if (status != STATUS_OK)
                return status;
        const struct lease_where where = where_of(r, cache, key);
        const struct lease_ask a = ask_of(r);
        struct lease *l = NULL;
        int k = leases_ask(&r->d->leases, &where, &a, r->who.now_ms, &l);
        switch (k) {
        case LEASE_GRANTED:
        case LEASE_YOURS:
        case LEASE_BUSY:
        case LEASE_CYCLE:
                return answer_miss(r, states[k], l);
        case LEASE_PARKED:
                return STATUS_OK; /* without a reply */
        case LEASE_CLOSED:
                return verdict_set(&r->verdict, STATUS_SHUTTING_DOWN,
                                   "the daemon is going away, and the value is being computed: "
                                   "connect again, or compute it");
        case LEASE_E_LEASES:
        case LEASE_E_WAITERS:
                return limit(r, k);
        default:
                return verdict_errno(&r->verdict, k, "granting a lease");
        }
}

/* A value is there, and is to be computed anew: whether by this client. What stands against that
 * is no reason to keep the value from it. */
static struct lease *ask_refresh(struct request *r, const struct cache_ref *ref, struct key_ref key)
{
        uint32_t cache;
        struct lease *l;
        if (enter(r) != STATUS_OK ||
            data_find_cache(&r->who, ref, &cache, &r->verdict) != STATUS_OK)
                return NULL;
        const struct lease_where where = where_of(r, cache, key);
        const struct lease_ask a = ask_of(r);
        if (leases_ask_refresh(&r->d->leases, &where, &a, r->who.now_ms, &l) != LEASE_GRANTED)
                return NULL;
        /* From now on it is due for nobody else. */
        (void)store_refresh_begin(r->who.realm->store, cache, key.data, key.n, r->who.now_ms,
                                  &l->version);
        return l;
}

static enum status answer_value(struct request *r, const struct cache_ref *ref, struct key_ref key,
                                const struct store_entry *e)
{
        Cached__V1__Lease lease = CACHED__V1__LEASE__INIT;
        bool due = e->due || r->msg->get->lease->refresh;
        struct lease *l = due ? ask_refresh(r, ref, key) : NULL;
        if (l)
                lease_message(&lease, CACHED__V1__LEASE_STATE__LEASE_GRANTED, l, r->who.now_ms);
        r->lease = &lease;
        enum status status = get_answer(r, ref, e);
        r->lease = NULL;
        if (!l || status == STATUS_OK)
                return status;
        if (status == STATUS_NOT_FOUND) /* it does not decode */
                return answer_miss(r, CACHED__V1__LEASE_STATE__LEASE_GRANTED, l);
        (void)lease_give_up(&r->d->leases, l, NULL, r->who.now_ms);
        return status;
}

enum status leasing_get(struct request *r, const struct cache_ref *ref, struct key_ref key,
                        enum status status, const struct store_entry *e)
{
        const struct client *client = r->client;
        bool may = (client->features & CACHED__V1__FEATURE__FEATURE_LEASES) &&
                   client->role >= ACCESS_WRITER;
        if (status == STATUS_OK) {
                status = may ? answer_value(r, ref, key, e) : get_answer(r, ref, e);
                if (status != STATUS_NOT_FOUND || r->n_reply > 0)
                        return status;
        }
        return status == STATUS_NOT_FOUND && may ? ask(r, ref, key) : status;
}
