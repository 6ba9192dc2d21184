/* SPDX-License-Identifier: MIT */
/*
 * Arrays as items of a key
 *
 * Type and extents, then the data as bytes. What a dtype's name means is up to those who use it;
 * only that the data has the same whole number of bytes for each element is checked, so that data
 * and extents that belong to different arrays do not make a key.
 */
#include "client/key.h"

/* The product of the extents. */
static int count_elements(struct cached_key *k, size_t n_dims, const uint64_t *dims, uint64_t *ret)
{
        uint64_t n = 1;
        bool overflow = false;

        if (n_dims > CACHED_KEY_DIMS_MAX)
                return key_fail(k, CACHED_ERR_USAGE, "an array of %zu dimensions: %d are the most",
                                n_dims, CACHED_KEY_DIMS_MAX);
        if (key_check_bytes(k, "the extents", dims, n_dims * sizeof(*dims)) != CACHED_OK)
                return CACHED_ERR_USAGE;
        for (size_t i = 0; i < n_dims; i++)
                overflow |= __builtin_mul_overflow(n, dims[i], &n);
        /* An extent of 0 makes it empty, whatever the others are. */
        for (size_t i = 0; i < n_dims; i++)
                if (dims[i] == 0) {
                        *ret = 0;
                        return CACHED_OK;
                }
        if (overflow)
                return key_fail(k, CACHED_ERR_USAGE,
                                "the array has more than 2^64 elements: pass extents, not strides");
        *ret = n;
        return CACHED_OK;
}

int cached_key_begin_array(cached_key *k, const char *dtype, size_t n_dtype, size_t n_dims,
                           const uint64_t *dims)
{
        struct key_hash *out = NULL;
        uint64_t n_elements = 0;
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_text(k, "the array's dtype", dtype, n_dtype, 1, CACHED_KEY_NAME_MAX);
        if (e == CACHED_OK)
                e = count_elements(k, n_dims, dims, &n_elements);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_ARRAY, &out);
        if (e != CACHED_OK)
                return e;
        key_write_bytes(k, out, dtype, n_dtype);
        key_bytes_u64(out, n_dims);
        for (size_t i = 0; i < n_dims; i++)
                key_bytes_u64(out, dims[i]);
        return key_buffer_begin(k, out, n_elements);
}

int cached_key_add_array(cached_key *k, const char *dtype, size_t n_dtype, size_t n_dims,
                         const uint64_t *dims, const void *data, size_t n)
{
        int e = cached_key_begin_array(k, dtype, n_dtype, n_dims, dims);

        if (e == CACHED_OK)
                e = cached_key_feed(k, data, n);
        return e == CACHED_OK ? cached_key_end(k) : e;
}
