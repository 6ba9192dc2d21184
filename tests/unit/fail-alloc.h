/* SPDX-License-Identifier: MIT */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

/*
 * The i-th allocation of this thread fails. The linker sends malloc(), calloc() and strdup() here
 * (-Wl,--wrap=). Included by a test's one source file.
 */

#include <stdbool.h>
#include <stddef.h>

/* Of this thread: the daemon's are not to fail. 0: none; else it counts down to the one that does.
 */
static _Thread_local long fail_after;
static _Thread_local long n_allocations;

static bool allocation_fails(void)
{
        n_allocations++;
        return fail_after > 0 && --fail_after == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t n)
{
        return allocation_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
        return allocation_fails() ? NULL : __real_calloc(n, m);
}

char *__wrap_strdup(const char *s)
{
        return allocation_fails() ? NULL : __real_strdup(s);
}

#endif
