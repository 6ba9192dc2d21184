/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SOCKPATH_H
#define CLIENT_SOCKPATH_H

#include <stddef.h>
#include <sys/un.h>

#define SOCKPATH_SYSTEM     "/run/cached/cached.sock"
#define SOCKPATH_SYSTEM_DIR "/run/cached"

/* The system's, and three of the user's. */
#define SOCKPATH_MAX 4

enum sockpath_kind {
        SOCKPATH_NAMED, /* by the option or $CACHED_SOCKET: no other is tried */
        SOCKPATH_OF_SYSTEM,
        SOCKPATH_OF_USER,
        SOCKPATH_OF_USER_TMP, /* in a directory that anybody could have made: to be checked */
};

struct sockpath {
        enum sockpath_kind kind;
        char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

/* In the order in which they are tried. */
struct sockpaths {
        size_t n;
        struct sockpath at[SOCKPATH_MAX];
};

/* The places that are tried where none was named. */
void sockpaths_chain(struct sockpaths *ret);

/* Negative errno: -ENAMETOOLONG. `named` may be NULL. */
int sockpaths_resolve(const char *named, struct sockpaths *ret);

#endif
