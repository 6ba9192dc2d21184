/* SPDX-License-Identifier: MIT */
#ifndef SESSION_NUMBER_H
#define SESSION_NUMBER_H

/*
 * Session number: values that are counted on. See session-number.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session_number {
        bool is_real;
        union {
                int64_t integer;
                double real;
        };
};

enum {
        SESSION_NUMBER_OK = 0,
        SESSION_NUMBER_E_TEXT,     /* that is no such number */
        SESSION_NUMBER_E_OVERFLOW, /* it has no place in the type */
};

#define SESSION_NUMBER_ROOM 32u /* enough for every text that session_number_write() makes */

/* Reads all @n bytes as a real number if @real is set, else as an integer. */
int session_number_read(const uint8_t *text, size_t n, bool real, struct session_number *ret);

/* @a is counted on by @by; an integer may be counted on as a real number. The sum is of @by's kind.
 * SESSION_NUMBER_E_TEXT: @a is real and @by is not. */
int session_number_add(const struct session_number *a, const struct session_number *by,
                       struct session_number *ret);

/* The shortest text that reads back as the same number. Returns its length. */
size_t session_number_write(const struct session_number *number, char text[SESSION_NUMBER_ROOM]);

#endif
