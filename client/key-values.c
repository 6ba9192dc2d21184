/* SPDX-License-Identifier: MIT */
/*
 * Plain values as items of a key
 *
 * One function a type. Numbers that are equal and of one type have one encoding, however they were
 * passed; numbers of different types have different ones, since a function can tell 1 from 1.0.
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "client/key.h"

#define UUID_SIZE 16

static_assert(sizeof(double) == 8 && DBL_MANT_DIG == 53, "binary64 of IEEE 754");

/* An item that is its tag alone. */
static int add_tag(struct cached_key *k, enum key_tag tag)
{
        struct key_hash *out = NULL;
        int e = key_item_start(k, tag, &out);

        return e == CACHED_OK ? key_item_end(k) : e;
}

int cached_key_add_null(cached_key *k)
{
        return add_tag(k, KEY_TAG_NULL);
}

int cached_key_add_bool(cached_key *k, int value)
{
        return add_tag(k, value ? KEY_TAG_TRUE : KEY_TAG_FALSE);
}

/* Sign, length, and the magnitude without zero bytes in front. */
static int add_magnitude(struct cached_key *k, bool negative, const uint8_t *magnitude, size_t n)
{
        struct key_hash *out = NULL;
        int e;

        while (n > 0 && *magnitude == 0) {
                magnitude++;
                n--;
        }
        e = key_item_begin(k, KEY_TAG_INTEGER, &out);
        if (e != CACHED_OK)
                return e;
        key_bytes_u8(out, negative && n > 0);
        key_bytes_u64(out, n);
        key_hash_add(out, magnitude, n);
        return key_item_end(k);
}

static int add_u64(struct cached_key *k, bool negative, uint64_t magnitude)
{
        uint8_t bytes[8];
        int e = key_check_ready(k);

        if (e != CACHED_OK)
                return e;
        for (int i = 0; i < 8; i++)
                bytes[i] = (uint8_t)(magnitude >> (56 - 8 * i));
        return add_magnitude(k, negative, bytes, sizeof(bytes));
}

int cached_key_add_int(cached_key *k, int64_t value)
{
        return add_u64(k, value < 0, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

int cached_key_add_uint(cached_key *k, uint64_t value)
{
        return add_u64(k, false, value);
}

int cached_key_add_integer(cached_key *k, int negative, const void *magnitude, size_t n)
{
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_bytes(k, "an integer", magnitude, n);
        if (e == CACHED_OK && n > CACHED_KEY_DIGITS_MAX)
                e = key_fail(
                        k, CACHED_ERR_USAGE,
                        "an integer of %zu bytes is too long, %d are the most: add it as bytes", n,
                        CACHED_KEY_DIGITS_MAX);
        return e == CACHED_OK ? add_magnitude(k, negative != 0, magnitude, n) : e;
}

int cached_key_add_double(cached_key *k, double value)
{
        struct key_hash *out = NULL;
        uint64_t bits;
        int e = key_item_start(k, KEY_TAG_DOUBLE, &out);

        if (e != CACHED_OK)
                return e;
        memcpy(&bits, &value, sizeof(bits));
        if (isnan(value))
                bits = UINT64_C(0x7ff8000000000000);
        key_bytes_u64(out, bits);
        return key_item_end(k);
}

int cached_key_add_text(cached_key *k, const char *text, size_t n)
{
        struct key_hash *out = NULL;
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_text(k, "text", text, n, 0, SIZE_MAX);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_TEXT, &out);
        if (e != CACHED_OK)
                return e;
        key_write_bytes(k, out, text, n);
        return key_item_end(k);
}

int cached_key_add_uuid(cached_key *k, const void *uuid)
{
        struct key_hash *out = NULL;
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_bytes(k, "a UUID", uuid, UUID_SIZE);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_UUID, &out);
        if (e != CACHED_OK)
                return e;
        key_hash_add(out, uuid, UUID_SIZE);
        return key_item_end(k);
}
