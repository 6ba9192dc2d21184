/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what cachectl parses and unpacks
 *
 * The first byte chooses the parser. Text is either refused with a reason, and then the result is
 * untouched, or what it stands for can be shown and, for keys, read back as the same bytes. An LZ4
 * block unpacks to exactly the size that was asked for, or not at all.
 */

#include <assert.h>
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "key.h"
#include "session-number.h"
#include "session-token.h"
#include "units.h"
#include "utf8.h"
#include "value.h"

#define TEXT_MAX 300

static void check_key(const char *text)
{
        struct key key = {.n = 0}, again = {.n = 0};
        char shown[KEY_FORMAT_SIZE];

        if (key_parse(text, &key)) {
                assert(key.n == 0);
                return;
        }
        assert(key.n >= 1 && key.n <= KEY_MAX);
        key_format(shown, key.bytes, key.n);
        assert(strlen(shown) < KEY_FORMAT_SIZE && utf8_is_printable(shown, strlen(shown)));
        assert(!key_parse(shown, &again));
        assert(again.n == key.n && memcmp(again.bytes, key.bytes, key.n) == 0);
}

static void check_units(const char *text)
{
        static const struct {
                const char *(*parse)(const char *text, uint64_t *ret);
                const char *(*format)(char buf[UNITS_BUFFER_SIZE], uint64_t n);
        } rows[] = {
                {units_parse_duration_us, units_format_us},
                {units_parse_duration_ms, units_format_ms},
                {units_parse_size, units_format_bytes},
                {units_parse_count, units_format_count},
        };
        char buf[UNITS_BUFFER_SIZE];

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                uint64_t n = 12345;

                if (rows[i].parse(text, &n))
                        assert(n == 12345);
                else
                        assert(*rows[i].format(buf, n));
        }
}

static void check_block(const uint8_t *data, size_t n)
{
        struct value v = {NULL, 0};
        uint64_t raw_size = 0;

        if (n < 3)
                return;
        for (int i = 0; i < 3; i++)
                raw_size |= (uint64_t)data[i] << (8 * i);
        if (value_unpack_lz4(data + 3, n - 3, raw_size, &v) == 0)
                assert(v.n == raw_size);
        else
                assert(!v.bytes);
        value_done(&v);
}

/* A file that begins so; and the same as a word. */
static void check_token(const uint8_t *data, size_t n, const char *text)
{
        char token[SESSION_TOKEN_DIGITS + 1] = "untouched";

        if (session_token_take((const char *)data, n, token)) {
                assert(strcmp(token, "untouched") == 0);
        } else {
                assert(strlen(token) == SESSION_TOKEN_DIGITS && !session_token_check(token));
                assert(n == SESSION_TOKEN_DIGITS || data[SESSION_TOKEN_DIGITS] == '\n');
        }
        if (!session_token_check(text))
                assert(strlen(text) == SESSION_TOKEN_DIGITS);
}

static void check_number(const char *text)
{
        struct session_number n = {.integer = 12345};

        if (session_number_parse(text, &n))
                assert(n.integer == 12345 && !n.is_real);
        else
                assert(isfinite(n.real) && (n.is_real || n.real == (double)n.integer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        char text[TEXT_MAX + 1];
        size_t n_text;

        if (n == 0)
                return 0;
        n_text = n - 1 < TEXT_MAX ? n - 1 : TEXT_MAX;
        memcpy(text, data + 1, n_text);
        text[n_text] = '\0';
        switch (data[0]) {
        case 'k':
                check_key(text);
                break;
        case 'u':
                check_units(text);
                break;
        case 's':
                check_token(data + 1, n - 1, text);
                break;
        case 'n':
                check_number(text);
                break;
        case 'z':
                check_block(data + 1, n - 1);
                break;
        default:
                (void)utf8_is_printable(data + 1, n - 1);
        }
        return 0;
}
