/* SPDX-License-Identifier: MIT */
#ifndef NOTIFY_H
#define NOTIFY_H

/*
 * Notify: messages to the service manager. See notify.c.
 */

#include <stddef.h>

struct notify {
        int fd; /* -1: no service manager, or none that listens */
};

#define NOTIFY_ERR_MAX 256

/* Finds who listens at $NOTIFY_SOCKET. 0, also where that is not set; else a negative errno and a
 * sentence in @err: there is nobody then, and every message says -ENOTCONN. */
int notify_init(struct notify *n, char *err, size_t n_err);

/* Sends assignments such as "READY=1", one a line, with a copy of the descriptor @fd unless that is
 * negative. Never waits. 0; -EAGAIN: not now; another negative errno: it will not be heard. */
int notify_send(struct notify *n, const char *assignments, int fd);

/* Waits until there may be room for another message, for @ms at most. */
void notify_wait(const struct notify *n, int ms);

void notify_done(struct notify *n);

#endif
