/* SPDX-License-Identifier: MIT */
/*
 * Reply
 *
 * A reply is packed straight into the connection's output. Requests that change something reserve
 * room for their reply before they change it, so that "no memory" always means "nothing happened";
 * where a bound of the size is known, no pass over the message is spent on computing it.
 */
#include "dispatch/reply.h"

#include <assert.h>
#include <string.h>

#include "config.h"
#include "dispatch/share.h"
#include "proto/frame.h"
#include "store/large.h"

/* From here on a reference and an extra segment are cheaper than the copy. Guess, not measured. */
#define ATTACH_MIN ((uint64_t)64 * 1024)

/* The protocol's numbers, the table's and the services' are the same. */
#define STATUS(number, name, ...) static_assert((int)CACHED__V1__STATUS__##name == (number), #name);
#include "proto/status.def"
#undef STATUS
static_assert((int)CACHED__V1__ROLE__ROLE_READER == (int)ACCESS_READER, "roles");
static_assert((int)CACHED__V1__ROLE__ROLE_WRITER == (int)ACCESS_WRITER, "roles");
static_assert((int)CACHED__V1__ROLE__ROLE_ADMIN == (int)ACCESS_ADMIN, "roles");

Cached__V1__Reply reply_to(const struct request *r, enum status status)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.id = r->id;
        reply.status = (Cached__V1__Status)status;
        reply.lease = r->lease;
        return reply;
}

enum status reply_reserve(struct request *r, size_t n_message, size_t n_body)
{
        size_t n = FRAME_HEADER_SIZE + n_message + n_body;
        uint8_t *out = conn_reserve(r->client->conn, n);
        if (__builtin_expect(!out, 0))
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the reply: nothing was changed; "
                                   "try again later");
        r->out = out;
        r->n_out = n;
        return STATUS_OK;
}

uint8_t *reply_pack(struct request *r, Cached__V1__Reply *reply, uint64_t n_body)
{
        size_t n = protobuf_c_message_pack(&reply->base, r->out + FRAME_HEADER_SIZE);
        assert(FRAME_HEADER_SIZE + n <= r->n_out);
        frame_header_write(r->out, (uint32_t)n, n_body);
        r->reply = r->out + FRAME_HEADER_SIZE;
        r->n_reply = n;
        return r->out + FRAME_HEADER_SIZE + n;
}

void reply_queue(struct request *r, Cached__V1__Reply *reply, const void *body, size_t n_body,
                 uint64_t n_later)
{
        uint8_t *end = reply_pack(r, reply, n_body + n_later);
        assert(n_body <= (size_t)(r->out + r->n_out - end));
        if (n_body > 0)
                memcpy(end, body, n_body);
        conn_commit(r->client->conn, (size_t)(end - r->out) + n_body);
}

bool reply_is_attached(const struct request *r, const struct store_entry *e, uint64_t n)
{
        return (e->large || e->extent || r->share) && n >= ATTACH_MIN;
}

static void release_large(void *ctx)
{
        large_unref(ctx);
}

static void release_extent(void *ctx)
{
        store_unhold(ctx);
}

bool reply_attach(struct request *r, const struct store_entry *e, uint64_t at, uint64_t n)
{
        const uint8_t *from = e->value + at;
        struct conn *conn = r->client->conn;
        if (r->share)
                return conn_attach(conn, from, n, share_release, share_ref(r->share)) == 0;
        if (e->large)
                return conn_attach(conn, from, n, release_large, large_ref(e->large)) == 0;
        struct store_hold *hold = store_hold(r->who.realm->store, e);
        return hold && conn_attach(conn, from, n, release_extent, hold) == 0;
}

enum status reply_message(struct request *r, Cached__V1__Reply *reply)
{
        size_t n = protobuf_c_message_get_packed_size(&reply->base);
        if (n > r->d->cfg->limits.message_bytes)
                return verdict_set(
                        &r->verdict, STATUS_TOO_LARGE,
                        "the reply has %zu bytes, more than limits.message_bytes: ask for "
                        "less at once, or raise it",
                        n);
        enum status status = reply_reserve(r, n, 0);
        if (status == STATUS_OK)
                reply_queue(r, reply, NULL, 0, 0);
        return status;
}

static size_t pack_failure(uint64_t id, enum status status, const char *text, uint8_t *out,
                           size_t n_out)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        reply.id = id;
        reply.status = (Cached__V1__Status)status;
        reply.error = (char *)text; /* only read, but protobuf-c's structs know no const */
        size_t n = protobuf_c_message_get_packed_size(&reply.base);
        if (n > n_out - FRAME_HEADER_SIZE)
                return 0;
        protobuf_c_message_pack(&reply.base, out + FRAME_HEADER_SIZE);
        frame_header_write(out, (uint32_t)n, 0);
        return FRAME_HEADER_SIZE + n;
}

/* Where the frame is, and its size; NULL: no memory. */
static const uint8_t *queue_failure(struct conn *c, uint64_t id, enum status status,
                                    const char *text, size_t *ret_n)
{
        size_t n_out = FRAME_HEADER_SIZE + 32 + strlen(text);
        uint8_t *out = conn_reserve(c, n_out);
        if (!out)
                return NULL;
        *ret_n = pack_failure(id, status, text, out, n_out);
        conn_commit(c, *ret_n);
        return out;
}

bool reply_failure(struct request *r, uint64_t id, enum status status, const char *text)
{
        size_t n;
        const uint8_t *frame = queue_failure(r->client->conn, id, status, text, &n);
        if (!frame)
                return false;
        r->reply = frame + FRAME_HEADER_SIZE;
        r->n_reply = n - FRAME_HEADER_SIZE;
        return true;
}

size_t dispatch_refusal(int status, const char *text, uint8_t *out, size_t n_out)
{
        if (n_out < FRAME_HEADER_SIZE)
                return 0;
        return pack_failure(0, (enum status)status, text, out, n_out);
}

void dispatch_refuse(struct conn *c, int status, const char *text)
{
        size_t n;
        /* Without memory the connection just ends. */
        (void)queue_failure(c, 0, (enum status)status, text, &n);
}

void reply_abort(struct request *r)
{
        conn_close(r->client->conn);
}

void reply_entry(Cached__V1__EntryInfo *info, const struct store_entry *e, uint64_t now_ms)
{
        info->version = e->version;
        info->size = e->n_value - e->n_messages;
        info->flags = e->flags;
        info->encoding = (Cached__V1__Encoding)e->encoding;
        info->raw_size = e->raw_size;
        info->cost_us = e->cost_us;
        info->uid = e->uid;
        if (e->deadline != STORE_NEVER) {
                info->ttl_case = CACHED__V1__ENTRY_INFO__TTL_TTL_MS;
                info->ttl_ms = e->deadline > now_ms ? e->deadline - now_ms : 0;
        }
        info->messages_size = e->n_messages;
        info->negative = e->negative;
        info->vary = e->vary;
        info->stale = e->stale;
        if (e->fresh.fresh != 0 && e->fresh.fresh < e->deadline) {
                info->fresh_case = CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS;
                info->fresh_ms = !e->stale && e->fresh.fresh > now_ms ? e->fresh.fresh - now_ms : 0;
        }
}

bool reply_tags(struct request *r, Cached__V1__EntryInfo *info, const struct store_entry *e)
{
        struct bump *b = &r->d->bump;
        if (e->n_tags == 0)
                return true;
        info->tags = bump_alloc_array(b, e->n_tags, sizeof(*info->tags));
        if (!info->tags)
                return false;
        for (unsigned i = 0; i < e->n_tags; i++) {
                size_t n;
                const char *name = store_tag_name(r->who.realm->store, e->tags[i].id, &n);
                info->tags[i] = bump_alloc(b, n + 1);
                if (!info->tags[i])
                        return false;
                memcpy(info->tags[i], name, n);
                info->tags[i][n] = '\0';
        }
        info->n_tags = e->n_tags;
        return true;
}

void reply_policy(Cached__V1__Policy *to, const struct store_policy *from)
{
        if (from->ttl_ms != STORE_NEVER) {
                to->ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
                to->ttl_ms = from->ttl_ms;
        }
        if (from->max_entries != STORE_UNLIMITED) {
                to->entries_limit_case = CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES;
                to->max_entries = from->max_entries;
        }
        if (from->max_bytes != STORE_UNLIMITED) {
                to->bytes_limit_case = CACHED__V1__POLICY__BYTES_LIMIT_MAX_BYTES;
                to->max_bytes = from->max_bytes;
        }
        to->stale_for_ms = from->stale_for_ms;
        to->stale_if_error_ms = from->stale_if_error_ms;
        to->refresh_ahead_permille = from->refresh_ahead;
        to->expire_jitter_permille = from->expire_jitter;
}
