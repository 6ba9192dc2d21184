/* SPDX-License-Identifier: MIT */
/*
 * Session number: decimal text into numbers and back
 *
 * The grammar is checked by hand, since strtod() and strtoll() take more than the protocol does
 * (spaces, hexadecimal, names of what is no number). Only then the C library converts, in the "C"
 * locale, whatever the process has.
 */
#include "services/session-number.h"

#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL_TEXT_MAX                                                                              \
        800u /* longer than any that a program would write: 1074 digits say nothing                \
              */

static size_t skip_digits(const uint8_t *text, size_t n, size_t at)
{
        while (at < n && text[at] >= '0' && text[at] <= '9')
                at++;
        return at;
}

static int read_integer(const uint8_t *text, size_t n, struct session_number *ret)
{
        bool negative = n > 0 && text[0] == '-';
        size_t at = negative ? 1 : 0;
        if (at == n || skip_digits(text, n, at) != n)
                return SESSION_NUMBER_E_TEXT;
        int64_t sum = 0;
        for (; at < n; at++) {
                int digit = text[at] - '0';
                if (__builtin_mul_overflow(sum, 10, &sum) ||
                    __builtin_add_overflow(sum, negative ? -digit : digit, &sum))
                        return SESSION_NUMBER_E_OVERFLOW;
        }
        *ret = (struct session_number){.integer = sum};
        return SESSION_NUMBER_OK;
}

/* -?digits(.digits)?(e[+-]?digits)? */
static bool is_real(const uint8_t *text, size_t n)
{
        size_t at = n > 0 && text[0] == '-' ? 1 : 0;
        size_t end = skip_digits(text, n, at);
        if (end == at)
                return false;
        if (end < n && text[end] == '.') {
                at = end + 1;
                end = skip_digits(text, n, at);
                if (end == at)
                        return false;
        }
        if (end < n && (text[end] == 'e' || text[end] == 'E')) {
                at = end + 1;
                if (at < n && (text[at] == '+' || text[at] == '-'))
                        at++;
                end = skip_digits(text, n, at);
                if (end == at)
                        return false;
        }
        return end == n;
}

/* The "C" locale itself, which the C library keeps: nothing is allocated. */
static locale_t plain_locale(void)
{
        return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static double to_real(const char *text)
{
        locale_t plain = plain_locale();
        double x = strtod_l(text, NULL, plain);
        freelocale(plain);
        return x;
}

static int read_real(const uint8_t *text, size_t n, struct session_number *ret)
{
        char copy[REAL_TEXT_MAX + 1];
        if (n > REAL_TEXT_MAX || !is_real(text, n))
                return SESSION_NUMBER_E_TEXT;
        memcpy(copy, text, n);
        copy[n] = '\0';
        double x = to_real(copy);
        if (!isfinite(x))
                return SESSION_NUMBER_E_OVERFLOW;
        *ret = (struct session_number){.is_real = true, .real = x};
        return SESSION_NUMBER_OK;
}

int session_number_read(const uint8_t *text, size_t n, bool real, struct session_number *ret)
{
        return real ? read_real(text, n, ret) : read_integer(text, n, ret);
}

int session_number_add(const struct session_number *a, const struct session_number *by,
                       struct session_number *ret)
{
        if (!by->is_real) {
                if (a->is_real)
                        return SESSION_NUMBER_E_TEXT;
                *ret = (struct session_number){0};
                return __builtin_add_overflow(a->integer, by->integer, &ret->integer)
                               ? SESSION_NUMBER_E_OVERFLOW
                               : SESSION_NUMBER_OK;
        }
        double x = (a->is_real ? a->real : (double)a->integer) + by->real;
        if (!isfinite(x))
                return SESSION_NUMBER_E_OVERFLOW;
        *ret = (struct session_number){.is_real = true, .real = x};
        return SESSION_NUMBER_OK;
}

/* Fifteen digits bring back every number that was written with so many, and %g leaves out what
 * says nothing; only denormal numbers have fewer digits than that. */
static size_t write_real(double x, char text[SESSION_NUMBER_ROOM])
{
        locale_t plain = plain_locale(), before = uselocale(plain);
        int n = 0;
        for (int digits = fabs(x) < DBL_MIN ? 1 : DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
                n = snprintf(text, SESSION_NUMBER_ROOM, "%.*g", digits, x);
                if (strtod_l(text, NULL, plain) == x)
                        break;
        }
        uselocale(before);
        freelocale(plain);
        return (size_t)n;
}

size_t session_number_write(const struct session_number *number, char text[SESSION_NUMBER_ROOM])
{
        if (number->is_real)
                return write_real(number->real, text);
        return (size_t)snprintf(text, SESSION_NUMBER_ROOM, "%" PRId64, number->integer);
}
