/* SPDX-License-Identifier: MIT */
#ifndef LIMITS_H
#define LIMITS_H

/* What the error of each limit tells the peer to do: the advice column of limits.def. */

struct limit_advice {
#define LIMIT(name, ...) const char *name;
#include "limits.def"
#undef LIMIT
};

extern const struct limit_advice limit_advice;

#endif
