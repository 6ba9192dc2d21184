/* SPDX-License-Identifier: MIT */
/*
 * Leases: asking for one, storing under it, giving it up
 *
 * The mapping is asked first: a value that is there and not due takes no system call. What it
 * cannot decide, and what is to be computed, goes to the daemon as one request on the line
 * (line.c). Before that an ordinary connection is made, if there is none yet: with it comes the
 * mapping, and whether the daemon grants leases at all.
 *
 * Values are stored over ordinary connections, where large ones travel as memory files. Each way in
 * which a store can end ends the lease, too; what this side refuses before anything is sent is told
 * the daemon as a store that it refuses: those who wait shall not compute one after the other what
 * can never be stored.
 *
 * A lease knows on which connection it was granted. When that is gone (or this process is a child
 * of the one that got it), nothing is sent: the daemon knows.
 */

#include "client/lease.h"

#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/entries.h"
#include "client/map-get.h"
#include "client/options.h"
#include "client/pool-views.h"
#include "client/reply.h"
#include "client/running.h"
#include "client/view.h"
#include "proto/wire.h"

#define REASON_MAX 1024
#define TEXT_MAX   256
/* Beyond the wait that was asked for the daemon has so long to say that it is over. */
#define SLACK_MS 1000

static const struct cached_lease_options defaults = {.wait_ms = CACHED_NEVER};

/* ------------------------------------------------------------------------------------ objects */

/* All but the texts. */
static void lease_fill(struct cached_lease *l, const Cached__V1__Lease *m)
{
        l->state = (int)m->state;
        l->id = m->lease_id;
        l->holder_pid = m->holder_pid;
        l->holder_uid = m->holder_pid ? m->holder_uid : UINT32_MAX;
        l->age_ms = m->age_ms;
        l->permille = m->permille;
        l->waited_ms = m->waited_ms;
        l->holder = m->holder;
        l->text = m->progress;
        l->reason = m->reason;
}

static const char *put_text(char **at, const char *text)
{
        size_t n = strlen(text) + 1;
        char *to = *at;

        memcpy(to, text, n);
        *at += n;
        return to;
}

/* NULL: out of memory. */
static struct cached_lease *lease_new(cached *c, const struct lease_want *w,
                                      const Cached__V1__Lease *m)
{
        size_t n = strlen(w->cache) + strlen(m->holder) + strlen(m->progress) + strlen(m->reason) +
                   4 + w->n_key;
        struct cached_lease *l = malloc(sizeof(*l) + n);
        char *at;

        if (!l)
                return NULL;
        *l = (struct cached_lease){.c = c, .pool = c->pool};
        lease_fill(l, m);
        at = (char *)(l + 1);
        l->cache = put_text(&at, w->cache);
        l->holder = put_text(&at, m->holder);
        l->text = put_text(&at, m->progress);
        l->reason = put_text(&at, m->reason);
        memcpy(at, w->key, w->n_key);
        l->key = (const uint8_t *)at;
        l->n_key = w->n_key;
        pool_ref(l->pool);
        return l;
}

/* ------------------------------------------------------------------------------------- giving up
 */

/* Cut where it has to be. `ret` has room for max + 1. */
static void text_cut(const char *text, size_t max, char *ret)
{
        size_t n = strnlen(text, max);

        n = wire_utf8_prefix(text, n);
        memcpy(ret, text, n);
        ret[n] = '\0';
}

static void end_request(const struct cached_lease *l, char *reason, Cached__V1__EndLease *end,
                        Cached__V1__Request *ret)
{
        cached__v1__end_lease__init(end);
        end->lease_id = l->id;
        end->reason = reason;
        cached__v1__request__init(ret);
        ret->op_case = CACHED__V1__REQUEST__OP_END_LEASE;
        ret->end_lease = end;
}

/* It has ended, whoever says so. False: it had before. */
static bool lease_let_go(struct cached_lease *l)
{
        if (!l->is_held)
                return false;
        l->is_held = false;
        line_lease_ended(l->pool, l->owner.at);
        return true;
}

static bool lease_end(struct cached_lease *l, const char *reason)
{
        Cached__V1__Request request;
        Cached__V1__EndLease end;
        char text[REASON_MAX + 1];
        bool sent;

        text_cut(reason ? reason : "", REASON_MAX, text);
        end_request(l, text, &end, &request);
        end.one_way = 1;
        sent = line_tell(l->pool, l->owner.at, &request);
        (void)lease_let_go(l);
        return sent;
}

void lease_end_now(cached_lease *l, const char *reason, uint32_t patience_ms)
{
        Cached__V1__Request request;
        Cached__V1__EndLease end;
        char text[REASON_MAX + 1];
        struct line_want ask = {.request = &request,
                                .patience_ms = patience_ms ? patience_ms : l->c->options.timeout_ms,
                                .is_nested = true};
        struct cached_reply *r;
        struct line_at at;
        struct failure f;

        if (!l->is_held)
                return;
        text_cut(reason ? reason : "", REASON_MAX, text);
        end_request(l, text, &end, &request);
        ask.d = deadline_in_ms(ask.patience_ms);
        if (line_is_at(l->pool, l->owner.at)) {
                (void)line_ask(l->c, &ask, &f, &r, &at);
                if (!r) /* perhaps it was not even sent */
                        (void)lease_end(l, reason);
                cached_reply_free(r);
        }
        (void)lease_let_go(l);
}

int cached_lease_end(cached_lease *l, const char *reason)
{
        if (!l)
                return CACHED_ERR_USAGE;
        if (!l->is_held)
                return CACHED_OK;
        return lease_end(l, reason) ? CACHED_OK : CACHED_ERR_DISCONNECTED;
}

void cached_lease_free(cached_lease *l)
{
        if (!l)
                return;
        if (l->is_held)
                (void)lease_end(l, NULL);
        pool_unref(l->pool);
        free(l);
}

int cached_lease_progress(cached_lease *l, const char *text, uint32_t permille)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__LeaseProgress m = CACHED__V1__LEASE_PROGRESS__INIT;
        char cut[TEXT_MAX + 1];

        if (!l)
                return CACHED_ERR_USAGE;
        if (!l->is_held)
                return CACHED_OK;
        text_cut(text ? text : "", TEXT_MAX, cut);
        for (char *p = cut; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 127)
                        *p = ' ';
        m.lease_id = l->id;
        m.permille = permille > 1000 ? 1000 : permille;
        m.text = cut;
        m.one_way = 1;
        request.op_case = CACHED__V1__REQUEST__OP_LEASE_PROGRESS;
        request.lease_progress = &m;
        return line_tell(l->pool, l->owner.at, &request) ? CACHED_OK : CACHED_ERR_DISCONNECTED;
}

/* --------------------------------------------------------------------------------------- asking */

/* What the callback is shown. */
struct waiting {
        const struct cached_lease_options *o;
        struct cached_reply *known; /* the event that told it; owned; NULL: `first` does */
        struct cached_lease first;
        uint64_t start_ns, known_ns;
};

static int waiting_call(struct waiting *w)
{
        struct cached_lease now = w->first;
        uint64_t now_ns = deadline_now_ns();

        if (w->known)
                lease_fill(&now, w->known->message->event->progress->lease);
        now.state = CACHED_LEASE_BUSY;
        if (now.holder_pid)
                now.age_ms += (now_ns - w->known_ns) / 1000000u;
        now.waited_ms = (now_ns - w->start_ns) / 1000000u;
        return w->o->waiting(w->o->data, &now);
}

/* A line_news. The reply is the caller's, so what is to be kept of it is moved out. */
static int waiting_news(void *data, struct cached_reply **event)
{
        struct waiting *w = data;

        if (event) {
                cached_reply_free(w->known);
                w->known = *event;
                *event = NULL;
                w->known_ns = deadline_now_ns();
        }
        return waiting_call(w);
}

static struct line_owner owner_of(cached *c, const struct lease_want *w, bool *ret_nested)
{
        const struct running *top = running_top();
        struct line_owner owner = {.pool = c->pool};

        *ret_nested = true;
        if (w->o->outer && w->o->outer->pool == c->pool)
                return w->o->outer->owner;
        if (!w->o->outer && top && running_is_ours(top) && top->owner.number &&
            top->owner.pool == c->pool)
                return top->owner;
        *ret_nested = false;
        owner.number = line_new_owner(c->pool);
        return owner;
}

/* Whether this thread has a lease that the daemon does not see on this line: then it cannot see a
 * circle, either, and there must be no wait without an end. */
static bool holds_elsewhere(const cached *c, const struct lease_want *w)
{
        if (w->o->outer && w->o->outer->is_held && w->o->outer->pool != c->pool)
                return true;
        for (const struct running *r = running_top(); r; r = r->outer)
                if (r->lease && r->pool != c->pool && running_is_ours(r))
                        return true;
        return false;
}

/* One request, and what it was answered with. */
struct asking {
        cached *c;
        const struct lease_want *want;
        struct waiting waiting;
        struct line_owner owner;
        bool is_nested, is_silent;
        bool is_counted; /* as a use, or as a miss: this look-up was, by an earlier step */
        uint64_t wait_ms;
        struct failure f;
        struct cached_reply *r; /* owned */
        struct view_file *have; /* what is at hand; a reference, or NULL */
        struct line_at at;
};

static int ask_once(struct asking *a, uint64_t wait_ms, bool with_news)
{
        const struct cached_lease_options *o = a->want->o;
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__LeaseAsk ask = CACHED__V1__LEASE_ASK__INIT;
        uint32_t patience_ms =
                a->want->patience_ms ? a->want->patience_ms : a->c->options.timeout_ms;
        struct line_want lw = {.request = &request,
                               .patience_ms = patience_ms,
                               .d = DEADLINE_NEVER,
                               .is_nested = a->is_nested,
                               .every_ms = with_news ? o->every_ms : 0,
                               .data = &a->waiting};
        int code;

        ask.owner = a->owner.number;
        ask.hold_ms = o->hold_ms;
        ask.refresh = o->refresh;
        ask.want_failure = o->want_failure;
        ask.want_progress = with_news;
        if (wait_ms < UINT32_MAX) {
                ask.patience_case = CACHED__V1__LEASE_ASK__PATIENCE_WAIT_MS;
                ask.wait_ms = (uint32_t)wait_ms;
                lw.d.at_ns = deadline_now_ns() +
                             (wait_ms + (patience_ms ? patience_ms : SLACK_MS)) * UINT64_C(1000000);
        }
        if (with_news)
                lw.news = waiting_news;
        get.cache = (char *)(uintptr_t)a->want->cache;
        get.key = (ProtobufCBinaryData){a->want->n_key, (uint8_t *)(uintptr_t)a->want->key};
        get.lease = &ask;
        get.no_touch = a->is_counted;
        get.with_messages = a->want->with_messages;
        if (a->have) {
                get.have_version = a->have->version;
                lw.have_instance = a->have->instance;
        }
        request.op_case = CACHED__V1__REQUEST__OP_GET;
        request.get = &get;
        code = line_ask(a->c, &lw, &a->f, &a->r, &a->at);
        a->is_silent = lw.is_silent;
        return code;
}

/* Who computes, told before the wait for him begins. */
static int ask_with_news(struct asking *a)
{
        int code = ask_once(a, 0, false);
        Cached__V1__Lease *m = reply_lease(a->r);
        struct cached_reply *busy = a->r;

        if (!m || m->state != CACHED__V1__LEASE_STATE__LEASE_BUSY)
                return code;
        lease_fill(&a->waiting.first, m);
        a->waiting.known_ns = deadline_now_ns();
        if (waiting_call(&a->waiting) != 0)
                return code;
        a->r = NULL;
        a->is_counted = true;
        code = ask_once(a, a->wait_ms, true);
        cached_reply_free(a->waiting.known);
        if (a->r || code != CACHED_ERR_TIMEOUT || a->is_silent) {
                cached_reply_free(busy);
                return code;
        }
        /* The callback has ended it. */
        m->state = CACHED__V1__LEASE_STATE__LEASE_TIMEOUT;
        a->r = busy;
        return busy->code;
}

/* Its value, as the caller gets it. */
static int ask_value(struct asking *a)
{
        const struct lease_want *want = a->want;
        struct view_want w = {.cache = want->cache,
                              .key = want->key,
                              .n_key = want->n_key,
                              .no_touch = true,
                              .with_messages = want->with_messages,
                              .patience_ms = want->patience_ms};
        struct view_file *have = a->have;

        if (reply_is_without_body(a->r)) {
                a->have = NULL;
                return view_take(a->c, &w, have, want->is_own, a->r, &a->f);
        }
        return a->c->options.keep_encoded ? CACHED_OK : reply_decode(a->r, &a->f);
}

/* What came, as the caller gets it. */
static int ask_finish(struct asking *a, int code, cached_reply **ret, cached_lease **ret_lease)
{
        const Cached__V1__Lease *m = reply_lease(a->r);
        struct cached_lease *l = NULL;

        if (m && m->state != CACHED__V1__LEASE_STATE__LEASE_NONE) {
                bool is_granted = m->state == CACHED__V1__LEASE_STATE__LEASE_GRANTED;
                struct cached_lease bare = {.pool = a->c->pool, .id = m->lease_id};

                a->owner.at = a->at;
                bare.owner = a->owner;
                bare.is_held = is_granted;
                l = lease_new(a->c, a->want, m);
                if (!l) {
                        if (is_granted)
                                (void)lease_end(&bare, NULL);
                        cached_reply_free(a->r);
                        (void)failure_nomem(&a->f);
                        return call_fail(CACHED_ERR_NOMEM, &a->f, ret);
                }
                l->owner = a->owner;
                l->is_held = is_granted;
        }
        *ret_lease = l;
        if (a->r && ask_value(a) != CACHED_OK) {
                cached_reply_free(a->r);
                a->r = NULL;
                code = a->f.code;
        } else if (a->r) {
                code = a->r->code;
        }
        return call_hand_out(code, a->r, &a->f, ret);
}

static int ask(cached *c, const struct lease_want *w, bool is_counted, cached_reply **ret,
               cached_lease **ret_lease)
{
        struct asking a = {.c = c, .want = w, .wait_ms = w->o->wait_ms, .is_counted = is_counted};
        int code;

        a.owner = owner_of(c, w, &a.is_nested);
        if (holds_elsewhere(c, w))
                a.wait_ms = 0;
        if (!w->with_messages)
                a.have = pool_find_view_of(c->pool, w->cache, w->key, w->n_key);
        a.waiting.o = w->o;
        a.waiting.start_ns = deadline_now_ns();
        a.waiting.first = (struct cached_lease){.holder_uid = UINT32_MAX,
                                                .holder = "",
                                                .text = "",
                                                .reason = ""};
        if (w->o->waiting && a.wait_ms > 0)
                code = ask_with_news(&a);
        else
                code = ask_once(&a, a.wait_ms, false);
        code = ask_finish(&a, code, ret, ret_lease);
        view_file_unref(a.have);
        return code;
}

/* What only the daemon knows. @old: what was looked up and is due; consumed; may be NULL. */
static int lease_get_asked(cached *c, const struct lease_want *w, struct cached_reply *old,
                           cached_reply **ret, cached_lease **ret_lease)
{
        cached_reply *r = NULL;
        int code = ask(c, w, old != NULL, &r, ret_lease);
        struct failure f;

        /* A daemon that cannot say what is to be done leaves what was there. */
        if (old && code != CACHED_OK && code != CACHED_NOT_FOUND && code != CACHED_NEGATIVE) {
                cached_reply_free(r);
                return call_hand_out(old->code, old, NULL, ret);
        }
        cached_reply_free(old);
        if (!r)
                (void)failure_nomem(&f);
        return call_hand_out(code, r, &f, ret);
}

int lease_get(cached *c, const struct lease_want *w, cached_reply **ret, cached_lease **ret_lease)
{
        struct get_how how = {.is_own = w->is_own,
                              .with_messages = w->with_messages,
                              .patience_ms = w->patience_ms};
        struct cached_reply *old = NULL;
        int code = CACHED_ERR_AGAIN;
        struct failure f;
        bool is_there;

        *ret_lease = NULL;
        if (pool_wants_call(c->pool) && handle_greet(c, w->patience_ms, &f) != CACHED_OK)
                return call_fail(f.code, &f, ret);
        if (pool_leases(c->pool) == POOL_LEASES_NO)
                return entries_get(c, w->cache, w->key, w->n_key, how, ret);
        how.only_mapped = true;
        if (!w->o->refresh)
                code = entries_get(c, w->cache, w->key, w->n_key, how, &old);
        is_there = old && (code == CACHED_OK || code == CACHED_NEGATIVE);
        if (is_there && !reply_is_due(old))
                return call_hand_out(code, old, NULL, ret);
        if (!is_there) {
                cached_reply_free(old);
                old = NULL;
        }
        return lease_get_asked(c, w, old, ret, ret_lease);
}

int cached_get_or_lease(cached *c, const char *cache, const void *key, size_t n_key,
                        const cached_lease_options *o, cached_reply **ret, cached_lease **ret_lease)
{
        struct lease_want w = {.cache = cache, .key = key, .n_key = n_key, .o = o ? o : &defaults};

        if (ret_lease)
                *ret_lease = NULL;
        if (!c || !cache || !key || n_key == 0 || !ret_lease)
                return call_refuse("cached_get_or_lease() needs a handle, a cache, a key and a "
                                   "place for the lease",
                                   ret);
        w.is_own = c->options.own_values;
        return lease_get(c, &w, ret, ret_lease);
}

/* -------------------------------------------------------------------------------------- storing */

/* The daemon refuses this, and so it tells those who wait that there is nothing to wait for. */
static int lease_refuse(struct cached_lease *l, uint32_t patience_ms)
{
        struct cached_set_options o = {.has_ttl = true, .ttl_ms = 0, .lease_id = l->id};

        return entries_set(l->c, l->cache, l->key, l->n_key, NULL, 0, &o, patience_ms, NULL);
}

/* Whether a Set with this outcome was for sure carried out, one way or another. The others may be
 * what a connection was refused with. */
static bool lease_ended_with(int code)
{
        return code == CACHED_OK || code == CACHED_SUPERSEDED || code == CACHED_TOO_LARGE ||
               code == CACHED_INVALID;
}

static int lease_say(int code, const char *text, cached_reply **ret)
{
        struct failure f;

        (void)failure_set(&f, code, "%s", text);
        return call_hand_out(code, NULL, &f, ret);
}

static int lease_lost(struct cached_lease *l, cached_reply **ret)
{
        (void)lease_let_go(l);
        return lease_say(CACHED_SUPERSEDED, "the lease was lost with its connection", ret);
}

/* After a store with this outcome. */
static void lease_stored(struct cached_lease *l, int code, uint32_t patience_ms)
{
        int told = code == CACHED_TOO_LARGE ? lease_refuse(l, patience_ms) : code;

        if (lease_ended_with(told))
                (void)lease_let_go(l);
        else /* of one that has ended nobody knows any more */
                (void)lease_end(l, NULL);
}

static int lease_set_held(struct cached_lease *l, const void *value, size_t n,
                          struct cached_set_options *o, uint32_t patience_ms, cached_reply **ret)
{
        int code;

        if (!line_is_at(l->pool, l->owner.at))
                return lease_lost(l, ret);
        o->lease_id = l->id;
        code = entries_set(l->c, l->cache, l->key, l->n_key, value, n, o, patience_ms, ret);
        lease_stored(l, code, patience_ms);
        return code;
}

int lease_set(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
              bool share_only, uint32_t patience_ms, cached_reply **ret)
{
        struct cached_set_options with = {0};

        if (o)
                with = *o;
        with.share_only = share_only;
        if (l->is_held)
                return lease_set_held(l, value, n, &with, patience_ms, ret);
        if (l->state == CACHED_LEASE_GRANTED)
                return call_refuse("the lease has ended already", ret);
        if (share_only || l->state == CACHED_LEASE_YOURS)
                return lease_say(CACHED_OK, "", ret);
        return entries_set(l->c, l->cache, l->key, l->n_key, value, n, o, patience_ms, ret);
}

int cached_lease_set(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
                     cached_reply **ret)
{
        if (!l || (!value && n > 0))
                return call_refuse("cached_lease_set() needs a lease and a value", ret);
        return lease_set(l, value, n, o, false, 0, ret);
}

int cached_lease_set_buffer(cached_lease *l, cached_buffer *buffer, uint64_t n_value,
                            const cached_set_options *o, cached_reply **ret)
{
        struct cached_set_options with = {0};
        int code;

        if (!l || !buffer)
                return call_refuse("cached_lease_set_buffer() needs a lease and a buffer", ret);
        if (o)
                with = *o;
        if (!l->is_held && l->state == CACHED_LEASE_GRANTED)
                return call_refuse("the lease has ended already", ret);
        if (l->state == CACHED_LEASE_YOURS)
                return lease_say(CACHED_OK, "", ret);
        if (l->is_held && !line_is_at(l->pool, l->owner.at))
                return lease_lost(l, ret);
        if (l->is_held)
                with.lease_id = l->id;
        code = cached_set_buffer(l->c, l->cache, l->key, l->n_key, buffer, n_value, &with, ret);
        if (l->is_held && code != CACHED_ERR_USAGE && code != CACHED_ERR_NOMEM)
                lease_stored(l, code, 0);
        return code;
}

int cached_lease_share(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
                       cached_reply **ret)
{
        if (!l || (!value && n > 0))
                return call_refuse("cached_lease_share() needs a lease and a value", ret);
        return lease_set(l, value, n, o, true, 0, ret);
}

/* ------------------------------------------------------------------------------------ accessors */

int cached_lease_state(const cached_lease *l)
{
        return l ? l->state : CACHED_LEASE_NONE;
}

uint32_t cached_lease_holder_pid(const cached_lease *l)
{
        return l ? l->holder_pid : 0;
}

uint32_t cached_lease_holder_uid(const cached_lease *l)
{
        return l ? l->holder_uid : UINT32_MAX;
}

const char *cached_lease_holder_name(const cached_lease *l)
{
        return l ? l->holder : "";
}

uint64_t cached_lease_age_ms(const cached_lease *l)
{
        return l ? l->age_ms : 0;
}

uint32_t cached_lease_permille(const cached_lease *l)
{
        return l ? l->permille : 0;
}

const char *cached_lease_text(const cached_lease *l)
{
        return l ? l->text : "";
}

const char *cached_lease_reason(const cached_lease *l)
{
        return l ? l->reason : "";
}

uint64_t cached_lease_waited_ms(const cached_lease *l)
{
        return l ? l->waited_ms : 0;
}
