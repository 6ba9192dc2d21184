/* SPDX-License-Identifier: MIT */
/*
 * What this process has, told to a daemon that may not know it
 *
 * A daemon that took over from another one knows each instance and wants to hear that it is still
 * held, and whether it is locked. One that knows nothing takes in local objects and segments anew:
 * what was loaded once need not be loaded again. Of descriptors it knows nothing then, and they
 * have left: somebody may have been in the middle of a message.
 */

#include "client/resource.h"

/* One that was not asked about on this connection, pinned. NULL: there is none. With the mutex. */
static struct held *next_unclaimed(struct holder *h)
{
        for (struct held *held = h->all; held; held = held->next) {
                if (!held->is_made || held->claimed == h->epoch || atomic_load(&held->cause))
                        continue;
                held->claimed = h->epoch;
                held->n_pins++;
                return held;
        }
        return NULL;
}

/* Its session has ended: an instance that is gone by itself is answered without a text. */
static bool is_over(const struct holder *h, const struct cached_reply *r)
{
        return h->handle.options.has_session && cached_session_is_over(r) &&
               *cached_reply_error(r) != '\0';
}

/* What the daemon said of it. With the mutex. It may have been told meanwhile that it has left;
 * what a daemon that knew it before still counts of it is given back. */
static void take_answer(struct holder *h, struct held *held, const struct cached_reply *r)
{
        const Cached__V1__ResourceInfo *info = r->code == CACHED_OK ? r->message->resource : NULL;

        if (info && info->state == CACHED__V1__RESOURCE_STATE__RESOURCE_HELD) {
                if (atomic_load(&held->instance) != info->instance)
                        held->n_holds = 1;
                atomic_store(&held->instance, info->instance);
        } else if (is_over(h, r)) {
                held_left(held, CACHED_RESOURCE_SESSION_ENDED);
        } else if (held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL &&
                   !atomic_load(&held->cause)) {
                holder_give_back(h, atomic_load(&held->instance), held->n_holds);
                atomic_store(&held->instance, 0); /* the process has it all the same */
                held->n_holds = 0;
        } else {
                held_left(held, CACHED_RESOURCE_UNCLAIMED);
        }
}

/* What a daemon that knows nothing of it takes it in by. One of a pool cannot come again: nobody
 * knows what of it is in use. */
static int describe(const struct held *held, Cached__V1__ReclaimResource *m,
                    Cached__V1__Policy *policy)
{
        const struct resource_object *o = &held->object;

        if (held->is_pooled || held->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_DESCRIPTOR)
                return -1;
        m->cache = held->cache;
        m->key = (ProtobufCBinaryData){held->n_key, (uint8_t *)(uintptr_t)held->key};
        if (held->has_policy) {
                policy_to_message(&held->policy, policy);
                m->policy = policy;
        }
        if (!o->map)
                return -1;
        m->size = object_size(o);
        m->read_only = o->is_read_only;
        m->descriptor = 1;
        return o->fd;
}

static int claim(struct holder *h, struct held *held, struct deadline d, struct failure *f)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__ReclaimResource m = CACHED__V1__RECLAIM_RESOURCE__INIT;
        Cached__V1__Policy policy;
        struct cached_reply *r = NULL;
        int code, fd;

        m.instance = atomic_load(&held->instance);
        m.holder = h->id;
        m.locked = atomic_load(&held->locked) != 0;
        fd = describe(held, &m, &policy);
        request.op_case = CACHED__V1__REQUEST__OP_RECLAIM_RESOURCE;
        request.reclaim_resource = &m;
        code = holder_ask(h, &request, fd, d, f, &r);
        if (code != CACHED_OK)
                return code;
        (void)pthread_mutex_lock(&h->mutex);
        take_answer(h, held, r);
        (void)pthread_mutex_unlock(&h->mutex);
        cached_reply_free(r);
        return CACHED_OK;
}

/* It was unlocked while nobody could be told. */
static int unlock(struct holder *h, struct held *held, struct deadline d, struct failure *f)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__UnlockResource m = CACHED__V1__UNLOCK_RESOURCE__INIT;
        struct cached_reply *r = NULL;
        int code;

        m.instance = atomic_load(&held->instance);
        m.holder = h->id;
        request.op_case = CACHED__V1__REQUEST__OP_UNLOCK_RESOURCE;
        request.unlock_resource = &m;
        code = holder_ask(h, &request, -1, d, f, &r);
        cached_reply_free(r);
        return code;
}

int holder_claim(struct holder *h, struct deadline d, struct failure *f)
{
        int code = CACHED_OK;

        (void)pthread_mutex_lock(&h->mutex);
        while (code == CACHED_OK) {
                struct held *held = next_unclaimed(h);

                if (!held)
                        break;
                (void)pthread_mutex_unlock(&h->mutex);
                code = claim(h, held, d, f);
                if (code == CACHED_OK && atomic_exchange(&held->owes_unlock, false))
                        code = unlock(h, held, d, f);
                (void)pthread_mutex_lock(&h->mutex);
                held->n_pins--; /* the thread looks soon whether it is done with */
                (void)pthread_cond_broadcast(&h->changed);
        }
        (void)pthread_mutex_unlock(&h->mutex);
        return code;
}
