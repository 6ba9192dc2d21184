/* SPDX-License-Identifier: MIT */
/*
 * Who listens on a socket: the daemon itself, or a service manager that starts it for the first
 * client
 *
 * The kernel names as the peer who called listen(). Behind a service manager connect() succeeds
 * while there is no daemon, and also while none can start. This only serves to say so: names of
 * processes are no proof of anything, and nothing is trusted by them.
 */

#include "client/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void name_of(pid_t pid, char name[LISTENER_NAME_SIZE])
{
        char path[48];
        ssize_t n = 0;
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
                n = read(fd, name, LISTENER_NAME_SIZE - 1);
                (void)close(fd);
        }
        name[n > 0 ? n : 0] = '\0';
        name[strcspn(name, "\n")] = '\0';
}

enum listener listener_look(const struct ucred *peer, char name[LISTENER_NAME_SIZE])
{
        name[0] = '\0';
        if (peer->pid <= 0)
                return LISTENER_UNKNOWN;
        name_of(peer->pid, name);
        if (strcmp(name, "cached") == 0)
                return LISTENER_DAEMON; /* in a container it may be process 1 */
        /* sd_booted(3). The name of process 1 may be hidden, or that of the link to it. */
        if (peer->pid == 1 &&
            (strcmp(name, "systemd") == 0 || access("/run/systemd/system", F_OK) == 0))
                return LISTENER_SYSTEMD;
        if (strcmp(name, "systemd") == 0)
                return LISTENER_SYSTEMD_OF_USER;
        return *name ? LISTENER_OTHER : LISTENER_UNKNOWN;
}
