/* SPDX-License-Identifier: MIT */
/*
 * Replies
 *
 * A reply owns its unpacked message and its body and refers to nothing else, so it outlives
 * everything and may go to another thread. The usual one is a single allocation: head, space for
 * the unpacked message, a small body. protobuf-c unpacks through an allocator that only moves a
 * pointer.
 *
 * The daemon's bytes are not trusted: before a reply is handed out, its kind fits the request, the
 * sizes in the message fit the body, and the memory it unfolds to is bounded.
 */

#include "client/reply.h"

#include <assert.h>
#include <cached.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/codec.h"
#include "client/messages.h"
#include "proto/wire.h"

struct reply_chunk {
        struct reply_chunk *next;
        _Alignas(16) uint8_t space[];
};

#define CHUNK_MIN 4096

static uint8_t *align_up(uint8_t *p)
{
        return p + (-(uintptr_t)p & 15);
}

static void *reply_alloc_chunk(struct cached_reply *r, size_t n)
{
        /* Twice as much each time: few mallocs also for a large listing. */
        size_t size = r->n_chunk_bytes < CHUNK_MIN ? CHUNK_MIN : r->n_chunk_bytes;
        struct reply_chunk *chunk;

        if (size < n)
                size = n;
        if (size > REPLY_MEMORY_MAX - r->n_chunk_bytes)
                size = n;
        if (size > REPLY_MEMORY_MAX - r->n_chunk_bytes)
                return NULL;
        chunk = malloc(sizeof(*chunk) + size);
        if (!chunk)
                return NULL;
        chunk->next = r->chunks;
        r->chunks = chunk;
        r->n_chunk_bytes += size;
        r->free = chunk->space + n;
        r->free_end = chunk->space + size;
        return chunk->space;
}

static void *reply_alloc(void *data, size_t n)
{
        struct cached_reply *r = data;
        uint8_t *start = align_up(r->free);
        void *p;

        if (start <= r->free_end && (size_t)(r->free_end - start) >= n) {
                r->free = start + n;
                return start;
        }
        p = reply_alloc_chunk(r, n);
        if (!p)
                r->out_of_memory = true;
        return p;
}

static void reply_alloc_free(void *data, void *p)
{
        (void)data;
        (void)p;
}

static struct cached_reply *reply_new(size_t n_space, size_t n_body_inline)
{
        struct cached_reply *r = malloc(sizeof(*r) + n_space + n_body_inline);

        if (!r)
                return NULL;
        reply_init(r, n_space, n_body_inline);
        return r;
}

/* ----------------------------------------------------------------------------- mapped look-ups */

void reply_set_hit_apart(struct cached_reply *r, uint64_t n_value, bool is_plain, uint64_t ttl_ms)
{
        struct reply_hit *h = (void *)r->space;

        h->ttl_ms = ttl_ms;
        h->n_apart = n_value;
        h->hit.n_value = 0;
        if (is_plain)
                h->hit.encoding = CACHED__V1__ENCODING__ENCODING_RAW;
        r->is_hit = true;
}

void reply_set_view(struct cached_reply *r, struct cached_view *view)
{
        size_t n = (size_t)cached_view_size(view);

        r->view = view;
        r->body = cached_view_data(view);
        r->n_body = n;
}

uint8_t *reply_steal_body(struct cached_reply *r)
{
        uint8_t *body = r->body_heap;

        if (body) {
                r->body_heap = NULL;
                r->body = NULL;
                r->n_body = 0;
        }
        return body;
}

void reply_set_miss(struct cached_reply *r)
{
        r->code = CACHED_NOT_FOUND;
}

struct cached_reply *reply_new_miss(void)
{
        struct cached_reply *r = reply_new(0, 0);

        if (r)
                reply_set_miss(r);
        return r;
}

bool reply_hit_split_messages(struct cached_reply *r)
{
        struct arena_hit *hit = &reply_hit_of(r)->hit;
        uint64_t n = arena_hit_messages(hit);

        /* The arena's word is no more trusted than the daemon's. */
        if (n == 0 || n > r->n_body)
                return true;
        hit->n_value -= (uint32_t)n;
        r->n_body -= (size_t)n;
        r->messages_code = messages_decode(r->body + r->n_body, (size_t)n, &r->messages);
        return r->messages_code != CACHED_ERR_NOMEM;
}

struct cached_reply *reply_hit_to_negative(struct cached_reply *r)
{
        const char *reason = (const char *)reply_hit_value(r);
        size_t n = wire_utf8_prefix(reason, r->n_body);
        struct arena_hit *hit;
        struct cached_reply *to = reply_new_hit(n + 1, &hit);

        if (to) {
                *reply_hit_of(to) = *reply_hit_of(r);
                memcpy(reply_hit_value(to), reason, n);
                reply_hit_value(to)[n] = 0;
                to->is_hit = true;
                to->code = CACHED_NEGATIVE;
                to->error = (const char *)reply_hit_value(to);
        }
        cached_reply_free(r);
        return to;
}

static void entry_of_hit(const struct reply_hit *h, Cached__V1__EntryInfo *ret)
{
        cached__v1__entry_info__init(ret);
        ret->version = h->hit.version;
        ret->size = h->hit.n_value + h->n_apart;
        ret->flags = h->hit.flags;
        ret->encoding = (Cached__V1__Encoding)h->hit.encoding;
        ret->raw_size = h->hit.encoding ? h->hit.raw_size : ret->size;
        ret->cost_us = h->hit.cost_us;
        ret->uid = h->hit.uid;
        if (h->ttl_ms != CACHED_NEVER) {
                ret->ttl_case = CACHED__V1__ENTRY_INFO__TTL_TTL_MS;
                ret->ttl_ms = h->ttl_ms;
        }
        if (h->hit.marks == 0)
                return;
        ret->stale = (h->hit.marks & ARENA_HIT_STALE) != 0;
        if (h->hit.marks & ARENA_HIT_WINDOW) {
                ret->fresh_case = CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS;
                ret->fresh_ms = h->hit.fresh.fresh;
        }
        ret->messages_size = arena_hit_messages(&h->hit);
        ret->negative = (h->hit.marks & ARENA_HIT_NEGATIVE) != 0;
        ret->vary = (h->hit.marks & ARENA_HIT_VARY) != 0;
}

/* As the daemon would have sent it, over what it is made of. */
static void reply_build(struct cached_reply *r)
{
        struct reply_hit hit;
        struct {
                Cached__V1__Reply reply;
                Cached__V1__EntryInfo entry;
        } *plain = (void *)r->space;

        memcpy(&hit, r->space, sizeof(hit));
        entry_of_hit(&hit, &plain->entry);
        cached__v1__reply__init(&plain->reply);
        plain->reply.status = (Cached__V1__Status)r->code;
        plain->reply.error = (char *)(uintptr_t)r->error;
        plain->reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        plain->reply.entry = &plain->entry;
        r->free = r->space + sizeof(*plain);
        r->message = &plain->reply;
}

struct cached_reply *reply_new_many(size_t n)
{
        struct {
                Cached__V1__Reply reply;
                Cached__V1__GetManyResult result;
        } * many;
        struct cached_reply *r = reply_new(REPLY_INLINE_MESSAGE, 0);
        struct codec_item *items;

        static_assert(sizeof(*many) <= REPLY_INLINE_MESSAGE, "it is in the inline space");
        if (!r)
                return NULL;
        many = (void *)r->space;
        r->free = r->space + sizeof(*many);
        r->item_at = reply_alloc(r, n * sizeof(*r->item_at));
        items = reply_alloc(r, n * (sizeof(*items) + sizeof(*many->result.items)));
        if (!r->item_at || !items) {
                cached_reply_free(r);
                return NULL;
        }
        cached__v1__reply__init(&many->reply);
        cached__v1__get_many_result__init(&many->result);
        many->reply.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        many->reply.get_many = &many->result;
        many->result.n_items = n;
        many->result.items = (void *)(items + n);
        for (size_t i = 0; i < n; i++) {
                cached__v1__get_many_item__init(&items[i].item);
                items[i].item.status = CACHED__V1__STATUS__NOT_FOUND;
                many->result.items[i] = &items[i].item;
                r->item_at[i] = 0;
        }
        r->message = &many->reply;
        return r;
}

void reply_set_item(struct cached_reply *r, size_t i, const struct arena_hit *hit, uint64_t ttl_ms,
                    size_t at)
{
        struct codec_item *item = (void *)r->message->get_many->items[i];
        struct reply_hit h = {*hit, ttl_ms, 0};

        entry_of_hit(&h, &item->entry);
        item->item.entry = &item->entry;
        item->item.status = CACHED__V1__STATUS__OK;
        r->item_at[i] = at;
}

void reply_set_body(struct cached_reply *r, uint8_t *body, size_t n_body)
{
        r->body = r->body_heap = body;
        r->n_body = n_body;
}

const Cached__V1__Reply *reply_message(const struct cached_reply *r)
{
        static_assert(sizeof(struct reply_hit) <= REPLY_INLINE_MESSAGE,
                      "it is in the inline space");

        /* A reply is used by one thread at a time, and looks the same before and after. */
        if (r && !r->message && r->is_hit)
                reply_build((struct cached_reply *)(uintptr_t)r);
        return r ? r->message : NULL;
}

/* ---------------------------------------------------------------------------------- the daemon's
 */

struct cached_reply *reply_new_failure(const struct failure *f)
{
        size_t n = strlen(f->text) + 1;
        struct cached_reply *r = reply_new(n, 0);

        if (!r)
                return NULL;
        memcpy(r->space, f->text, n);
        r->free = r->free_end;
        r->code = f->code;
        r->error = (const char *)r->space;
        return r;
}

/* Without protobuf-c, if it is one of the plain ones. */
static Cached__V1__Reply *reply_unpack_plain(struct cached_reply *r, const uint8_t *message,
                                             size_t n_message)
{
        struct {
                Cached__V1__Reply reply;
                Cached__V1__EntryInfo entry;
        } *plain = (void *)r->space;

        static_assert(sizeof(*plain) <= REPLY_INLINE_MESSAGE, "it is in the inline space");
        if (!codec_unpack(message, n_message, &plain->reply, &plain->entry))
                return NULL;
        r->free = r->space + sizeof(*plain);
        return &plain->reply;
}

/* Likewise a GetMany's. Whatever was allocated before it gave up stays with the reply. */
static Cached__V1__Reply *reply_unpack_many(struct cached_reply *r, const uint8_t *message,
                                            size_t n_message)
{
        struct {
                Cached__V1__Reply reply;
                Cached__V1__GetManyResult result;
        } *many = (void *)r->space;
        struct codec_items found;
        struct codec_item *items;
        size_t n_memory;

        static_assert(sizeof(*many) <= REPLY_INLINE_MESSAGE, "it is in the inline space");
        if (!codec_find_items(message, n_message, &many->reply, &found) ||
            __builtin_mul_overflow(found.n, sizeof(*items) + sizeof(*many->result.items),
                                   &n_memory))
                return NULL;
        many->result = (Cached__V1__GetManyResult)CACHED__V1__GET_MANY_RESULT__INIT;
        many->reply.get_many = &many->result;
        r->free = r->space + sizeof(*many);
        items = reply_alloc(r, n_memory);
        if (items) {
                many->result.n_items = found.n;
                many->result.items = (void *)(items + found.n);
                if (codec_unpack_items(&found, items, many->result.items))
                        return &many->reply;
        }
        r->free = r->free_end;
        return NULL;
}

int reply_new_unpack(const uint8_t *message, size_t n_message, uint64_t n_body, struct failure *f,
                     struct cached_reply **ret)
{
        size_t n_inline = n_body <= REPLY_INLINE_BODY ? (size_t)n_body : 0;
        struct cached_reply *r = reply_new(REPLY_INLINE_MESSAGE, n_inline);
        ProtobufCAllocator allocator = {reply_alloc, reply_alloc_free, r};
        int code;

        if (!r)
                return failure_nomem(f);
        r->message = reply_unpack_plain(r, message, n_message);
        if (!r->message)
                r->message = reply_unpack_many(r, message, n_message);
        if (!r->message)
                r->message = cached__v1__reply__unpack(&allocator, n_message, message);
        if (!r->message) {
                code = r->out_of_memory ? failure_nomem(f)
                                        : failure_set(f, CACHED_ERR_BAD_REPLY,
                                                      "the daemon sent %zu bytes that are no Reply",
                                                      n_message);
                cached_reply_free(r);
                return code;
        }
        r->code = (int)r->message->status;
        if (r->message->error)
                r->error = r->message->error;
        *ret = r;
        return CACHED_OK;
}

uint8_t *reply_body_space(struct cached_reply *r, size_t n_body)
{
        uint8_t *space;

        if (n_body <= r->n_body_inline) {
                space = r->space + REPLY_INLINE_MESSAGE;
        } else {
                space = r->body_heap = malloc(n_body);
                if (!space)
                        return NULL;
        }
        r->body = space;
        r->n_body = n_body;
        return space;
}

bool reply_take_messages(struct cached_reply *r, const uint8_t *bytes)
{
        uint64_t n = r->message->entry->messages_size;

        if (n > 0)
                r->messages_code = messages_decode(bytes, (size_t)n, &r->messages);
        return r->messages_code != CACHED_ERR_NOMEM;
}

bool reply_split_messages(struct cached_reply *r)
{
        r->n_body -= (size_t)r->message->entry->messages_size;
        return reply_take_messages(r, r->body + r->n_body);
}

/* What a plain hit does not have. */
static __attribute__((noinline, cold)) void reply_free_heap(struct cached_reply *r)
{
        struct reply_chunk *chunk;

        while ((chunk = r->chunks)) {
                r->chunks = chunk->next;
                free(chunk);
        }
        if (r->fd >= 0)
                (void)close(r->fd);
        cached_view_release(r->view);
        cached_messages_free(r->messages);
        free(r->body_heap);
}

void cached_reply_free(cached_reply *r)
{
        if (!r)
                return;
        if (r->chunks || r->body_heap || r->view || r->messages || r->fd >= 0)
                reply_free_heap(r);
        free(r);
}

/* --------------------------------------------------------------------- is it a possible answer? */

/* What a request that succeeds is answered with; NOT_SET: nothing. */
static Cached__V1__Reply__ResultCase result_of(Cached__V1__Request__OpCase op)
{
        switch (op) {
        case CACHED__V1__REQUEST__OP_HELLO:
                return CACHED__V1__REPLY__RESULT_HELLO;
        case CACHED__V1__REQUEST__OP_PING:
                return CACHED__V1__REPLY__RESULT_PING;
        case CACHED__V1__REQUEST__OP_OPEN_CACHE:
        case CACHED__V1__REQUEST__OP_SET_POLICY:
                return CACHED__V1__REPLY__RESULT_CACHE;
        case CACHED__V1__REQUEST__OP_GET:
        case CACHED__V1__REQUEST__OP_SET:
        case CACHED__V1__REQUEST__OP_TOUCH:
                return CACHED__V1__REPLY__RESULT_ENTRY;
        case CACHED__V1__REQUEST__OP_GET_MANY:
                return CACHED__V1__REPLY__RESULT_GET_MANY;
        case CACHED__V1__REQUEST__OP_SET_MANY:
                return CACHED__V1__REPLY__RESULT_SET_MANY;
        case CACHED__V1__REQUEST__OP_CLEAR:
                return CACHED__V1__REPLY__RESULT_CLEAR;
        case CACHED__V1__REQUEST__OP_LIST_CACHES:
                return CACHED__V1__REPLY__RESULT_LIST_CACHES;
        case CACHED__V1__REQUEST__OP_LIST_ENTRIES:
                return CACHED__V1__REPLY__RESULT_LIST_ENTRIES;
        case CACHED__V1__REQUEST__OP_EXPLAIN:
                return CACHED__V1__REPLY__RESULT_EXPLAIN;
        case CACHED__V1__REQUEST__OP_STATS:
                return CACHED__V1__REPLY__RESULT_STATS;
        case CACHED__V1__REQUEST__OP_LIST_LEASES:
                return CACHED__V1__REPLY__RESULT_LIST_LEASES;
        case CACHED__V1__REQUEST__OP_LIST_CLIENTS:
                return CACHED__V1__REPLY__RESULT_LIST_CLIENTS;
        case CACHED__V1__REQUEST__OP_GET_CONFIG:
        case CACHED__V1__REQUEST__OP_RELOAD_CONFIG:
                return CACHED__V1__REPLY__RESULT_CONFIG;
        case CACHED__V1__REQUEST__OP_OPEN_SESSION:
        case CACHED__V1__REQUEST__OP_ATTACH_SESSION:
        case CACHED__V1__REQUEST__OP_CLOSE_SESSION:
                return CACHED__V1__REPLY__RESULT_SESSION;
        case CACHED__V1__REQUEST__OP_SESSION_GET:
        case CACHED__V1__REQUEST__OP_SESSION_SET:
        case CACHED__V1__REQUEST__OP_SESSION_DELETE:
        case CACHED__V1__REQUEST__OP_SESSION_INCREMENT:
        case CACHED__V1__REQUEST__OP_SESSION_APPEND:
                return CACHED__V1__REPLY__RESULT_SESSION_ITEMS;
        case CACHED__V1__REQUEST__OP_LIST_SESSIONS:
                return CACHED__V1__REPLY__RESULT_LIST_SESSIONS;
        case CACHED__V1__REQUEST__OP_OPEN_HOLDER:
                return CACHED__V1__REPLY__RESULT_HOLDER;
        case CACHED__V1__REQUEST__OP_ACQUIRE_RESOURCE:
        case CACHED__V1__REQUEST__OP_PUBLISH_RESOURCE:
        case CACHED__V1__REQUEST__OP_LOCK_RESOURCE:
        case CACHED__V1__REQUEST__OP_RECLAIM_RESOURCE:
                return CACHED__V1__REPLY__RESULT_RESOURCE;
        case CACHED__V1__REQUEST__OP_INVALIDATE_RESOURCE:
        case CACHED__V1__REQUEST__OP_DROP_RESOURCE:
                return CACHED__V1__REPLY__RESULT_DROPPED;
        case CACHED__V1__REQUEST__OP_LIST_RESOURCES:
                return CACHED__V1__REPLY__RESULT_LIST_RESOURCES;
        default:
                return CACHED__V1__REPLY__RESULT__NOT_SET;
        }
}

static int reply_lay_out_items(struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        const Cached__V1__GetManyResult *m = r->message->get_many;
        uint64_t at = 0;

        r->item_at = reply_alloc(r, m->n_items * sizeof(*r->item_at));
        if (!r->item_at)
                return failure_nomem(f);
        for (size_t i = 0; i < m->n_items; i++) {
                const Cached__V1__GetManyItem *item = m->items[i];

                r->item_at[i] = at;
                if (item->status != CACHED__V1__STATUS__OK)
                        continue;
                if (!item->entry || item->entry->size > n_body - at)
                        return failure_set(f, CACHED_ERR_BAD_REPLY,
                                           "value %zu of the daemon's reply lies outside its body",
                                           i);
                at += item->entry->size;
        }
        if (at != n_body)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the values of the daemon's reply have %" PRIu64
                                   " bytes, its body %" PRIu64,
                                   at, n_body);
        return CACHED_OK;
}

/* Which replies have values: a session's keys as they are, the sum of an increment, and the value
 * that was there before. The sizes alone may be told of keys that were asked for without. */
static bool has_values(const struct cached_reply *r, Cached__V1__Request__OpCase op)
{
        switch (op) {
        case CACHED__V1__REQUEST__OP_SESSION_GET:
        case CACHED__V1__REQUEST__OP_SESSION_INCREMENT:
                return r->code == CACHED_OK;
        case CACHED__V1__REQUEST__OP_SESSION_SET:
                return r->code == CACHED_EXISTS;
        default:
                return false;
        }
}

static int reply_lay_out_session(struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        const Cached__V1__SessionItems *m = r->message->session_items;
        uint64_t at = 0;

        r->item_at = reply_alloc(r, m->n_items * sizeof(*r->item_at));
        if (!r->item_at)
                return failure_nomem(f);
        for (size_t i = 0; i < m->n_items; i++) {
                r->item_at[i] = at;
                if (m->items[i]->status == CACHED__V1__STATUS__OK &&
                    __builtin_add_overflow(at, m->items[i]->size, &at))
                        at = UINT64_MAX;
        }
        if (at == n_body)
                return CACHED_OK;
        r->item_at = NULL;
        if (n_body == 0 && r->code == CACHED_OK)
                return CACHED_OK;
        return failure_set(f, CACHED_ERR_BAD_REPLY,
                           "the values of the daemon's reply have %" PRIu64
                           " bytes, its body %" PRIu64,
                           at, n_body);
}

bool reply_has_session_values(const struct cached_reply *r)
{
        return r->item_at && r->message->result_case == CACHED__V1__REPLY__RESULT_SESSION_ITEMS;
}

bool reply_fail(struct cached_reply *r, int code, const char *text)
{
        size_t n = strlen(text) + 1;
        char *copy = reply_alloc(r, n);

        if (!copy)
                return false;
        memcpy(copy, text, n);
        r->error = copy;
        r->code = code;
        free(r->body_heap);
        r->body = r->body_heap = NULL;
        r->n_body = 0;
        return true;
}

static int reply_check_body(struct cached_reply *r, Cached__V1__Request__OpCase op,
                            bool with_messages, uint64_t n_body, struct failure *f)
{
        uint64_t expected = 0;

        if (r->message->result_case == CACHED__V1__REPLY__RESULT_SESSION_ITEMS && has_values(r, op))
                return reply_lay_out_session(r, n_body, f);
        if (r->code == CACHED_OK && op == CACHED__V1__REQUEST__OP_GET_MANY)
                return reply_lay_out_items(r, n_body, f);
        if (r->code == CACHED_OK && op == CACHED__V1__REQUEST__OP_GET)
                expected = r->message->entry->size;
        if (with_messages && r->code == CACHED_OK && op == CACHED__V1__REQUEST__OP_GET &&
            __builtin_add_overflow(expected, r->message->entry->messages_size, &expected))
                expected = UINT64_MAX;
        if (n_body != expected)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon's reply has a body of %" PRIu64
                                   " bytes where %" PRIu64 " belong",
                                   n_body, expected);
        return CACHED_OK;
}

int reply_check(struct cached_reply *r, Cached__V1__Request__OpCase op, bool with_messages,
                uint64_t n_body, struct failure *f)
{
        Cached__V1__Reply__ResultCase expected = result_of(op), is = r->message->result_case;

        /* Statuses that this library does not know yet are passed on; 64 and more are its own. */
        if (r->code < 0 || r->code >= CACHED_ERR_UNREACHABLE)
                return failure_set(f, CACHED_ERR_BAD_REPLY, "the daemon sent the status %d",
                                   r->code);
        if (is != expected && (r->code == CACHED_OK || is != CACHED__V1__REPLY__RESULT__NOT_SET))
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered request %d with result %d", (int)op,
                                   (int)is);
        return reply_check_body(r, op, with_messages, n_body, f);
}

bool reply_is_without_body(const struct cached_reply *r)
{
        const Cached__V1__Reply *m = r->message;

        return r->code == CACHED_OK && m && m->result_case == CACHED__V1__REPLY__RESULT_ENTRY &&
               (m->entry->view_id != 0 || m->entry->unchanged);
}

int reply_check_file(struct cached_reply *r, uint64_t n_body, bool lost_fd, struct failure *f)
{
        const Cached__V1__EntryInfo *e = r->message->entry;

        if (n_body == 0 && (e->view_id != 0) == (r->fd >= 0 || lost_fd) &&
            (e->view_id == 0 || !e->unchanged))
                return CACHED_OK;
        return failure_set(f, CACHED_ERR_BAD_REPLY,
                           "the daemon's reply is to have a memory file, or none, and has not");
}

/* ------------------------------------------------------------------------------------ accessors */

const Cached__V1__EntryInfo *reply_entry(const struct cached_reply *r)
{
        const Cached__V1__Reply *m = reply_message(r);

        return m && m->result_case == CACHED__V1__REPLY__RESULT_ENTRY ? m->entry : NULL;
}

int cached_reply_code(const cached_reply *r)
{
        return r ? r->code : CACHED_ERR_NOMEM;
}

const char *cached_reply_error(const cached_reply *r)
{
        if (!r)
                return cached_strerror(CACHED_ERR_NOMEM);
        if (r->code != CACHED_OK && r->code != CACHED_NOT_FOUND && !*r->error)
                return cached_strerror(r->code);
        return r->error;
}

const void *cached_reply_value(const cached_reply *r, size_t *ret_size)
{
        if (!r || !r->body)
                return NULL;
        if (ret_size)
                *ret_size = r->n_body;
        return r->body;
}

uint64_t cached_reply_version(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        return e ? e->version : 0;
}

uint64_t cached_reply_ttl_ms(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        if (!e)
                return 0;
        return e->ttl_case == CACHED__V1__ENTRY_INFO__TTL_TTL_MS ? e->ttl_ms : CACHED_NEVER;
}

int cached_reply_is_stale(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        return e && e->stale;
}

/* Part of each hit of some bindings, so no message is made for it. */
uint32_t cached_reply_flags(const cached_reply *r)
{
        if (r && r->is_hit && !r->message)
                return ((const struct reply_hit *)(const void *)r->space)->hit.flags;
        const Cached__V1__EntryInfo *e = reply_entry(r);
        return e ? e->flags : 0;
}

int cached_reply_encoding(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        return e ? (int)e->encoding : CACHED_ENCODING_RAW;
}

uint64_t cached_reply_raw_size(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        if (!e)
                return 0;
        return e->encoding == CACHED__V1__ENCODING__ENCODING_RAW ? e->size : e->raw_size;
}

uint64_t cached_reply_cost_us(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        return e ? e->cost_us : 0;
}

uint32_t cached_reply_uid(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        return e ? e->uid : UINT32_MAX;
}

uint64_t cached_reply_fresh_ms(const cached_reply *r)
{
        const Cached__V1__EntryInfo *e = reply_entry(r);

        if (!e || e->stale)
                return 0;
        return e->fresh_case == CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS ? e->fresh_ms
                                                                       : cached_reply_ttl_ms(r);
}

int cached_reply_messages(const cached_reply *r, const cached_messages **ret)
{
        if (!r || !ret)
                return CACHED_ERR_USAGE;
        if (!r->messages)
                return r->messages_code;
        *ret = r->messages;
        return CACHED_OK;
}

size_t cached_reply_n_items(const cached_reply *r)
{
        if (!r || !r->message)
                return 0;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_GET_MANY)
                return r->message->get_many->n_items;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_SET_MANY)
                return r->message->set_many->n_items;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_SESSION_ITEMS)
                return r->message->session_items->n_items;
        return 0;
}

int cached_reply_item_code(const cached_reply *r, size_t i)
{
        if (i >= cached_reply_n_items(r))
                return CACHED_ERR_USAGE;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_GET_MANY)
                return (int)r->message->get_many->items[i]->status;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_SESSION_ITEMS)
                return (int)r->message->session_items->items[i]->status;
        return (int)r->message->set_many->items[i]->status;
}

const void *cached_reply_item_value(const cached_reply *r, size_t i, size_t *ret_size)
{
        /* item_at tells a reply whose sizes were checked. */
        if (!r || !r->item_at || cached_reply_item_code(r, i) != CACHED_OK)
                return NULL;
        if (ret_size)
                *ret_size = (size_t)(reply_has_session_values(r)
                                             ? r->message->session_items->items[i]->size
                                             : r->message->get_many->items[i]->entry->size);
        /* A body of 0 bytes has no memory; an empty value is one all the same. */
        return r->body ? r->body + r->item_at[i] : (const void *)"";
}
