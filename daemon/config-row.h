/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_ROW_H
#define CONFIG_ROW_H

/*
 * Configuration rows: one per setting
 */

#include <stddef.h>
#include <stdint.h>

#include "config.h"

enum row_type {
        TYPE_string,
        TYPE_bytes,
        TYPE_share,
        TYPE_mode,
        TYPE_level,
        TYPE_bool,
        TYPE_count,
        TYPE_ms,
};

struct row {
        const char *section, *name;
        enum row_type type;
        size_t offset; /* in struct config */
        const char *default_text;
        uint64_t min, max;
};

enum {
#define SETTING(section, name, ...) ROW_##name,
#include "config.def"
#undef SETTING
#define LIMIT(name, ...) ROW_LIMIT_##name,
#include "limits.def"
#undef LIMIT
        N_CONFIG_ROWS
};

extern const struct row config_rows[N_CONFIG_ROWS];

/* Parses @text into the field of @row. 0, -ENOMEM, or -EINVAL with the reason in @err. */
int row_set(struct config *cfg, const struct row *row, const char *text, char *err, size_t n_err);

/* A number of the row's type and range. 0, or -EINVAL with the reason in @err. */
int row_parse(const struct row *row, const char *text, uint64_t *ret, char *err, size_t n_err);

/* The value as one would write it. */
void row_format(const struct config *cfg, const struct row *row, char *buf, size_t n_buf);

#endif
