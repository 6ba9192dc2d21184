/* SPDX-License-Identifier: MIT */
/*
 * A function to be memoized, built into several shared objects: two whose code differs (RESULT),
 * and one without a build-id. memoizer.c loads them.
 */

#include <cached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memoizer.h"

__attribute__((visibility("default"))) int slow(void *data, cached_result *out);

int slow(void *data, cached_result *out)
{
        struct job *j = data;
        size_t n = strlen(RESULT) + 1 + strlen(j->arg);
        char *value;

        atomic_fetch_add(j->calls, 1);
        if (j->fail)
                return j->fail;
        if (!*j->arg)
                return CACHED_OK; /* an empty value */
        value = malloc(n + j->n_big + 1);
        if (!value)
                return CACHED_ERR_NOMEM;
        (void)sprintf(value, "%s:%s", RESULT, j->arg);
        memset(value + n, '.', j->n_big);
        return cached_result_take(out, value, n + j->n_big);
}
