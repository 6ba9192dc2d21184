/* SPDX-License-Identifier: MIT */

/* What `session incr` adds */

#include "session-number.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *session_number_parse(const char *text, struct session_number *ret)
{
        struct session_number n = {.is_real = strpbrk(text, ".eE") != NULL};
        char *end = NULL;

        if (!*text)
                return "it is empty";
        /* What strtod() would also take: blanks, hexadecimal, words. */
        if (text[strspn(text, "0123456789+-.eE")])
                return "it is not a decimal number";
        errno = 0;
        if (n.is_real) {
                n.real = strtod(text, &end);
                if (!isfinite(n.real))
                        return "it is too large for a real number";
        } else {
                n.integer = strtoll(text, &end, 10);
                n.real = (double)n.integer;
                if (errno)
                        return "it does not fit into 64 bits";
        }
        if (end == text || *end)
                return "it is not a decimal number";
        *ret = n;
        return NULL;
}
