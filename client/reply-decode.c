/* SPDX-License-Identifier: MIT */
/*
 * Replies whose values were stored as LZ4 blocks
 *
 * A whole reply is made what it would be if its values had been stored as they are: the body holds
 * them, and what the message says of their sizes and encoding is that of the plain ones, as
 * PROTOCOL.md has it for clients that cannot decode. What does not decode is a miss: nobody has
 * checked it before us, and nobody can use it. Encodings that are unknown here stay.
 */

#include <cached.h>
#include <stdlib.h>
#include <string.h>

#include "client/pack.h"
#include "client/reply.h"

static bool is_packed(const Cached__V1__EntryInfo *e)
{
        return e->encoding == CACHED__V1__ENCODING__ENCODING_LZ4;
}

static void entry_set_raw(Cached__V1__EntryInfo *e)
{
        e->encoding = CACHED__V1__ENCODING__ENCODING_RAW;
        e->size = e->raw_size;
}

/* Also an empty body has memory, and so is there. */
static void body_replace(struct cached_reply *r, uint8_t *body, size_t n)
{
        free(r->body_heap);
        cached_view_release(r->view);
        r->view = NULL;
        r->body = r->body_heap = body;
        r->n_body = n;
}

/* ---- one value */

static void reply_to_miss(struct cached_reply *r)
{
        r->code = CACHED_NOT_FOUND;
        r->error = "what is stored under this key is damaged: its LZ4 block does not unpack to the "
                   "size that its writer gave";
        free(r->body_heap);
        cached_view_release(r->view);
        r->view = NULL;
        r->body = r->body_heap = NULL;
        r->n_body = 0;
        r->message->status = CACHED__V1__STATUS__NOT_FOUND;
        r->message->result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
}

static int decode_one(struct cached_reply *r, struct failure *f)
{
        Cached__V1__EntryInfo *e = r->message->entry;
        uint8_t *body;

        if (!pack_is_possible(r->n_body, e->raw_size)) {
                reply_to_miss(r);
                return CACHED_OK;
        }
        body = malloc(e->raw_size ? e->raw_size : 1);
        if (!body)
                return failure_nomem(f);
        if (pack_undo(r->body, r->n_body, body, e->raw_size)) {
                body_replace(r, body, e->raw_size);
                entry_set_raw(e);
        } else {
                free(body);
                reply_to_miss(r);
        }
        return CACHED_OK;
}

/* ---- many */

static bool item_is_hit(const Cached__V1__GetManyItem *item)
{
        return item->status == CACHED__V1__STATUS__OK;
}

static bool items_are_packed(const Cached__V1__GetManyResult *m)
{
        for (size_t i = 0; i < m->n_items; i++)
                if (item_is_hit(m->items[i]) && is_packed(m->items[i]->entry))
                        return true;
        return false;
}

/*
 * What the items will take. Those that are damaged for sure become misses; those beyond what a
 * reply may unfold to are to be asked for alone.
 */
static uint64_t items_size_up(const Cached__V1__GetManyResult *m)
{
        uint64_t n = 0, n_unpacked = 0;

        for (size_t i = 0; i < m->n_items; i++) {
                Cached__V1__GetManyItem *item = m->items[i];
                const Cached__V1__EntryInfo *e = item->entry;

                if (!item_is_hit(item))
                        continue;
                if (!is_packed(e)) {
                        n += e->size;
                } else if (!pack_is_possible(e->size, e->raw_size)) {
                        item->status = CACHED__V1__STATUS__NOT_FOUND;
                } else if (e->raw_size > REPLY_MEMORY_MAX - n_unpacked) {
                        item->status = CACHED__V1__STATUS__TOO_LARGE;
                } else {
                        n_unpacked += e->raw_size;
                }
        }
        return n + n_unpacked;
}

static int decode_many(struct cached_reply *r, struct failure *f)
{
        const Cached__V1__GetManyResult *m = r->message->get_many;
        uint64_t n = items_size_up(m), at = 0;
        uint8_t *body = n < SIZE_MAX ? malloc(n + 1) : NULL;

        if (!body)
                return failure_nomem(f);
        for (size_t i = 0; i < m->n_items; i++) {
                Cached__V1__GetManyItem *item = m->items[i];
                Cached__V1__EntryInfo *e = item->entry;
                const uint8_t *from = r->body + r->item_at[i];

                r->item_at[i] = at;
                if (!item_is_hit(item))
                        continue;
                if (!is_packed(e)) {
                        memcpy(body + at, from, e->size);
                } else if (pack_undo(from, e->size, body + at, e->raw_size)) {
                        entry_set_raw(e);
                } else {
                        item->status = CACHED__V1__STATUS__NOT_FOUND;
                        continue;
                }
                at += e->size;
        }
        body_replace(r, body, at);
        return CACHED_OK;
}

int reply_decode(struct cached_reply *r, struct failure *f)
{
        if (r->code != CACHED_OK || !r->body || !reply_message(r))
                return CACHED_OK;
        if (reply_has_session_values(r))
                return CACHED_OK; /* they are kept as they were given */
        if (r->item_at)
                return items_are_packed(r->message->get_many) ? decode_many(r, f) : CACHED_OK;
        if (r->message->result_case == CACHED__V1__REPLY__RESULT_ENTRY &&
            is_packed(r->message->entry))
                return decode_one(r, f);
        return CACHED_OK;
}
