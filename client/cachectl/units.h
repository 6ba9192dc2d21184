/* SPDX-License-Identifier: MIT */
#ifndef UNITS_H
#define UNITS_H

/*
 * Durations, sizes and counts, as people write and read them. Pure.
 *
 * The parsers return NULL and set *ret, or return a sentence part that says what is wrong with the
 * text ("a unit is missing"), and leave *ret alone.
 */

#include <stdbool.h>
#include <stdint.h>

#define UNITS_BUFFER_SIZE 32 /* holds whatever units_format_*() writes */

#define UNITS_DURATION_HINT                                                                        \
        "a duration is a number with ms, s, m, h or d, such as 250ms, 1.5s or 7d"
#define UNITS_PART_HINT "a part is a percentage such as 80% or 12.5%, or a fraction such as 0.8"
#define UNITS_SIZE_HINT                                                                            \
        "a size is a number of bytes, or one with K, M, G or T, such as 64K, 1.5M or 2G"

const char *units_parse_duration_us(const char *text, uint64_t *ret); /* also knows `us` */
const char *units_parse_duration_ms(const char *text, uint64_t *ret); /* whole milliseconds only */
const char *units_parse_size(const char *text, uint64_t *ret);
const char *units_parse_count(const char *text, uint64_t *ret);
const char *units_parse_permille(const char *text, uint64_t *ret); /* 0 to 1000; "80%" or "0.8" */

const char *units_format_count(char buf[UNITS_BUFFER_SIZE], uint64_t n);
const char *units_format_bytes(char buf[UNITS_BUFFER_SIZE], uint64_t n);
const char *units_format_ns(char buf[UNITS_BUFFER_SIZE], uint64_t ns);
const char *units_format_us(char buf[UNITS_BUFFER_SIZE], uint64_t us);
const char *units_format_ms(char buf[UNITS_BUFFER_SIZE], uint64_t ms);

/* "80%", "12.5%" */
const char *units_format_permille(char buf[UNITS_BUFFER_SIZE], uint64_t permille);

/* @part of @part + @rest; "-" where both are 0. */
const char *units_format_percent(char buf[UNITS_BUFFER_SIZE], uint64_t part, uint64_t rest);

#endif
