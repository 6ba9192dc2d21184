/* SPDX-License-Identifier: MIT */

/* The text of a session's token */

#include "session-token.h"

#include <string.h>

static const char *check(const char *text, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!text[i] || !strchr("0123456789abcdef", text[i]))
                        return "it has something other than hexadecimal digits in small letters "
                               "in it";
        if (n == 0)
                return "it is empty";
        if (n != SESSION_TOKEN_DIGITS)
                return n < SESSION_TOKEN_DIGITS ? "it is too short" : "it is too long";
        return NULL;
}

const char *session_token_check(const char *text)
{
        return check(text, strlen(text));
}

const char *session_token_take(const char *bytes, size_t n, char ret[SESSION_TOKEN_DIGITS + 1])
{
        const char *end = n > 0 ? memchr(bytes, '\n', n) : NULL, *wrong;

        if (end)
                n = (size_t)(end - bytes);
        wrong = check(bytes, n);
        if (wrong)
                return wrong;
        memcpy(ret, bytes, SESSION_TOKEN_DIGITS);
        ret[SESSION_TOKEN_DIGITS] = '\0';
        return NULL;
}
