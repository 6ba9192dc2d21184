/* SPDX-License-Identifier: MIT */

/*
 * Keys on the command line
 *
 * A key is 1 to 64 bytes, any bytes. What is shown can be pasted back: a key that is text and
 * happens to start with one of the prefixes is shown with `text:` before it, one that is not text
 * as `hex:…`.
 */

#include "key.h"

#include "utf8.h"

#include <string.h>

/* Of a character that is known to be one. */
static unsigned hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return (unsigned)(c - '0');
        return (unsigned)((c | 0x20) - 'a' + 10);
}

static const char *parse_hex(const char *digits, struct key *ret)
{
        size_t n = strlen(digits);
        struct key key = {.n = n / 2};

        if (digits[strspn(digits, "0123456789abcdefABCDEF")])
                return "something other than hexadecimal digits follows `hex:`";
        if (n == 0)
                return "it is empty: a key has 1 to 64 bytes";
        if (n % 2)
                return "an odd number of hexadecimal digits follows `hex:`";
        if (key.n > KEY_MAX)
                return "it is longer than 64 bytes";
        for (size_t i = 0; i < key.n; i++)
                key.bytes[i] =
                        (uint8_t)(hex_digit(digits[2 * i]) << 4 | hex_digit(digits[2 * i + 1]));
        *ret = key;
        return NULL;
}

const char *key_parse(const char *text, struct key *ret)
{
        size_t n;

        if (strncmp(text, "hex:", 4) == 0)
                return parse_hex(text + 4, ret);
        if (strncmp(text, "text:", 5) == 0)
                text += 5;
        n = strlen(text);
        if (n == 0)
                return "it is empty: a key has 1 to 64 bytes";
        if (n > KEY_MAX)
                return "it is longer than 64 bytes";
        memcpy(ret->bytes, text, n);
        ret->n = n;
        return NULL;
}

bool key_is_text(const void *bytes, size_t n)
{
        return utf8_is_printable(bytes, n);
}

static void write_hex(char *out, const uint8_t *p, size_t n)
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < n; i++) {
                *out++ = digits[p[i] >> 4];
                *out++ = digits[p[i] & 15];
        }
        *out = '\0';
}

const char *key_format_hex(char buf[KEY_FORMAT_SIZE], const void *bytes, size_t n)
{
        write_hex(buf, bytes, n > KEY_MAX ? KEY_MAX : n);
        return buf;
}

const char *key_format(char buf[KEY_FORMAT_SIZE], const void *bytes, size_t n)
{
        const char *p = bytes;
        size_t at = 0;

        if (n > KEY_MAX)
                n = KEY_MAX;
        if (!key_is_text(p, n)) {
                memcpy(buf, "hex:", 4);
                write_hex(buf + 4, (const uint8_t *)p, n);
                return buf;
        }
        if ((n >= 4 && memcmp(p, "hex:", 4) == 0) || (n >= 5 && memcmp(p, "text:", 5) == 0)) {
                memcpy(buf, "text:", 5);
                at = 5;
        }
        memcpy(buf + at, p, n);
        buf[at + n] = '\0';
        return buf;
}
