/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the builder of keys
 *
 * The input is a program: each byte is a call, the bytes behind it its arguments. Two builders run
 * it. One makes the plainest calls; the other gives bytes in pieces, integers with zeros in front,
 * and works on several threads. They agree on every code and on the key, or the input is a bug. The
 * first error sticks, with its text, and leaves the result alone; after a reset the builder is as
 * new.
 */
#undef NDEBUG
#include <assert.h>
#include <cached.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"

#define CALLS_MAX 4096 /* maps within maps are worth more time than a long list */

struct program {
        const uint8_t *at;
        size_t n;
};

struct pair {
        cached_key *plain, *other;
};

static uint64_t take(struct program *p, size_t n_bytes)
{
        uint64_t value = 0;

        for (size_t i = 0; i < n_bytes; i++) {
                value = value << 8 | (p->n > 0 ? *p->at : 0);
                if (p->n > 0) {
                        p->at++;
                        p->n--;
                }
        }
        return value;
}

/* Up to 255 of the bytes that follow; a length of 255 is made one that no memory has. */
static const char *take_bytes(struct program *p, size_t *ret_n)
{
        size_t n = (size_t)take(p, 1);
        const char *bytes = (const char *)p->at;

        *ret_n = n;
        if (n == 255) {
                *ret_n = SIZE_MAX - (size_t)take(p, 1);
                return bytes;
        }
        if (n > p->n)
                n = *ret_n = p->n;
        p->at += n;
        p->n -= n;
        return bytes;
}

static int feed_pieces(cached_key *k, const char *bytes, size_t n, size_t piece)
{
        int code = CACHED_OK;

        for (size_t at = 0; at < n && code == CACHED_OK; at += piece)
                code = cached_key_feed(k, bytes + at, n - at < piece ? n - at : piece);
        return code;
}

static void run_bytes(struct program *p, struct pair *b)
{
        size_t n, piece = 1 + (size_t)take(p, 1);
        const char *bytes = take_bytes(p, &n);

        cached_key_add_bytes(b->plain, bytes, n);
        cached_key_begin_bytes(b->other);
        if (n > PTRDIFF_MAX)
                cached_key_feed(b->other, bytes, n);
        else
                feed_pieces(b->other, bytes, n, piece);
        cached_key_end(b->other);
}

static void run_array(struct program *p, struct pair *b)
{
        uint64_t dims[8];
        size_t n_dims = (size_t)take(p, 1) % 9, n, n_dtype, piece = 1 + (size_t)take(p, 1);
        const char *dtype, *bytes;

        for (size_t i = 0; i < n_dims; i++)
                dims[i] = take(p, 1) < 250 ? p->n % 4 : take(p, 8);
        dtype = take_bytes(p, &n_dtype);
        bytes = take_bytes(p, &n);
        cached_key_add_array(b->plain, dtype, n_dtype, n_dims, dims, bytes, n);
        cached_key_begin_array(b->other, dtype, n_dtype, n_dims, dims);
        if (n > PTRDIFF_MAX)
                cached_key_feed(b->other, bytes, n);
        else
                feed_pieces(b->other, bytes, n, piece);
        cached_key_end(b->other);
}

static void run_integer(struct program *p, struct pair *b)
{
        uint8_t zeros[20] = {0};
        uint64_t value = take(p, 8);
        bool is_signed = value <= INT64_MAX;
        bool negative = take(p, 1) % 2 && is_signed;

        for (size_t i = 0; i < 8; i++)
                zeros[sizeof(zeros) - 1 - i] = (uint8_t)(value >> (8 * i));
        if (is_signed)
                cached_key_add_int(b->plain, negative ? -(int64_t)value : (int64_t)value);
        else
                cached_key_add_uint(b->plain, value);
        cached_key_add_integer(b->other, negative, zeros, sizeof(zeros));
}

static void run_magnitude(struct program *p, cached_key *k, bool leading_zero)
{
        int negative = (int)take(p, 1) % 2;
        size_t n;
        const char *bytes = take_bytes(p, &n);
        uint8_t longer[256] = {0};

        if (leading_zero && n < sizeof(longer)) {
                memcpy(longer + 1, bytes, n);
                cached_key_add_integer(k, negative, longer, n + 1);
        } else {
                cached_key_add_integer(k, negative, bytes, n);
        }
}

static int signed_byte(struct program *p)
{
        return (int)(int8_t)take(p, 1);
}

static void run_point(struct program *p, unsigned call, cached_key *k)
{
        int32_t year = (int32_t)take(p, 4), ns = (int32_t)take(p, 4), offset = (int32_t)take(p, 3);
        int month = signed_byte(p), day = signed_byte(p);
        int h = signed_byte(p), m = signed_byte(p), s = signed_byte(p);
        size_t n;
        const char *zone = take_bytes(p, &n);

        switch (call % 6) {
        case 0:
                cached_key_add_date(k, year, month, day);
                break;
        case 1:
                cached_key_add_time(k, h, m, s, ns);
                break;
        case 2:
                cached_key_add_time_zone(k, h, m, s, ns, offset, zone, n);
                break;
        case 3:
                cached_key_add_datetime(k, year, month, day, h, m, s, ns);
                break;
        case 4:
                cached_key_add_datetime_zone(k, year, month, day, h, m, s, ns, offset, zone, n);
                break;
        default:
                cached_key_add_duration(k, year, ns);
                break;
        }
}

/* The calls that both builders make alike. */
static void run_same(struct program *p, unsigned call, cached_key *k)
{
        uint8_t uuid[16];
        uint64_t bits;
        double value;
        size_t n;
        const char *bytes;

        switch (call) {
        case 'n':
                cached_key_add_null(k);
                break;
        case 't':
                cached_key_add_bool(k, (int)take(p, 1));
                break;
        case 'd':
                bits = take(p, 8);
                memcpy(&value, &bits, sizeof(value));
                cached_key_add_double(k, value);
                break;
        case 's':
                bytes = take_bytes(p, &n);
                cached_key_add_text(k, bytes, n);
                break;
        case 'D':
                bytes = take_bytes(p, &n);
                cached_key_add_decimal(k, bytes, n);
                break;
        case 'u':
                for (size_t i = 0; i < sizeof(uuid); i++)
                        uuid[i] = (uint8_t)take(p, 1);
                cached_key_add_uuid(k, uuid);
                break;
        case '[':
                cached_key_begin_list(k);
                break;
        case '(':
                cached_key_begin_tuple(k);
                break;
        case '{':
                cached_key_begin_map(k);
                break;
        case '<':
                cached_key_begin_set(k);
                break;
        case 'N':
                bytes = take_bytes(p, &n);
                cached_key_begin_named(k, bytes, n);
                break;
        case 'b':
                cached_key_begin_bytes(k);
                break;
        case 'f':
                bytes = take_bytes(p, &n);
                cached_key_feed(k, bytes, n);
                break;
        case ']':
                cached_key_end(k);
                break;
        default:
                run_point(p, call, k);
                break;
        }
}

static void run_call(struct program *p, struct pair *b)
{
        unsigned call = (unsigned)take(p, 1);
        struct program again = *p;

        switch (call) {
        case 'B':
                run_bytes(p, b);
                break;
        case 'A':
                run_array(p, b);
                break;
        case 'i':
                run_integer(p, b);
                break;
        case 'I':
                run_magnitude(p, b->plain, false);
                run_magnitude(&again, b->other, true);
                break;
        default:
                run_same(p, call, b->plain);
                run_same(&again, call, b->other);
                break;
        }
}

/* The key, or 0s and the error sticks. */
static int finish(cached_key *k, uint8_t ret[CACHED_KEY_SIZE])
{
        char text[512];
        int code;

        memset(ret, 0, CACHED_KEY_SIZE);
        code = cached_key_finish(k, ret);
        if (code == CACHED_OK) {
                assert(*cached_key_error(k) == '\0');
                return code;
        }
        for (size_t i = 0; i < CACHED_KEY_SIZE; i++)
                assert(ret[i] == 0);
        assert(strlen(cached_key_error(k)) > 10 && strlen(cached_key_error(k)) < 255);
        memcpy(text, cached_key_error(k), strlen(cached_key_error(k)) + 1);
        assert(cached_key_add_null(k) == code && cached_key_begin_list(k) == code &&
               cached_key_end(k) == code && cached_key_feed(k, "", 0) == code);
        assert(strcmp(text, cached_key_error(k)) == 0);
        return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct pair b = {cached_key_new(), cached_key_new()};
        uint8_t first[CACHED_KEY_SIZE], second[CACHED_KEY_SIZE];
        struct program p = {data, n};
        int code;

        assert(b.plain && b.other);
        cached_key_set_threads(b.other, 3);
        for (int calls = 0; p.n > 0 && calls < CALLS_MAX; calls++)
                run_call(&p, &b);
        code = finish(b.plain, first);
        assert(finish(b.other, second) == code);
        assert(memcmp(first, second, sizeof(first)) == 0);
        /* Nothing is left of all that. */
        cached_key_reset(b.other);
        cached_key_add_null(b.other);
        assert(cached_key_finish(b.other, second) == CACHED_OK);
        cached_key_free(b.plain);
        b.plain = cached_key_new();
        assert(b.plain);
        cached_key_add_null(b.plain);
        assert(cached_key_finish(b.plain, first) == CACHED_OK);
        assert(memcmp(first, second, sizeof(first)) == 0);
        cached_key_free(b.plain);
        cached_key_free(b.other);
        return 0;
}
