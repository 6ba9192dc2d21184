/* SPDX-License-Identifier: MIT */
/*
 * Verdict
 *
 * Failures are rare and their texts are built here, where they happen; success never touches the
 * text. Allocates nothing: "no memory" must be sayable.
 */
#include "services/verdict.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void verdict_write(struct verdict *v, enum status status, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        int n = vsnprintf(v->text, sizeof(v->text), format, args);
        va_end(args);
        if (n < 0)
                v->text[0] = '\0';
        if (n >= (int)sizeof(v->text)) {
                /* Names in it are UTF-8: do not leave half a character. */
                size_t end = sizeof(v->text) - 1;
                while (end > 0 && ((unsigned char)v->text[end - 1] & 0xc0) == 0x80)
                        end--;
                if (end > 0 && (unsigned char)v->text[end - 1] >= 0xc0)
                        end--;
                v->text[end] = '\0';
        }
        v->status = status;
}

enum status verdict_errno(struct verdict *v, int r, const char *what)
{
        switch (-r) {
        case ENOMEM:
                return verdict_set(v, STATUS_NO_MEMORY,
                                   "the daemon is out of memory while %s: nothing was changed; try "
                                   "again later",
                                   what);
        case ENOSPC:
                return verdict_set(v, STATUS_NO_SPACE,
                                   "the system refuses more shared memory while %s: free memory on "
                                   "this machine, or lower memory.global_budget",
                                   what);
        case EMFILE:
        case ENFILE:
                return verdict_set(v, STATUS_NO_SPACE,
                                   "the daemon is out of file descriptors while %s: raise its "
                                   "LimitNOFILE, or store fewer large values",
                                   what);
        default:
                return verdict_set(v, STATUS_INTERNAL, "%s failed: %s; the daemon's log has more",
                                   what, strerror(-r));
        }
}
