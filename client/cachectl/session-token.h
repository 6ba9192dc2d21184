/* SPDX-License-Identifier: MIT */
#ifndef SESSION_TOKEN_H
#define SESSION_TOKEN_H

/*
 * The text of a session's token. Pure. What is wrong with one is told without it: who mistypes a
 * token mistypes most of it right.
 */

#include <stddef.h>

#define SESSION_TOKEN_DIGITS 32
#define SESSION_TOKEN_HINT                                                                         \
        "a token is 32 hexadecimal digits in small letters, as `cachectl session new` prints it"

/* NULL, or what is wrong with it: a sentence part. */
const char *session_token_check(const char *text);

/* Takes it from the first line of a file that begins with these bytes. NULL, or what is wrong; then
 * @ret is untouched. */
const char *session_token_take(const char *bytes, size_t n, char ret[SESSION_TOKEN_DIGITS + 1]);

#endif
