/* SPDX-License-Identifier: MIT */
/*
 * Configuration values: text to number and back
 *
 * Strict on purpose: a configuration that says 10q or -1 is a mistake, and guessing what was meant
 * would hide it. Knows no setting and no range; the caller compares and words the error.
 */

#include "config-value.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct unit {
        const char *name;
        uint64_t factor;
};

/* Largest first: formatting takes the first that divides. */
static const struct unit size_units[] = {
        {"T", UINT64_C(1) << 40},
        {"G", UINT64_C(1) << 30},
        {"M", UINT64_C(1) << 20},
        {"K", UINT64_C(1) << 10},
        {"", 1},
};
static const struct unit duration_units[] = {
        {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1},
};
static const struct unit count_units[] = {{"", 1}};

#define FRACTION_MAX UINT64_C(1000000) /* six digits; times a T it is below 2^64 */

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static int parse_with_units(const char *text, const struct unit *units, size_t n_units,
                            uint64_t *ret)
{
        const char *p = text;
        uint64_t n = 0, fraction = 0, scale = 1;
        bool over = false;

        if (*p < '0' || *p > '9')
                return VALUE_E_SYNTAX;
        for (; *p >= '0' && *p <= '9'; p++) {
                if (__builtin_mul_overflow(n, 10, &n) ||
                    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
                        over = true;
        }
        if (*p == '.') {
                if (*++p < '0' || *p > '9')
                        return VALUE_E_SYNTAX;
                for (; *p >= '0' && *p <= '9'; p++, scale *= 10) {
                        if (scale >= FRACTION_MAX)
                                return VALUE_E_SYNTAX;
                        fraction = fraction * 10 + (uint64_t)(*p - '0');
                }
        }
        for (size_t i = 0; i < n_units; i++) {
                if (strcmp(p, units[i].name) != 0)
                        continue;
                /* What cannot be kept exactly is not rounded. */
                if (fraction * units[i].factor % scale != 0 || (scale > 1 && units[i].factor == 1))
                        return VALUE_E_SYNTAX;
                if (over || __builtin_mul_overflow(n, units[i].factor, &n) ||
                    __builtin_add_overflow(n, fraction * units[i].factor / scale, &n))
                        return VALUE_E_RANGE;
                *ret = n;
                return 0;
        }
        return VALUE_E_SYNTAX;
}

int value_parse_count(const char *text, uint64_t *ret)
{
        return parse_with_units(text, count_units, N_ELEMENTS(count_units), ret);
}

int value_parse_size(const char *text, uint64_t *ret)
{
        return parse_with_units(text, size_units, N_ELEMENTS(size_units), ret);
}

int value_parse_duration(const char *text, uint64_t *ret_ms)
{
        return parse_with_units(text, duration_units, N_ELEMENTS(duration_units), ret_ms);
}

int value_parse_mode(const char *text, uint64_t *ret)
{
        uint64_t mode = 0;

        if (!*text)
                return VALUE_E_SYNTAX;
        for (const char *p = text; *p; p++) {
                if (*p < '0' || *p > '7')
                        return VALUE_E_SYNTAX;
                if (mode >> 60)
                        return VALUE_E_RANGE;
                mode = mode << 3 | (uint64_t)(*p - '0');
        }
        *ret = mode;
        return 0;
}

int value_parse_bool(const char *text, uint64_t *ret)
{
        bool yes = strcmp(text, "yes") == 0;

        if (!yes && strcmp(text, "no") != 0)
                return VALUE_E_SYNTAX;
        *ret = yes;
        return 0;
}

static void format_with_units(uint64_t n, const struct unit *units, char *buf)
{
        while (units->factor > 1 && (n == 0 || n % units->factor != 0))
                units++;
        snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%s", n / units->factor, units->name);
}

void value_format_size(uint64_t bytes, char *buf)
{
        format_with_units(bytes, size_units, buf);
}

void value_format_duration(uint64_t ms, char *buf)
{
        format_with_units(ms, duration_units, buf);
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
        unsigned m = a < b ? a : b;

        return m < c ? m : c;
}

unsigned value_distance(const char *a, const char *b)
{
        enum { MAX = 63 };
        unsigned rows[3][MAX + 1]; /* of the table of prefixes: before last, last, current */
        size_t n_a = strnlen(a, MAX), n_b = strnlen(b, MAX);

        for (size_t j = 0; j <= n_b; j++)
                rows[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n_a; i++) {
                unsigned *current = rows[i % 3], *last = rows[(i + 2) % 3];

                current[0] = (unsigned)i;
                for (size_t j = 1; j <= n_b; j++) {
                        bool same = a[i - 1] == b[j - 1];

                        current[j] = min3(last[j] + 1, current[j - 1] + 1, last[j - 1] + !same);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                            rows[(i + 1) % 3][j - 2] + 1 < current[j])
                                current[j] = rows[(i + 1) % 3][j - 2] + 1;
                }
        }
        return rows[n_a % 3][n_b];
}
