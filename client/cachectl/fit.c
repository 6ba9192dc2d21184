/* SPDX-License-Identifier: MIT */

/*
 * Fitting a table into the width of a terminal
 *
 * libsmartcols would cut silently, and a name that was cut looks like a name. Widths are counted as
 * it counts them: by display width, and four columns for each byte of what it escapes (\xNN).
 */

#include "fit.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define COLUMNS_MAX 16
#define SEPARATOR   2
#define LEAST       8 /* columns that are left of a cell, so that it says something */

/* The next character of @text (not at its end): its bytes, and its columns on the screen. */
static size_t next_char(const char *text, size_t *ret_width)
{
        mbstate_t state = {0};
        wchar_t c;
        size_t n = mbrtowc(&c, text, strlen(text), &state);

        if (n == 0 || n > strlen(text)) {
                *ret_width = 4;
                return 1;
        }
        *ret_width = iswprint((wint_t)c) ? (size_t)wcwidth(c) : 4 * n;
        return n;
}

static size_t width_of(const char *text)
{
        size_t width = 0;

        while (text && *text) {
                size_t w;

                text += next_char(text, &w);
                width += w;
        }
        return width;
}

static const char *cell_text(struct libscols_line *line, size_t column)
{
        return scols_cell_get_data(scols_line_get_cell(line, column));
}

static int shorten(struct libscols_line *line, size_t column, size_t width)
{
        const char *old = cell_text(line, column), *end = old, *mark = "…";
        size_t kept = 0, w;
        char *text;

        if (width_of(old) <= width)
                return 0;
        if (width_of(mark) != 1)
                mark = "~"; /* not in this locale */
        while (*end) {
                size_t n = next_char(end, &w);

                if (kept + w > width - 1)
                        break;
                kept += w;
                end += n;
        }
        if (asprintf(&text, "%.*s%s", (int)(end - old), old, mark) < 0)
                return -ENOMEM;
        return scols_line_refer_data(line, column, text); /* takes it */
}

static size_t column_width(struct libscols_table *t, size_t column)
{
        struct libscols_column *c = scols_table_get_column(t, column);
        size_t width = width_of(scols_cell_get_data(scols_column_get_header(c)));

        if (scols_column_is_hidden(c))
                return 0;
        for (size_t i = 0; i < scols_table_get_nlines(t); i++) {
                size_t w = width_of(cell_text(scols_table_get_line(t, i), column));

                width = w > width ? w : width;
        }
        return width;
}

/* The widest column that may be narrower than it is, and not than @least or its title; COLUMNS_MAX:
 * none. */
static size_t widest(struct libscols_table *t, const size_t *widths, size_t n, size_t least)
{
        size_t found = COLUMNS_MAX;

        for (size_t i = 0; i < n; i++) {
                struct libscols_column *c = scols_table_get_column(t, i);
                size_t title = width_of(scols_cell_get_data(scols_column_get_header(c)));

                if (!scols_column_is_trunc(c) || widths[i] <= least || widths[i] <= title)
                        continue;
                if (found == COLUMNS_MAX || widths[i] > widths[found])
                        found = i;
        }
        return found;
}

int fit_table(struct libscols_table *t, size_t width)
{
        size_t n = scols_table_get_ncols(t), widths[COLUMNS_MAX], total = 0, c;

        if (n == 0 || n > COLUMNS_MAX)
                return 0;
        for (size_t i = 0; i < n; i++) {
                widths[i] = column_width(t, i);
                total += widths[i] + (i > 0 && widths[i] > 0 ? SEPARATOR : 0);
        }
        for (; total > width; total--) {
                c = widest(t, widths, n, LEAST);
                if (c == COLUMNS_MAX)
                        c = widest(t, widths, n, 0); /* better than a cut that nobody sees */
                if (c == COLUMNS_MAX)
                        break;
                widths[c]--;
        }
        for (size_t i = 0; i < scols_table_get_nlines(t); i++)
                for (size_t j = 0; j < n; j++)
                        if (scols_column_is_trunc(scols_table_get_column(t, j)) &&
                            shorten(scols_table_get_line(t, i), j, widths[j]) < 0)
                                return -ENOMEM;
        return 0;
}
