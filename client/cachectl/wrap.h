/* SPDX-License-Identifier: MIT */
#ifndef WRAP_H
#define WRAP_H

#include <stddef.h>
#include <stdio.h>

/* Lines of help are not longer: they fit a terminal of 80 columns. */
#define WRAP_COLUMNS 79

/*
 * Prints @text in lines of at most WRAP_COLUMNS columns, and a newline at its end. @column says how
 * much of the first line is used up, @indent how far the others begin from the left. Line breaks in
 * @text are blanks; an empty line stays one; a line that begins with a blank is kept as it is, and
 * no line ends inside of [brackets].
 */
void wrap_print(FILE *f, size_t column, size_t indent, const char *text);

#endif
