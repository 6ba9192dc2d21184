/* SPDX-License-Identifier: MIT */
/*
 * The advice of each limit, from the one table of limits. Nothing is decided here.
 */
#include "services/limits.h"

#include <stddef.h>

const struct limit_advice limit_advice = {
#define LIMIT(limit, standard, least, most, unit, advice, ...) .limit = advice,
#include "limits.def"
#undef LIMIT
};
