/* SPDX-License-Identifier: MIT */
#ifndef KEY_H
#define KEY_H

/*
 * Keys on the command line: plain text, `text:…` or `hex:…`. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_MAX         64
#define KEY_FORMAT_SIZE (5 + 2 * KEY_MAX + 1) /* the longest form with its prefix, and the NUL */

struct key {
        uint8_t bytes[KEY_MAX];
        size_t n;
};

/* NULL: fine. Else what is wrong with @text; *ret is then left alone. */
const char *key_parse(const char *text, struct key *ret);

/* True: it can be shown as it is. */
bool key_is_text(const void *bytes, size_t n);

/* A form that key_parse() reads back as the same bytes. @n is at most KEY_MAX. */
const char *key_format(char buf[KEY_FORMAT_SIZE], const void *bytes, size_t n);

/* Two digits a byte, no prefix. */
const char *key_format_hex(char buf[KEY_FORMAT_SIZE], const void *bytes, size_t n);

#endif
