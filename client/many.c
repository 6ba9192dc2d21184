/* SPDX-License-Identifier: MIT */
/*
 * Messages about many entries, for calls and for pipelines
 *
 * protobuf-c wants arrays of structs and arrays of pointers to them. All arrays of a message are
 * one allocation. Nothing of the caller's is copied: keys and values are borrowed until _done().
 */

#include "client/many.h"

#include <stdbool.h>
#include <stdlib.h>

#include "client/options.h"

static bool are_bytes(size_t n, const void *const *data, const size_t *n_data)
{
        if (n > 0 && (!data || !n_data))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!data[i] && n_data[i] > 0)
                        return false;
        return true;
}

static ProtobufCBinaryData bytes_of(const void *data, size_t n)
{
        /* protobuf-c packs what it is pointed at and does not write to it. */
        return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
}

int get_many_init(struct get_many *g, size_t n, const void *const *keys, const size_t *n_keys,
                  struct failure *f)
{
        ProtobufCBinaryData *at;

        if (!are_bytes(n, keys, n_keys))
                return failure_set(f, CACHED_ERR_USAGE,
                                   "to get many entries takes a key for each of them");
        at = calloc(n ? n : 1, sizeof(*at));
        if (!at)
                return failure_nomem(f);
        for (size_t i = 0; i < n; i++)
                at[i] = bytes_of(keys[i], n_keys[i]);
        cached__v1__get_many__init(&g->m);
        g->m.n_keys = n;
        g->m.keys = at;
        return CACHED_OK;
}

void get_many_done(struct get_many *g)
{
        free(g->m.keys);
}

/* The four arrays of a SetMany. */
static bool set_many_allocate(struct set_many *s, size_t n, Cached__V1__Set **ret_sets)
{
        Cached__V1__Set *set;
        size_t each = sizeof(*set) + sizeof(*s->m.sets) + sizeof(*s->m.sizes) + sizeof(*s->body);

        set = s->memory = calloc(n ? n : 1, each);
        if (!set)
                return false;
        s->m.sets = (void *)(set + n);
        s->m.sizes = (void *)(s->m.sets + n);
        s->body = (void *)(s->m.sizes + n);
        *ret_sets = set;
        return true;
}

int set_many_init(struct set_many *s, size_t n, const void *const *keys, const size_t *n_keys,
                  const void *const *values, const size_t *n_values, const cached_set_options *o,
                  struct failure *f)
{
        Cached__V1__Set *set;

        if (!are_bytes(n, keys, n_keys) || !are_bytes(n, values, n_values))
                return failure_set(f, CACHED_ERR_USAGE,
                                   "to set many entries takes a key and a value for each of them");
        *s = (struct set_many){.m = CACHED__V1__SET_MANY__INIT};
        if (!set_many_allocate(s, n, &set))
                return failure_nomem(f);
        s->m.n_sets = s->m.n_sizes = n;
        for (size_t i = 0; i < n; i++) {
                set_options_to_message(o, &set[i]);
                set[i].key = bytes_of(keys[i], n_keys[i]);
                s->m.sets[i] = &set[i];
                s->m.sizes[i] = n_values[i];
                if (n_values[i] > 0)
                        s->body[s->n_body_iov++] =
                                (struct iovec){(void *)(uintptr_t)values[i], n_values[i]};
                /* A sum that saturates is refused for its size. */
                if (__builtin_add_overflow(s->n_body, (uint64_t)n_values[i], &s->n_body))
                        s->n_body = UINT64_MAX;
        }
        return CACHED_OK;
}

void set_many_done(struct set_many *s)
{
        free(s->memory);
}
