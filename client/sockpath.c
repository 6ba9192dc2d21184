/* SPDX-License-Identifier: MIT */
/*
 * Where the daemon's socket may be
 *
 * A path that was named (by the option, else by $CACHED_SOCKET) is the only one. Otherwise the
 * system's comes first and the user's follow, in a fixed order: a cron job and a notebook of one
 * user must meet the same daemon. Only the order is decided here; who connects decides which one
 * answers.
 *
 * $CACHED_SOCKET and $XDG_RUNTIME_DIR are not believed in a set-uid program. A path of the chain
 * that is too long for a socket cannot exist, so it is left out; a named one that is too long is an
 * error.
 */

#include "client/sockpath.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 3, 4))) static int
sockpaths_add(struct sockpaths *p, enum sockpath_kind kind, const char *format, ...)
{
        struct sockpath *next = &p->at[p->n];
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(next->path, sizeof(next->path), format, args);
        va_end(args);
        if (n < 0 || (size_t)n >= sizeof(next->path))
                return -ENAMETOOLONG;
        /* After a login $XDG_RUNTIME_DIR is what comes next anyway. */
        for (size_t i = 0; i < p->n; i++)
                if (strcmp(p->at[i].path, next->path) == 0)
                        return 0;
        next->kind = kind;
        p->n++;
        return 0;
}

void sockpaths_chain(struct sockpaths *ret)
{
        struct sockpaths p = {0};
        unsigned uid = (unsigned)geteuid();
        const char *dir = secure_getenv("XDG_RUNTIME_DIR");

        (void)sockpaths_add(&p, SOCKPATH_OF_SYSTEM, "%s", SOCKPATH_SYSTEM);
        if (dir && *dir == '/')
                (void)sockpaths_add(&p, SOCKPATH_OF_USER, "%s/cached/cached.sock", dir);
        (void)sockpaths_add(&p, SOCKPATH_OF_USER, "/run/user/%u/cached/cached.sock", uid);
        (void)sockpaths_add(&p, SOCKPATH_OF_USER_TMP, "/tmp/cached-%u/cached.sock", uid);
        *ret = p;
}

int sockpaths_resolve(const char *named, struct sockpaths *ret)
{
        struct sockpaths p = {0};
        int r;

        if (!named)
                named = secure_getenv("CACHED_SOCKET");
        if (named && *named) {
                r = sockpaths_add(&p, SOCKPATH_NAMED, "%s", named);
                if (r < 0)
                        return r;
                *ret = p;
                return 0;
        }
        sockpaths_chain(ret);
        return 0;
}
