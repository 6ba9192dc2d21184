/* SPDX-License-Identifier: MIT */
/*
 * Decode
 *
 * Every argument is checked here, once, and leaves as a plain value in its range. A failure names
 * the field, what it was where that helps, and what it should be.
 *
 * protobuf-c ends strings with a zero byte and so hides what follows one inside: the real length is
 * taken from the allocator, and the zero byte then is refused as the control character that it is.
 */
#include "dispatch/decode.h"

#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "dispatch/scope.h"
#include "proto/wire.h"
#include "realm/realm.h"

size_t decode_length(const char *text)
{
        return text == protobuf_c_empty_string ? 0 : bump_size(text) - 1;
}

static enum status invalid(struct request *r, const char *fault)
{
        return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
}

enum status decode_cache_name(struct request *r, const char *name, struct cache_ref *ret)
{
        size_t n = decode_length(name);
        const char *fault = wire_cache_name_fault(name, n);
        if (fault)
                return invalid(r, fault);
        *ret = (struct cache_ref){.name = name, .n_name = n};
        return r->who.realm->hidden ? scope_name(r, ret) : STATUS_OK;
}

enum status decode_cache(struct request *r, uint32_t id, const char *name, struct cache_ref *ret)
{
        if (id == 0)
                return decode_cache_name(r, name, ret);
        *ret = (struct cache_ref){.id = id};
        return STATUS_OK;
}

enum status decode_key(struct request *r, const ProtobufCBinaryData *key, struct key_ref *ret)
{
        const char *fault = wire_key_fault(key->len);
        if (fault)
                return invalid(r, fault);
        *ret = (struct key_ref){key->data, key->len};
        return STATUS_OK;
}

enum status decode_ttl(struct request *r, bool has_ms, uint64_t ttl_ms, bool has_never, bool never,
                       uint64_t *ret)
{
        uint64_t ttl = STORE_TTL_POLICY;
        if (has_ms) {
                const char *fault = wire_ttl_fault(ttl_ms);
                if (fault)
                        return invalid(r, fault);
                ttl = ttl_ms;
        } else if (has_never) {
                if (!never)
                        return invalid(r,
                                       "never_expires is false: leave it out to take the policy's "
                                       "TTL, or set it to true");
                ttl = STORE_NEVER;
        }
        *ret = ttl;
        return STATUS_OK;
}

/* @n_value: without its messages. */
static enum status check_encoding(struct request *r, const Cached__V1__Set *set, uint64_t n_value)
{
        switch (set->encoding) {
        case CACHED__V1__ENCODING__ENCODING_RAW:
                if (set->raw_size != 0 && set->raw_size != n_value)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "raw_size is %" PRIu64 " but the value has %" PRIu64
                                           " bytes and no encoding: leave raw_size out",
                                           set->raw_size, n_value);
                return STATUS_OK;
        case CACHED__V1__ENCODING__ENCODING_LZ4:
                /* An LZ4 block is never empty and unpacks to at most 255 times its size. */
                if (n_value == 0 || set->raw_size / 255 > n_value)
                        return verdict_set(&r->verdict, STATUS_INVALID,
                                           "no LZ4 block of %" PRIu64 " bytes unpacks to %" PRIu64
                                           ": set raw_size to the size before encoding",
                                           n_value, set->raw_size);
                return STATUS_OK;
        default:
                return verdict_set(
                        &r->verdict, STATUS_INVALID,
                        "encoding %d is unknown: use ENCODING_RAW (0) or ENCODING_LZ4 (1)",
                        (int)set->encoding);
        }
}

static enum status check_mode(struct request *r, const Cached__V1__Set *set)
{
        bool compare = set->compare_case == CACHED__V1__SET__COMPARE_EXPECTED_VERSION;
        switch (set->mode) {
        case CACHED__V1__SET_MODE__SET_ANY:
        case CACHED__V1__SET_MODE__SET_REPLACE_ONLY:
                break;
        case CACHED__V1__SET_MODE__SET_ADD_ONLY:
                if (compare)
                        return invalid(r, "expected_version and SET_ADD_ONLY exclude each other: "
                                          "leave one out");
                break;
        default:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "mode %d is unknown: use SET_ANY (0), SET_ADD_ONLY (1) or "
                                   "SET_REPLACE_ONLY (2)",
                                   (int)set->mode);
        }
        if (compare && set->expected_version == 0)
                return invalid(r,
                               "expected_version is 0, which no entry has: take the version from "
                               "a reply, or use SET_ADD_ONLY to store only a new key");
        return STATUS_OK;
}

/* Of an entry whose value means something to the daemon: it must be short, and plain. */
static enum status check_marks(struct request *r, const Cached__V1__Set *set, uint64_t n_value)
{
        if (set->negative && set->vary)
                return invalid(r, "negative and vary exclude each other: leave one out");
        if (set->messages_size > 0)
                return invalid(r, "a negative entry, or one with vary, has no messages: leave "
                                  "messages_size out");
        if (set->encoding != CACHED__V1__ENCODING__ENCODING_RAW)
                return invalid(r, "what a negative entry, or one with vary, says is read as it is: "
                                  "leave the encoding out");
        if (set->source_case != CACHED__V1__SET__SOURCE__NOT_SET)
                return invalid(r, "what a negative entry, or one with vary, says is short: send it "
                                  "as the body");
        const char *fault = NULL;
        if (set->negative && n_value > WIRE_NEGATIVE_MAX)
                fault = wire_negative_fault("", n_value);
        else if (set->vary && (n_value == 0 || n_value > WIRE_INPUT_NAME_MAX))
                fault = wire_input_name_fault("", n_value);
        return fault ? invalid(r, fault) : STATUS_OK;
}

enum status decode_marked(struct request *r, const struct store_put *put)
{
        const char *text = put->value, *fault = NULL;
        if (put->negative)
                fault = wire_negative_fault(text, put->n_value);
        else if (put->vary)
                fault = wire_input_name_fault(text, put->n_value);
        return fault ? invalid(r, fault) : STATUS_OK;
}

static bool is_among(const struct store_text *tags, unsigned n, const struct store_text *tag)
{
        for (unsigned i = 0; i < n; i++)
                if (tags[i].n == tag->n && memcmp(tags[i].text, tag->text, tag->n) == 0)
                        return true;
        return false;
}

enum status decode_tag(struct request *r, const char *tag, struct store_text *ret)
{
        size_t n = decode_length(tag);
        const char *fault = wire_tag_fault(tag, n);
        if (fault)
                return invalid(r, fault);
        *ret = (struct store_text){tag, n};
        return STATUS_OK;
}

/* An entry has a tag or not: one that is named twice is one. */
static enum status decode_tags(struct request *r, const Cached__V1__Set *set, struct store_put *ret)
{
        if (set->n_tags > WIRE_TAGS_MAX)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the entry has %zu tags: an entry has up to %d; leave the "
                                   "others out",
                                   set->n_tags, WIRE_TAGS_MAX);
        struct store_text *tags = bump_alloc_array(&r->d->bump, set->n_tags, sizeof(*tags));
        if (!tags)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the tags: nothing was changed; "
                                   "try again later");
        unsigned n = 0;
        for (size_t i = 0; i < set->n_tags; i++) {
                enum status status = decode_tag(r, set->tags[i], &tags[n]);
                if (status != STATUS_OK)
                        return status;
                n += !is_among(tags, n, &tags[n]);
        }
        ret->tags = tags;
        ret->n_tags = n;
        return STATUS_OK;
}

static enum status decode_variant(struct request *r, const Cached__V1__Set *set,
                                  struct store_put *ret)
{
        const ProtobufCBinaryData *of = &set->variant_of;
        if (wire_key_fault(of->len))
                return invalid(r, "variant_of is longer than 64 bytes: it is the key of the entry "
                                  "with vary that led here");
        if (of->len == ret->n_key && memcmp(of->data, ret->key, of->len) == 0)
                return invalid(r, "variant_of is the key itself: it is the key of the entry with "
                                  "vary that led here");
        ret->variant_of = (struct store_text){(const char *)of->data, of->len};
        return STATUS_OK;
}

enum status decode_set(struct request *r, const Cached__V1__Set *set, uint64_t n_value,
                       struct store_put *ret)
{
        struct key_ref key = {0};
        uint64_t ttl_ms = STORE_TTL_POLICY;
        enum status status = decode_key(r, &set->key, &key);
        if (status != STATUS_OK)
                return status;
        status = decode_ttl(r, set->ttl_case == CACHED__V1__SET__TTL_TTL_MS, set->ttl_ms,
                            set->ttl_case == CACHED__V1__SET__TTL_NEVER_EXPIRES, set->never_expires,
                            &ttl_ms);
        if (status != STATUS_OK)
                return status;
        status = check_mode(r, set);
        if (status != STATUS_OK)
                return status;
        if (__builtin_expect(set->messages_size > n_value, 0))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "messages_size is %" PRIu64 " but the value has %" PRIu64
                                   " bytes: the messages are its last bytes",
                                   set->messages_size, n_value);
        status = check_encoding(r, set, n_value - set->messages_size);
        if (status == STATUS_OK && __builtin_expect(set->negative || set->vary, 0))
                status = check_marks(r, set, n_value - set->messages_size);
        if (status != STATUS_OK)
                return status;
        *ret = (struct store_put){
                .key = key.data,
                .n_key = key.n,
                .n_value = n_value,
                .ttl_ms = ttl_ms,
                .mode = (enum store_mode)set->mode,
                .compare = set->compare_case == CACHED__V1__SET__COMPARE_EXPECTED_VERSION,
                .flags = set->flags,
                .encoding = (uint8_t)set->encoding,
                .raw_size = set->encoding == CACHED__V1__ENCODING__ENCODING_RAW
                                    ? n_value - set->messages_size
                                    : set->raw_size,
                .cost_us = set->cost_us,
                .n_messages = set->messages_size,
                .negative = set->negative,
                .vary = set->vary,
        };
        if (ret->compare)
                ret->expected_version = set->expected_version;
        if (__builtin_expect(set->n_tags > 0, 0))
                status = decode_tags(r, set, ret);
        if (status == STATUS_OK && set->variant_of.len > 0)
                status = decode_variant(r, set, ret);
        return status;
}

/* Those fields of a policy that are off when they are 0. */
static enum status decode_windows(struct request *r, const Cached__V1__Policy *policy,
                                  struct store_policy *ret, struct policy_fields *ret_set)
{
        const char *fault = wire_stale_for_fault(policy->stale_for_ms);
        if (!fault)
                fault = wire_stale_if_error_fault(policy->stale_if_error_ms);
        if (!fault)
                fault = wire_refresh_ahead_fault(policy->refresh_ahead_permille);
        if (!fault)
                fault = wire_expire_jitter_fault(policy->expire_jitter_permille);
        if (fault)
                return invalid(r, fault);
        ret->stale_for_ms = policy->stale_for_ms;
        ret->stale_if_error_ms = policy->stale_if_error_ms;
        ret->refresh_ahead = policy->refresh_ahead_permille;
        ret->expire_jitter = policy->expire_jitter_permille;
        ret_set->stale_for = ret->stale_for_ms != 0;
        ret_set->stale_if_error = ret->stale_if_error_ms != 0;
        ret_set->refresh_ahead = ret->refresh_ahead != 0;
        ret_set->expire_jitter = ret->expire_jitter != 0;
        return STATUS_OK;
}

enum status decode_policy(struct request *r, const Cached__V1__Policy *policy,
                          struct store_policy *ret, struct policy_fields *ret_set)
{
        *ret = (struct store_policy){.ttl_ms = STORE_NEVER,
                                     .max_entries = STORE_UNLIMITED,
                                     .max_bytes = STORE_UNLIMITED};
        *ret_set = (struct policy_fields){0};
        if (!policy)
                return STATUS_OK;
        if (policy->ttl_case == CACHED__V1__POLICY__TTL_TTL_MS) {
                const char *fault = wire_ttl_fault(policy->ttl_ms);
                if (fault)
                        return invalid(r, fault);
                ret->ttl_ms = policy->ttl_ms;
                ret_set->ttl = true;
        }
        if (policy->entries_limit_case == CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES) {
                if (policy->max_entries == 0 || policy->max_entries > INT64_MAX)
                        return invalid(r,
                                       "max_entries is 0 or negative: it is at least 1; leave it "
                                       "out for no limit");
                ret->max_entries = policy->max_entries;
                ret_set->max_entries = true;
        }
        if (policy->bytes_limit_case == CACHED__V1__POLICY__BYTES_LIMIT_MAX_BYTES) {
                if (policy->max_bytes == 0 || policy->max_bytes > INT64_MAX)
                        return invalid(r,
                                       "max_bytes is 0 or negative: it is at least 1; leave it out "
                                       "for no limit");
                ret->max_bytes = policy->max_bytes;
                ret_set->max_bytes = true;
        }
        return decode_windows(r, policy, ret, ret_set);
}

uint32_t decode_page_size(const struct request *r, uint32_t page_size)
{
        uint64_t max = r->d->cfg->limits.page_entries;
        return page_size == 0 || page_size > max ? (uint32_t)max : page_size;
}
