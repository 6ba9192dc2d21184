/* SPDX-License-Identifier: MIT */
/*
 * Messages about many entries, for calls and for pipelines
 *
 * protobuf-c wants arrays of structs and arrays of pointers to them. All arrays of a message are
 * one allocation. Nothing of the caller's is copied: keys and values are borrowed until _done(),
 * but for values that are packed.
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

/* The five arrays of a SetMany. */
static bool set_many_allocate(struct set_many *s, size_t n, Cached__V1__Set **ret_sets)
{
        Cached__V1__Set *set;
        size_t each = sizeof(*set) + sizeof(*s->m.sets) + sizeof(*s->m.sizes) +
                      2 * sizeof(*s->body) + sizeof(*s->packed);

        set = s->memory = calloc(n ? n : 1, each);
        if (!set)
                return false;
        s->m.sets = (void *)(set + n);
        s->m.sizes = (void *)(s->m.sets + n);
        s->body = (void *)(s->m.sizes + n);
        s->packed = (void *)(s->body + 2 * n);
        *ret_sets = set;
        return true;
}

/* One value, packed if that is worth it. */
static void set_many_value(struct set_many *s, struct packing which, Cached__V1__Set *set,
                           const void *value, size_t n, struct iovec behind, uint64_t *ret_size)
{
        struct packed *p = &s->packed[s->n_packed];

        if (packed_init(p, which, value, n)) {
                set->encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
                set->raw_size = n;
                value = p->bytes;
                n = p->n;
                s->n_packed++;
        }
        if (n > 0)
                s->body[s->n_body_iov++] = (struct iovec){(void *)(uintptr_t)value, n};
        if (behind.iov_len > 0)
                s->body[s->n_body_iov++] = behind;
        if (__builtin_add_overflow(n, behind.iov_len, &n))
                n = SIZE_MAX;
        *ret_size = n;
        /* A sum that saturates is refused for its size. */
        if (__builtin_add_overflow(s->n_body, (uint64_t)n, &s->n_body))
                s->n_body = UINT64_MAX;
}

int set_many_init(struct set_many *s, size_t n, const void *const *keys, const size_t *n_keys,
                  const void *const *values, const size_t *n_values, const cached_set_options *o,
                  struct packing which, struct failure *f)
{
        struct iovec behind = set_options_messages(o);
        Cached__V1__Set *set;

        if (!set_options_are_plain(o))
                which.min = 0;
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
                set_many_value(s, which, &set[i], values[i], n_values[i], behind, &s->m.sizes[i]);
        }
        return CACHED_OK;
}

void set_many_done(struct set_many *s)
{
        for (size_t i = 0; i < s->n_packed; i++)
                packed_done(&s->packed[i]);
        free(s->memory);
}
