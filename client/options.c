/* SPDX-License-Identifier: MIT */
/*
 * Option objects: of a handle, of a cache (its policy), of a set, of a memoized function
 *
 * Each is a plain record with setters, so that options can be added without a new function
 * signature. Setters refuse what can be seen to be wrong here; ranges that the daemon knows are
 * left to it. A setter that fails leaves its object as it was. Nothing keeps a pointer of the
 * caller.
 */

#include <cached.h>
#include <stdlib.h>
#include <string.h>

#include "client/messages.h"
#include "client/options.h"
#include "client/pack.h"
#include "client/pool.h"

/* More than any daemon takes: what it takes, it says itself. */
#define TAGS_MAX 64

cached_options *cached_options_new(void)
{
        cached_options *o = calloc(1, sizeof(*o));

        if (o) {
                o->timeout_ms = OPTIONS_DEFAULT_TIMEOUT_MS;
                o->max_connections = OPTIONS_DEFAULT_MAX_CONNECTIONS;
                o->pack_min = PACK_DEFAULT_MIN;
                o->n_views = VIEW_CACHE_DEFAULT;
                o->prepared_bytes = OPTIONS_DEFAULT_PREPARED_BYTES;
        }
        return o;
}

void options_done(struct cached_options *o)
{
        free(o->socket);
        free(o->realm);
        free(o->client_name);
        free(o->warm);
        explicit_bzero(o->session, sizeof(o->session)); /* it may be a token */
        *o = (struct cached_options){0};
}

void cached_options_free(cached_options *o)
{
        if (!o)
                return;
        options_done(o);
        free(o);
}

/* NULL and "" mean: not set. */
static int text_replace(char **field, const char *text)
{
        char *copy = NULL;

        if (text && *text) {
                copy = strdup(text);
                if (!copy)
                        return CACHED_ERR_NOMEM;
        }
        free(*field);
        *field = copy;
        return CACHED_OK;
}

bool options_copy(const struct cached_options *o, struct cached_options *ret)
{
        struct cached_options copy = {.timeout_ms = OPTIONS_DEFAULT_TIMEOUT_MS,
                                      .max_connections = OPTIONS_DEFAULT_MAX_CONNECTIONS,
                                      .pack_min = PACK_DEFAULT_MIN,
                                      .n_views = VIEW_CACHE_DEFAULT,
                                      .prepared_bytes = OPTIONS_DEFAULT_PREPARED_BYTES};

        if (o) {
                copy = *o;
                copy.socket = copy.realm = copy.client_name = copy.warm = NULL;
                if (text_replace(&copy.socket, o->socket) != CACHED_OK ||
                    text_replace(&copy.realm, o->realm) != CACHED_OK ||
                    text_replace(&copy.client_name, o->client_name) != CACHED_OK ||
                    text_replace(&copy.warm, o->warm) != CACHED_OK) {
                        options_done(&copy);
                        return false;
                }
        }
        *ret = copy;
        return true;
}

bool options_read_environment(struct cached_options *o)
{
        return text_replace(&o->warm, secure_getenv("CACHED_WARM")) == CACHED_OK;
}

int cached_options_set_socket(cached_options *o, const char *path)
{
        return o ? text_replace(&o->socket, path) : CACHED_ERR_USAGE;
}

int cached_options_set_realm(cached_options *o, const char *realm)
{
        return o ? text_replace(&o->realm, realm) : CACHED_ERR_USAGE;
}

int cached_options_set_client_name(cached_options *o, const char *name)
{
        return o ? text_replace(&o->client_name, name) : CACHED_ERR_USAGE;
}

int cached_options_set_timeout_ms(cached_options *o, uint32_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->timeout_ms = ms;
        return CACHED_OK;
}

int cached_options_set_max_connections(cached_options *o, uint32_t n)
{
        if (!o || n < 1 || n > POOL_MAX)
                return CACHED_ERR_USAGE;
        o->max_connections = n;
        return CACHED_OK;
}

int cached_options_set_compression(cached_options *o, uint64_t min_bytes)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->pack_min = min_bytes;
        return CACHED_OK;
}

int cached_options_set_decode(cached_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->keep_encoded = !on;
        return CACHED_OK;
}

int cached_options_set_mapped(cached_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->no_map = !on;
        return CACHED_OK;
}

int cached_options_set_view_cache(cached_options *o, uint32_t n_values)
{
        if (!o || n_values > VIEW_CACHE_MAX)
                return CACHED_ERR_USAGE;
        o->n_views = n_values;
        return CACHED_OK;
}

int cached_options_set_prepared_bytes(cached_options *o, uint64_t max_bytes)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->prepared_bytes = max_bytes;
        return CACHED_OK;
}

int cached_options_set_own_values(cached_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->own_values = on != 0;
        return CACHED_OK;
}

int cached_options_set_spin(cached_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->no_spin = !on;
        return CACHED_OK;
}

int cached_options_set_service_uid(cached_options *o, uint32_t uid)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->service_uid = uid;
        o->has_service_uid = true;
        return CACHED_OK;
}

cached_policy *cached_policy_new(void)
{
        return calloc(1, sizeof(cached_policy));
}

void cached_policy_free(cached_policy *p)
{
        free(p);
}

int cached_policy_set_ttl_ms(cached_policy *p, uint64_t ms)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->has_ttl = ms != CACHED_NEVER;
        p->ttl_ms = ms;
        return CACHED_OK;
}

int cached_policy_set_max_entries(cached_policy *p, uint64_t n)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->has_max_entries = true;
        p->max_entries = n;
        return CACHED_OK;
}

int cached_policy_set_max_bytes(cached_policy *p, uint64_t n)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->has_max_bytes = true;
        p->max_bytes = n;
        return CACHED_OK;
}

int cached_policy_set_stale_for_ms(cached_policy *p, uint64_t ms)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->stale_for_ms = ms;
        return CACHED_OK;
}

int cached_policy_set_stale_if_error_ms(cached_policy *p, uint64_t ms)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->stale_if_error_ms = ms;
        return CACHED_OK;
}

int cached_policy_set_refresh_ahead(cached_policy *p, uint32_t permille)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->refresh_ahead_permille = permille;
        return CACHED_OK;
}

int cached_policy_set_expire_jitter(cached_policy *p, uint32_t permille)
{
        if (!p)
                return CACHED_ERR_USAGE;
        p->expire_jitter_permille = permille;
        return CACHED_OK;
}

void policy_to_message(const struct cached_policy *p, Cached__V1__Policy *ret)
{
        cached__v1__policy__init(ret);
        if (!p)
                return;
        if (p->has_ttl) {
                ret->ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
                ret->ttl_ms = p->ttl_ms;
        }
        if (p->has_max_entries) {
                ret->entries_limit_case = CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES;
                ret->max_entries = p->max_entries;
        }
        if (p->has_max_bytes) {
                ret->bytes_limit_case = CACHED__V1__POLICY__BYTES_LIMIT_MAX_BYTES;
                ret->max_bytes = p->max_bytes;
        }
        ret->stale_for_ms = p->stale_for_ms;
        ret->stale_if_error_ms = p->stale_if_error_ms;
        ret->refresh_ahead_permille = p->refresh_ahead_permille;
        ret->expire_jitter_permille = p->expire_jitter_permille;
}

cached_set_options *cached_set_options_new(void)
{
        return calloc(1, sizeof(cached_set_options));
}

void cached_set_options_free(cached_set_options *o)
{
        if (!o)
                return;
        for (size_t i = 0; i < o->n_tags; i++)
                free(o->tags[i]);
        free(o->tags);
        free(o->messages);
        free(o);
}

int cached_set_options_set_ttl_ms(cached_set_options *o, uint64_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->has_ttl = true;
        o->ttl_ms = ms;
        return CACHED_OK;
}

int cached_set_options_set_mode(cached_set_options *o, int mode)
{
        if (!o || mode < CACHED_SET_ANY || mode > CACHED_SET_REPLACE_ONLY)
                return CACHED_ERR_USAGE;
        o->mode = mode;
        return CACHED_OK;
}

int cached_set_options_set_expected_version(cached_set_options *o, uint64_t version)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->has_expected_version = true;
        o->expected_version = version;
        return CACHED_OK;
}

int cached_set_options_set_flags(cached_set_options *o, uint32_t flags)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->flags = flags;
        return CACHED_OK;
}

int cached_set_options_set_encoding(cached_set_options *o, int encoding, uint64_t raw_size)
{
        if (!o || encoding < CACHED_ENCODING_RAW || encoding > CACHED_ENCODING_LZ4)
                return CACHED_ERR_USAGE;
        o->encoding = encoding;
        o->raw_size = encoding == CACHED_ENCODING_RAW ? 0 : raw_size;
        return CACHED_OK;
}

int cached_set_options_set_cost_us(cached_set_options *o, uint64_t us)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->cost_us = us;
        return CACHED_OK;
}

int cached_set_options_add_tag(cached_set_options *o, const char *tag)
{
        char *copy, **tags;

        if (!o || !tag || o->n_tags == TAGS_MAX)
                return CACHED_ERR_USAGE;
        copy = strdup(tag);
        tags = copy ? realloc(o->tags, (o->n_tags + 1) * sizeof(*tags)) : NULL;
        if (!tags) {
                free(copy);
                return CACHED_ERR_NOMEM;
        }
        o->tags = tags;
        tags[o->n_tags++] = copy;
        return CACHED_OK;
}

int cached_set_options_set_negative(cached_set_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->is_negative = on != 0;
        return CACHED_OK;
}

int cached_set_options_set_messages(cached_set_options *o, const cached_messages *m)
{
        uint8_t *bytes = NULL;
        size_t n = 0;

        if (!o)
                return CACHED_ERR_USAGE;
        if (m && !messages_encode(m, &bytes, &n))
                return CACHED_ERR_NOMEM;
        free(o->messages);
        o->messages = bytes;
        o->n_messages = n;
        return CACHED_OK;
}

void set_options_to_message(const struct cached_set_options *o, Cached__V1__Set *ret)
{
        cached__v1__set__init(ret);
        if (!o)
                return;
        if (o->has_ttl && o->ttl_ms == CACHED_NEVER) {
                ret->ttl_case = CACHED__V1__SET__TTL_NEVER_EXPIRES;
                ret->never_expires = 1;
        } else if (o->has_ttl) {
                ret->ttl_case = CACHED__V1__SET__TTL_TTL_MS;
                ret->ttl_ms = o->ttl_ms;
        }
        if (o->has_expected_version) {
                ret->compare_case = CACHED__V1__SET__COMPARE_EXPECTED_VERSION;
                ret->expected_version = o->expected_version;
        }
        ret->mode = (Cached__V1__SetMode)o->mode;
        ret->encoding = (Cached__V1__Encoding)o->encoding;
        ret->raw_size = o->raw_size;
        ret->flags = o->flags;
        ret->cost_us = o->cost_us;
        ret->lease_id = o->lease_id;
        ret->share_only = o->share_only;
        ret->n_tags = o->n_tags;
        ret->tags = o->tags;
        ret->messages_size = o->n_messages;
        ret->negative = o->is_negative;
        ret->vary = o->is_vary;
        ret->variant_of =
                (ProtobufCBinaryData){o->n_variant_of, (uint8_t *)(uintptr_t)o->variant_of};
}

bool set_options_are_plain(const struct cached_set_options *o)
{
        return !o || (!o->is_negative && !o->is_vary && o->encoding == CACHED_ENCODING_RAW);
}

struct iovec set_options_messages(const struct cached_set_options *o)
{
        return o ? (struct iovec){o->messages, o->n_messages} : (struct iovec){NULL, 0};
}

void touch_ttl_to_message(uint64_t ttl_ms, int keep_ttl, Cached__V1__Touch *ret)
{
        if (keep_ttl)
                return;
        if (ttl_ms == CACHED_NEVER) {
                ret->ttl_case = CACHED__V1__TOUCH__TTL_NEVER_EXPIRES;
                ret->never_expires = 1;
        } else {
                ret->ttl_case = CACHED__V1__TOUCH__TTL_TTL_MS;
                ret->ttl_ms = ttl_ms;
        }
}

cached_memo_options *cached_memo_options_new(void)
{
        cached_memo_options *o = calloc(1, sizeof(*o));

        if (!o)
                return NULL;
        o->wait_ms = OPTIONS_DEFAULT_WAIT_MS;
        o->lease.wait_ms = CACHED_NEVER;
        return o;
}

void cached_memo_options_free(cached_memo_options *o)
{
        if (!o)
                return;
        free(o->version);
        free(o->cache);
        free(o);
}

int cached_memo_options_set_version(cached_memo_options *o, const char *version)
{
        return o ? text_replace(&o->version, version) : CACHED_ERR_USAGE;
}

int cached_memo_options_set_cache(cached_memo_options *o, const char *cache)
{
        return o ? text_replace(&o->cache, cache) : CACHED_ERR_USAGE;
}

int cached_memo_options_set_ttl_ms(cached_memo_options *o, uint64_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->has_ttl = true;
        o->ttl_ms = ms;
        return CACHED_OK;
}

int cached_memo_options_set_wait_ms(cached_memo_options *o, uint32_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->wait_ms = ms;
        return CACHED_OK;
}

int cached_memo_options_set_on_message(cached_memo_options *o, cached_on_message f, void *data)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->on_message = f;
        o->on_message_data = data;
        return CACHED_OK;
}

int cached_memo_options_set_lease_wait_ms(cached_memo_options *o, uint64_t ms)
{
        return o ? cached_lease_options_set_wait_ms(&o->lease, ms) : CACHED_ERR_USAGE;
}

int cached_memo_options_set_hold_ms(cached_memo_options *o, uint32_t ms)
{
        return o ? cached_lease_options_set_hold_ms(&o->lease, ms) : CACHED_ERR_USAGE;
}

int cached_memo_options_set_refresh(cached_memo_options *o, int on)
{
        return o ? cached_lease_options_set_refresh(&o->lease, on) : CACHED_ERR_USAGE;
}

int cached_memo_options_set_waiting(cached_memo_options *o, cached_waiting f, void *data,
                                    uint32_t every_ms)
{
        return o ? cached_lease_options_set_waiting(&o->lease, f, data, every_ms)
                 : CACHED_ERR_USAGE;
}
