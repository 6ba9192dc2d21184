/* SPDX-License-Identifier: MIT */
/*
 * One line of text
 *
 * Text from peers and files is shown to people. A control character could move a terminal's cursor
 * or forge a line, and the journal hides a whole message behind a few bytes that are not UTF-8.
 */
#include "base/oneline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the UTF-8 sequence at @s (NUL-terminated); 0: it is none. */
static size_t utf8_length(const unsigned char *s)
{
        static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = s[0] < 0x80       ? 1
                   : s[0] >> 5 == 6  ? 2
                   : s[0] >> 4 == 14 ? 3
                   : s[0] >> 3 == 30 ? 4
                                     : 0;
        uint32_t c;

        if (n <= 1)
                return n;
        c = s[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if (s[i] >> 6 != 2)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        return c < lowest[n] || c > 0x10ffff || c >> 11 == 0x1b ? 0 : n;
}

void oneline(char *text)
{
        for (unsigned char *p = (unsigned char *)text; *p;) {
                size_t n = utf8_length(p);
                /* C1 control characters are two bytes in UTF-8, the first 0xc2. */
                bool control = *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);

                if (n == 0 || control)
                        *p = '?';
                p += n > 1 && !control ? n : 1;
        }
}
