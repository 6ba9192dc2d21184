/* SPDX-License-Identifier: MIT */
/*
 * Failures: codes and their words
 *
 * cached_strerror() has a fixed sentence for each code. A `struct failure` adds what is particular
 * to one call. Nothing here allocates, and nothing is kept between calls.
 */

#include <cached.h>
#include <stdarg.h>
#include <stdio.h>

#include "client/failure.h"

int failure_set(struct failure *f, int code, const char *format, ...)
{
        va_list args;

        f->code = code;
        va_start(args, format);
        (void)vsnprintf(f->text, sizeof(f->text), format, args);
        va_end(args);
        return code;
}

int failure_nomem(struct failure *f)
{
        return failure_set(f, CACHED_ERR_NOMEM, "%s", cached_strerror(CACHED_ERR_NOMEM));
}

const char *cached_version(void)
{
        return VERSION;
}

const char *cached_strerror(int code)
{
        switch (code) {
#define STATUS(number, name, exit_status, meaning)                                                 \
        case number:                                                                               \
                return meaning;
#include "proto/status.def"
#undef STATUS
        case CACHED_ERR_UNREACHABLE:
                return "no daemon answers on the socket";
        case CACHED_ERR_TIMEOUT:
                return "the daemon did not answer in time";
        case CACHED_ERR_DISCONNECTED:
                return "the connection broke before the answer";
        case CACHED_ERR_NOMEM:
                return "out of memory";
        case CACHED_ERR_BAD_REPLY:
                return "the daemon's answer makes no sense";
        case CACHED_ERR_UNTRUSTED:
                return "the daemon runs as a user that is not trusted";
        case CACHED_ERR_USAGE:
                return "an argument is wrong";
        case CACHED_ERR_AGAIN:
                return "nothing has finished yet, or there is no room for more";
        case CACHED_ERR_FORBIDDEN:
                /* By which means depends on who made the socket: the daemon, or a unit of systemd.
                 */
                return "permission denied: add yourself to group cached, or ask the administrator "
                       "to let you in";
        case CACHED_ERR_CLOSED:
                return "the handle was closed";
        case CACHED_ERR_CREATION:
                return "the resource could not be made";
        case CACHED_OWNER_DIED:
                return "locked; who had the lock before was killed with it";
        default:
                return "unknown code";
        }
}
