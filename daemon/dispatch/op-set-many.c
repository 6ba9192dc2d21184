/* SPDX-License-Identifier: MIT */
/*
 * SetMany: many entries, one body
 *
 * What is wrong with the request as a whole (no items, sizes that do not add up, caches named
 * twice) fails it before anything is stored. Then every item stands for itself: it is checked,
 * stored and answered alone, in order. Room for the reply is reserved first; error texts are sent
 * as long as that room lasts, statuses always.
 *
 * It runs in portions: between them others are served, who see the items that were stored by then.
 * A long value is copied bit by bit into the memory file or the extent in which it stays, with room
 * made for it as for one that arrives by itself.
 * The room for the reply does not survive that. Should there be none at the end, the connection is
 * closed, and the client learns nothing, which is true.
 */
#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/repeat.h"
#include "dispatch/reply.h"
#include "dispatch/subscribe.h"
#include "dispatch/unfinished.h"
#include "server.h"
#include "services/limits.h"
#include "store/large.h"
#include "store/store.h"

#define ITEM_MAX      ((size_t)24)        /* bytes of an item without a text, at most */
#define TEXTS_MAX     ((size_t)16 * 1024) /* of the texts together: some 100 of them */
#define TEXT_OVERHEAD ((size_t)8)
#define LOOK_ITEMS    16u /* and after so many, or so many bytes, the clock is looked at */
#define LOOK_BYTES    ((uint64_t)64 * 1024)
#define FILL_BYTES    ((uint64_t)256 * 1024) /* of a large value at once: 0.1 to 0.8 ms */

static enum status check_sizes(struct request *r, const Cached__V1__SetMany *msg, uint64_t n_body)
{
        uint64_t sum = 0;
        for (size_t i = 0; i < msg->n_sizes; i++)
                if (__builtin_add_overflow(sum, msg->sizes[i], &sum))
                        sum = UINT64_MAX;
        uint64_t max = r->d->cfg->limits.many_bytes;
        if (n_body > max)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the values have %" PRIu64
                                   " bytes together, more than limits.many_bytes, %" PRIu64 ": %s",
                                   n_body, max, limit_advice.many_bytes);
        if (sum != n_body)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "sizes add up to %" PRIu64 " but the body has %" PRIu64
                                   " bytes: send the values one after the other, without gaps",
                                   sum, n_body);
        return STATUS_OK;
}

static enum status check(struct request *r, const Cached__V1__SetMany *msg, uint64_t n_body)
{
        uint64_t max = r->d->cfg->limits.keys_per_request;
        if (msg->n_sets == 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request has no sets: name at least one");
        if (msg->n_sets > max)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the request has %zu keys, more than limits.keys_per_request, "
                                   "%" PRIu64 ": %s",
                                   msg->n_sets, max, limit_advice.keys_per_request);
        if (msg->n_sizes != msg->n_sets)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "there are %zu sets but %zu sizes: give one size for each set",
                                   msg->n_sets, msg->n_sizes);
        for (size_t i = 0; i < msg->n_sets; i++)
                if (msg->sets[i]->cache_id != 0 || decode_length(msg->sets[i]->cache) != 0)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "set %zu names a cache: name it once, in the SetMany "
                                           "itself",
                                           i);
        for (size_t i = 0; i < msg->n_sets; i++)
                if (msg->sets[i]->source_case != CACHED__V1__SET__SOURCE__NOT_SET)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "set %zu names where its value is: inside a SetMany "
                                           "values are the body",
                                           i);
        for (size_t i = 0; i < msg->n_sets; i++)
                if (msg->sets[i]->lease_id != 0 || msg->sets[i]->share_only)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "set %zu names a lease: store under leases by Set, one "
                                           "by one",
                                           i);
        return check_sizes(r, msg, n_body);
}

static enum status decode(struct request *r, uint64_t n_body, struct cache_ref *ret)
{
        const Cached__V1__SetMany *msg = r->msg->set_many;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, ret);
        if (status == STATUS_OK)
                status = check(r, msg, n_body);
        if (status != STATUS_OK)
                return status;
        /* Looked up once; if it is unknown the first item creates it. */
        uint32_t cache;
        status = data_find_cache(&r->who, ret, &cache, &r->verdict);
        if (status == STATUS_OK)
                *ret = (struct cache_ref){.id = cache};
        return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status op_set_many_accept(struct request *r, uint64_t n_body, struct upload **ret)
{
        struct cache_ref ref;
        enum status status = decode(r, n_body, &ref);
        return status == STATUS_OK ? upload_begin(r, n_body, UPLOAD_TO_HEAP, ret) : status;
}

struct many {
        struct cache_ref ref;
        size_t next;      /* item to store */
        uint64_t at;      /* where its value begins in the body */
        uint64_t filled;  /* of the item, if it is copied bit by bit */
        uint64_t noticed; /* up to where the clock was last read */
        unsigned n_portions;
        Cached__V1__SetManyItem *items;
        Cached__V1__SetManyItem **item_ptrs;
        size_t n_texts; /* bytes left for texts */
};

static enum status reserve(struct request *r, size_t n)
{
        return reply_reserve(r, REPLY_SMALL + n * ITEM_MAX + TEXTS_MAX, 0);
}

static enum status allocate(struct request *r, size_t n, struct many **ret)
{
        struct bump *b = &r->d->bump;
        struct many *m = bump_alloc(b, sizeof(*m));
        if (m)
                *m = (struct many){
                        .items = bump_alloc_array(b, n, sizeof(*m->items)),
                        .item_ptrs = bump_alloc_array(b, n, sizeof(*m->item_ptrs)),
                        .n_texts = TEXTS_MAX,
                };
        if (!m || !m->items || !m->item_ptrs)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for %zu items: nothing was changed; "
                                   "send fewer at once, or try again later",
                                   n);
        *ret = m;
        return reserve(r, n);
}

/* Keeps the text of the item's verdict if there is room for it. */
static void keep_text(struct request *r, struct many *m, Cached__V1__SetManyItem *item)
{
        size_t n = strlen(r->verdict.text) + 1;
        if (n + TEXT_OVERHEAD > m->n_texts)
                return;
        char *copy = bump_alloc(&r->d->bump, n);
        if (!copy)
                return;
        memcpy(copy, r->verdict.text, n);
        item->error = copy;
        m->n_texts -= n + TEXT_OVERHEAD;
}

/* Begins to copy a value that is kept in a memory file of its own, or in an extent. OK, without
 * r->filling: it is not to be. */
static enum status begin_filling(struct request *r, struct many *m, struct store_put *put)
{
        struct store_arrival arrival;
        enum status status = data_check_set(&r->who, &m->ref, put, &r->verdict);
        if (status == STATUS_OK)
                status = data_arrival_begin(&r->who, &m->ref, put, &arrival, &r->verdict);
        if (status != STATUS_OK)
                return status;
        if (upload_to(&arrival) != UPLOAD_TO_HEAP)
                status = upload_begin(r, put->n_value, upload_to(&arrival), &r->filling);
        if (!r->filling) {
                store_arrival_end(&arrival);
                return status;
        }
        r->filling->arrival = arrival;
        m->filled = 0;
        return STATUS_OK;
}

static enum status fill_more(struct request *r, struct many *m)
{
        struct upload *u = r->filling;
        uint64_t n = u->n - m->filled < FILL_BYTES ? u->n - m->filled : FILL_BYTES, room;
        uint64_t end = m->filled + n;
        enum status status = data_arrival_more(&r->who, &u->arrival, end, end, &room, &r->verdict);
        if (status != STATUS_OK)
                return status;
        int k = u->large ? large_commit(u->large, end) : 0;
        if (k < 0)
                return verdict_errno(&r->verdict, k, "copying the value");
        memcpy(upload_dst(u) + m->filled, r->body + m->at + m->filled, n);
        m->filled = end;
        if (u->large)
                large_retire(u->large, end);
        return STATUS_OK;
}

static enum status end_filling(struct request *r, struct store_put *put)
{
        struct upload *u = r->filling;
        store_arrival_ready(&u->arrival);
        int k = u->large ? large_seal(u->large) : 0;
        if (k < 0)
                return verdict_errno(&r->verdict, k, "sealing the value");
        put->arrived = &u->arrival;
        put->large = u->large;
        return STATUS_OK;
}

/* A long value, a step of it. *ret_more: there are further ones. */
static enum status fill(struct request *r, struct many *m, struct store_put *put, bool *ret_more)
{
        enum status status = STATUS_OK;
        if (!r->filling)
                status = begin_filling(r, m, put);
        if (status != STATUS_OK || !r->filling)
                return status;
        status = fill_more(r, m);
        if (status != STATUS_OK)
                return status;
        *ret_more = m->filled < r->filling->n;
        return *ret_more ? STATUS_OK : end_filling(r, put);
}

/* Stores the next item, or does a part of that. */
static void store_item(struct request *r, struct many *m)
{
        const Cached__V1__SetMany *msg = r->msg->set_many;
        size_t i = m->next;
        Cached__V1__SetManyItem *item = &m->items[i];
        struct store_put put;
        struct store_entry entry;
        bool more = false;
        enum status status = decode_set(r, msg->sets[i], msg->sizes[i], &put);
        if (status == STATUS_OK && put.n_value > FILL_BYTES)
                status = fill(r, m, &put, &more);
        if (more)
                return;
        if (status == STATUS_OK) {
                put.value = r->body + m->at;
                status = decode_marked(r, &put);
        }
        if (status == STATUS_OK)
                status = data_set(&r->who, &m->ref, &put, &entry, &r->verdict);
        if (status == STATUS_OK) {
                leasing_stored(r, &put);
                subscribe_stored(r, &put, &entry);
        }
        r->filling = upload_free(r->filling);
        m->next++;
        m->at += msg->sizes[i];
        m->filled = 0;
        cached__v1__set_many_item__init(item);
        m->item_ptrs[i] = item;
        item->status = (Cached__V1__Status)status;
        if (status == STATUS_OK)
                item->version = entry.version;
        else if (status != STATUS_NOT_FOUND)
                keep_text(r, m, item);
}

/* Whether the portion that began at @start_ns has taken its time. */
static bool is_due(struct request *r, struct many *m, uint64_t start_ns)
{
        uint64_t done = m->at + m->filled;
        if (m->next % LOOK_ITEMS != 0 && done - m->noticed < LOOK_BYTES)
                return false;
        m->noticed = done;
        /* Its own events go out at the end of the turn. */
        if (__builtin_expect(subscribe_is_crowded(r->client), 0))
                return true;
        return server_tick(r->d->server) - start_ns >= UNFINISHED_PORTION_NS;
}

static void answer(struct request *r, struct many *m)
{
        if (m->n_portions > 0 && reserve(r, m->next) != STATUS_OK) {
                repeat_forget(r->client, r->id);
                reply_abort(r);
                return;
        }
        Cached__V1__SetManyResult result = CACHED__V1__SET_MANY_RESULT__INIT;
        result.n_items = m->next;
        result.items = m->item_ptrs;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_SET_MANY;
        reply.set_many = &result;
        reply_queue(r, &reply, NULL, 0, 0);
}

enum status op_set_many(struct request *r)
{
        const Cached__V1__SetMany *msg = r->msg->set_many;
        struct many *m = r->state;
        if (!m) {
                struct cache_ref ref;
                enum status status = decode(r, r->n_body, &ref);
                if (status == STATUS_OK)
                        status = allocate(r, msg->n_sets, &m);
                if (status != STATUS_OK)
                        return status;
                m->ref = ref;
                r->state = m;
        }
        uint64_t start_ns = server_now_ns(r->d->server);
        while (m->next < msg->n_sets) {
                store_item(r, m);
                if (m->next < msg->n_sets && is_due(r, m, start_ns)) {
                        m->n_portions++;
                        r->again = true;
                        return STATUS_OK;
                }
        }
        answer(r, m);
        return STATUS_OK;
}
