/* SPDX-License-Identifier: MIT */
/*
 * The messages of the hot path, without descriptors
 *
 * protobuf-c walks tables for each field, which is most of what a pipelined request costs this
 * side, and three quarters of a large GetMany. Get, Set and Delete, replies that hold nothing but
 * id, status and an entry, and those of GetMany are packed and unpacked here. Everything else, and
 * everything unusual (long names, unknown or repeated fields, values out of range, error texts), is
 * answered with "not mine" and goes through protobuf-c. So this file decides nothing about what is
 * valid: whatever it accepts, protobuf-c reads in the same way, which
 * tests/unit/test-client-codec.c checks field by field and byte by byte.
 */

#include "client/codec.h"

#include <string.h>

/* Tags of cached.proto with their wire types: field << 3 | type. */
#define TAG(field, type) ((field) << 3 | (type))
#define VARINT           0
#define BYTES            2

/* Together with the numbers they leave room in CODEC_PACK_MAX. */
#define CACHE_MAX 200
#define KEY_MAX   100
#define TAGS_MAX  256 /* all of them, with what stands in front of each */

/* -------------------------------------------------------------------------------------- packing */

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
        while (v >= 128) {
                *p++ = (uint8_t)(v | 128);
                v >>= 7;
        }
        *p++ = (uint8_t)v;
        return p;
}

/* A member of a oneof is written also when it is 0. */
static uint8_t *put_member(uint8_t *p, uint32_t field, uint64_t v)
{
        return put_varint(put_varint(p, TAG(field, VARINT)), v);
}

static uint8_t *put_number(uint8_t *p, uint32_t field, uint64_t v)
{
        return v ? put_member(p, field, v) : p;
}

static uint8_t *put_bytes(uint8_t *p, uint32_t field, const void *data, size_t n)
{
        if (n == 0)
                return p;
        p = put_varint(put_varint(p, TAG(field, BYTES)), n);
        memcpy(p, data, n);
        return p + n;
}

/* Fields 1 to 3 of every request about an entry. NULL: too long. */
static uint8_t *put_address(uint8_t *p, uint32_t cache_id, const char *cache,
                            const ProtobufCBinaryData *key)
{
        size_t n = strnlen(cache, CACHE_MAX + 1);

        if (n > CACHE_MAX || key->len > KEY_MAX)
                return NULL;
        p = put_number(p, 1, cache_id);
        p = put_bytes(p, 2, cache, n);
        return put_bytes(p, 3, key->data, key->len);
}

static uint8_t *put_inner(uint8_t *p, uint32_t field, const uint8_t *inner, size_t n)
{
        p = put_varint(put_varint(p, TAG(field, BYTES)), n);
        memcpy(p, inner, n);
        return p + n;
}

static uint8_t *put_slice(uint8_t *p, uint32_t field, const Cached__V1__Slice *m)
{
        uint8_t inner[24], *end = put_number(put_number(inner, 1, m->offset), 2, m->size);

        return put_inner(p, field, inner, (size_t)(end - inner));
}

static uint8_t *put_lease(uint8_t *p, uint32_t field, const Cached__V1__LeaseAsk *m)
{
        uint8_t inner[40], *end = put_number(inner, 1, m->owner);

        if (m->patience_case == CACHED__V1__LEASE_ASK__PATIENCE_WAIT_MS)
                end = put_member(end, 2, m->wait_ms);
        end = put_number(end, 3, m->hold_ms);
        end = put_number(end, 4, m->refresh != 0);
        end = put_number(end, 5, m->want_progress != 0);
        end = put_number(end, 6, m->want_failure != 0);
        return put_inner(p, field, inner, (size_t)(end - inner));
}

static uint8_t *put_get_options(uint8_t *p, const Cached__V1__Get *m)
{
        p = put_number(p, 4, m->no_touch != 0);
        p = put_number(p, 5, m->as_file != 0);
        if (m->have_case == CACHED__V1__GET__HAVE_HAVE_VERSION)
                p = put_member(p, 6, m->have_version);
        if (m->lease)
                p = put_lease(p, 7, m->lease);
        return put_number(p, 8, m->with_messages != 0);
}

/* NULL: too long. */
static uint8_t *put_tags(uint8_t *p, const Cached__V1__Set *m)
{
        size_t left = TAGS_MAX;

        for (size_t i = 0; i < m->n_tags; i++) {
                size_t n = strnlen(m->tags[i], left);

                /* Field and length take up to 4 bytes. */
                if (n + 4 > left)
                        return NULL;
                left -= n + 4;
                p = put_inner(p, 16, (const uint8_t *)m->tags[i], n);
        }
        return p;
}

/* What few stores have. NULL: too long. */
static __attribute__((noinline)) uint8_t *put_set_extras(uint8_t *p, const Cached__V1__Set *m)
{
        p = put_number(p, 14, m->lease_id);
        p = put_number(p, 15, m->share_only != 0);
        p = put_tags(p, m);
        if (!p || m->variant_of.len > KEY_MAX)
                return NULL;
        p = put_number(p, 17, m->messages_size);
        p = put_number(p, 18, m->negative != 0);
        p = put_number(p, 19, m->vary != 0);
        return put_bytes(p, 20, m->variant_of.data, m->variant_of.len);
}

static uint8_t *put_set_options(uint8_t *p, const Cached__V1__Set *m)
{
        if (m->ttl_case == CACHED__V1__SET__TTL_TTL_MS)
                p = put_member(p, 4, m->ttl_ms);
        else if (m->ttl_case == CACHED__V1__SET__TTL_NEVER_EXPIRES)
                p = put_member(p, 5, m->never_expires != 0);
        p = put_number(p, 6, (uint64_t)m->mode);
        if (m->compare_case == CACHED__V1__SET__COMPARE_EXPECTED_VERSION)
                p = put_member(p, 7, m->expected_version);
        p = put_number(p, 8, m->flags);
        p = put_number(p, 9, (uint64_t)m->encoding);
        p = put_number(p, 10, m->raw_size);
        p = put_number(p, 11, m->cost_us);
        if (m->source_case == CACHED__V1__SET__SOURCE_FILE_SIZE)
                p = put_member(p, 12, m->file_size);
        else if (m->source_case == CACHED__V1__SET__SOURCE_UPLOADED)
                p = put_slice(p, 13, m->uploaded);
        if (m->lease_id | m->messages_size | m->n_tags | m->variant_of.len ||
            (m->share_only | m->negative | m->vary))
                p = put_set_extras(p, m);
        return p;
}

size_t codec_pack(const Cached__V1__Request *r, uint8_t out[CODEC_PACK_MAX])
{
        uint8_t inner[CODEC_PACK_MAX], *end = NULL, *p = out;

        if (r->session.len > 0)
                return 0;
        switch (r->op_case) {
        case CACHED__V1__REQUEST__OP_GET:
                end = put_address(inner, r->get->cache_id, r->get->cache, &r->get->key);
                if (end)
                        end = put_get_options(end, r->get);
                break;
        case CACHED__V1__REQUEST__OP_SET:
                if (r->set->mode < 0 || r->set->encoding < 0 ||
                    r->set->source_case == CACHED__V1__SET__SOURCE_UPLOADED)
                        return 0;
                end = put_address(inner, r->set->cache_id, r->set->cache, &r->set->key);
                if (end)
                        end = put_set_options(end, r->set);
                break;
        case CACHED__V1__REQUEST__OP_DELETE:
                end = put_address(inner, r->delete_->cache_id, r->delete_->cache, &r->delete_->key);
                break;
        default:
                break;
        }
        if (!end)
                return 0;
        p = put_number(p, 1, r->id);
        p = put_number(p, 2, r->deadline_ms);
        p = put_number(p, 3, r->repeated != 0);
        p = put_varint(p, TAG((uint32_t)r->op_case, BYTES));
        p = put_varint(p, (uint64_t)(end - inner));
        memcpy(p, inner, (size_t)(end - inner));
        return (size_t)(p - out) + (size_t)(end - inner);
}

/* ------------------------------------------------------------------------------------ unpacking */

/* NULL: cut off, or too long to be of one mind with protobuf-c about. */
static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
        uint64_t v = 0;

        for (unsigned shift = 0; p < end && shift <= 56; shift += 7) {
                v |= (uint64_t)(*p & 127) << shift;
                if (!(*p++ & 128)) {
                        *ret = v;
                        return p;
                }
        }
        return NULL;
}

static bool set_entry_field(Cached__V1__EntryInfo *e, uint8_t tag, uint64_t v)
{
        switch (tag) {
        case TAG(1, VARINT):
                e->version = v;
                return true;
        case TAG(2, VARINT):
                e->size = v;
                return true;
        case TAG(3, VARINT):
                e->flags = (uint32_t)v;
                return v <= UINT32_MAX;
        case TAG(4, VARINT):
                e->encoding = (Cached__V1__Encoding)v;
                return v <= INT32_MAX;
        case TAG(5, VARINT):
                e->raw_size = v;
                return true;
        case TAG(6, VARINT):
                e->cost_us = v;
                return true;
        case TAG(7, VARINT):
                e->ttl_case = CACHED__V1__ENTRY_INFO__TTL_TTL_MS;
                e->ttl_ms = v;
                return true;
        case TAG(8, VARINT):
                e->uid = (uint32_t)v;
                return v <= UINT32_MAX;
        case TAG(9, VARINT):
                e->view_id = v;
                return true;
        case TAG(10, VARINT):
                e->unchanged = v != 0;
                return true;
        case TAG(11, VARINT):
                e->stale = v != 0;
                return true;
        case TAG(12, VARINT):
                e->fresh_case = CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS;
                e->fresh_ms = v;
                return true;
        case TAG(13, VARINT):
                e->messages_size = v;
                return true;
        case TAG(15, VARINT):
                e->negative = v != 0;
                return true;
        default:
                return false;
        }
}

static bool get_entry(const uint8_t *p, const uint8_t *end, Cached__V1__EntryInfo *e)
{
        *e = (Cached__V1__EntryInfo)CACHED__V1__ENTRY_INFO__INIT;
        while (p < end) {
                uint8_t tag = *p++;
                uint64_t v;

                p = get_varint(p, end, &v);
                if (!p || !set_entry_field(e, tag, v))
                        return false;
        }
        return true;
}

bool codec_unpack(const uint8_t *message, size_t n_message, Cached__V1__Reply *r,
                  Cached__V1__EntryInfo *e)
{
        const uint8_t *p = message, *end = message + n_message;

        *r = (Cached__V1__Reply)CACHED__V1__REPLY__INIT;
        while (p < end) {
                uint8_t tag = *p++;
                uint64_t v;

                p = get_varint(p, end, &v);
                if (!p)
                        return false;
                if (tag == TAG(1, VARINT)) {
                        r->id = v;
                } else if (tag == TAG(2, VARINT) && v <= INT32_MAX) {
                        r->status = (Cached__V1__Status)v;
                } else if (tag == TAG(14, BYTES) && v <= (uint64_t)(end - p) && !r->entry) {
                        if (!get_entry(p, p + v, e))
                                return false;
                        r->result_case = CACHED__V1__REPLY__RESULT_ENTRY;
                        r->entry = e;
                        p += v;
                } else {
                        return false;
                }
        }
        return true;
}

/* ------------------------------------------------------------------------------- replies of
 * GetMany */

/* A field of bytes behind its tag. NULL as get_varint(). */
static const uint8_t *get_bytes(const uint8_t *p, const uint8_t *end, const uint8_t **ret,
                                size_t *ret_n)
{
        uint64_t n;

        p = get_varint(p, end, &n);
        if (!p || n > (uint64_t)(end - p))
                return NULL;
        *ret = p;
        *ret_n = (size_t)n;
        return p + n;
}

static bool count_items(struct codec_items *items)
{
        const uint8_t *p = items->at, *end = items->at + items->n_bytes, *at;
        size_t n;

        for (items->n = 0; p < end; items->n++) {
                if (*p++ != TAG(1, BYTES))
                        return false;
                p = get_bytes(p, end, &at, &n);
                if (!p)
                        return false;
        }
        return true;
}

bool codec_find_items(const uint8_t *message, size_t n_message, Cached__V1__Reply *r,
                      struct codec_items *ret)
{
        const uint8_t *p = message, *end = message + n_message;

        *r = (Cached__V1__Reply)CACHED__V1__REPLY__INIT;
        *ret = (struct codec_items){0};
        while (p < end) {
                uint8_t tag = *p++;
                uint64_t v = 0;

                if (tag == TAG(15, BYTES) && !ret->at)
                        p = get_bytes(p, end, &ret->at, &ret->n_bytes);
                else if (tag == TAG(1, VARINT) || tag == TAG(2, VARINT))
                        p = get_varint(p, end, &v);
                else
                        return false;
                if (!p || (tag == TAG(2, VARINT) && v > INT32_MAX))
                        return false;
                if (tag == TAG(1, VARINT))
                        r->id = v;
                else if (tag == TAG(2, VARINT))
                        r->status = (Cached__V1__Status)v;
        }
        if (!ret->at)
                return false;
        r->result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        return count_items(ret);
}

static bool get_item(const uint8_t *p, const uint8_t *end, struct codec_item *ret)
{
        ret->item = (Cached__V1__GetManyItem)CACHED__V1__GET_MANY_ITEM__INIT;
        while (p < end) {
                uint8_t tag = *p++;
                const uint8_t *at;
                uint64_t v;
                size_t n;

                if (tag == TAG(1, VARINT)) {
                        p = get_varint(p, end, &v);
                        if (!p || v > INT32_MAX)
                                return false;
                        ret->item.status = (Cached__V1__Status)v;
                } else if (tag == TAG(2, BYTES) && !ret->item.entry) {
                        p = get_bytes(p, end, &at, &n);
                        if (!p || !get_entry(at, at + n, &ret->entry))
                                return false;
                        ret->item.entry = &ret->entry;
                } else {
                        return false;
                }
        }
        return true;
}

bool codec_unpack_items(const struct codec_items *items, struct codec_item *ret,
                        Cached__V1__GetManyItem **ret_pointers)
{
        const uint8_t *p = items->at, *end = items->at + items->n_bytes, *at = p;
        size_t n = 0;

        for (size_t i = 0; i < items->n; i++) {
                p = get_bytes(p + 1, end, &at, &n);
                if (!p || !get_item(at, at + n, &ret[i]))
                        return false;
                ret_pointers[i] = &ret[i].item;
        }
        return true;
}
