/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

/*
 * Configuration files as bytes: opened, checked, listed
 */

#include <stddef.h>

struct config_text {
        char *data; /* NUL-terminated; heap */
        size_t n;
};

/* Reads @path whole. 0, -ENOMEM, the errno of opening, or -EINVAL: not a plain file, too large, or,
 * as root, one that others could have written. @err then begins with the path. */
int config_file_read(const char *path, struct config_text *ret, char *err, size_t n_err);

/* The paths of the drop-ins of @path, in the order of their names; no directory: none. */
int config_file_drop_ins(const char *path, char ***ret, size_t *ret_n, char *err, size_t n_err);

/* Frees @n strings and their array; returns NULL. */
char **config_file_list_free(char **list, size_t n);

#endif
