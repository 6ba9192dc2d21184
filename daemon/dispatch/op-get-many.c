/* SPDX-License-Identifier: MIT */
/*
 * GetMany: many entries, one body
 *
 * Two passes: the first looks every key up and decides what fits, since the lengths stand before
 * the values; the second copies. Looking up does not move values, so what the first pass found
 * stays where it is until the second is done.
 *
 * What is copied is bounded by limits.output_bytes (one value always fits), the body by
 * limits.value_bytes, the message by limits.message_bytes. An item beyond has status TOO_LARGE.
 *
 * Values that the client cannot decode are decoded in the first pass, into memory of their own; the
 * bound on copies is theirs, too, whether they are damaged or not.
 */
#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/plain.h"
#include "dispatch/reply.h"
#include "services/limits.h"

#define ATTACH_MIN ((uint64_t)64 * 1024) /* as in op-get.c */
#define ITEM_MAX   ((size_t)112)         /* bytes of one item with its EntryInfo, at most */
#define ITEM_MIN   ((size_t)4)           /* of one without */

struct value {
        const uint8_t *data;
        uint64_t n;
        const struct store_entry *entry; /* not NULL: attach */
        struct plain *plain;             /* not NULL: owns `data`; attached if it is long */
};

struct many {
        struct value *values; /* that go into the body */
        size_t n_values;
        Cached__V1__GetManyItem *items;
        Cached__V1__GetManyItem **item_ptrs;
        Cached__V1__EntryInfo *infos;
        uint64_t n_copy, n_body; /* so far */
        size_t n_message;        /* at most, so far */
};

static enum status check(struct request *r, const Cached__V1__GetMany *msg)
{
        uint64_t max = r->d->cfg->limits.keys_per_request;
        if (msg->n_keys == 0)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the request has no keys: name at least one");
        if (msg->n_keys > max)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the request has %zu keys, more than limits.keys_per_request, "
                                   "%" PRIu64 ": %s",
                                   msg->n_keys, max, limit_advice.keys_per_request);
        for (size_t i = 0; i < msg->n_keys; i++) {
                const char *fault = wire_key_fault(msg->keys[i].len);
                if (fault)
                        return verdict_set(&r->verdict, STATUS_INVALID, "key %zu: %s", i, fault);
        }
        return STATUS_OK;
}

static enum status allocate(struct request *r, size_t n, struct many *m)
{
        struct bump *b = &r->d->bump;
        *m = (struct many){
                .values = bump_alloc_array(b, n, sizeof(*m->values)),
                .items = bump_alloc_array(b, n, sizeof(*m->items)),
                .item_ptrs = bump_alloc_array(b, n, sizeof(*m->item_ptrs)),
                .infos = bump_alloc_array(b, n, sizeof(*m->infos)),
                .n_message = REPLY_SMALL,
        };
        if (!m->values || !m->items || !m->item_ptrs || !m->infos)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for %zu items: ask for fewer at once, "
                                   "or try again later",
                                   n);
        return STATUS_OK;
}

static bool is_attached(const struct value *v)
{
        return v->entry || (v->plain && v->n >= ATTACH_MIN);
}

/* Whether @n more bytes fit into the body; @copy: and may be copied. */
static bool has_room(const struct request *r, const struct many *m, uint64_t n, bool copy)
{
        const struct config_limits *limits = &r->d->cfg->limits;
        if (n > limits->value_bytes - m->n_body)
                return false;
        return !copy || m->n_copy == 0 ||
               (m->n_copy < limits->output_bytes && n <= limits->output_bytes - m->n_copy);
}

/* Whether a value goes into the body; if so it is counted. */
static bool take_value(struct request *r, struct many *m, const struct store_entry *e)
{
        uint64_t n = e->n_value - e->n_messages;
        bool attach = reply_is_attached(r, e, n);
        struct store_entry *kept = NULL;
        if (!has_room(r, m, n, !attach))
                return false;
        if (attach) {
                kept = bump_alloc(&r->d->bump, sizeof(*kept));
                if (!kept)
                        return false; /* like a body that has no room */
                *kept = *e;
        }
        m->values[m->n_values++] = (struct value){.data = e->value, .n = n, .entry = kept};
        m->n_body += n;
        if (!attach)
                m->n_copy += n;
        return true;
}

/* The same for one that is decoded first. OK; NOT_FOUND: it is damaged; TOO_LARGE; NO_MEMORY,
 * LIMIT. */
static enum status take_plain(struct request *r, const struct cache_ref *ref, struct many *m,
                              const struct store_entry *e)
{
        struct plain *p = NULL;
        if (!has_room(r, m, e->raw_size, true))
                return STATUS_TOO_LARGE;
        enum status status = plain_new(r, ref, e, 0, !r->msg->get_many->no_touch, &p);
        m->n_copy += e->raw_size;
        if (m->n_copy > PLAIN_SHORT)
                conn_yield(r->client->conn);
        if (status != STATUS_OK)
                return status;
        m->values[m->n_values++] = (struct value){.data = p->bytes, .n = p->n, .plain = p};
        m->n_body += p->n;
        return STATUS_OK;
}

static void done(struct many *m)
{
        for (size_t i = 0; i < m->n_values; i++)
                plain_free(m->values[i].plain);
}

static enum status find(struct request *r, const struct cache_ref *ref, struct many *m, size_t i,
                        size_t n_left)
{
        const Cached__V1__GetMany *msg = r->msg->get_many;
        Cached__V1__GetManyItem *item = &m->items[i];
        cached__v1__get_many_item__init(item);
        m->item_ptrs[i] = item;
        struct key_ref key = {msg->keys[i].data, msg->keys[i].len};
        struct store_entry e;
        enum status status = data_get(&r->who, ref, key, !msg->no_touch, &e, &r->verdict);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND)
                return status;
        m->n_message += ITEM_MIN;
        item->status = (Cached__V1__Status)status;
        if (status == STATUS_NOT_FOUND)
                return STATUS_OK;

        bool plain = plain_is_due(r, &e);
        bool described =
                m->n_message + ITEM_MAX + n_left * ITEM_MIN <= r->d->cfg->limits.message_bytes;
        if (!described)
                status = STATUS_TOO_LARGE;
        else if (e.negative)
                status = STATUS_NEGATIVE;
        else if (plain)
                status = take_plain(r, ref, m, &e);
        else
                status = take_value(r, m, &e) ? STATUS_OK : STATUS_TOO_LARGE;
        if (status != STATUS_OK && status != STATUS_NOT_FOUND && status != STATUS_TOO_LARGE &&
            status != STATUS_NEGATIVE)
                return status;
        item->status = (Cached__V1__Status)status;
        if (described && status != STATUS_NOT_FOUND) {
                cached__v1__entry_info__init(&m->infos[i]);
                reply_entry(&m->infos[i], &e, r->who.now_ms);
                if (plain)
                        plain_describe(&m->infos[i]);
                item->entry = &m->infos[i];
                m->n_message += ITEM_MAX;
        }
        return STATUS_OK;
}

/* Copies values from *i up to the next one that is attached. */
static uint8_t *copy_run(const struct many *m, size_t *i, uint8_t *out)
{
        for (; *i < m->n_values && !is_attached(&m->values[*i]); ++*i) {
                if (m->values[*i].n > 0)
                        memcpy(out, m->values[*i].data, m->values[*i].n);
                out += m->values[*i].n;
        }
        return out;
}

/* The bytes that copy_run() will copy. */
static size_t run_length(const struct many *m, size_t i)
{
        size_t n = 0;
        for (; i < m->n_values && !is_attached(&m->values[i]); i++)
                n += m->values[i].n;
        return n;
}

/* False: no memory. */
static bool attach(struct request *r, struct value *v)
{
        struct conn *conn = r->client->conn;
        if (v->entry)
                return reply_attach(r, v->entry, 0, v->n);
        struct plain *p = v->plain;
        v->plain = NULL;
        return conn_attach(conn, p->bytes, p->n, plain_release, p) == 0;
}

/* What follows the first run of copies. False: no memory, in the middle of the frame. */
static bool send_rest(struct request *r, struct many *m, size_t i)
{
        struct conn *conn = r->client->conn;
        while (i < m->n_values) {
                if (is_attached(&m->values[i])) {
                        if (!attach(r, &m->values[i]))
                                return false;
                        i++;
                        continue;
                }
                size_t n = run_length(m, i);
                uint8_t *out = conn_reserve(conn, n > 0 ? n : 1);
                if (!out)
                        return false;
                copy_run(m, &i, out);
                conn_commit(conn, n);
        }
        return true;
}

static enum status answer(struct request *r, struct many *m)
{
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        result.n_items = r->msg->get_many->n_keys;
        result.items = m->item_ptrs;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        reply.get_many = &result;

        size_t n_first = run_length(m, 0);
        enum status status = reply_reserve(r, m->n_message, n_first);
        if (status != STATUS_OK)
                return status;
        size_t i = 0;
        uint8_t *start = r->out;
        uint8_t *end = copy_run(m, &i, reply_pack(r, &reply, m->n_body));
        conn_commit(r->client->conn, (size_t)(end - start));
        if (!send_rest(r, m, i))
                reply_abort(r);
        return STATUS_OK;
}

enum status op_get_many(struct request *r)
{
        const Cached__V1__GetMany *msg = r->msg->get_many;
        struct cache_ref ref;
        struct many m;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = check(r, msg);
        if (status == STATUS_OK)
                status = allocate(r, msg->n_keys, &m);
        if (status != STATUS_OK)
                return status;
        for (size_t i = 0; status == STATUS_OK && i < msg->n_keys; i++)
                status = find(r, &ref, &m, i, msg->n_keys - i - 1);
        if (status == STATUS_OK)
                status = answer(r, &m);
        done(&m);
        return status;
}
