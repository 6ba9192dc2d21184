/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_INFO_H
#define RESOURCE_INFO_H

/*
 * What is said of a resource in a page of ListResources. @prefix is that of one: "resources[3]."
 */

#include "resource.h"

#include <jansson.h>

/* Called for each. Returns 0; else memory is out. */
typedef int (*resource_fn)(const cached_reply *r, const char *prefix, void *data);

/* Those of run->cache, or of all; if run->key is given, those of it. Connected. An exit status. */
int resource_list(struct resource_run *run, resource_fn fn, void *data);

const char *resource_key_text(const cached_reply *r, const char *prefix, char buf[KEY_FORMAT_SIZE]);

/* The pid of who has the lock; 0: nobody, as far as holders are told. */
uint64_t resource_lock_owner(const cached_reply *r, const char *prefix);

/* All of it. NULL: out of memory. */
json_t *resource_json(const cached_reply *r, const char *prefix);

/* {"cache":…,"key":…} of the words of the command line. NULL: out of memory. */
json_t *resource_name_json(const struct resource_run *run);

#endif
