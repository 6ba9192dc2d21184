/* SPDX-License-Identifier: MIT */

/* Base64, for values that JSON cannot hold as text. Encoding only. */

#include "base64.h"

#include <stdint.h>
#include <stdlib.h>

char *base64_encode(const void *bytes, size_t n)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const uint8_t *p = bytes;
        char *text, *out;
        size_t size;

        if (__builtin_mul_overflow(n / 3 + 1, 4, &size) || !(text = malloc(size + 1)))
                return NULL;
        out = text;
        for (; n > 0; p += 3) {
                size_t take = n < 3 ? n : 3;
                uint32_t group = (uint32_t)p[0] << 16 | (take > 1 ? (uint32_t)p[1] << 8 : 0) |
                                 (take > 2 ? p[2] : 0);

                *out++ = digits[group >> 18];
                *out++ = digits[group >> 12 & 63];
                *out++ = '=';
                *out++ = '=';
                if (take > 1)
                        out[-2] = digits[group >> 6 & 63];
                if (take > 2)
                        out[-1] = digits[group & 63];
                n -= take;
        }
        *out = '\0';
        return text;
}
