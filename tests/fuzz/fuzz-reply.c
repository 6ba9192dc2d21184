/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the client's own reader of the most frequent replies
 *
 * What it accepts, protobuf-c accepts too, and both understand the same.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/codec.h"
#include "fuzz.h"

static uint8_t *pack(const Cached__V1__Reply *r, size_t *ret_n)
{
        uint8_t *bytes;

        *ret_n = cached__v1__reply__get_packed_size(r);
        bytes = malloc(*ret_n + 1);
        assert(bytes);
        cached__v1__reply__pack(r, bytes);
        return bytes;
}

static void compare(const uint8_t *data, size_t n, const Cached__V1__Reply *ours)
{
        Cached__V1__Reply *theirs;
        uint8_t *a, *b;
        size_t n_a, n_b;

        theirs = cached__v1__reply__unpack(NULL, n, data);
        assert(theirs);
        assert(theirs->base.n_unknown_fields == 0);
        a = pack(ours, &n_a);
        b = pack(theirs, &n_b);
        assert(n_a == n_b && memcmp(a, b, n_a) == 0);
        free(a);
        free(b);
        cached__v1__reply__free_unpacked(theirs, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        Cached__V1__GetManyResult many = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__EntryInfo entry;
        Cached__V1__Reply ours;
        struct codec_items found;
        struct codec_item *items;

        if (codec_unpack(data, n, &ours, &entry))
                compare(data, n, &ours);
        if (!codec_find_items(data, n, &ours, &found))
                return 0;
        assert(found.n <= n / 2);
        items = malloc(found.n * (sizeof(*items) + sizeof(*many.items)) + 1);
        assert(items);
        many.n_items = found.n;
        many.items = (void *)(items + found.n);
        ours.get_many = &many;
        if (codec_unpack_items(&found, items, many.items))
                compare(data, n, &ours);
        free(items);
        return 0;
}
