/* SPDX-License-Identifier: MIT */

/*
 * Tables and JSON
 *
 * Tables are libsmartcols': aligned by display width, with unprintable characters escaped, cut to
 * the terminal's width only when stdout is one, and then with an ellipsis. Nothing is coloured.
 *
 * SIGPIPE is ignored: when the reader of our output goes away (`cachectl ls c | head`) we stop and
 * are done, whatever disposition we inherited.
 */

#include "output.h"
#include "utf8.h"

#include "fit.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NAME_SIZE 32 /* of a member */

struct libscols_table *output_table_new(const struct output_column *columns)
{
        struct libscols_table *t = scols_new_table();

        if (!t)
                return NULL;
        scols_table_enable_noheadings(t, columns->title[0] == '\0');
        for (; columns->title; columns++) {
                int flags =
                        (columns->right ? SCOLS_FL_RIGHT : 0) | (columns->cut ? SCOLS_FL_TRUNC : 0);

                if (!scols_table_new_column(t, columns->title, 0, flags)) {
                        scols_unref_table(t);
                        return NULL;
                }
        }
        if (scols_table_set_column_separator(t, "  ") < 0) {
                scols_unref_table(t);
                return NULL;
        }
        /* No padding after the last column. */
        scols_table_enable_minout(t, 1);
        return t;
}

size_t output_width(void)
{
        struct winsize size;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return SIZE_MAX;
        return size.ws_col;
}

void output_table_free(struct libscols_table *t)
{
        scols_unref_table(t);
}

void output_table_hide(struct libscols_table *t, size_t column)
{
        struct libscols_column *c = scols_table_get_column(t, column);

        (void)scols_column_set_flags(c, scols_column_get_flags(c) | SCOLS_FL_HIDDEN);
}

bool output_table_is_empty(struct libscols_table *t)
{
        return scols_table_get_nlines(t) == 0;
}

/* A copy with '?' for each mark that changes the direction of text; other control characters are
 * escaped by the table. NULL: no memory. */
static char *cell_text(const char *text)
{
        char *copy = strdup(text ? text : ""), *to = copy;

        for (const char *p = copy; copy && *p;) {
                size_t n = utf8_direction_mark(p);

                *to++ = n > 0 ? '?' : *p;
                p += n > 0 ? n : 1;
        }
        if (copy)
                *to = '\0';
        return copy;
}

int output_table_add(struct libscols_table *t, const char *const *cells)
{
        struct libscols_line *line = scols_table_new_line(t, NULL);

        if (!line)
                return -ENOMEM;
        for (size_t i = 0; i < scols_table_get_ncols(t); i++) {
                char *text = cell_text(cells[i]);

                if (!text || scols_line_refer_data(line, i, text) < 0) { /* it frees the text */
                        free(text);
                        return -ENOMEM;
                }
        }
        return 0;
}

/* libsmartcols prints nothing for a table without lines; it would look like a failure. */
static void print_titles(struct libscols_table *t)
{
        if (scols_table_is_noheadings(t))
                return;
        for (size_t i = 0; i < scols_table_get_ncols(t); i++) {
                struct libscols_column *c = scols_table_get_column(t, i);

                if (scols_column_is_hidden(c))
                        continue;
                printf("%s%s", i > 0 ? "  " : "", scols_cell_get_data(scols_column_get_header(c)));
        }
        putchar('\n');
}

int output_table(struct ctl *ctl, struct libscols_table *t)
{
        int r;

        if (!t)
                return ctl_no_memory(ctl);
        r = output_width() == SIZE_MAX ? 0 : fit_table(t, output_width());
        if (r == 0 && scols_table_get_nlines(t) == 0)
                print_titles(t);
        else if (r == 0)
                r = scols_print_table(t);
        scols_unref_table(t);
        if (r == -ENOMEM)
                return ctl_no_memory(ctl);
        return EXIT_DONE; /* what became of the bytes is seen by output_flush() */
}

int output_json(struct ctl *ctl, json_t *root)
{
        int r;

        if (!root)
                return ctl_no_memory(ctl);
        r = json_dumpf(root, stdout, JSON_COMPACT);
        json_decref(root);
        if (r < 0 && !ferror(stdout))
                return ctl_no_memory(ctl);
        putchar('\n');
        return EXIT_DONE;
}

json_t *output_json_u64(uint64_t n)
{
        return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

int output_json_bytes(json_t *object, const char *name, const void *bytes, size_t n)
{
        char hex[KEY_FORMAT_SIZE], name_hex[NAME_SIZE];
        int r;

        (void)snprintf(name_hex, sizeof(name_hex), "%s_hex", name);
        if (!bytes)
                r = json_object_set_new(object, name, json_null());
        else if (key_is_text(bytes, n))
                r = json_object_set_new(object, name, json_stringn(bytes, n));
        else
                r = json_object_set_new(object, name_hex,
                                        json_string(key_format_hex(hex, bytes, n)));
        return r < 0 ? -ENOMEM : 0;
}

int output_json_key(json_t *object, const void *key, size_t n_key)
{
        return output_json_bytes(object, "key", key, n_key);
}

json_t *output_json_text(const char *text)
{
        return text && *text ? json_string(text) : json_null();
}

void output_text(FILE *f, const char *text)
{
        for (const char *p = text; *p; p++) {
                unsigned char c = (unsigned char)*p;
                size_t n_mark = utf8_direction_mark(p);

                if (n_mark > 0) {
                        p += n_mark - 1;
                        c = '?';
                } else if (c < 0x20 || c == 0x7f)
                        c = '?';
                else if (c == 0xc2 && (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xa0) {
                        p++; /* U+0080 to U+009F */
                        c = '?';
                }
                putc(c, f);
        }
}

int output_failed(struct ctl *ctl, int error)
{
        ctl->stdout_closed = true;
        if (error == EPIPE)
                return EXIT_DONE;
        ctl_note(ctl, "cannot write to stdout: %s",
                 error ? strerror(error) : "an earlier write failed");
        return EXIT_USAGE;
}

int output_flush(struct ctl *ctl)
{
        if (ctl->stdout_closed)
                return EXIT_DONE;
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return EXIT_DONE;
        return output_failed(ctl, errno);
}
