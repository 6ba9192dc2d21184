/* SPDX-License-Identifier: MIT */
#ifndef UTF8_H
#define UTF8_H

/* What a person may be shown. Pure, and independent of the locale. */

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 without anything that could steer a terminal or hide in it. */
bool utf8_is_printable(const void *bytes, size_t n);

/* Well-formed UTF-8 without control characters: what may be in a cache's name. */
bool utf8_is_name(const void *bytes, size_t n);

/* The length of the mark at @text that changes the direction of what follows (as U+202E does), so
 * that a name reads as another one; 0: there is none. */
size_t utf8_direction_mark(const char *text);

/* Takes away the character at the end that is not all there, as where a text was cut. */
void utf8_cut(char *text);

#endif
