/* SPDX-License-Identifier: MIT */

/*
 * Durations, sizes and counts
 *
 * A quantity is digits, perhaps a point and up to six more digits, and a unit. All arithmetic is on
 * integers: what is parsed is exact or refused, never rounded, so that a script gets the TTL that
 * it wrote. What is printed is cut down to two or three significant places, since it is read by
 * people;
 * --json has the exact numbers.
 *
 * Nothing here depends on the locale: the decimal point is a point.
 */

#include "units.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MAX_FRACTION_DIGITS 6 /* 10^6 times a day in microseconds stays below 2^64 */

struct unit {
        const char *name;
        uint64_t factor;
};

static const struct unit duration_units[] = {
        {"us", 1},
        {"ms", 1000},
        {"s", UINT64_C(1000000)},
        {"m", UINT64_C(60000000)},
        {"h", UINT64_C(3600000000)},
        {"d", UINT64_C(86400000000)},
        {NULL, 0},
};

static const struct unit size_units[] = {
        {"", 1},
        {"K", UINT64_C(1) << 10},
        {"M", UINT64_C(1) << 20},
        {"G", UINT64_C(1) << 30},
        {"T", UINT64_C(1) << 40},
        {NULL, 0},
};

static const struct unit count_units[] = {{"", 1}, {NULL, 0}};

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static const struct unit *find_unit(const struct unit *units, const char *name)
{
        for (; units->name; units++)
                if (strcmp(units->name, name) == 0)
                        return units;
        return NULL;
}

static const char *parse(const char *text, const struct unit *units, uint64_t *ret)
{
        uint64_t whole = 0, fraction = 0, scale = 1, value;
        const struct unit *unit;
        bool too_large = false;
        const char *p = text;

        if (*p == '\0')
                return "it is empty";
        if (*p == '-')
                return "it may not be negative";
        if (!is_digit(*p))
                return "it does not start with a digit";
        for (; is_digit(*p); p++)
                too_large = too_large || __builtin_mul_overflow(whole, 10, &whole) ||
                            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole);
        if (*p == '.') {
                if (!is_digit(*++p))
                        return "digits are missing after the point";
                for (; is_digit(*p); p++) {
                        if (scale >= UINT64_C(1000000))
                                return "it has more than 6 digits after the point";
                        fraction = fraction * 10 + (uint64_t)(*p - '0');
                        scale *= 10;
                }
        }
        unit = find_unit(units, p);
        if (!unit)
                return *p ? "its unit is unknown" : "its unit is missing";
        if (too_large || __builtin_mul_overflow(whole, unit->factor, &value) ||
            __builtin_add_overflow(value, fraction * unit->factor / scale, &value))
                return "it is too large";
        if (fraction * unit->factor % scale)
                return "it is finer than can be kept";
        *ret = value;
        return NULL;
}

const char *units_parse_duration_us(const char *text, uint64_t *ret)
{
        return parse(text, duration_units, ret);
}

const char *units_parse_duration_ms(const char *text, uint64_t *ret)
{
        uint64_t us;
        const char *wrong = parse(text, duration_units, &us);

        if (wrong)
                return wrong;
        if (us % 1000)
                return "it is finer than a millisecond";
        *ret = us / 1000;
        return NULL;
}

const char *units_parse_size(const char *text, uint64_t *ret)
{
        return parse(text, size_units, ret);
}

const char *units_parse_count(const char *text, uint64_t *ret)
{
        if (strchr(text, '.'))
                return "it is not a whole number";
        return parse(text, count_units, ret);
}

/* A bare 1 might mean 1 % or all of it, so that a fraction begins with 0. */
const char *units_parse_permille(const char *text, uint64_t *ret)
{
        static const struct unit percents[] = {{"%", 1000000}, {"", 100000000}, {NULL, 0}};
        uint64_t millionths; /* of a percent */
        const char *wrong = parse(text, percents, &millionths);
        bool percent = strchr(text, '%') != NULL;

        if (wrong)
                return wrong;
        if (!percent && (text[0] != '0' || text[1] != '.'))
                return "it is neither";
        if (millionths > 100000000)
                return "it is more than the whole";
        if (millionths % 100000)
                return "it is finer than a thousandth";
        *ret = millionths / 100000;
        return NULL;
}

const char *units_format_count(char buf[UNITS_BUFFER_SIZE], uint64_t n)
{
        snprintf(buf, UNITS_BUFFER_SIZE, "%" PRIu64, n);
        return buf;
}

/* @n in units of @unit with one decimal, which is left out when it is 0; rounded down. */
static const char *format_tenths(char buf[UNITS_BUFFER_SIZE], uint64_t n, uint64_t unit,
                                 const char *suffix)
{
        unsigned tenths = (unsigned)(n % unit * 10 / unit);

        if (tenths)
                snprintf(buf, UNITS_BUFFER_SIZE, "%" PRIu64 ".%u%s", n / unit, tenths, suffix);
        else
                snprintf(buf, UNITS_BUFFER_SIZE, "%" PRIu64 "%s", n / unit, suffix);
        return buf;
}

const char *units_format_bytes(char buf[UNITS_BUFFER_SIZE], uint64_t n)
{
        static const char *const suffixes[] = {"", "K", "M", "G", "T", "P", "E"};
        uint64_t unit = 1;
        size_t i = 0;

        while (n / unit >= 1024) {
                unit <<= 10;
                i++;
        }
        return format_tenths(buf, n, unit, suffixes[i]);
}

const char *units_format_permille(char buf[UNITS_BUFFER_SIZE], uint64_t permille)
{
        return format_tenths(buf, permille, 10, "%");
}

/* "3m12s"; the small part is left out when it is 0, so that round values can be typed as shown. */
static const char *format_pair(char buf[UNITS_BUFFER_SIZE], uint64_t s, uint64_t big,
                               const char *big_suffix, uint64_t small, const char *small_suffix)
{
        uint64_t rest = s % big / small;

        if (rest)
                snprintf(buf, UNITS_BUFFER_SIZE, "%" PRIu64 "%s%02" PRIu64 "%s", s / big,
                         big_suffix, rest, small_suffix);
        else
                snprintf(buf, UNITS_BUFFER_SIZE, "%" PRIu64 "%s", s / big, big_suffix);
        return buf;
}

const char *units_format_ms(char buf[UNITS_BUFFER_SIZE], uint64_t ms)
{
        uint64_t s = ms / 1000;

        if (ms < 1000)
                return format_tenths(buf, ms, 1, "ms");
        if (s < 60)
                return format_tenths(buf, ms, 1000, "s");
        if (s < 3600)
                return format_pair(buf, s, 60, "m", 1, "s");
        if (s < 86400)
                return format_pair(buf, s, 3600, "h", 60, "m");
        if (s < 100 * 86400)
                return format_pair(buf, s, 86400, "d", 3600, "h");
        return format_tenths(buf, s / 86400, 1, "d");
}

const char *units_format_us(char buf[UNITS_BUFFER_SIZE], uint64_t us)
{
        if (us < 1000)
                return format_tenths(buf, us, 1, "us");
        if (us < 1000000)
                return format_tenths(buf, us, 1000, "ms");
        return units_format_ms(buf, us / 1000);
}

const char *units_format_ns(char buf[UNITS_BUFFER_SIZE], uint64_t ns)
{
        if (ns < 1000)
                return format_tenths(buf, ns, 1, "ns");
        if (ns < 1000000)
                return format_tenths(buf, ns, 1000, "us");
        return units_format_us(buf, ns / 1000);
}

const char *units_format_percent(char buf[UNITS_BUFFER_SIZE], uint64_t part, uint64_t rest)
{
        double total = (double)part + (double)rest;

        if (part == 0 && rest == 0)
                return "-";
        /* Tenths, rounded; but 100 % means that there was no miss at all, and 0 % no hit. */
        unsigned tenths = (unsigned)((double)part / total * 1000 + 0.5);
        if (rest > 0 && tenths >= 1000)
                tenths = 999;
        if (part > 0 && tenths == 0)
                tenths = 1;
        snprintf(buf, UNITS_BUFFER_SIZE, "%u.%u%%", tenths / 10, tenths % 10);
        return buf;
}
