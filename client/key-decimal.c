/* SPDX-License-Identifier: MIT */
/*
 * Decimal numbers as items of a key
 *
 * The text is read as sign, digits and exponent: the number is digits × 10^exponent. Digits have no
 * zeros in front (none at all: zero) and keep those at their end, since "1.0" and "1.00" are two
 * numbers in every decimal type: they print and round differently. Nothing is computed but the
 * exponent, and nothing copied: the digits are hashed from the text, in two pieces around the
 * point.
 */
#include <string.h>
#include <strings.h>

#include "client/key.h"

enum decimal_kind { DECIMAL_FINITE = 0, DECIMAL_INFINITY = 1, DECIMAL_NAN = 2 }; /* KEYS.md */

struct digits {
        const char *at;
        size_t n;
};

struct decimal {
        enum decimal_kind kind;
        bool negative;
        struct digits whole, fraction;
        int64_t exponent;
};

static struct digits take_digits(struct digits *text)
{
        struct digits taken = {text->at, 0};

        while (taken.n < text->n && text->at[taken.n] >= '0' && text->at[taken.n] <= '9')
                taken.n++;
        text->at += taken.n;
        text->n -= taken.n;
        return taken;
}

static bool take(struct digits *text, const char *one_of, char *ret)
{
        if (text->n == 0 || *text->at == '\0' || !strchr(one_of, *text->at))
                return false;
        *ret = *text->at;
        text->at++;
        text->n--;
        return true;
}

static bool is_word(const struct digits *text, const char *word)
{
        return text->n == strlen(word) && strncasecmp(text->at, word, text->n) == 0;
}

/* After the E. False: no number, or beyond int64_t. */
static bool take_exponent(struct digits *text, int64_t *ret)
{
        char sign = '+';
        int64_t exponent = 0;
        struct digits digits;

        take(text, "+-", &sign);
        digits = take_digits(text);
        if (digits.n == 0)
                return false;
        for (size_t i = 0; i < digits.n; i++) {
                int digit = digits.at[i] - '0';

                if (__builtin_mul_overflow(exponent, 10, &exponent) ||
                    __builtin_sub_overflow(exponent, digit, &exponent))
                        return false;
        }
        return sign == '-' ? (*ret = exponent, true) : !__builtin_sub_overflow(0, exponent, ret);
}

static void strip_zeros(struct digits *d)
{
        while (d->n > 0 && *d->at == '0') {
                d->at++;
                d->n--;
        }
}

/* False: not a decimal number, and @text begins where it stops to be one. */
static bool parse(struct digits *text, struct decimal *ret)
{
        struct decimal d = {.kind = DECIMAL_FINITE};
        char c;

        if (take(text, "+-", &c))
                d.negative = c == '-';
        if (is_word(text, "nan")) {
                *ret = (struct decimal){.kind = DECIMAL_NAN};
                return true;
        }
        if (is_word(text, "inf") || is_word(text, "infinity")) {
                *ret = (struct decimal){.kind = DECIMAL_INFINITY, .negative = d.negative};
                return true;
        }
        d.whole = take_digits(text);
        if (take(text, ".", &c))
                d.fraction = take_digits(text);
        if (d.whole.n + d.fraction.n == 0)
                return false;
        if (take(text, "eE", &c) && !take_exponent(text, &d.exponent))
                return false;
        if (text->n > 0 || __builtin_sub_overflow(d.exponent, (int64_t)d.fraction.n, &d.exponent))
                return false;
        strip_zeros(&d.whole);
        if (d.whole.n == 0)
                strip_zeros(&d.fraction);
        *ret = d;
        return true;
}

int cached_key_add_decimal(cached_key *k, const char *text, size_t n)
{
        struct digits rest = {text, n};
        struct key_hash *out = NULL;
        struct decimal d = {0};
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_text(k, "a decimal number", text, n, 1, CACHED_KEY_DIGITS_MAX);
        if (e == CACHED_OK && !parse(&rest, &d))
                e = key_fail(k, CACHED_ERR_USAGE,
                             "not a decimal number at byte %zu: write it like -12.50, 1.5E+3, "
                             "Infinity or NaN, the exponent within 64 bits",
                             n - rest.n);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_DECIMAL, &out);
        if (e != CACHED_OK)
                return e;
        key_bytes_u8(out, (uint8_t)d.kind);
        key_bytes_u8(out, d.negative);
        key_bytes_u64(out, (uint64_t)d.exponent);
        key_bytes_u64(out, d.whole.n + d.fraction.n);
        key_hash_add(out, d.whole.at, d.whole.n);
        key_hash_add(out, d.fraction.at, d.fraction.n);
        return key_item_end(k);
}
