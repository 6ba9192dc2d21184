/* SPDX-License-Identifier: MIT */
/*
 * What the daemon is asked about resources
 *
 * Requests name the holder, which a daemon that took another one's place may not know yet: then the
 * holder's thread is about to introduce it, and the request is made again after that. The same goes
 * for one whose connection broke. What such a request did is not lost: to hold an instance twice is
 * to hold it, and a right that nobody knows of ends with the holder.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/line.h"
#include "client/resource.h"

/* Restarts of the daemon that one call goes along with. */
#define TRIES_MAX 4
#define PAUSE_MS  10u

struct call resource_call(Cached__V1__Request__OpCase op)
{
        struct call call = call_init(op);

        call.needs_resources = true;
        return call;
}

/* ---------------------------------------------------------------------------------- waiting */

static uint32_t left_ms(struct deadline d)
{
        uint64_t ms;

        if (deadline_is_never(d))
                return UINT32_MAX;
        if (deadline_is_now(d))
                return 0;
        ms = (deadline_left_ns(d) + 999999u) / 1000000u;
        return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX - 1;
}

static bool must_wait(const cached_reply *r)
{
        const Cached__V1__ResourceInfo *info;

        assert(r); /* with CACHED_OK there is one */
        info = r->message->resource;
        return info->state == CACHED__V1__RESOURCE_STATE__RESOURCE_BUSY ||
               info->state == CACHED__V1__RESOURCE_STATE__RESOURCE_TIMEOUT;
}

static int ask_now(cached *c, const Cached__V1__Request *request, struct failure *f,
                   cached_reply **ret)
{
        struct call call = resource_call(request->op_case);
        int code;

        call.request = *request;
        call.takes_resource = true;
        code = call_run(c, &call, ret);
        if (!*ret)
                return failure_set(f, code == CACHED_OK ? CACHED_ERR_NOMEM : code, "%s",
                                   cached_strerror(code));
        return code;
}

/* The daemon ends the wait; it is only looked at whether it is there. */
static int ask_line(cached *c, Cached__V1__Request *request, struct failure *f, cached_reply **ret)
{
        struct line_want w = {
                .request = request,
                .patience_ms = c->options.timeout_ms,
                .d = DEADLINE_NEVER,
        };
        struct line_at at;

        return line_ask(c, &w, f, ret, &at);
}

int resource_ask_waiting(cached *c, Cached__V1__Request *request,
                         void (*set_wait)(Cached__V1__Request *, uint32_t), struct deadline d,
                         struct failure *f, cached_reply **ret)
{
        int code;

        *ret = NULL;
        set_wait(request, 0);
        code = ask_now(c, request, f, ret);
        if (code != CACHED_OK || !must_wait(*ret))
                return code;
        if (left_ms(d) == 0)
                return CACHED_DEADLINE;
        cached_reply_free(*ret);
        *ret = NULL;
        set_wait(request, left_ms(d));
        code = ask_line(c, request, f, ret);
        if (code == CACHED_OK && must_wait(*ret))
                return CACHED_DEADLINE;
        return code;
}

/* ----------------------------------------------------------------------------------- acquiring */

bool resource_is_adrift(struct holder *h, int code, const cached_reply *r)
{
        switch (code) {
        case CACHED_INVALID: {
                bool is_another;

                if (!r || r->instance == 0)
                        return false;
                (void)pthread_mutex_lock(&h->mutex);
                is_another = h->instance != r->instance;
                /* Its own connection ends, too, if that has not been seen yet. */
                if (is_another && h->state == HOLDER_HERE) {
                        h->state = HOLDER_COMING;
                        (void)shutdown(h->conn->fd, SHUT_RDWR);
                }
                (void)pthread_mutex_unlock(&h->mutex);
                return is_another;
        }
        case CACHED_SHUTTING_DOWN:
        case CACHED_OUTCOME_UNKNOWN:
        case CACHED_ERR_DISCONNECTED:
                return true;
        default:
                return false;
        }
}

/* Looks now and then: that a daemon is gone may be known here before the holder's thread sees it.
 */
static bool wait_for_daemon(struct resource_patience *p)
{
        struct deadline pause = deadline_in_ms(PAUSE_MS);

        if (p->until.at_ns == 0) {
                p->until = deadline_in_ms(p->timeout_ms);
                if (p->wait.at_ns < p->until.at_ns)
                        p->until = p->wait;
        }
        if (deadline_is_now(p->until) || deadline_left_ns(p->until) == 0)
                return false;
        (void)pthread_mutex_lock(&p->h->mutex);
        (void)holder_wait(p->h, pause);
        (void)pthread_mutex_unlock(&p->h->mutex);
        return !atomic_load(&p->h->is_ending);
}

bool resource_goes_on(struct resource_patience *p, int code, cached_reply **reply)
{
        bool is_adrift = resource_is_adrift(p->h, code, *reply);
        bool goes_on = is_adrift && ++p->n_adrift < TRIES_MAX;

        if (!goes_on && (is_adrift || (code == CACHED_ERR_UNREACHABLE && p->was_here)))
                goes_on = wait_for_daemon(p);

        if (goes_on)
                cached_reply_free(*reply);
        return goes_on;
}

static void set_acquire_wait(Cached__V1__Request *request, uint32_t ms)
{
        Cached__V1__AcquireResource *m = request->acquire_resource;

        m->patience_case = ms == UINT32_MAX ? CACHED__V1__ACQUIRE_RESOURCE__PATIENCE__NOT_SET
                                            : CACHED__V1__ACQUIRE_RESOURCE__PATIENCE_WAIT_MS;
        m->wait_ms = ms;
}

static int ask_once(const struct resource_want *w, uint64_t holder, uint64_t have,
                    struct failure *f, cached_reply **ret)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__AcquireResource m = CACHED__V1__ACQUIRE_RESOURCE__INIT;
        Cached__V1__Policy policy;

        m.cache = (char *)(uintptr_t)w->cache;
        m.key = (ProtobufCBinaryData){w->n_key, (uint8_t *)(uintptr_t)w->key};
        m.holder = holder;
        m.kind = w->kind;
        m.pool = w->o->pool;
        m.no_create = w->o->no_create;
        if (have != 0) {
                m.have_case = CACHED__V1__ACQUIRE_RESOURCE__HAVE_HAVE_INSTANCE;
                m.have_instance = have;
        }
        policy_to_message(w->o->has_policy ? &w->o->policy : NULL, &policy);
        if (w->o->has_policy)
                m.policy = &policy;
        request.op_case = CACHED__V1__REQUEST__OP_ACQUIRE_RESOURCE;
        request.acquire_resource = &m;
        return resource_ask_waiting(w->handle, &request, set_acquire_wait, w->d, f, ret);
}

int resource_ask(const struct resource_want *w, struct holder *h, uint64_t have, struct failure *f,
                 cached_reply **ret)
{
        /* Who can go on without a daemon does not wait for it. */
        bool can_go_on = have != 0 || w->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL;
        struct resource_patience p = {
                .h = h,
                .wait = can_go_on ? DEADLINE_NOW : w->d,
                .timeout_ms = w->handle->options.timeout_ms,
        };
        int code;

        do {
                uint64_t holder;

                *ret = NULL;
                code = holder_lock_here(h, deadline_in_ms(p.timeout_ms), f);
                if (code != CACHED_OK)
                        continue;
                holder = h->id;
                (void)pthread_mutex_unlock(&h->mutex);
                p.was_here = true;
                code = ask_once(w, holder, have, f, ret);
        } while (resource_goes_on(&p, code, ret));
        return code;
}

/* ----------------------------------------------------------------------------------- creating */

int resource_ask_publish(cached_resource *r, struct failure *f, cached_reply **ret)
{
        Cached__V1__PublishResource m = CACHED__V1__PUBLISH_RESOURCE__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_PUBLISH_RESOURCE);
        const struct resource_object *o = &r->held->object;
        int code;

        *ret = NULL;
        m.creation_id = r->creation_id;
        m.kind = r->held->kind;
        m.size = object_size(o);
        m.read_only = o->is_read_only;
        call.request.publish_resource = &m;
        call.file = o->fd;
        code = call_run(r->handle, &call, ret);
        if (!*ret)
                return failure_set(f, code, "%s", cached_strerror(code));
        if (code == CACHED_OK && (*ret)->message->resource->instance == 0) {
                code = failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon published a resource without a number");
                if (!reply_fail(*ret, code, f->text))
                        code = CACHED_ERR_NOMEM;
        }
        return code;
}

void resource_tell_creation_ended(cached_resource *r)
{
        Cached__V1__EndCreation m = CACHED__V1__END_CREATION__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_END_CREATION);

        if (r->creation_id == 0)
                return;
        m.creation_id = r->creation_id;
        m.reason = r->reason;
        call.request.end_creation = &m;
        /* If the daemon does not hear it, the right ends with the holder. */
        (void)call_run(r->handle, &call, NULL);
        r->creation_id = 0;
}
