/* SPDX-License-Identifier: MIT */
/*
 * Answering who waits
 *
 * A parked request is answered as a Get that comes now would be, by the same code, with the value
 * that was stored for it: a request is made of what was kept. Ten thousand of them are answered in
 * portions, others being served in between and what was answered being sent, and each connection is
 * given as much as it may have waiting in its output; the rest of its requests is answered when it
 * has read that.
 */
#include <inttypes.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/lease-flags.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/share.h"
#include "server.h"
#include "services/limits.h"
#include "transport/conn.h"

#define PORTION_NS   UINT64_C(100000)
#define PORTION_LOOK 8u   /* answers between two looks at the clock */
#define FILES_QUEUE  8192 /* bytes of replies that come with descriptors: some 40 */

static enum status answer_failure(struct request *r, Cached__V1__Lease *lease,
                                  Cached__V1__LeaseState state, const struct share *why)
{
        lease_share_message(lease, state, why);
        Cached__V1__Reply reply = reply_to(r, STATUS_NOT_FOUND);
        return reply_message(r, &reply);
}

static enum status answer_value(struct request *r, Cached__V1__Lease *lease, struct share *s)
{
        const struct cache_ref none = {0};
        lease_share_message(lease, CACHED__V1__LEASE_STATE__LEASE_NONE, s);
        r->share = s;
        enum status status = get_answer(r, &none, &s->entry);
        r->share = NULL;
        if (status != STATUS_NOT_FOUND)
                return status;
        /* It does not decode: a miss, for a client that cannot either. */
        return answer_failure(r, lease, CACHED__V1__LEASE_STATE__LEASE_UNSTORABLE, NULL);
}

static enum status answer_lease(struct request *r, Cached__V1__Lease *lease,
                                Cached__V1__LeaseState state, struct lease *l)
{
        lease_message(lease, state, l, r->who.now_ms);
        Cached__V1__Reply reply = reply_to(r, STATUS_NOT_FOUND);
        enum status status = reply_message(r, &reply);
        if (status != STATUS_OK && l && state == CACHED__V1__LEASE_STATE__LEASE_GRANTED)
                (void)lease_give_up(&r->d->leases, l, NULL, r->who.now_ms);
        return status;
}

static enum status answer(struct request *r, struct lease_waiter *w, Cached__V1__Lease *lease)
{
        switch ((enum lease_outcome)w->outcome) {
        case LEASE_GOT_VALUE:
                return answer_value(r, lease, w->payload);
        case LEASE_GOT_LEASE:
                return answer_lease(r, lease, CACHED__V1__LEASE_STATE__LEASE_GRANTED,
                                    leases_find(&r->d->leases, w->lease_id));
        case LEASE_GOT_TIMEOUT:
                return answer_lease(r, lease, CACHED__V1__LEASE_STATE__LEASE_TIMEOUT,
                                    w->slot->holder);
        case LEASE_GOT_FAILURE:
                return answer_failure(r, lease, CACHED__V1__LEASE_STATE__LEASE_FAILED, w->payload);
        case LEASE_GOT_UNSTORABLE:
                return answer_failure(r, lease, CACHED__V1__LEASE_STATE__LEASE_UNSTORABLE,
                                      w->payload);
        case LEASE_GOT_LIMIT:
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "it is this request's turn to compute, but uid %u holds as many "
                                   "leases as limits.leases_per_uid allows, %" PRIu64 ": %s",
                                   (unsigned)r->who.uid, r->d->cfg->limits.leases_per_uid,
                                   limit_advice.leases_per_uid);
        case LEASE_GOT_NO_MEMORY:
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the lease: compute without one");
        case LEASE_GOT_CLOSED:
                return verdict_set(&r->verdict, STATUS_SHUTTING_DOWN,
                                   "the daemon is going away, and the value is being computed: "
                                   "connect again, or compute it");
        case LEASE_GOT_NOTHING:
        case LEASE_WAITS:
        default:
                r->lease = NULL;
                return STATUS_NOT_FOUND;
        }
}

/* Whether its answer may come with a descriptor. */
static bool takes_file(const struct lease_waiter *w)
{
        const struct share *s = w->outcome == LEASE_GOT_VALUE ? w->payload : NULL;
        return s && s->entry.large && !s->unstored && (w->note.flags & LEASE_NOTE_AS_FILE);
}

/* Has it as much as it may have? */
static bool is_full(const struct client *client, const struct lease_waiter *w)
{
        struct conn_info conn;
        uint64_t most = client->d->cfg->limits.output_bytes;
        conn_info(client->conn, &conn);
        if (takes_file(w) && most > FILES_QUEUE)
                most = FILES_QUEUE;
        return conn.queued >= most;
}

static bool is_closing(const struct client *client)
{
        struct conn_info conn;
        conn_info(client->conn, &conn);
        return conn.closing;
}

/* Nothing comes after its client's last reply; and a lease is for somebody who learns of it. */
static void drop_waiter(struct dispatcher *d, struct lease_waiter *w)
{
        struct lease *l =
                w->outcome == LEASE_GOT_LEASE ? leases_find(&d->leases, w->lease_id) : NULL;
        if (l)
                (void)lease_give_up(&d->leases, l, NULL, server_now_ms(d->server));
        share_unref(w->payload);
        lease_waiter_free(&d->leases, w);
}

/* Its lease was lost before it was told of it: it waits for nothing any more, and may ask again. */
static bool has_lost_lease(const struct dispatcher *d, const struct lease_waiter *w)
{
        return w->outcome == LEASE_GOT_LEASE && !leases_find(&d->leases, w->lease_id);
}

static void answer_waiter(struct dispatcher *d, struct lease_waiter *w)
{
        struct client *client = w->party->ctx;
        struct request r;
        request_init(&r, client, 0);
        Cached__V1__Request msg = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__Lease lease = CACHED__V1__LEASE__INIT;
        get.no_touch = true;
        get.as_file = (w->note.flags & LEASE_NOTE_AS_FILE) != 0;
        get.with_messages = (w->note.flags & LEASE_NOTE_MESSAGES) != 0;
        if (w->note.flags & LEASE_NOTE_HAS_VERSION) {
                get.have_case = CACHED__V1__GET__HAVE_HAVE_VERSION;
                get.have_version = w->note.version;
        }
        if (get.as_file && w->outcome == LEASE_GOT_VALUE && ((struct share *)w->payload)->unstored)
                get.as_file = false;
        msg.id = r.id = w->note.request_id;
        msg.op_case = CACHED__V1__REQUEST__OP_GET;
        msg.get = &get;
        r.msg = &msg;
        r.lease = &lease;
        lease.waited_ms = r.who.now_ms > w->since ? r.who.now_ms - w->since : 0;
        if (has_lost_lease(d, w))
                w->outcome = LEASE_GOT_TIMEOUT;
        enum status status = answer(&r, w, &lease);
        if (w->payload)
                share_unref(w->payload);
        request_finish(&r, status);
        lease_waiter_free(&d->leases, w);
        conn_kick(client->conn);
}

void leasing_flush(struct dispatcher *d)
{
        uint64_t until = server_tick(d->server) + PORTION_NS;
        struct lease_waiter *w;
        unsigned n = 0;
        while ((w = leases_decided(&d->leases))) {
                struct client *client = w->party->ctx;
                if (is_closing(client)) {
                        drop_waiter(d, w);
                } else if (is_full(client, w)) {
                        lease_waiter_block(w);
                        conn_await_drain(client->conn);
                        continue;
                } else {
                        answer_waiter(d, w);
                }
                if (++n % PORTION_LOOK == 0 && server_tick(d->server) >= until)
                        return;
        }
}

void leasing_drained(struct client *client)
{
        if (client->party)
                lease_party_unblock(&client->d->leases, client->party);
}

/* ---- progress */

/* A client that does not read is told the next time. */
static void send_progress(struct dispatcher *d, const struct lease_waiter *w)
{
        struct client *client = w->party->ctx;
        const struct lease *l = w->slot->holder;
        if (!(client->features & CACHED__V1__FEATURE__FEATURE_EVENTS) || is_closing(client) ||
            is_full(client, w))
                return;
        struct request r;
        request_init(&r, client, 0);
        Cached__V1__Lease lease = CACHED__V1__LEASE__INIT;
        lease_message(&lease, CACHED__V1__LEASE_STATE__LEASE_BUSY, l, r.who.now_ms);
        lease.waited_ms = r.who.now_ms > w->since ? r.who.now_ms - w->since : 0;
        Cached__V1__ProgressEvent progress = CACHED__V1__PROGRESS_EVENT__INIT;
        progress.request_id = w->note.request_id;
        progress.lease = &lease;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        event.kind_case = CACHED__V1__EVENT__KIND_PROGRESS;
        event.progress = &progress;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        reply.event = &event;
        if (reply_message(&r, &reply) == STATUS_OK)
                conn_kick(client->conn);
}

/* ---- turns */

bool leasing_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps)
{
        struct leases *t = &d->leases;
        struct lease_waiter *w;
        leases_tick(t, now_ms);
        if (leasing_has_decided(d))
                leasing_flush(d);
        while ((w = leases_next_news(t, &steps)))
                send_progress(d, w);
        return leasing_has_decided(d) || !list_is_empty(&t->news);
}
