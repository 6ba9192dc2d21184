/* SPDX-License-Identifier: MIT */
#ifndef FIT_H
#define FIT_H

#include <stddef.h>

struct libscols_table;

/* Shortens cells, with an ellipsis at their end, until @t is no wider than @width: only in columns
 * with SCOLS_FL_TRUNC, the widest first, and none below its title, nor below some letters unless
 * that is not enough. Returns 0 or -ENOMEM. */
int fit_table(struct libscols_table *t, size_t width);

#endif
