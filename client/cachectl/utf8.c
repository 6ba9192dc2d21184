/* SPDX-License-Identifier: MIT */

/*
 * UTF-8 that may be shown
 *
 * Strict decoding (no overlong forms, no surrogates, nothing above U+10FFFF), then a short list of
 * ranges that are not for the eye. The list names what is dangerous on a terminal; it does not try
 * to say which code points Unicode has assigned, since that changes.
 */

#include "utf8.h"

#include <stdint.h>
#include <string.h>

/* The bytes of the sequence at @p, and its code point; 0: not UTF-8. */
static size_t decode(const uint8_t *p, size_t n, uint32_t *ret)
{
        static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        uint32_t c = p[0];
        size_t length;

        if (c < 0x80) {
                *ret = c;
                return 1;
        }
        if (c >= 0xc2 && c < 0xe0)
                length = 2;
        else if (c >= 0xe0 && c < 0xf0)
                length = 3;
        else if (c >= 0xf0 && c < 0xf5)
                length = 4;
        else
                return 0;
        if (length > n)
                return 0;
        c &= 0x7fu >> length;
        for (size_t i = 1; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if (c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return 0;
        *ret = c;
        return length;
}

static bool is_control(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* Marks without a width of their own, changes of direction, non-characters. */
static bool is_invisible(uint32_t c)
{
        return c == 0xad || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
               (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
               (c & 0xfffe) == 0xfffe || (c >= 0xe0000 && c < 0xe1000);
}

static bool check(const void *bytes, size_t n, bool refuse_invisible)
{
        const uint8_t *p = bytes;
        uint32_t c;

        for (size_t i = 0, step; i < n; i += step) {
                step = decode(p + i, n - i, &c);
                if (step == 0 || is_control(c) || (refuse_invisible && is_invisible(c)))
                        return false;
        }
        return true;
}

bool utf8_is_printable(const void *bytes, size_t n)
{
        return check(bytes, n, true);
}

bool utf8_is_name(const void *bytes, size_t n)
{
        return check(bytes, n, false);
}

void utf8_cut(char *text)
{
        size_t n = strlen(text), at = n;
        uint32_t c;

        while (at > 0 && n - at < 4 && ((uint8_t)text[at - 1] & 0xc0) == 0x80)
                at--;
        if (at > 0 && (uint8_t)text[at - 1] >= 0x80 &&
            decode((const uint8_t *)text + at - 1, n - at + 1, &c) != n - at + 1)
                text[at - 1] = '\0';
}

size_t utf8_direction_mark(const char *text)
{
        uint32_t c;
        size_t n = decode((const uint8_t *)text, strnlen(text, 4), &c);

        if (n > 0 && (c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
                      (c >= 0x2066 && c <= 0x2069)))
                return n;
        return 0;
}
