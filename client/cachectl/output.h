/* SPDX-License-Identifier: MIT */
#ifndef OUTPUT_H
#define OUTPUT_H

/*
 * What cachectl prints: tables for people, JSON for programs
 */

#include "ctl.h"

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

struct libscols_table;

struct output_column {
        const char *title; /* NULL ends a list */
        bool right;        /* align to the right, as numbers are */
        bool cut;          /* shorten it where the terminal is too narrow */
};

/* NULL: out of memory. A table without titles ("" each) has no heading line. */
struct libscols_table *output_table_new(const struct output_column *columns);
void output_table_free(struct libscols_table *t);
void output_table_hide(struct libscols_table *t, size_t column); /* not the first one */
bool output_table_is_empty(struct libscols_table *t);            /* no line */

/* Columns of the terminal that stdout is; SIZE_MAX where it is none. */
size_t output_width(void);

/* Copies the cells, as many as the table has columns. Returns 0 or -ENOMEM. */
int output_table_add(struct libscols_table *t, const char *const *cells);

/* Prints it and frees it. @t may be NULL, as when memory was out. Returns an exit status. */
int output_table(struct ctl *ctl, struct libscols_table *t);

/* One document and a newline. Frees @root, which may be NULL, as when memory was out. */
int output_json(struct ctl *ctl, json_t *root);

/* JSON has no 64 unsigned bits everywhere: larger numbers become INT64_MAX. */
json_t *output_json_u64(uint64_t n);

/* Adds "key", or "key_hex" when it is not text. Returns 0 or -ENOMEM. */
int output_json_key(json_t *object, const void *key, size_t n_key);

/* The same as @name, or @name with "_hex" behind it; null for NULL. @n: at most KEY_MAX. */
int output_json_bytes(json_t *object, const char *name, const void *bytes, size_t n);

/* null for NULL and for "". */
json_t *output_json_text(const char *text);

/* @text with control characters, and marks that change its direction, replaced by '?'. */
void output_text(FILE *f, const char *text);

/* Flushes stdout. EXIT_DONE also when its reader went away (then ctl->stdout_closed is set). */
int output_flush(struct ctl *ctl);

/* After a write to stdout failed with @error (an errno). */
int output_failed(struct ctl *ctl, int error);

#endif
