/* SPDX-License-Identifier: MIT */
/*
 * How to get a resource
 */

#include <stdlib.h>

#include "client/resource.h"

#define POOL_SIZE_MAX 4096u

cached_resource_options *cached_resource_options_new(void)
{
        cached_resource_options *o = calloc(1, sizeof(*o));

        if (o)
                o->wait_ms = UINT32_MAX;
        return o;
}

void cached_resource_options_free(cached_resource_options *o)
{
        free(o);
}

static int set_callback(cached_resource_options *o, struct callback *to, cached_resource_fn fn,
                        void *data)
{
        if (!o)
                return CACHED_ERR_USAGE;
        *to = (struct callback){fn, data};
        return CACHED_OK;
}

int cached_resource_options_set_create(cached_resource_options *o, cached_resource_fn fn,
                                       void *data)
{
        return set_callback(o, o ? &o->create : NULL, fn, data);
}

int cached_resource_options_set_validate(cached_resource_options *o, cached_resource_fn fn,
                                         void *data)
{
        return set_callback(o, o ? &o->validate : NULL, fn, data);
}

int cached_resource_options_set_on_release(cached_resource_options *o, cached_resource_fn fn,
                                           void *data)
{
        return set_callback(o, o ? &o->on_release : NULL, fn, data);
}

int cached_resource_options_set_wait_ms(cached_resource_options *o, uint32_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->wait_ms = ms;
        return CACHED_OK;
}

int cached_resource_options_set_pool(cached_resource_options *o, uint32_t n)
{
        if (!o || n > POOL_SIZE_MAX)
                return CACHED_ERR_USAGE;
        o->pool = n;
        return CACHED_OK;
}

int cached_resource_options_set_policy(cached_resource_options *o, const cached_policy *p)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->has_policy = p != NULL;
        o->policy = p ? *p : (struct cached_policy){0};
        return CACHED_OK;
}

int cached_resource_options_set_read_only(cached_resource_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->read_only = on != 0;
        return CACHED_OK;
}

int cached_resource_options_set_no_create(cached_resource_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->no_create = on != 0;
        return CACHED_OK;
}
