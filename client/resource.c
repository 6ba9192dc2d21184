/* SPDX-License-Identifier: MIT */
/*
 * Resources: getting one, making it, giving it back
 *
 * Each call goes to the daemon, which decides: this process holds the instance that is there, or is
 * to make one. What it has of that instance already it uses again, so that an object comes over the
 * socket once. Where the daemon cannot be asked what the process has stays in use.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/resource.h"

/* Objects that fail their check are replaced so often in one call; then the daemon has made a
 * pause of it. */
#define CHECKS_MAX 16

/* Whether this failure is that of a daemon that cannot be asked. */
static bool is_away(int code)
{
        switch (code) {
        case CACHED_SHUTTING_DOWN:
        case CACHED_OUTCOME_UNKNOWN:
        case CACHED_ERR_UNREACHABLE:
        case CACHED_ERR_TIMEOUT:
        case CACHED_ERR_DISCONNECTED:
                return true;
        default:
                return false;
        }
}

static void lock(struct holder *h)
{
        (void)pthread_mutex_lock(&h->mutex);
}

static void unlock(struct holder *h)
{
        (void)pthread_mutex_unlock(&h->mutex);
}

/* ------------------------------------------------------------------------------- the key's place
 */

/* What this process has of the key, or a place for it: busy, and with a use. */
static int enter(struct resource_want *w, struct holder *h, struct failure *f, struct held **ret)
{
        struct held *held;
        int code = CACHED_OK;

        lock(h);
        while ((held = w->o->pool ? NULL : held_find(h, w)) && held->is_busy)
                if (!holder_wait(h, w->d)) {
                        unlock(h);
                        if (atomic_load(&h->is_ending))
                                return failure_set(f, CACHED_ERR_CLOSED, "%s",
                                                   cached_strerror(CACHED_ERR_CLOSED));
                        return failure_set(f, CACHED_DEADLINE,
                                           "another thread of this process is getting it");
                }
        if (held && held->kind != w->kind) {
                code = failure_set(f, CACHED_INVALID,
                                   "this process holds a resource of another kind: ask for that "
                                   "kind, or drop it first");
        } else if (held) {
                held->n_uses++;
                held->is_busy = true;
        } else {
                held = held_new(h, w);
                if (!held)
                        code = failure_nomem(f);
        }
        if (code == CACHED_OK)
                h->n_asking++;
        unlock(h);
        *ret = held;
        return code;
}

/* With the mutex. */
static void leave_busy(struct holder *h, struct held *held)
{
        held->is_busy = false;
        (void)pthread_cond_broadcast(&h->changed);
}

/* The daemon was asked; the place stays busy if the object is to be made. */
static void leave(struct cached_resource *r, int code)
{
        struct holder *h = r->holder;
        struct held *held = r->held;

        lock(h);
        if (--h->n_asking == 0)
                h->n_news = 0;
        if (code != CACHED_OK) {
                held->n_uses--;
                leave_busy(h, held);
                held_settle(h, held);
                r->held = NULL;
        } else if (!r->is_making) {
                leave_busy(h, held);
        }
        unlock(h);
}

/* A local object that was made while no daemon was there, and that it does not know yet. */
static bool is_unknown_local(const struct held *held)
{
        return held->is_made && held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL &&
               atomic_load(&held->instance) == 0;
}

/* Another instance than the one that is at hand: that one has left. */
static int replace(cached_resource *r, const struct resource_want *w, struct failure *f)
{
        struct holder *h = r->holder;
        struct held *old = r->held, *held;

        if (!old->is_made)
                return CACHED_OK;
        lock(h);
        held = held_new(h, w);
        if (held) {
                held_left(old, CACHED_RESOURCE_REPLACED);
                old->n_uses--;
                leave_busy(h, old);
                held_settle(h, old);
                r->held = held;
        }
        unlock(h);
        return held ? CACHED_OK : failure_nomem(f);
}

/* -------------------------------------------------------------------------------------- the object
 */

/* It is there, and held. With the mutex. */
static void settle_in(cached_resource *r, const struct callback *on_release, uint64_t instance)
{
        struct holder *h = r->holder;
        struct held *held = r->held;

        if (!held->is_made)
                held->on_release = *on_release;
        held->is_made = true;
        atomic_store(&held->instance, instance);
        held->claimed = instance ? h->epoch : 0;
        for (size_t i = 0; i < h->n_news; i++)
                if (instance && h->news[i].instance == instance)
                        held_left(held, h->news[i].cause);
}

/* What came with HELD. */
static int take_object(cached_resource *r, cached_reply *reply, struct failure *f)
{
        const Cached__V1__ResourceInfo *info = reply->message->resource;
        int fd = reply->fd;

        if (fd < 0)
                return failure_set(f, reply->has_lost_fd ? CACHED_ERR_NOMEM : CACHED_ERR_BAD_REPLY,
                                   "%s",
                                   reply->has_lost_fd
                                           ? "this process has no descriptor free for the resource"
                                           : "the daemon sent a resource without its descriptor");
        reply->fd = -1;
        if (r->held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT)
                return object_map_segment(fd, info->size, info->read_only, f, &r->held->object);
        r->held->object.fd = fd;
        return CACHED_OK;
}

/* This process holds an instance. */
static int take_held(cached_resource *r, const struct resource_want *w, cached_reply *reply,
                     struct failure *f)
{
        const Cached__V1__ResourceInfo *info = reply->message->resource;
        struct holder *h = r->holder;
        bool is_known = (r->held->is_made && atomic_load(&r->held->instance) == info->instance) ||
                        is_unknown_local(r->held);
        int code = CACHED_OK;

        if (info->kind != w->kind || info->instance == 0)
                code = failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon gave a resource that was not asked for");
        if (code == CACHED_OK && !is_known)
                code = replace(r, w, f);
        /* Each process has a local object of its own. */
        if (code == CACHED_OK && !is_known && w->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL)
                r->is_making = true;
        else if (code == CACHED_OK && !is_known)
                code = take_object(r, reply, f);
        lock(h);
        if (code == CACHED_OK) {
                r->held->n_holds++;
                if (r->is_making)
                        atomic_store(&r->held->instance, info->instance);
                else
                        settle_in(r, &w->o->on_release, info->instance);
        } else {
                holder_give_back(h, info->instance, 1);
        }
        unlock(h);
        return code;
}

/* What is there need not be made. */
static int take_in(cached_resource *r, struct failure *f)
{
        cached_reply *reply = NULL;
        int code = resource_ask_publish(r, f, &reply);

        if (code == CACHED_OK) {
                r->creation_id = 0;
                lock(r->holder);
                r->held->n_holds = 1;
                settle_in(r, &r->on_release, reply->message->resource->instance);
                unlock(r->holder);
        } else {
                resource_tell_creation_ended(r);
        }
        cached_reply_free(reply);
        /* Later, then: it is in use all the same. */
        return CACHED_OK;
}

/* This process is to make one. */
static int take_right(cached_resource *r, const struct resource_want *w, uint64_t creation_id,
                      struct failure *f)
{
        int code = CACHED_OK;

        if (creation_id == 0)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon gave a right without an id");
        r->creation_id = creation_id;
        if (is_unknown_local(r->held))
                return take_in(r, f);
        code = replace(r, w, f);
        if (code == CACHED_OK && w->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT)
                code = object_make_segment(w->size ? w->size : 1, f, &r->held->object);
        if (code == CACHED_OK)
                r->is_making = true;
        else
                resource_tell_creation_ended(r);
        return code;
}

/* ----------------------------------------------------------------------------------- the decision
 */

static int take_reply(cached_resource *r, const struct resource_want *w, cached_reply *reply,
                      struct failure *f)
{
        const Cached__V1__ResourceInfo *info = reply->message->resource;

        switch (info->state) {
        case CACHED__V1__RESOURCE_STATE__RESOURCE_HELD:
                return take_held(r, w, reply, f);
        case CACHED__V1__RESOURCE_STATE__RESOURCE_CREATE:
                return take_right(r, w, info->creation_id, f);
        case CACHED__V1__RESOURCE_STATE__RESOURCE_FAILED:
                return failure_set(f, CACHED_ERR_CREATION, "%s",
                                   *info->reason ? info->reason
                                                 : cached_strerror(CACHED_ERR_CREATION));
        default:
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered with a state that is not known");
        }
}

/* The daemon cannot be asked: what the process has is good, and a local object it makes itself. */
static int go_alone(cached_resource *r, const struct resource_want *w, int code)
{
        if (!is_away(code))
                return code;
        if (r->held->is_made)
                return CACHED_OK;
        if (w->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL || w->o->no_create)
                return code;
        r->is_making = true;
        return CACHED_OK;
}

/* Becomes the failure's reply: *reply keeps what it says. */
static int fail(cached_reply **reply, int code, const struct failure *f)
{
        if (*reply && !reply_fail(*reply, code, f->text)) {
                cached_reply_free(*reply);
                *reply = NULL;
        }
        return code;
}

/* Held, or to be made: r->is_making. *reply may be set in any case; else *f is, with a failure. */
static int get(cached_resource *r, struct resource_want *w, struct failure *f, cached_reply **reply)
{
        uint64_t have;
        int code = enter(w, r->holder, f, &r->held);

        *reply = NULL;
        if (code != CACHED_OK)
                return code;
        assert(r->held);
        have = r->held->is_made ? atomic_load(&r->held->instance) : 0;
        code = resource_ask(w, r->holder, have, f, reply);
        if (code == CACHED_OK) {
                code = take_reply(r, w, *reply, f);
                if (code != CACHED_OK)
                        (void)fail(reply, code, f);
        } else if (code == CACHED_DEADLINE && *reply && (*reply)->message) {
                (void)failure_set(f, code, "another process is making it, or uses all of them");
                (void)fail(reply, code, f);
        } else {
                code = go_alone(r, w, code);
                if (code == CACHED_OK) {
                        cached_reply_free(*reply);
                        *reply = NULL;
                }
        }
        leave(r, code);
        return code;
}

/* -------------------------------------------------------------------------------------- making it
 */

/* What is made is held from now on. */
static int made(cached_resource *r, uint64_t instance)
{
        struct holder *h = r->holder;
        struct held *held = r->held;

        lock(h);
        if (r->creation_id)
                held->n_holds = 1;
        settle_in(r, &r->on_release, instance);
        leave_busy(h, held);
        unlock(h);
        r->is_making = false;
        r->creation_id = 0;
        return CACHED_OK;
}

static bool is_object_there(const cached_resource *r)
{
        return r->held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL ||
               r->held->object.fd >= 0;
}

static int publish(cached_resource *r, cached_reply **reply)
{
        cached_reply *got = NULL;
        struct failure f;
        int code;

        if (r->held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT) {
                code = object_seal_segment(&r->held->object, r->wants_read_only, &f);
                if (code != CACHED_OK)
                        return call_fail(code, &f, reply);
        }
        /* It joins those that other processes have, or the daemon is told of it later. */
        if (r->creation_id == 0)
                return made(r, atomic_load(&r->held->instance));
        code = resource_ask_publish(r, &f, &got);
        if (code == CACHED_OK)
                (void)made(r, got->message->resource->instance);
        else if (r->held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL &&
                 (is_away(code) || code == CACHED_NOT_FOUND)) {
                r->creation_id = 0;
                code = made(r, 0);
                cached_reply_free(got);
                return code;
        }
        return call_hand_out(code, got, &f, reply);
}

int cached_resource_publish(cached_resource *r, cached_reply **reply)
{
        struct holder *h;
        int code;

        if (reply)
                *reply = NULL;
        if (!r || !r->is_making || !holder_is_ours(r->holder) || !is_object_there(r))
                return call_refuse("cached_resource_publish() needs a resource that is being made, "
                                   "with its object",
                                   reply);
        h = r->holder;
        holder_enter(h);
        code = publish(r, reply);
        holder_leave(h);
        return code;
}

/* By the function that makes it. Published; or given up, and *f says why. */
static int make(cached_resource *r, const struct callback *create, struct failure *f,
                cached_reply **reply)
{
        int code;

        cached_reply_free(*reply); /* that it is to be made */
        *reply = NULL;
        code = create->fn(r, create->data) == 0 ? CACHED_OK : CACHED_ERR_CREATION;
        if (code != CACHED_OK) {
                if (!*r->reason)
                        cached_resource_give_reason(r, cached_strerror(code));
                return failure_set(f, code, "%s", r->reason);
        }
        if (!is_object_there(r)) {
                cached_resource_give_reason(r, "the function that makes it gave no descriptor");
                return failure_set(f, CACHED_ERR_USAGE, "%s", r->reason);
        }
        code = cached_resource_publish(r, reply);
        if (code != CACHED_OK)
                (void)failure_set(f, code, "%s", cached_reply_error(*reply));
        return code;
}

int cached_resource_give_fd(cached_resource *r, int fd)
{
        if (!r || !r->is_making || fd < 0 || !holder_is_ours(r->holder) ||
            r->held->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_DESCRIPTOR)
                return CACHED_ERR_USAGE;
        if (r->held->object.fd >= 0 && r->held->object.fd != fd)
                (void)close(r->held->object.fd);
        r->held->object.fd = fd;
        return CACHED_OK;
}

int cached_resource_give_size(cached_resource *r, size_t size)
{
        struct resource_object o;
        struct failure f;
        int code;

        if (!r || !r->is_making || !holder_is_ours(r->holder) ||
            r->held->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT)
                return CACHED_ERR_USAGE;
        code = object_make_segment(size ? size : 1, &f, &o);
        if (code != CACHED_OK)
                return code;
        object_done(&r->held->object);
        r->held->object = o;
        return CACHED_OK;
}

int cached_resource_give_object(cached_resource *r, void *object)
{
        if (!r || !r->is_making || !holder_is_ours(r->holder) ||
            r->held->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL)
                return CACHED_ERR_USAGE;
        r->held->object.object = object;
        return CACHED_OK;
}

/* The bytes of a character that was cut go, too: the daemon takes whole ones only. */
void cached_resource_give_reason(cached_resource *r, const char *text)
{
        size_t n;

        if (!r || !text)
                return;
        (void)snprintf(r->reason, sizeof(r->reason), "%s", text);
        n = strlen(r->reason);
        if (n < strlen(text)) {
                while (n > 0 && ((uint8_t)text[n] & 0xc0) == 0x80)
                        n--;
                r->reason[n] = '\0';
        }
}

/* -------------------------------------------------------------------------------------- checking
 */

int cached_resource_invalidate(cached_resource *r, const char *reason)
{
        Cached__V1__InvalidateResource m = CACHED__V1__INVALIDATE_RESOURCE__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_INVALIDATE_RESOURCE);
        struct holder *h;
        int code;

        if (!r || r->is_making || !holder_is_ours(r->holder))
                return CACHED_ERR_USAGE;
        h = r->holder;
        holder_enter(h);
        lock(h);
        held_left(r->held, CACHED_RESOURCE_INVALIDATED);
        m.holder = h->id;
        unlock(h);
        m.instance = atomic_load(&r->held->instance);
        m.reason = (char *)(uintptr_t)(reason ? reason : "");
        call.request.invalidate_resource = &m;
        code = m.instance ? call_run(r->handle, &call, NULL) : CACHED_OK;
        holder_leave(h);
        /* To this process it has left; the others use theirs. */
        return is_away(code) ? CACHED_OK : code;
}

/* False: it is not good, and given back. */
static bool is_good(cached_resource *r, const struct callback *validate)
{
        struct holder *h = r->holder;

        r->reason[0] = '\0';
        if (!validate->fn || validate->fn(r, validate->data) == 0)
                return true;
        (void)cached_resource_invalidate(r, *r->reason ? r->reason : "its check failed");
        lock(h);
        r->held->n_uses--;
        held_settle(h, r->held);
        unlock(h);
        r->held = NULL;
        return false;
}

/* -------------------------------------------------------------------------------------- acquiring
 */

/* What is given up: with r->held, if there is one. */
static void give_up(cached_resource *r)
{
        struct holder *h = r->holder;

        if (!r->held)
                return;
        resource_tell_creation_ended(r);
        lock(h);
        r->held->n_uses--;
        leave_busy(h, r->held);
        held_settle(h, r->held);
        unlock(h);
        r->held = NULL;
        r->is_making = false;
}

/* Until it is good. CACHED_NOT_FOUND with r->is_making: the caller is to make it. */
static int obtain(cached_resource *r, struct resource_want *w, struct failure *f,
                  cached_reply **reply)
{
        for (int i = 0; i < CHECKS_MAX; i++) {
                int code = get(r, w, f, reply);

                if (code != CACHED_OK)
                        return code;
                if (!r->is_making) {
                        if (is_good(r, &w->o->validate))
                                return CACHED_OK;
                        cached_reply_free(*reply);
                        *reply = NULL;
                        continue;
                }
                if (!w->o->create.fn)
                        return CACHED_NOT_FOUND;
                code = make(r, &w->o->create, f, reply);
                if (code != CACHED_OK)
                        give_up(r);
                return code;
        }
        return failure_set(f, CACHED_ERR_CREATION, "new ones fail the check again and again");
}

static int acquire(struct resource_want *w, cached_resource **ret, cached_reply **reply)
{
        static const cached_resource_options defaults = {.wait_ms = UINT32_MAX};
        cached_resource *r;
        cached_reply *got = NULL;
        struct holder *h;
        struct failure f;
        int code;

        if (reply)
                *reply = NULL;
        if (!w->handle || !w->cache || !w->key || !ret)
                return call_refuse("acquiring a resource needs a handle, a cache, a key and a "
                                   "place for it",
                                   reply);
        if (w->n_key == 0 || w->n_key > RESOURCE_KEY_MAX)
                return call_refuse("a resource's key has 1 to 255 bytes", reply);
        if (!w->o)
                w->o = &defaults;
        w->d = deadline_of_wait(w->o->wait_ms);
        r = calloc(1, sizeof(*r));
        if (!r)
                return call_fail(failure_nomem(&f), &f, reply);
        r->handle = w->handle;
        r->wants_read_only = w->o->read_only;
        r->on_release = w->o->on_release;
        r->holder = h = holder_of(w->handle, &f);
        code = h ? obtain(r, w, &f, &got) : f.code;
        if (code == CACHED_NOT_FOUND && !r->is_making && !got)
                (void)failure_set(&f, code, "%s", cached_strerror(code));
        if (code == CACHED_OK || r->is_making) {
                *ret = r;
                holder_ref(h);
        } else {
                free(r);
        }
        if (h)
                holder_leave(h);
        if (code == CACHED_OK && !got)
                return CACHED_OK;
        return call_hand_out(code, got, &f, reply);
}

int cached_resource_acquire_segment(cached *c, const char *cache, const void *key, size_t n_key,
                                    size_t size, const cached_resource_options *o,
                                    cached_resource **ret, cached_reply **reply)
{
        struct resource_want w = {
                .handle = c,
                .kind = CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT,
                .cache = cache,
                .key = key,
                .n_key = n_key,
                .size = size,
                .o = o,
        };

        return acquire(&w, ret, reply);
}

int cached_resource_acquire_descriptor(cached *c, const char *cache, const void *key, size_t n_key,
                                       const cached_resource_options *o, cached_resource **ret,
                                       cached_reply **reply)
{
        struct resource_want w = {
                .handle = c,
                .kind = CACHED__V1__RESOURCE_KIND__RESOURCE_DESCRIPTOR,
                .cache = cache,
                .key = key,
                .n_key = n_key,
                .o = o,
        };

        return acquire(&w, ret, reply);
}

int cached_resource_acquire_local(cached *c, const char *cache, const void *key, size_t n_key,
                                  const cached_resource_options *o, cached_resource **ret,
                                  cached_reply **reply)
{
        struct resource_want w = {
                .handle = c,
                .kind = CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL,
                .cache = cache,
                .key = key,
                .n_key = n_key,
                .o = o,
        };

        return acquire(&w, ret, reply);
}

void cached_resource_release(cached_resource *r)
{
        struct holder *h;

        if (!r)
                return;
        h = r->holder;
        /* In a child the rest is the parent's, and after the handle there is none. */
        if (!atomic_load(&h->is_over) && holder_is_ours(h)) {
                holder_enter(h);
                if (atomic_load(&r->is_locked))
                        (void)cached_resource_unlock(r);
                if (r->is_making) {
                        give_up(r);
                } else {
                        lock(h);
                        r->held->n_uses--;
                        held_settle(h, r->held);
                        unlock(h);
                }
                holder_leave(h);
        }
        holder_unref(h);
        free(r);
}

/* ------------------------------------------------------------------------------------ looking */

static const struct resource_object *object_of(const cached_resource *r)
{
        return r && r->held ? &r->held->object : NULL;
}

void *cached_resource_data(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o && o->map ? (uint8_t *)o->map + (o->n_map - object_size(o)) : NULL;
}

size_t cached_resource_size(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o ? object_size(o) : 0;
}

int cached_resource_is_read_only(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o && o->is_read_only;
}

int cached_resource_fd(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o && !o->map ? o->fd : -1;
}

int cached_resource_file(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o ? o->fd : -1;
}

void *cached_resource_object(const cached_resource *r)
{
        const struct resource_object *o = object_of(r);

        return o ? o->object : NULL;
}

uint64_t cached_resource_instance(const cached_resource *r)
{
        return r && r->held && !r->is_making ? atomic_load(&r->held->instance) : 0;
}

int cached_resource_has_left(const cached_resource *r)
{
        return r && r->held ? atomic_load(&r->held->cause) : 0;
}

int cached_resource_left_fd(cached_resource *r)
{
        int fd;

        if (!r || !r->held || r->is_making || !holder_is_ours(r->holder))
                return -1;
        lock(r->holder);
        fd = held_bell(r->held);
        unlock(r->holder);
        return fd;
}
