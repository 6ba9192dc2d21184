/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

/*
 * Configuration values: text to number and back
 *
 * Sizes are powers of 1024 (64K, 16M, 2G, 1T), durations 250ms 10s 5m 1h 7d. The whole text must be
 * the value: no blanks, no signs, no fractions.
 */

#include <stddef.h>
#include <stdint.h>

enum {
        VALUE_E_SYNTAX = 1, /* the text is not of this kind */
        VALUE_E_RANGE,      /* it is, but no 64 bits hold it */
};

int value_parse_count(const char *text, uint64_t *ret);
int value_parse_size(const char *text, uint64_t *ret);
int value_parse_duration(const char *text, uint64_t *ret_ms); /* without a unit: milliseconds */
int value_parse_mode(const char *text, uint64_t *ret);        /* octal */
int value_parse_bool(const char *text, uint64_t *ret);        /* yes or no: 1 or 0 */

#define VALUE_TEXT_MAX 32

/* The shortest exact form: 1M, 1000K, 1023; 90s, 5m. @buf holds VALUE_TEXT_MAX bytes. */
void value_format_size(uint64_t bytes, char *buf);
void value_format_duration(uint64_t ms, char *buf);

/* How many letters must be inserted, removed, replaced or swapped with their neighbour to make @b
 * of
 * @a; both are cut to 63 bytes. For "did you mean". */
unsigned value_distance(const char *a, const char *b);

#endif
