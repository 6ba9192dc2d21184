/* SPDX-License-Identifier: MIT */
#ifndef VERDICT_H
#define VERDICT_H

/*
 * Verdict: how a request ended, in the protocol's terms
 *
 * Every service call returns a status and, where it is neither OK nor NOT_FOUND, leaves one
 * sentence for people in the verdict that it was given.
 */

#include "proto/status.h"

#define VERDICT_TEXT_MAX 1200 /* room for what config_load() says */

struct verdict {
        enum status status;
        char text[VERDICT_TEXT_MAX]; /* valid with a failure */
};

/* Sets both and is @status. The text is cut, at a character, if it is too long. A macro, so that
 * the compiler sees that what is returned is a failure. */
#define verdict_set(v, status_, ...) (verdict_write((v), (status_), __VA_ARGS__), (status_))

void verdict_write(struct verdict *v, enum status status, const char *format, ...)
        __attribute__((format(printf, 3, 4), cold));

/* The verdict on a negative errno of a lower layer. @what: "storing the entry". */
enum status verdict_errno(struct verdict *v, int r, const char *what) __attribute__((cold));

#endif
