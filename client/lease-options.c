/* SPDX-License-Identifier: MIT */
/*
 * Option objects of leases: as those in options.c
 */

#include <stdlib.h>

#include "client/lease-options.h"

cached_lease_options *cached_lease_options_new(void)
{
        cached_lease_options *o = calloc(1, sizeof(*o));

        if (o)
                o->wait_ms = CACHED_NEVER;
        return o;
}

void cached_lease_options_free(cached_lease_options *o)
{
        free(o);
}

int cached_lease_options_set_wait_ms(cached_lease_options *o, uint64_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->wait_ms = ms;
        return CACHED_OK;
}

int cached_lease_options_set_hold_ms(cached_lease_options *o, uint32_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->hold_ms = ms;
        return CACHED_OK;
}

int cached_lease_options_set_refresh(cached_lease_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->refresh = on != 0;
        return CACHED_OK;
}

int cached_lease_options_set_want_failure(cached_lease_options *o, int on)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->want_failure = on != 0;
        return CACHED_OK;
}

int cached_lease_options_set_waiting(cached_lease_options *o, cached_waiting f, void *data,
                                     uint32_t every_ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->waiting = f;
        o->data = data;
        o->every_ms = every_ms;
        return CACHED_OK;
}

int cached_lease_options_set_outer(cached_lease_options *o, const cached_lease *outer)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->outer = outer;
        return CACHED_OK;
}
