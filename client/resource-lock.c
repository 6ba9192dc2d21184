/* SPDX-License-Identifier: MIT */
/*
 * Exclusive use of an instance
 *
 * Two steps. Within the process threads queue for their turn, and only who has it goes on; so the
 * daemon and the lock word know the process alone, and a lock that this process already has means
 * nothing else but that. Then the lock itself: of a segment by exchanging its word (PROTOCOL.md,
 * "Locks"), of all else, and where the word is taken, by the daemon, which knows who waits.
 *
 * A request whose connection breaks may have been carried out. To lock, the daemon is then first
 * told to unlock: nobody in this process has the lock, so that can only be what was not heard of.
 * To unlock, the same is owed until the next lock.
 */

#include <stdlib.h>

#include "client/condition.h"
#include "client/resource.h"
#include "proto/segment.h"

#define UNLOCK_TRIES 3

/* ----------------------------------------------------------------------------------- the turn */

bool turn_init(struct lock_turn *t)
{
        return condition_init(&t->mutex, &t->changed);
}

void turn_done(struct lock_turn *t)
{
        condition_done(&t->mutex, &t->changed);
}

void turn_close(struct lock_turn *t)
{
        (void)pthread_mutex_lock(&t->mutex);
        t->is_closed = true;
        (void)pthread_cond_broadcast(&t->changed);
        (void)pthread_mutex_unlock(&t->mutex);
}

/* False: the deadline passed, or the handle is freed. With the mutex. */
static bool turn_wait(struct lock_turn *t, struct deadline d)
{
        return !t->is_closed && condition_wait(&t->changed, &t->mutex, d);
}

static void turn_leave(struct lock_turn *t, const struct lock_waiter *w)
{
        struct lock_waiter **at = &t->first;

        t->last = NULL;
        while (*at) {
                if (*at == w) {
                        *at = w->next;
                        continue;
                }
                t->last = *at;
                at = &(*at)->next;
        }
}

static bool turn_take(struct lock_turn *t, struct deadline d)
{
        struct lock_waiter w = {0};

        (void)pthread_mutex_lock(&t->mutex);
        if (!t->is_taken) {
                t->is_taken = w.has_it = true;
        } else {
                if (t->last)
                        t->last->next = &w;
                else
                        t->first = &w;
                t->last = &w;
                while (!w.has_it && turn_wait(t, d))
                        ;
                if (!w.has_it)
                        turn_leave(t, &w);
        }
        (void)pthread_mutex_unlock(&t->mutex);
        return w.has_it;
}

static void turn_give(struct lock_turn *t)
{
        (void)pthread_mutex_lock(&t->mutex);
        if (t->first) {
                t->first->has_it = true;
                t->first = t->first->next;
                if (!t->first)
                        t->last = NULL;
                (void)pthread_cond_broadcast(&t->changed);
        } else {
                t->is_taken = false;
        }
        (void)pthread_mutex_unlock(&t->mutex);
}

/* ----------------------------------------------------------------------------------- the word */

/* Of a segment: without anybody else. @r has the turn. */
static bool word_take(cached_resource *r)
{
        struct segment_head *head = object_head(&r->held->object);
        uint32_t number = atomic_load_explicit(&r->holder->number, memory_order_relaxed), free = 0;

        if (!head || number == 0 ||
            !atomic_compare_exchange_strong_explicit(&head->lock, &free, number,
                                                     memory_order_acquire, memory_order_relaxed))
                return false;
        atomic_store_explicit(&head->pid, r->holder->pid, memory_order_relaxed);
        atomic_store_explicit(&r->held->locked, number, memory_order_relaxed);
        return true;
}

/* False: there is none, or somebody waits. */
static bool word_give(cached_resource *r, uint32_t number)
{
        struct segment_head *head = object_head(&r->held->object);

        return head &&
               atomic_compare_exchange_strong_explicit(&head->lock, &number, 0,
                                                       memory_order_release, memory_order_relaxed);
}

/* ----------------------------------------------------------------------------------- by request */

static int ask_unlock(cached_resource *r, uint64_t holder, cached_reply **ret)
{
        Cached__V1__UnlockResource m = CACHED__V1__UNLOCK_RESOURCE__INIT;
        struct call call = resource_call(CACHED__V1__REQUEST__OP_UNLOCK_RESOURCE);

        m.instance = atomic_load(&r->held->instance);
        m.holder = holder;
        call.request.unlock_resource = &m;
        return call_run(r->handle, &call, ret);
}

static void set_lock_wait(Cached__V1__Request *request, uint32_t ms)
{
        Cached__V1__LockResource *m = request->lock_resource;

        m->patience_case = ms == UINT32_MAX ? CACHED__V1__LOCK_RESOURCE__PATIENCE__NOT_SET
                                            : CACHED__V1__LOCK_RESOURCE__PATIENCE_WAIT_MS;
        m->wait_ms = ms;
}

/* That it has left may be on its way to the holder's thread: who has the lock of a connection is to
 * know by now whether that is good. */
static void note_left(cached_resource *r, int cause)
{
        struct holder *h = r->holder;

        if (cause == 0)
                return;
        (void)pthread_mutex_lock(&h->mutex);
        held_left(r->held, cause);
        holder_wake(h);
        (void)pthread_mutex_unlock(&h->mutex);
}

static int ask_lock(cached_resource *r, uint64_t holder, struct deadline d, struct failure *f,
                    cached_reply **ret)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__LockResource m = CACHED__V1__LOCK_RESOURCE__INIT;
        int code;

        m.instance = atomic_load(&r->held->instance);
        m.holder = holder;
        request.op_case = CACHED__V1__REQUEST__OP_LOCK_RESOURCE;
        request.lock_resource = &m;
        code = resource_ask_waiting(r->handle, &request, set_lock_wait, d, f, ret);
        if (code != CACHED_OK)
                return code;
        note_left(r, (int)(*ret)->message->resource->cause);
        return (*ret)->message->resource->owner_died ? CACHED_OWNER_DIED : CACHED_OK;
}

/* A daemon that took over gave the lock to somebody of this process who was not told. */
static int lock_once(cached_resource *r, struct deadline d, struct failure *f, cached_reply **ret)
{
        struct holder *h = r->holder;
        uint64_t holder;
        int code = holder_lock_here(h, deadline_in_ms(r->handle->options.timeout_ms), f);

        if (code != CACHED_OK)
                return code;
        holder = h->id;
        (void)pthread_mutex_unlock(&h->mutex);
        if (atomic_load(&r->held->owes_unlock)) {
                code = ask_unlock(r, holder, NULL);
                if (resource_is_adrift(h, code, NULL))
                        return failure_set(f, code, "%s", cached_strerror(code));
                atomic_store(&r->held->owes_unlock, false);
        }
        code = ask_lock(r, holder, d, f, ret);
        if (code == CACHED_OK || code == CACHED_OWNER_DIED)
                atomic_store(&r->held->locked, atomic_load(&h->number));
        return code;
}

static int lock_by_request(cached_resource *r, struct deadline d, struct failure *f,
                           cached_reply **ret)
{
        struct resource_patience p = {
                .h = r->holder,
                .wait = d,
                .timeout_ms = r->handle->options.timeout_ms,
                .was_here = true, /* it is held */
        };
        int code;

        for (bool again = false;; again = true) {
                /* Perhaps it was carried out, and nobody heard of it. */
                if (again)
                        atomic_store(&r->held->owes_unlock, true);
                *ret = NULL;
                code = lock_once(r, d, f, ret);
                if (!resource_goes_on(&p, code, ret))
                        return code;
        }
}

/* --------------------------------------------------------------------------------------- public */

static int lock_slowly(cached_resource *r, struct deadline d, cached_reply **reply)
{
        cached_reply *got = NULL;
        struct failure f;
        int code = lock_by_request(r, d, &f, &got);

        if (code == CACHED_OK || code == CACHED_OWNER_DIED) {
                cached_reply_free(got);
                atomic_store(&r->is_locked, true);
                return code;
        }
        turn_give(&r->held->turn);
        if (code == CACHED_DEADLINE && got && !reply_fail(got, code, "another one has the lock"))
                code = CACHED_ERR_NOMEM;
        if (code == CACHED_NOT_FOUND && got &&
            !reply_fail(got, code,
                        "it has left its cache, since the owner of its lock was killed: acquire it "
                        "anew"))
                code = CACHED_ERR_NOMEM;
        return call_hand_out(code, got, &f, reply);
}

/* Whoever has it gives it back, or the handle is freed. */
static int no_turn(const cached_resource *r, cached_reply **reply)
{
        struct failure f;

        if (atomic_load(&r->holder->is_ending))
                return call_fail(failure_set(&f, CACHED_ERR_CLOSED, "%s",
                                             cached_strerror(CACHED_ERR_CLOSED)),
                                 &f, reply);
        return call_fail(failure_set(&f, CACHED_DEADLINE,
                                     "another thread of this process has the lock"),
                         &f, reply);
}

/* It is held, and has a lock. */
static int lock(cached_resource *r, struct deadline d, cached_reply **reply)
{
        if (!turn_take(&r->held->turn, d))
                return no_turn(r, reply);
        if (!word_take(r))
                return lock_slowly(r, d, reply);
        atomic_store_explicit(&r->is_locked, true, memory_order_relaxed);
        return CACHED_OK;
}

int cached_resource_lock(cached_resource *r, uint32_t wait_ms, cached_reply **reply)
{
        int code;

        if (reply)
                *reply = NULL;
        if (!r || r->is_making || !holder_is_ours(r->holder))
                return call_refuse("cached_resource_lock() needs a resource that this process "
                                   "holds",
                                   reply);
        if (r->held->object.is_read_only)
                return call_refuse("the segment is read-only, and has no lock: nobody changes it",
                                   reply);
        if (atomic_load_explicit(&r->is_locked, memory_order_relaxed))
                return call_refuse("it is locked by this object already, and would wait for "
                                   "itself: unlock it first",
                                   reply);
        holder_enter(r->holder);
        code = lock(r, deadline_of_wait(wait_ms), reply);
        holder_leave(r->holder);
        return code;
}

/* By whoever knows who waits. CACHED_OK, also where there is nothing to unlock any more; else the
 * daemon is to be told later. */
static int unlock_by_request(cached_resource *r, uint32_t number)
{
        struct resource_patience p = {
                .h = r->holder,
                .wait = DEADLINE_NOW,
                .timeout_ms = r->handle->options.timeout_ms,
        };
        cached_reply *reply = NULL;
        struct failure f;
        int code;

        do {
                uint64_t holder;

                reply = NULL;
                code = holder_lock_here(p.h, deadline_in_ms(p.timeout_ms), &f);
                if (code != CACHED_OK)
                        continue;
                holder = p.h->id;
                (void)pthread_mutex_unlock(&p.h->mutex);
                /* A daemon that has come meanwhile knows of nobody who waits. */
                if (!word_give(r, number))
                        code = ask_unlock(r, holder, &reply);
        } while (resource_goes_on(&p, code, &reply));
        cached_reply_free(reply);
        /* What has left with its lock is nobody's. */
        return code == CACHED_NOT_FOUND ? CACHED_OK : code;
}

static bool is_here(struct holder *h)
{
        bool is;

        (void)pthread_mutex_lock(&h->mutex);
        is = h->state == HOLDER_HERE;
        (void)pthread_mutex_unlock(&h->mutex);
        return is;
}

static int unlock(cached_resource *r)
{
        uint32_t number = atomic_load_explicit(&r->held->locked, memory_order_relaxed);
        int code = CACHED_OK;

        atomic_store_explicit(&r->is_locked, false, memory_order_relaxed);
        atomic_store_explicit(&r->held->locked, 0, memory_order_relaxed);
        if (!word_give(r, number)) {
                for (int tries = 1;; tries++) {
                        code = unlock_by_request(r, number);
                        atomic_store(&r->held->owes_unlock,
                                     code != CACHED_OK && code != CACHED_INVALID);
                        /* Unless a daemon has come meanwhile and was told the contrary. */
                        if (!atomic_load(&r->held->owes_unlock) || !is_here(r->holder) ||
                            tries == UNLOCK_TRIES)
                                break;
                }
        }
        turn_give(&r->held->turn);
        return code;
}

int cached_resource_unlock(cached_resource *r)
{
        struct holder *h;
        int code;

        if (!r || !holder_is_ours(r->holder) ||
            !atomic_load_explicit(&r->is_locked, memory_order_relaxed))
                return CACHED_ERR_USAGE;
        h = r->holder;
        holder_enter(h);
        code = unlock(r);
        holder_leave(h);
        return code;
}
