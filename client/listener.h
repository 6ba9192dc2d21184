/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LISTENER_H
#define CLIENT_LISTENER_H

#include <sys/socket.h>

/* Of a process's name in /proc, with its end. */
#define LISTENER_NAME_SIZE 64

enum listener {
        LISTENER_UNKNOWN, /* of another pid namespace, gone, or hidden */
        LISTENER_DAEMON,
        LISTENER_SYSTEMD,         /* the system's: it is process 1 */
        LISTENER_SYSTEMD_OF_USER, /* a user's own */
        LISTENER_OTHER,           /* something else that starts a daemon, or pretends to */
};

/* By the peer's credentials. @name is "" if it is unknown. */
enum listener listener_look(const struct ucred *peer, char name[LISTENER_NAME_SIZE]);

#endif
