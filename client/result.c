/* SPDX-License-Identifier: MIT */
/*
 * Results of memoized functions
 *
 * One object for both ends: the function writes its value into it, and the caller reads it there.
 * The value is memory that nobody else has: a copy, what the function gave away, or the body of a
 * reply. It knows nothing of how it comes about.
 */

#include "client/result.h"

#include <stdlib.h>
#include <string.h>

struct cached_result *result_new(void)
{
        struct cached_result *r = malloc(sizeof(*r));

        if (!r)
                return NULL;
        memset(r, 0, offsetof(struct cached_result, why));
        r->why.code = CACHED_OK;
        r->why.text[0] = '\0';
        return r;
}

static void result_drop_value(struct cached_result *r)
{
        free(r->heap);
        cached_reply_free(r->reply);
        r->heap = NULL;
        r->reply = NULL;
        r->n = 0;
}

void result_fail(struct cached_result *r)
{
        result_drop_value(r);
        r->has_value = r->is_hit = false;
}

void result_reset(struct cached_result *r)
{
        result_drop_value(r);
        r->has_value = r->is_hit = r->is_stale = false;
        r->is_declined = r->is_negative = r->has_reason = false;
        r->why.text[0] = '\0';
}

void result_take_reply(struct cached_result *r, cached_reply *reply)
{
        result_drop_value(r);
        r->reply = reply;
        (void)cached_reply_value(reply, &r->n);
        r->has_value = r->is_hit = true;
}

int cached_result_take(cached_result *out, void *value, size_t n)
{
        if (!out || (!value && n > 0)) {
                free(value);
                return CACHED_ERR_USAGE;
        }
        result_drop_value(out);
        out->heap = value;
        out->n = n;
        out->has_value = true;
        out->is_negative = false;
        return CACHED_OK;
}

int cached_result_set(cached_result *out, const void *value, size_t n)
{
        void *copy = NULL;

        if (!out || (!value && n > 0))
                return CACHED_ERR_USAGE;
        if (n > 0) {
                copy = malloc(n);
                if (!copy)
                        return CACHED_ERR_NOMEM;
                memcpy(copy, value, n);
        }
        return cached_result_take(out, copy, n);
}

int cached_result_decline(cached_result *out)
{
        if (!out)
                return CACHED_ERR_USAGE;
        out->is_declined = true;
        return CACHED_OK;
}

int cached_result_set_negative(cached_result *out, const char *reason, uint64_t ttl_ms)
{
        if (!out || !reason)
                return CACHED_ERR_USAGE;
        result_drop_value(out);
        out->is_negative = out->has_reason = true;
        out->negative_ttl_ms = ttl_ms;
        (void)failure_set(&out->why, CACHED_NEGATIVE, "%s", reason);
        return CACHED_OK;
}

int cached_result_set_reason(cached_result *out, const char *reason)
{
        if (!out || !reason)
                return CACHED_ERR_USAGE;
        out->has_reason = true;
        (void)failure_set(&out->why, CACHED_ERR_CALLER, "%s", reason);
        return CACHED_OK;
}

void *cached_result_value(cached_result *r, size_t *ret_size)
{
        if (!r || !r->has_value)
                return NULL;
        if (ret_size)
                *ret_size = r->n;
        /* A reply's body is its own memory. */
        if (r->reply)
                return (void *)(uintptr_t)cached_reply_value(r->reply, NULL);
        return r->heap ? r->heap : (void *)&r->heap;
}

int cached_result_is_hit(const cached_result *r)
{
        return r && r->is_hit;
}

int cached_result_is_stale(const cached_result *r)
{
        return r && r->is_stale;
}

uint64_t cached_result_waited_ms(const cached_result *r)
{
        return r ? r->waited_ms : 0;
}

uint32_t cached_result_holder_pid(const cached_result *r)
{
        return r ? r->holder_pid : 0;
}

int cached_result_cache_code(const cached_result *r)
{
        return r ? r->cache_code : CACHED_ERR_NOMEM;
}

const char *cached_result_error(const cached_result *r)
{
        return r ? r->why.text : cached_strerror(CACHED_ERR_NOMEM);
}

void cached_result_free(cached_result *r)
{
        if (!r)
                return;
        result_drop_value(r);
        free(r);
}
