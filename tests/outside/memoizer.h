/* SPDX-License-Identifier: MIT */
#ifndef MEMOIZER_H
#define MEMOIZER_H

#include <stdatomic.h>
#include <stddef.h>

/* What a run of slow() is told, and tells. */
struct job {
        const char *arg;
        int fail;           /* a code to fail with; 0: none */
        size_t n_big;       /* bytes to add to the value */
        atomic_uint *calls; /* goes up */
};

#endif
