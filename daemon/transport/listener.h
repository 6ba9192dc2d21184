/* SPDX-License-Identifier: MIT */
#ifndef LISTENER_H
#define LISTENER_H

/*
 * Listener: takes connections from a listening socket and hands them to the hub
 */

#include <event2/event.h>
#include <event2/event_struct.h>

#include "transport/hub.h"

struct listener {
        struct hub *hub;
        int fd;
        struct event event;  /* connections wait */
        struct event resume; /* after a pause */
};

/* Consumes @fd, also on failure. 0 or -errno. */
int listener_init(struct listener *l, struct hub *hub, int fd);
/* Between the two connections wait in the socket's queue. Resuming can fail for want of memory
 * only, and is tried again every second then. */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
void listener_done(struct listener *l); /* closes the socket; fine on one that was done */

#endif
