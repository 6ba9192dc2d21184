/* SPDX-License-Identifier: MIT */
/*
 * Get: one entry. A small value is copied into the output; a long one is sent from its extent or
 * memory file, which stays as long as the output needs it, whatever happens to the entry, or the
 * file itself is sent (see views.c), but of a session's own caches. What the client cannot decode
 * is decoded for it (see plain.c). Of what it has already it is told only that. Recorded messages
 * are the end of what is stored; who does not want them gets what is before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/plain.h"
#include "dispatch/reply.h"
#include "dispatch/share.h"
#include "proto/frame.h"
#include "proto/wire.h"
#include "realm/realm.h"

/* From here on a reference and an extra segment are cheaper than the copy. Guess, not measured. */
#define ATTACH_MIN ((uint64_t)64 * 1024)

static void describe(const struct request *r, const struct store_entry *e,
                     Cached__V1__EntryInfo *info)
{
        reply_entry(info, e, r->who.now_ms);
        info->unstored = r->share && r->share->unstored;
}

static uint64_t wanted_messages(const struct request *r, const struct store_entry *e)
{
        return r->msg->get->with_messages ? e->n_messages : 0;
}

static enum status answer(struct request *r, const struct store_entry *e)
{
        uint64_t n_body = e->n_value - e->n_messages + wanted_messages(r, e);
        bool attach = reply_is_attached(r, e, n_body);
        size_t n_copy = attach ? 0 : (size_t)n_body;
        enum status status = reply_reserve(r, REPLY_SMALL, n_copy);
        if (status != STATUS_OK)
                return status;

        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        describe(r, e, &info);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, e->value, n_copy, n_body - n_copy);
        if (attach && !reply_attach(r, e, 0, n_body))
                reply_abort(r);
        return STATUS_OK;
}

static const uint8_t *messages_of(const struct store_entry *e)
{
        return e->value + (e->n_value - e->n_messages);
}

/* Decoded in its place in the output, with @n_messages bytes behind it. */
static enum status decode_in_place(struct request *r, const struct cache_ref *ref,
                                   const struct store_entry *e, size_t n_messages,
                                   Cached__V1__Reply *reply)
{
        size_t n = (size_t)e->raw_size + n_messages;
        enum status status = reply_reserve(r, REPLY_SMALL, n);
        if (status != STATUS_OK)
                return status;
        uint8_t *body = reply_pack(r, reply, n);
        status = plain_decode(r, ref, e, !r->msg->get->no_touch, body);
        if (status != STATUS_OK)
                return status;
        if (n_messages > 0)
                memcpy(body + e->raw_size, messages_of(e), n_messages);
        conn_commit(r->client->conn, (size_t)(body - r->out) + n);
        return STATUS_OK;
}

/* Decoded into memory of its own. Messages go with it where they are few, or lie in a block. */
static enum status decode_apart(struct request *r, const struct cache_ref *ref,
                                const struct store_entry *e, uint64_t n_messages,
                                Cached__V1__Reply *reply)
{
        bool attach = reply_is_attached(r, e, n_messages);
        size_t n_copy = attach ? 0 : (size_t)n_messages;
        struct plain *p = NULL;
        enum status status = plain_new(r, ref, e, n_copy, !r->msg->get->no_touch, &p);
        if (status == STATUS_OK)
                status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK) {
                plain_free(p);
                return status;
        }
        if (n_copy > 0)
                memcpy(p->bytes + e->raw_size, messages_of(e), n_copy);
        reply_queue(r, reply, NULL, 0, e->raw_size + n_messages);
        if (conn_attach(r->client->conn, p->bytes, p->n, plain_release, p) < 0 ||
            (attach && !reply_attach(r, e, e->n_value - e->n_messages, n_messages)))
                reply_abort(r);
        return STATUS_OK;
}

static enum status answer_plain(struct request *r, const struct cache_ref *ref,
                                const struct store_entry *e)
{
        uint64_t n_messages = wanted_messages(r, e);
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        describe(r, e, &info);
        plain_describe(&info);
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        if (e->raw_size < ATTACH_MIN && n_messages < ATTACH_MIN)
                return decode_in_place(r, ref, e, (size_t)n_messages, &reply);
        return decode_apart(r, ref, e, n_messages, &reply);
}

/* ---- memory files */

/* A file that waits to be sent. */
struct sending {
        struct dispatcher *d;
        struct large *large;
        uint64_t view;
        uid_t uid;
};

/* A view that was never sent is none. */
static void sending_done(void *ctx, bool sent)
{
        struct sending *s = ctx;
        if (!sent)
                views_release(&s->d->views, s->uid, s->view);
        large_unref(s->large);
        free(s);
}

/* Holds the file for the client, and has it go with what is queued next. VIEWS_E_NOT, -ENOMEM. */
static int send_file(struct request *r, struct large *l, uint64_t *ret_view)
{
        struct sending *s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (struct sending){.d = r->d, .uid = r->who.uid};
        int k = views_add(&r->d->views, r->client, l, &s->view);
        if (k != 0) {
                free(s);
                return k;
        }
        s->large = large_ref(l);
        *ret_view = s->view;
        k = conn_put_file(r->client->conn, l->fd, false, FRAME_HEADER_SIZE + REPLY_SMALL,
                          sending_done, s);
        if (k < 0)
                sending_done(s, false);
        return k; /* the view's number means nothing then */
}

static enum status answer_info(struct request *r, Cached__V1__EntryInfo *info)
{
        enum status status = reply_reserve(r, REPLY_SMALL, 0);
        if (status != STATUS_OK)
                return status;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

/* Where no file can be sent the bytes are, whatever the reason. */
static enum status answer_file(struct request *r, const struct store_entry *e)
{
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        if (send_file(r, e->large, &info.view_id) != 0)
                return answer(r, e); /* which says nothing of a view */
        describe(r, e, &info);
        return answer_info(r, &info); /* the room came with the file */
}

static enum status answer_unchanged(struct request *r, const struct store_entry *e)
{
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        describe(r, e, &info);
        info.unchanged = true;
        return answer_info(r, &info);
}

/* The reason is the error's text, which ends at what is no text. */
static enum status answer_negative(struct request *r, const struct store_entry *e)
{
        size_t n = e->n_value < WIRE_NEGATIVE_MAX ? (size_t)e->n_value : WIRE_NEGATIVE_MAX;
        char reason[WIRE_NEGATIVE_MAX + 1];
        n = wire_utf8_prefix((const char *)e->value, n);
        if (n > 0)
                memcpy(reason, e->value, n);
        reason[n] = 0;
        enum status status = reply_reserve(r, REPLY_SMALL + n, 0);
        if (status != STATUS_OK)
                return status;
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        describe(r, e, &info);
        Cached__V1__Reply reply = reply_to(r, STATUS_NEGATIVE);
        reply.error = reason;
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &info;
        reply_queue(r, &reply, NULL, 0, 0);
        return STATUS_OK;
}

enum status get_answer(struct request *r, const struct cache_ref *ref, const struct store_entry *e)
{
        const Cached__V1__Get *msg = r->msg->get;
        if (__builtin_expect(e->negative, 0))
                return answer_negative(r, e);
        if (__builtin_expect(msg->have_case == CACHED__V1__GET__HAVE_HAVE_VERSION, 0) &&
            msg->have_version == e->version)
                return answer_unchanged(r, e);
        if (plain_is_due(r, e))
                return answer_plain(r, ref, e);
        if (msg->as_file && e->large &&
            (r->client->features & CACHED__V1__FEATURE__FEATURE_FILES) && !r->who.realm->hidden)
                return answer_file(r, e);
        return answer(r, e);
}

enum status op_get(struct request *r)
{
        const Cached__V1__Get *msg = r->msg->get;
        struct cache_ref ref;
        struct key_ref key = {0};
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        struct store_entry entry;
        if (status == STATUS_OK)
                status = data_get(&r->who, &ref, key, !msg->no_touch, &entry, &r->verdict);
        if (__builtin_expect(msg->lease != NULL, 0))
                return leasing_get(r, &ref, key, status, &entry);
        return status == STATUS_OK ? get_answer(r, &ref, &entry) : status;
}
