/* SPDX-License-Identifier: MIT */
/*
 * Configuration rows: one per setting
 *
 * config.def and limits.def become one table; each row says where in struct config its value lies,
 * of which type it is and in which range. A value is parsed completely or the field stays as it
 * was.
 *
 * Knows no files and no sections' order; messages have no file and line yet.
 */

#include "config-row.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "config-value.h"

const struct row config_rows[N_CONFIG_ROWS] = {
#define SETTING(section_, name_, type_, default_, min_, max_, text_)                               \
        {.section = #section_,                                                                     \
         .name = #name_,                                                                           \
         .type = TYPE_##type_,                                                                     \
         .offset = offsetof(struct config, name_),                                                 \
         .default_text = default_,                                                                 \
         .min = (uint64_t)(min_),                                                                  \
         .max = (uint64_t)(max_)},
#include "config.def"
#undef SETTING
#define LIMIT(name_, default_, min_, max_, unit_, advice_, text_)                                  \
        {.section = "limits",                                                                      \
         .name = #name_,                                                                           \
         .type = TYPE_##unit_,                                                                     \
         .offset = offsetof(struct config, limits.name_),                                          \
         .default_text = #default_,                                                                \
         .min = (uint64_t)(min_),                                                                  \
         .max = (uint64_t)(max_)},
#include "limits.def"
#undef LIMIT
};

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
        const char *name;
        int priority;
} levels[] = {
        {"error", LOG_ERR},
        {"warning", LOG_WARNING},
        {"info", LOG_INFO},
        {"debug", LOG_DEBUG},
};

/* ---- errors */

__attribute__((format(printf, 3, 4))) static int refuse(char *err, size_t n_err, const char *format,
                                                        ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(err, n_err, format, args);
        va_end(args);
        return -EINVAL;
}

static int refuse_range(const struct row *row, const char *text, char *err, size_t n_err)
{
        char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];

        switch (row->type) {
        case TYPE_bytes:
        case TYPE_share:
                value_format_size(row->min, min);
                value_format_size(row->max, max);
                break;
        case TYPE_ms:
                value_format_duration(row->min, min);
                value_format_duration(row->max, max);
                break;
        case TYPE_mode:
                snprintf(min, sizeof(min), "%04" PRIo64, row->min);
                snprintf(max, sizeof(max), "%04" PRIo64, row->max);
                break;
        default:
                snprintf(min, sizeof(min), "%" PRIu64, row->min);
                snprintf(max, sizeof(max), "%" PRIu64, row->max);
                break;
        }
        return refuse(err, n_err, "%s = %.64s is out of range: %s to %s%s", row->name, text, min,
                      max, row->type == TYPE_share ? ", or 1% to 100%" : "");
}

static int refuse_syntax(const struct row *row, const char *text, char *err, size_t n_err)
{
        static const char *const ways[] = {
                [TYPE_bytes] = "a size: use a number with K, M, G or T",
                [TYPE_share] = "a size or share: use a number with K, M, G, T or %",
                [TYPE_mode] = "a mode: use octal digits, as in 0660",
                [TYPE_level] = "a log level: use error, warning, info or debug",
                [TYPE_bool] = "a decision: use yes or no",
                [TYPE_count] = "a whole number",
                [TYPE_ms] = "a duration: use a number with ms, s, m, h or d",
        };

        return refuse(err, n_err, "'%.64s' is not %s", text, ways[row->type]);
}

/* ---- values */

int config_parse_level(const char *text, int *ret)
{
        for (size_t i = 0; i < N_ELEMENTS(levels); i++) {
                if (strcmp(levels[i].name, text) != 0)
                        continue;
                *ret = levels[i].priority;
                return 0;
        }
        return -EINVAL;
}

static void *field_of(struct config *cfg, const struct row *row)
{
        return (char *)cfg + row->offset;
}

static const void *const_field_of(const struct config *cfg, const struct row *row)
{
        return (const char *)cfg + row->offset;
}

static int parse_share(const char *text, const struct row *row, struct config_share *ret)
{
        size_t n = strlen(text);
        char digits[VALUE_TEXT_MAX];
        uint64_t percent = 0;
        int r;

        if (n == 0 || text[n - 1] != '%') {
                uint64_t bytes = 0;

                r = value_parse_size(text, &bytes);
                if (r == 0 && (bytes < row->min || bytes > row->max))
                        r = VALUE_E_RANGE;
                *ret = (struct config_share){.bytes = bytes};
                return r;
        }
        if (n > sizeof(digits))
                return VALUE_E_SYNTAX;
        memcpy(digits, text, n - 1);
        digits[n - 1] = '\0';
        r = value_parse_count(digits, &percent);
        if (r == 0 && (percent < 1 || percent > 100))
                r = VALUE_E_RANGE;
        *ret = (struct config_share){.percent = (unsigned)percent};
        return r;
}

/* 0 or VALUE_E_*. */
static int parse_number(const char *text, const struct row *row, uint64_t *ret)
{
        uint64_t n = 0;
        int r = row->type == TYPE_bytes  ? value_parse_size(text, &n)
                : row->type == TYPE_ms   ? value_parse_duration(text, &n)
                : row->type == TYPE_mode ? value_parse_mode(text, &n)
                : row->type == TYPE_bool ? value_parse_bool(text, &n)
                                         : value_parse_count(text, &n);

        if (r == 0 && (n < row->min || n > row->max))
                r = VALUE_E_RANGE;
        if (r == 0)
                *ret = n;
        return r;
}

int row_parse(const struct row *row, const char *text, uint64_t *ret, char *err, size_t n_err)
{
        int r = parse_number(text, row, ret);

        if (r == VALUE_E_RANGE)
                return refuse_range(row, text, err, n_err);
        return r ? refuse_syntax(row, text, err, n_err) : 0;
}

static int set_string(const struct row *row, const char *text, char **field, char *err,
                      size_t n_err)
{
        char *copy;

        if (strlen(text) > row->max)
                return refuse(err, n_err, "%s is too long: at most %" PRIu64 " bytes", row->name,
                              row->max);
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

int row_set(struct config *cfg, const struct row *row, const char *text, char *err, size_t n_err)
{
        void *field = field_of(cfg, row);
        struct config_share share;
        uint64_t n = 0;
        int r;

        switch (row->type) {
        case TYPE_string:
                return set_string(row, text, field, err, n_err);
        case TYPE_level:
                r = config_parse_level(text, field) < 0 ? VALUE_E_SYNTAX : 0;
                break;
        case TYPE_share:
                r = parse_share(text, row, &share);
                if (r == 0)
                        *(struct config_share *)field = share;
                break;
        default:
                r = parse_number(text, row, &n);
                if (r == 0 && row->type == TYPE_mode)
                        *(mode_t *)field = (mode_t)n;
                else if (r == 0 && row->type == TYPE_bool)
                        *(bool *)field = n == 1;
                else if (r == 0)
                        *(uint64_t *)field = n;
                break;
        }
        if (r == VALUE_E_RANGE)
                return refuse_range(row, text, err, n_err);
        return r ? refuse_syntax(row, text, err, n_err) : 0;
}

void row_format(const struct config *cfg, const struct row *row, char *buf, size_t n_buf)
{
        const void *field = const_field_of(cfg, row);
        const struct config_share *share = field;
        char number[VALUE_TEXT_MAX];

        switch (row->type) {
        case TYPE_string:
                snprintf(buf, n_buf, "%s", *(char *const *)field);
                return;
        case TYPE_level:
                for (size_t i = 0; i < N_ELEMENTS(levels); i++) {
                        if (levels[i].priority == *(const int *)field)
                                snprintf(buf, n_buf, "%s", levels[i].name);
                }
                return;
        case TYPE_mode:
                snprintf(buf, n_buf, "%04o", (unsigned)*(const mode_t *)field);
                return;
        case TYPE_bool:
                snprintf(buf, n_buf, "%s", *(const bool *)field ? "yes" : "no");
                return;
        case TYPE_share:
                if (share->percent)
                        snprintf(number, sizeof(number), "%u%%", share->percent);
                else
                        value_format_size(share->bytes, number);
                break;
        case TYPE_bytes:
                value_format_size(*(const uint64_t *)field, number);
                break;
        case TYPE_ms:
                value_format_duration(*(const uint64_t *)field, number);
                break;
        case TYPE_count:
                snprintf(number, sizeof(number), "%" PRIu64, *(const uint64_t *)field);
                break;
        }
        snprintf(buf, n_buf, "%s", number);
}
