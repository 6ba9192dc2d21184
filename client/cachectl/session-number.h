/* SPDX-License-Identifier: MIT */
#ifndef SESSION_NUMBER_H
#define SESSION_NUMBER_H

/* What `session incr` adds, or starts from. Pure. */

#include <stdbool.h>
#include <stdint.h>

#define SESSION_NUMBER_HINT "a number such as 5, -3, 0.5 or 1e3 is expected"

struct session_number {
        bool is_real; /* it has a point or an exponent */
        int64_t integer;
        double real; /* of an integer, too */
};

/* NULL, or a sentence part that says what is wrong; then *ret is untouched. */
const char *session_number_parse(const char *text, struct session_number *ret);

#endif
