/* SPDX-License-Identifier: MIT */
/*
 * Clear: one cache, what has a tag in it, or the realm. Answers at once; the memory comes back in
 * slices. What has a prefix is looked for in portions, and the answer comes when it is gone.
 */
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/repeat.h"
#include "dispatch/reply.h"
#include "dispatch/resourcing.h"
#include "dispatch/scope.h"
#include "dispatch/subscribe.h"
#include "dispatch/unfinished.h"
#include "realm/realm.h"
#include "server.h"

#define SWEEP_STEPS 1000u /* then the clock is looked at: some 25 to 100 µs */

static enum status clear_all(struct request *r, Cached__V1__ClearResult *result)
{
        const Cached__V1__Clear *msg = r->msg->clear;
        if (msg->which_case != CACHED__V1__CLEAR__WHICH__NOT_SET)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request asks for all, and for a tag or prefix: those are "
                                   "of one cache, leave one out");
        if (msg->cache_id != 0 || decode_length(msg->cache) != 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request names a cache and asks for all: leave one out");
        if (r->who.realm->hidden)
                return scope_clear_all(r, result);
        if (r->client->role < ACCESS_ADMIN)
                return verdict_set(
                        &r->verdict, STATUS_DENIED,
                        "clearing the whole realm needs the role admin: clear the caches "
                        "one by one, or ask an admin of the realm");
        result->resources = resourcing_cleared(r, NULL, (struct key_ref){0});
        leasing_cleared(r, NULL); /* some may be cleared even where not all could be */
        enum status status =
                data_clear_all(&r->who, &result->entries, &result->caches, &r->verdict);
        const struct subscribe_clear what = {.entries = result->entries};
        if (status == STATUS_OK || result->caches > 0)
                subscribe_cleared(r, &what);
        return status;
}

static enum status clear_tag(struct request *r, const struct cache_ref *ref, uint64_t *ret_entries)
{
        struct store_text tag;
        enum status status = decode_tag(r, r->msg->clear->tag, &tag);
        if (status == STATUS_OK)
                status = data_clear_tag(&r->who, ref, &tag, ret_entries, &r->verdict);
        if (status != STATUS_OK)
                return status;
        leasing_cleared_tag(r, ref, tag.text, tag.n);
        const struct subscribe_clear what = {.ref = ref, .tag = tag, .entries = *ret_entries};
        subscribe_cleared(r, &what);
        return STATUS_OK;
}

static enum status begin_sweep(struct request *r, const struct cache_ref *ref)
{
        const ProtobufCBinaryData *prefix = &r->msg->clear->prefix;
        if (prefix->len == 0 || prefix->len > STORE_KEY_MAX)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the prefix has %zu bytes: a prefix is 1 to 64 bytes; leave it "
                                   "out to clear the whole cache",
                                   prefix->len);
        struct store_sweep *sweep = bump_alloc(&r->d->bump, sizeof(*sweep));
        if (!sweep)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the request: nothing was changed; "
                                   "try again later");
        struct key_ref key = {prefix->data, prefix->len};
        enum status status = data_sweep(&r->who, ref, &key, sweep, &r->verdict);
        if (status != STATUS_OK)
                return status;
        r->sweep = sweep;
        /* What was begun before is too old; what is begun during the sweep is not. */
        leasing_cleared_prefix(r, ref, key);
        r->n_resources = resourcing_cleared(r, ref, key);
        return STATUS_OK;
}

void clear_end_sweep(struct request *r)
{
        const Cached__V1__Clear *msg = r->msg->clear;
        const ProtobufCBinaryData *prefix = &msg->prefix;
        struct subscribe_clear what = {.prefix = {prefix->data, prefix->len},
                                       .entries = r->sweep->entries};
        struct cache_ref ref;
        store_sweep_end(r->sweep);
        r->sweep = NULL;
        if (decode_cache(r, msg->cache_id, msg->cache, &ref) != STATUS_OK)
                return;
        what.ref = &ref;
        subscribe_cleared(r, &what);
}

/* A portion. Sets r->again if there are further ones. */
static enum status clear_prefix(struct request *r, const struct cache_ref *ref,
                                Cached__V1__ClearResult *result)
{
        uint64_t start_ns = server_now_ns(r->d->server);
        bool is_first = !r->sweep;
        enum status status = is_first ? begin_sweep(r, ref) : STATUS_OK;
        if (status != STATUS_OK)
                return status;
        while (store_sweep_step(r->sweep, r->who.now_ms, SWEEP_STEPS)) {
                if (server_tick(r->d->server) - start_ns < UNFINISHED_PORTION_NS)
                        continue;
                r->again = !is_first || unfinished_may_keep(r->d);
                if (r->again)
                        return STATUS_OK;
                status = verdict_set(&r->verdict, STATUS_LIMIT,
                                     "a part was cleared; too many long requests are under way to "
                                     "go on with the rest: try again");
                break;
        }
        result->entries = r->sweep->entries;
        result->resources = r->n_resources;
        clear_end_sweep(r);
        return status;
}

static enum status clear_cache(struct request *r, const struct cache_ref *ref,
                               Cached__V1__ClearResult *result)
{
        enum status status = data_clear(&r->who, ref, &result->entries, &r->verdict);
        if (status != STATUS_OK)
                return status;
        leasing_cleared(r, ref);
        result->resources = resourcing_cleared(r, ref, (struct key_ref){0});
        const struct subscribe_clear what = {.ref = ref, .entries = result->entries};
        subscribe_cleared(r, &what);
        return STATUS_OK;
}

static enum status clear_one(struct request *r, Cached__V1__ClearResult *result)
{
        const Cached__V1__Clear *msg = r->msg->clear;
        struct cache_ref ref;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        result->caches = 1;
        if (status != STATUS_OK)
                return status;
        switch (msg->which_case) {
        case CACHED__V1__CLEAR__WHICH_TAG:
                return clear_tag(r, &ref, &result->entries);
        case CACHED__V1__CLEAR__WHICH_PREFIX:
                return clear_prefix(r, &ref, result);
        default:
                return clear_cache(r, &ref, result);
        }
}

/* The room for the reply does not survive a pause: without it nobody learns what was done. */
static void give_up(struct request *r)
{
        clear_end_sweep(r);
        repeat_forget(r->client, r->id);
        reply_abort(r);
}

enum status op_clear(struct request *r)
{
        Cached__V1__ClearResult result = CACHED__V1__CLEAR_RESULT__INIT;
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK && r->sweep) {
                give_up(r);
                return STATUS_OK;
        }
        if (status == STATUS_OK)
                status = r->msg->clear->all ? clear_all(r, &result) : clear_one(r, &result);
        if (status != STATUS_OK || r->again)
                return status;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_CLEAR;
        reply.clear = &result;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}
