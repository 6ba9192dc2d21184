/* SPDX-License-Identifier: MIT */
/*
 * Share
 *
 * Who waits for a value gets the one that was stored, whatever becomes of the entry until it can be
 * answered. So the value is held: a long one where it lies, as each reply holds it; a short one is
 * copied once, and its writer is charged for that. Why the copy: waiters that do not read would
 * otherwise keep the entry's block, and nothing may be evicted to make room for it.
 */
#include "dispatch/share.h"

#include <stdlib.h>
#include <string.h>

#include "arena/memfile.h"
#include "config.h"
#include "dispatch/client.h"
#include "realm/realm.h"
#include "store/large.h"
#include "transport/conn.h"

static struct share *share_new(size_t n_bytes)
{
        struct share *s = malloc(sizeof(*s) + n_bytes);
        if (!s)
                return NULL;
        *s = (struct share){.refs = 1};
        return s;
}

/* With a copy of @n bytes, within what the uid may have. */
static struct share *share_copy(struct request *r, uint64_t n, size_t n_bytes)
{
        struct quota *q = &r->d->shares;
        struct share *s;
        if (quota_take(q, r->who.uid, n, r->d->cfg->limits.decoded_bytes_per_uid) != 0)
                return NULL;
        s = share_new(n_bytes);
        if (!s) {
                quota_give(q, r->who.uid, n);
                return NULL;
        }
        s->quota = q;
        s->uid = r->who.uid;
        s->charged = n;
        return s;
}

/* Whose the value is, or the failure. */
static void name_holder(struct share *s, const struct client *holder)
{
        const struct peer *peer = conn_peer(holder->conn);
        s->holder_pid = (uint32_t)peer->pid;
        s->holder_uid = (uint32_t)peer->uid;
        memcpy(s->holder, holder->name, sizeof(s->holder));
}

struct share *share_entry(struct request *r, const struct store_entry *e)
{
        struct share *s;
        if (e->large || e->extent) {
                s = share_new(0);
                if (!s)
                        return NULL;
                s->entry = *e;
                if (e->large)
                        s->large = large_ref(e->large);
                else
                        s->hold = store_hold(r->who.realm->store, e);
                name_holder(s, r->client);
                return s->large || s->hold ? s : share_unref(s);
        }
        s = share_copy(r, e->n_value, (size_t)e->n_value);
        if (!s)
                return NULL;
        s->entry = *e;
        if (e->n_value > 0)
                memcpy(s->bytes, e->value, e->n_value);
        s->entry.value = s->bytes;
        name_holder(s, r->client);
        return s;
}

static void describe(struct share *s, const struct store_put *put)
{
        s->unstored = true;
        s->entry = (struct store_entry){
                .value = s->large ? s->large->map : s->bytes,
                .n_value = put->n_value,
                .deadline = STORE_NEVER,
                .flags = put->flags,
                .encoding = put->encoding,
                .raw_size = put->raw_size,
                .cost_us = put->cost_us,
                .n_messages = put->n_messages,
                .negative = put->negative,
                .vary = put->vary,
                .uid = (uint32_t)s->uid,
        };
}

struct share *share_value(struct request *r, const struct store_put *put, struct large *large)
{
        struct share *s = share_copy(r, put->n_value, large ? 0 : (size_t)put->n_value);
        if (!s)
                return NULL;
        if (large)
                s->large = large_ref(large);
        else if (put->source &&
                 memfile_read(put->source->fd, put->source->offset, s->bytes, put->n_value) < 0)
                return share_unref(s);
        else if (!put->source && put->n_value > 0)
                memcpy(s->bytes, put->value, put->n_value);
        describe(s, put);
        name_holder(s, r->client);
        return s;
}

struct share *share_failure(const struct lease *l, const char *reason, uint64_t now_ms)
{
        size_t n = strlen(reason) + 1;
        struct share *s = share_new(n);

        if (!s)
                return NULL;
        name_holder(s, l->party->ctx);
        s->age_ms = now_ms > l->since ? now_ms - l->since : 0;
        s->reason = memcpy(s->bytes, reason, n);
        return s;
}

struct share *share_ref(struct share *s)
{
        s->refs++;
        return s;
}

struct share *share_unref(struct share *s)
{
        if (!s || --s->refs > 0)
                return NULL;
        if (s->quota)
                quota_give(s->quota, s->uid, s->charged);
        if (s->hold)
                store_unhold(s->hold);
        large_unref(s->large);
        free(s);
        return NULL;
}

void share_release(void *s)
{
        share_unref(s);
}
