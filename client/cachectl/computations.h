/* SPDX-License-Identifier: MIT */
#ifndef COMPUTATIONS_H
#define COMPUTATIONS_H

/*
 * What is being computed now, under leases
 */

#include "ctl.h"

#include <jansson.h>

/* One Computation. NULL: no memory. */
json_t *computation_json(const cached_reply *r, const char *prefix);

/* "40%, rendering", or "-"; in @buf. */
#define COMPUTATION_PROGRESS_SIZE 300
const char *computation_progress(const cached_reply *r, const char *prefix,
                                 char buf[COMPUTATION_PROGRESS_SIZE]);

/* Those of a cache, or with NULL of all. An exit status; *ret is untouched on failure. */
int computations_json(struct ctl *ctl, const char *cache, json_t **ret);

/* A table below a title, if there are any. With @gap a blank line comes before it, else behind. */
int computations_print(struct ctl *ctl, const char *cache, bool gap);

#endif
