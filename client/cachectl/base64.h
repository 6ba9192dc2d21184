/* SPDX-License-Identifier: MIT */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>

/* The standard alphabet, padded, on one line. From malloc(); NULL: out of memory. */
char *base64_encode(const void *bytes, size_t n);

#endif
