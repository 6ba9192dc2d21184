/* SPDX-License-Identifier: MIT */
#ifndef DAYTIME_H
#define DAYTIME_H

/* Times of the day, in local time. See daytime.c. */

#include <stdint.h>

/* The first second after @after_s (seconds since 1970) at which local clocks say @minute (minutes
 * since midnight, less than 24 * 60). INT64_MAX: none can be
 * found. */
int64_t daytime_next(int64_t after_s, unsigned minute);

#endif
