/* SPDX-License-Identifier: MIT */
#ifndef MEMO_KEY_H
#define MEMO_KEY_H

/*
 * What a command's output depends on, and the key that stands for it
 */

#include "memo-file.h"

#include <stddef.h>

struct memo_parts {
        char **argv;
        struct memo_file program;
        struct memo_file *watched; /* in the order of their names, each once */
        size_t n_watched;
        const char **env; /* names, likewise */
        size_t n_env;
        bool has_input;
        uint8_t input[CACHED_KEY_SIZE]; /* its digest */
};

/* All digests are known by then. Negative errno, of getcwd() too. */
int memo_key(const struct memo_parts *parts, uint8_t ret[CACHED_KEY_SIZE]);

#endif
