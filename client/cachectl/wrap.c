/* SPDX-License-Identifier: MIT */

/*
 * Text in lines of a bounded width
 *
 * Help texts are written in the sources as it suits the sources; where their lines end on the
 * screen is decided here alone. A word that is wider than a line gets one to itself.
 *
 * A column is a character: the texts are ours, in UTF-8, and none of theirs is double or combining.
 */

#include "wrap.h"

#include <stdbool.h>
#include <string.h>

static size_t width_of(const char *text, size_t n)
{
        size_t width = 0;

        for (size_t i = 0; i < n; i++)
                width += ((unsigned char)text[i] & 0xc0) != 0x80;
        return width;
}

/* The bytes of the word at @p: to the next blank, or to the end of the brackets that it opens. */
static size_t word_length(const char *p)
{
        size_t n = 0;

        for (int depth = 0; p[n] && (depth > 0 || !strchr(" \n", p[n])); n++)
                depth += (p[n] == '[') - (p[n] == ']');
        return n;
}

/* Prints a line as it stands; returns what follows it. */
static const char *print_kept(FILE *f, const char *line)
{
        size_t n = strcspn(line, "\n");

        fprintf(f, "%.*s\n", (int)n, line);
        return line + n + (line[n] == '\n');
}

/* Prints words up to an empty line, a line to keep or the end; returns what follows. */
static const char *print_paragraph(FILE *f, size_t column, size_t indent, const char *p)
{
        bool first = true;

        while (*p && *p != '\n' && *p != ' ') {
                size_t n = word_length(p), width = width_of(p, n);

                if (!first && column + 1 + width > WRAP_COLUMNS) {
                        fprintf(f, "\n%*s", (int)indent, "");
                        column = indent;
                } else if (!first) {
                        fputc(' ', f);
                        column++;
                }
                fprintf(f, "%.*s", (int)n, p);
                column += width;
                first = false;
                p += n;
                if (*p == ' ')
                        p += strspn(p, " ");
                else if (*p == '\n')
                        p++;
        }
        fputc('\n', f);
        return p;
}

void wrap_print(FILE *f, size_t column, size_t indent, const char *text)
{
        const char *p = text;

        do {
                if (*p == '\n') {
                        fputc('\n', f);
                        p++;
                } else if (*p == ' ') {
                        p = print_kept(f, p);
                } else {
                        p = print_paragraph(f, column, indent, p);
                        column = 0;
                }
        } while (*p);
}
