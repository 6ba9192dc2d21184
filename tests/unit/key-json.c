/* SPDX-License-Identifier: MIT */
/*
 * Items from JSON to the builder of keys
 *
 * The notation is the tests' own, so what is wrong in it is a bug of theirs and aborts. What the
 * builder refuses is left to stick in it.
 */
#undef NDEBUG
#include "key-json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t draw(struct key_json *j)
{
        j->random ^= j->random << 13;
        j->random ^= j->random >> 7;
        j->random ^= j->random << 17;
        return j->random;
}

static bool perhaps(struct key_json *j)
{
        return j->random != 0 && draw(j) % 2;
}

static _Noreturn void bad(const json_t *item)
{
        char *text = json_dumps(item, 0);

        fprintf(stderr, "not the notation of key-vectors.json: %.200s\n", text ? text : "?");
        abort();
}

static int64_t integer_at(const json_t *item, size_t i)
{
        const json_t *v = json_array_get(item, i);

        if (!json_is_integer(v))
                bad(item);
        return json_integer_value(v);
}

static const char *text_at(const json_t *item, size_t i, size_t *ret_n)
{
        const json_t *v = json_array_get(item, i);

        if (!json_is_string(v))
                bad(item);
        *ret_n = json_string_length(v);
        return json_string_value(v);
}

static const json_t *array_at(const json_t *item, size_t i)
{
        const json_t *v = json_array_get(item, i);

        if (!json_is_array(v))
                bad(item);
        return v;
}

/* Memory that fits exactly, so that a sanitizer sees each byte read beyond it. */
static uint8_t *exact(size_t n)
{
        uint8_t *bytes = malloc(n ? n : 1);

        assert(bytes);
        return bytes;
}

static uint8_t *hex_at(const json_t *item, size_t i, size_t *ret_n)
{
        size_t n;
        const char *hex = text_at(item, i, &n);
        uint8_t *bytes = exact(n / 2);

        for (size_t at = 0; at < n / 2; at++) {
                unsigned value;

                if (sscanf(hex + 2 * at, "%2x", &value) != 1)
                        bad(item);
                bytes[at] = (uint8_t)value;
        }
        *ret_n = n / 2;
        return bytes;
}

void key_json_by_rule(uint8_t *bytes, size_t n)
{
        for (size_t i = 0; i < n; i++)
                bytes[i] = (uint8_t)(i % 251);
}

static uint8_t *rule_at(const json_t *item, size_t i, size_t *ret_n)
{
        size_t n = (size_t)integer_at(item, i);
        uint8_t *bytes = exact(n);

        key_json_by_rule(bytes, n);
        *ret_n = n;
        return bytes;
}

/* ---- integers: from decimal digits to a magnitude */

/* Multiplies by 10 and adds, big-endian, in place. */
static void times_ten(uint8_t *bytes, size_t n, unsigned add)
{
        while (n-- > 0) {
                add += bytes[n] * 10u;
                bytes[n] = (uint8_t)add;
                add >>= 8;
        }
        assert(add == 0);
}

static void add_integer(struct key_json *j, cached_key *k, const json_t *item)
{
        size_t n_text, zeros = j->random ? draw(j) % 4 : 0;
        const char *text = text_at(item, 1, &n_text);
        bool negative = *text == '-';
        size_t n = n_text / 2 + 1 + zeros; /* 2.41 digits a byte */
        uint8_t *magnitude = exact(n);
        uint64_t value = 0;

        memset(magnitude, 0, n);
        for (const char *c = text + negative; *c; c++)
                times_ten(magnitude, n, (unsigned)(*c - '0'));
        for (size_t i = 0; i < n; i++)
                value = value << 8 | magnitude[i];
        if (n_text > 18 || perhaps(j))
                cached_key_add_integer(k, negative, magnitude, n);
        else if (negative || perhaps(j))
                cached_key_add_int(k, negative ? -(int64_t)value : (int64_t)value);
        else
                cached_key_add_uint(k, value);
        free(magnitude);
}

/* ---- the other plain values */

static void add_double(cached_key *k, const json_t *item)
{
        size_t n;
        uint8_t *bytes = hex_at(item, 1, &n);
        uint64_t bits = 0;
        double value;

        for (size_t i = 0; i < n; i++)
                bits = bits << 8 | bytes[i];
        memcpy(&value, &bits, sizeof(value));
        cached_key_add_double(k, value);
        free(bytes);
}

static void feed_pieces(struct key_json *j, cached_key *k, const uint8_t *bytes, size_t n)
{
        while (n > 0) {
                size_t most = (size_t)1 << (draw(j) % 23), piece = draw(j) % most;

                if (piece > n)
                        piece = n;
                cached_key_feed(k, bytes, piece);
                bytes += piece;
                n -= piece;
        }
        cached_key_end(k);
}

static void add_bytes(struct key_json *j, cached_key *k, const uint8_t *bytes, size_t n)
{
        if (!perhaps(j)) {
                cached_key_add_bytes(k, bytes, n);
                return;
        }
        cached_key_begin_bytes(k);
        feed_pieces(j, k, bytes, n);
}

static void add_array(struct key_json *j, cached_key *k, const json_t *item, const uint8_t *bytes,
                      size_t n)
{
        size_t n_dtype;
        const char *dtype = text_at(item, 1, &n_dtype);
        const json_t *list = array_at(item, 2);
        size_t n_dims = json_array_size(list);
        uint64_t *dims = calloc(n_dims + 1, sizeof(*dims));

        assert(dims);
        for (size_t i = 0; i < n_dims; i++)
                dims[i] = (uint64_t)integer_at(list, i);
        if (!perhaps(j)) {
                cached_key_add_array(k, dtype, n_dtype, n_dims, dims, bytes, n);
        } else {
                cached_key_begin_array(k, dtype, n_dtype, n_dims, n_dims ? dims : NULL);
                feed_pieces(j, k, bytes, n);
        }
        free(dims);
}

static void add_text_repeat(cached_key *k, const json_t *item)
{
        size_t n, times = (size_t)integer_at(item, 2);
        const char *text = text_at(item, 1, &n);
        uint8_t *all = exact(n * times);

        for (size_t i = 0; i < times; i++)
                memcpy(all + i * n, text, n);
        cached_key_add_text(k, (const char *)all, n * times);
        free(all);
}

/* What has bytes that are freed afterwards. False: it is something else. */
static bool add_buffer(struct key_json *j, cached_key *k, const char *kind, const json_t *item)
{
        bool rule = strstr(kind, "-rule") != NULL;
        size_t n;
        uint8_t *bytes;

        if (!strncmp(kind, "array", 5)) {
                bytes = (rule ? rule_at : hex_at)(item, 3, &n);
                add_array(j, k, item, bytes, n);
        } else if (!strncmp(kind, "bytes", 5)) {
                bytes = (rule ? rule_at : hex_at)(item, 1, &n);
                add_bytes(j, k, bytes, n);
        } else if (!strcmp(kind, "text-hex")) {
                bytes = hex_at(item, 1, &n);
                cached_key_add_text(k, (const char *)bytes, n);
        } else if (!strcmp(kind, "uuid")) {
                bytes = hex_at(item, 1, &n);
                cached_key_add_uuid(k, bytes);
        } else {
                return false;
        }
        free(bytes);
        return true;
}

/* False: it is something else. */
static bool add_point(cached_key *k, const char *kind, const json_t *item)
{
        int64_t f[7] = {0};
        size_t n = json_array_size(item) - 1, n_zone = 0;
        const char *zone = NULL;

        if (strncmp(kind, "date", 4) != 0 && strncmp(kind, "time", 4) != 0)
                return false;
        if (strstr(kind, "-zone")) {
                zone = text_at(item, n, &n_zone);
                n -= 2;
        }
        for (size_t i = 0; i < n && i < 7; i++)
                f[i] = integer_at(item, i + 1);
        if (!strcmp(kind, "date"))
                cached_key_add_date(k, (int32_t)f[0], (int)f[1], (int)f[2]);
        else if (!strcmp(kind, "time"))
                cached_key_add_time(k, (int)f[0], (int)f[1], (int)f[2], (int32_t)f[3]);
        else if (!strcmp(kind, "time-zone"))
                cached_key_add_time_zone(k, (int)f[0], (int)f[1], (int)f[2], (int32_t)f[3],
                                         (int32_t)integer_at(item, 5), zone, n_zone);
        else if (!strcmp(kind, "datetime"))
                cached_key_add_datetime(k, (int32_t)f[0], (int)f[1], (int)f[2], (int)f[3],
                                        (int)f[4], (int)f[5], (int32_t)f[6]);
        else
                cached_key_add_datetime_zone(k, (int32_t)f[0], (int)f[1], (int)f[2], (int)f[3],
                                             (int)f[4], (int)f[5], (int32_t)f[6],
                                             (int32_t)integer_at(item, 8), zone, n_zone);
        return true;
}

static bool add_plain(struct key_json *j, cached_key *k, const char *kind, const json_t *item)
{
        size_t n;
        const char *text;

        if (!strcmp(kind, "null")) {
                cached_key_add_null(k);
        } else if (!strcmp(kind, "bool")) {
                cached_key_add_bool(k, json_is_true(json_array_get(item, 1)));
        } else if (!strcmp(kind, "int")) {
                add_integer(j, k, item);
        } else if (!strcmp(kind, "double")) {
                add_double(k, item);
        } else if (!strcmp(kind, "text")) {
                text = text_at(item, 1, &n);
                cached_key_add_text(k, text, n);
        } else if (!strcmp(kind, "text-repeat")) {
                add_text_repeat(k, item);
        } else if (!strcmp(kind, "decimal")) {
                text = text_at(item, 1, &n);
                cached_key_add_decimal(k, text, n);
        } else if (!strcmp(kind, "duration")) {
                text = text_at(item, 1, &n);
                cached_key_add_duration(k, strtoll(text, NULL, 10), (int32_t)integer_at(item, 2));
        } else {
                return add_buffer(j, k, kind, item) || add_point(k, kind, item);
        }
        return true;
}

/* ---- what holds other items */

static void add_item(struct key_json *j, cached_key *k, const json_t *item);

/* All members, from a random one on and then from the first. */
static void add_members(struct key_json *j, cached_key *k, const json_t *members, bool pairs)
{
        size_t n = json_array_size(members), first = j->random && n ? draw(j) % n : 0;

        for (size_t i = 0; i < n; i++) {
                const json_t *m = json_array_get(members, (first + i) % n);

                if (pairs)
                        key_json_add_items(j, k, m);
                else
                        add_item(j, k, m);
        }
}

static void add_item(struct key_json *j, cached_key *k, const json_t *item)
{
        size_t n;
        const char *kind = text_at(item, 0, &n), *name;

        if (add_plain(j, k, kind, item))
                return;
        if (!strcmp(kind, "map")) {
                cached_key_begin_map(k);
                add_members(j, k, array_at(item, 1), true);
        } else if (!strcmp(kind, "set")) {
                cached_key_begin_set(k);
                add_members(j, k, array_at(item, 1), false);
        } else if (!strcmp(kind, "list")) {
                cached_key_begin_list(k);
                key_json_add_items(j, k, array_at(item, 1));
        } else if (!strcmp(kind, "tuple")) {
                cached_key_begin_tuple(k);
                key_json_add_items(j, k, array_at(item, 1));
        } else if (!strcmp(kind, "named")) {
                name = text_at(item, 1, &n);
                cached_key_begin_named(k, name, n);
                key_json_add_items(j, k, array_at(item, 2));
        } else {
                bad(item);
        }
        cached_key_end(k);
}

void key_json_add_items(struct key_json *j, cached_key *k, const json_t *items)
{
        if (!json_is_array(items))
                bad(items);
        for (size_t i = 0; i < json_array_size(items); i++)
                add_item(j, k, json_array_get(items, i));
}
